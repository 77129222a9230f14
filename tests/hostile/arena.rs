//! A namespace whose controller is a process of its own, which is not there while something is spoilt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::{AccessKey, AccessKeyStatus};
use keyward::key::{Check, Secret};
use keyward::verifier::Verifier;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::time::sleep;

use crate::support::check::{Answer, Asker};
use crate::support::keys::{Ask, Place, is_current, plaintext, some_secret};
use crate::support::process::{Access, Launcher, Process, holds_no_secret};

/// So short that a sweep is due while the test waits.
const GRACE: Duration = Duration::from_secs(5);

/// What is done at once.
const AT_ONCE: usize = 16;

/// More than a controller may hold above what the same keys took before they were spoilt.
const MEMORY_IN_KIB: u64 = 50 * 1024;

pub struct Arena {
    pub place: Place,
    launcher: Launcher,
    asker: Arc<Asker>,
    controller: Option<Process>,
}

/// An AccessKey and its Secret, as they were before they were spoilt.
#[derive(Clone)]
pub struct Issued {
    pub key: AccessKey,
    pub secret: KubeSecret,
}

impl Issued {
    pub fn public(&self) -> &str {
        self.key
            .status
            .as_ref()
            .and_then(|status| status.key.as_deref())
            .expect("a key")
    }

    pub fn plaintext(&self) -> String {
        plaintext(&self.secret)
    }
}

impl Arena {
    pub async fn new(purpose: &str) -> Arena {
        let place = Place::served(purpose).await;
        let access = Access::admin();
        Arena {
            launcher: Launcher::as_controller(place.name()).await.logging("debug"),
            asker: Arc::new(Asker::of(&access)),
            place,
            controller: None,
        }
    }

    pub async fn start_controller(&mut self) {
        let mut controller = self.launcher.start(&[
            "--namespace",
            self.place.name(),
            "--request-timeout=1s",
            &format!("--grace={}s", GRACE.as_secs()),
        ]);
        controller.is_ready().await;
        self.controller = Some(controller);
    }

    /// Ends it, and says how many KiB it held.
    pub async fn end_controller(&mut self) -> u64 {
        let controller = self.controller.take().expect("it runs");
        let memory = controller.memory("VmRSS");
        let status = controller.end(Duration::from_secs(20)).await;
        assert!(status.success(), "{status}");
        memory
    }

    /// Does something for each of these at once.
    pub async fn each<T, U>(
        &self,
        rows: impl IntoIterator<Item = T>,
        act: impl AsyncFn(T) -> U,
    ) -> Vec<U> {
        let acts = rows.into_iter().map(|row| act(row));
        stream::iter(acts).buffered(AT_ONCE).collect().await
    }

    pub async fn apply(&self, asks: impl IntoIterator<Item = Ask>) {
        self.each(asks, async |ask| self.place.apply(ask).await)
            .await;
    }

    /// All AccessKeys, by their names, once the spec of each is issued and nothing
    /// is left to do.
    pub async fn issued(&self) -> BTreeMap<String, Issued> {
        let begin = Instant::now();
        let done = |key: &AccessKey| {
            let status = key.status.as_ref();
            status.is_some_and(|status| {
                is_current(key, status) && status.issuance.is_none() && status.unsettled.is_none()
            })
        };
        loop {
            let asking = Instant::now();
            let keys = self.keys().await;
            if keys.values().all(done) {
                let secrets = self.secrets().await;
                let pair = |(name, key): (String, AccessKey)| {
                    let secret = secrets.get(&name).expect("its Secret").clone();
                    (name, Issued { key, secret })
                };
                return keys.into_iter().map(pair).collect();
            }
            let left = keys.values().filter(|key| !done(key)).count();
            assert!(
                begin.elapsed() < Duration::from_secs(300),
                "{left} are not issued"
            );
            sleep(asking.elapsed()).await;
        }
    }

    /// All AccessKeys. One that cannot be read is taken for one without a status.
    pub async fn keys(&self) -> BTreeMap<String, AccessKey> {
        let listed = self.raw().list(&ListParams::default()).await;
        let listed = listed.expect("the admin may").into_iter();
        listed.map(|key| (key.name_any(), readable(key))).collect()
    }

    pub async fn secrets(&self) -> BTreeMap<String, KubeSecret> {
        let listed = self.place.secrets.list(&ListParams::default()).await;
        let listed = listed.expect("the admin may").into_iter();
        listed.map(|secret| (secret.name_any(), secret)).collect()
    }

    /// AccessKeys as they are, also such as the types cannot hold.
    pub fn raw(&self) -> Api<DynamicObject> {
        let admin = self.place.namespace.admin.clone();
        Api::namespaced_with(
            admin,
            self.place.name(),
            &ApiResource::erase::<AccessKey>(&()),
        )
    }

    /// Waits until the controller has looked at so many objects, and nothing has changed for longer
    /// than the grace.
    pub async fn is_at_rest(&mut self, objects: usize) {
        let begin = Instant::now();
        let (mut seen, mut since) = (BTreeMap::new(), Instant::now());
        loop {
            let versions = self.versions().await;
            if versions != seen {
                (seen, since) = (versions, Instant::now());
            }
            let looked = self.looks().await >= objects as u64;
            if looked && since.elapsed() > GRACE + Duration::from_secs(1) {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(300),
                "it is not at rest"
            );
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn versions(&self) -> BTreeMap<String, Option<String>> {
        let listed = self.place.keys.list_metadata(&ListParams::default()).await;
        let listed = listed.expect("the admin may").into_iter();
        listed
            .map(|key| (key.name_any(), key.metadata.resource_version))
            .collect()
    }

    async fn looks(&mut self) -> u64 {
        let (_, text) = self
            .controller
            .as_mut()
            .expect("it runs")
            .get("/metrics")
            .await;
        let counts = text
            .lines()
            .filter(|line| line.starts_with("keyward_reconciles_total{"));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// The controller has neither died nor grown, and said nothing that it must not.
    pub async fn has_held(&mut self, before: u64, secrets: &[String]) {
        let controller = self.controller.as_mut().expect("it runs");
        assert_eq!(controller.get("/readyz").await.0, 200);
        let memory = controller.memory("VmRSS");
        assert!(
            memory < before + MEMORY_IN_KIB,
            "{memory} KiB, after {before}"
        );
        let log = self.launcher.log();
        assert!(!log.contains("panicked"), "it panicked");
        holds_no_secret(&log, secrets);
    }

    /// Asks `keyward check` whether a device is admitted, for all of these at once.
    pub async fn asked(&self, questions: Vec<(String, String)>) -> Vec<bool> {
        self.each(questions, async |(key, secret)| {
            let (asker, namespace) = (Arc::clone(&self.asker), self.place.name().to_owned());
            let ask = move || {
                let flags = ["--namespace", &namespace, "--device=pump", "--key", &key];
                says(&asker.ask(&flags, &secret))
            };
            tokio::task::spawn_blocking(ask).await.expect("an answer")
        })
        .await
    }

    /// A secret that nobody issued.
    pub fn stranger(&self) -> String {
        some_secret()
    }
}

fn readable(mut object: DynamicObject) -> AccessKey {
    let whole = object.clone().try_parse();
    whole.unwrap_or_else(|_| {
        object.data["status"] = Value::Null;
        object.try_parse().expect("only its status is spoilt")
    })
}

fn says(answer: &Answer) -> bool {
    assert!(!answer.err.contains("panicked"), "{answer:?}");
    match (answer.code, &*answer.out) {
        (Some(0), "Allow\n") => true,
        (Some(1), out) if out.starts_with("Deny: ") => false,
        (Some(2), "") if answer.err.lines().count() == 1 => false,
        _ => panic!("{answer:?}"),
    }
}

/// Does a status accept this secret of this key, read naively?
pub fn accepts(status: &AccessKeyStatus, key: &str, plaintext: &str) -> bool {
    let Ok(secret) = Secret::parse(plaintext) else {
        return false;
    };
    let check = Check::of(key, &secret);
    status.key.as_deref() == Some(key)
        && status.verifiers.iter().any(|known| {
            known
                .check
                .as_deref()
                .is_none_or(|known| known == check.as_str())
                && Verifier::parse(&known.verifier).is_ok_and(|known| known.verifies(&secret))
                && known
                    .valid_until
                    .as_ref()
                    .is_none_or(|until| until.0 > jiff::Timestamp::now())
        })
}

/// The status of an object as it is.
pub fn status_of(object: &DynamicObject) -> &Value {
    &object.data["status"]
}
