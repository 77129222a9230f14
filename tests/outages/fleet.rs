//! A namespace with keys in several phases, and the judgement of all of them.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret as KubeSecret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use keyward::api::AccessKey;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::support::check::Asker;
use crate::support::cluster::{CONTROLLER_USER, TestNamespace, apply, eventually, from_json, may};
use crate::support::history::{History, Seen};
use crate::support::instance::Instance;
use crate::support::manifests;
use crate::support::process::{Access, Launcher, Process, holds_no_secret};

/// So that what an outage leaves is found, and swept, in seconds.
pub const QUICK: [&str; 2] = ["--grace=5s", "--request-timeout=1s"];

/// For all work that an outage leaves, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What an instance of a fleet's own needs.
pub const MANIFESTS: [&str; 2] = ["crds/", "deploy/install.yaml"];

/// A namespace with keys.
pub struct Fleet {
    /// The namespace.
    pub namespace: String,
    /// An admin's client.
    pub admin: Client,
    /// Every version of its keys and Secrets.
    pub history: History,
    /// Starts controllers.
    pub launcher: Launcher,
    /// Its keys.
    pub keys: Api<AccessKey>,
    secrets: Api<KubeSecret>,
    asker: Asker,
    phases: Phases,
    _ends_with_it: Option<TestNamespace>,
}

/// Which keys there are, by their numbers.
#[derive(Clone, Default)]
pub struct Phases {
    made: usize,
    /// Neither rotated nor consumed, oldest first.
    untouched: Vec<usize>,
    rotated: Vec<usize>,
    consumed: Vec<Delivered>,
}

/// What a device was given.
#[derive(Clone)]
struct Delivered {
    device: String,
    key: String,
    secret: String,
}

impl Fleet {
    /// On the API server that the tests share, in a namespace of its own.
    pub async fn shared(purpose: &'static str) -> Fleet {
        let namespace = TestNamespace::served(purpose).await;
        let mut fleet = Fleet::at(Access::admin(), &namespace.name).await;
        fleet._ends_with_it = Some(namespace);
        fleet
    }

    /// On an instance of its own.
    pub async fn on(instance: &Instance, namespace: &str) -> Fleet {
        let namespaces: Api<Namespace> = Api::all(instance.admin.clone());
        let object = from_json(json!({ "metadata": { "name": namespace } }));
        let made = namespaces.create(&PostParams::default(), &object).await;
        made.expect("a namespace");
        let fleet = Fleet::at(instance.access(), namespace).await;
        fleet.serve().await;
        fleet
    }

    async fn at(access: Access, namespace: &str) -> Fleet {
        let admin = access.client().await;
        Fleet {
            namespace: namespace.to_owned(),
            history: History::as_seen_by(&admin, namespace),
            launcher: Launcher::new(namespace, &access.as_controller().await),
            keys: Api::namespaced(admin.clone(), namespace),
            secrets: Api::namespaced(admin.clone(), namespace),
            asker: Asker::of(&access),
            admin,
            phases: Phases::default(),
            _ends_with_it: None,
        }
    }

    /// Applies `deploy/namespace.yaml`, and waits until its rights hold.
    pub async fn serve(&self) {
        for object in manifests::objects("deploy/namespace.yaml") {
            let bindings = Api::namespaced(self.admin.clone(), &self.namespace);
            apply::<RoleBinding>(&bindings, &from_json(object)).await;
        }
        let allowed = || self.controller_may("create", "", "secrets", "");
        eventually("deploy/namespace.yaml takes effect", allowed).await;
    }

    /// May the controller do this in the namespace?
    pub async fn controller_may(&self, verb: &str, group: &str, kind: &str, sub: &str) -> bool {
        let (admin, namespace) = (&self.admin, &self.namespace);
        may(admin, CONTROLLER_USER, verb, namespace, group, kind, sub).await
    }

    /// A controller that is ready.
    pub async fn controller(&self) -> Process {
        let mut process = self.start();
        process.is_ready().await;
        process
    }

    /// A controller.
    pub fn start(&self) -> Process {
        self.start_with(&QUICK)
    }

    /// A controller with these flags.
    pub fn start_with(&self, flags: &[&str]) -> Process {
        let flag = format!("--namespace={}", self.namespace);
        self.launcher.start(&[flags, &[&flag]].concat())
    }

    /// Makes keys, and waits until they are issued.
    pub async fn issue(&mut self, keys: usize) {
        self.ask_for(keys).await;
        self.is_done().await;
    }

    /// Has devices take as many delivered secrets, and delete the Secrets.
    pub async fn consume(&mut self, keys: usize) {
        for number in self.oldest(keys) {
            let delivered = self.delivered(number);
            let params = DeleteParams::default();
            let deleted = self.secrets.delete(&name(number), &params).await;
            deleted.expect("the admin may");
            let gone = |seen: &Seen| !seen.secrets.contains_key(&name(number));
            self.history.until("it is gone", PATIENCE, gone).await;
            self.history.consumed(&name(number));
            self.phases.consumed.push(delivered);
        }
    }

    /// Makes as many new keys, and rotates as many of those that are issued.
    pub async fn ask(&mut self, new: usize, rotations: usize) {
        let rotated = self.oldest(rotations);
        self.phases.rotated.extend(&rotated);
        let rotate = stream::iter(rotated).for_each_concurrent(16, |number| {
            let keys = self.keys.clone();
            async move {
                let change = json!({ "spec": { "rotation": { "revision": 2 } } });
                insist(async || {
                    let (params, patch) = (PatchParams::default(), Patch::Merge(&change));
                    keys.patch(&name(number), &params, &patch).await
                })
                .await;
            }
        });
        rotate.await;
        self.ask_for(new).await;
    }

    fn oldest(&mut self, count: usize) -> Vec<usize> {
        self.phases.untouched.drain(..count).collect()
    }

    async fn ask_for(&mut self, keys: usize) {
        let numbers = self.phases.made..self.phases.made + keys;
        self.phases.made += keys;
        self.phases.untouched.extend(numbers.clone());
        let made = stream::iter(numbers).for_each_concurrent(16, |number| {
            let keys = self.keys.clone();
            async move {
                let key: AccessKey = from_json(json!({
                    "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
                    "metadata": { "name": name(number) },
                    "spec": {
                        "restrictions": { "deviceIds": [name(number)] },
                        "rotation": { "overlap": "0s" },
                    },
                }));
                insist(async || {
                    let params = PatchParams::apply("keyward-tests").force();
                    keys.patch(&name(number), &params, &Patch::Apply(&key))
                        .await
                })
                .await;
            }
        });
        made.await;
    }

    /// Asks for work, and waits until some of it was begun.
    pub async fn is_at_work(&mut self, new: usize, rotations: usize) {
        let before = self.history.seen().statuses;
        self.ask(new, rotations).await;
        let begun = |seen: &Seen| seen.statuses > before + 2;
        self.history.until("it works", PATIENCE, begun).await;
    }

    /// Forgets the keys of a namespace that is gone.
    pub fn begin_anew(&mut self) {
        self.phases = Phases::default();
    }

    /// What there is now.
    pub fn phases(&self) -> Phases {
        self.phases.clone()
    }

    /// Everything is as it was: another history begins.
    pub fn goes_back_to(&mut self, phases: Phases) {
        let history = History::as_seen_by(&self.admin, &self.namespace);
        history.goes_on_from(&self.history);
        for consumed in &phases.consumed {
            history.consumed(&consumed.device);
        }
        self.history = history;
        self.phases = phases;
    }

    /// Waits until everything that was asked for is issued, confirmed and swept.
    pub async fn is_done(&self) {
        self.history.until_done(self.phases.made, PATIENCE).await;
        let begin = Instant::now();
        while !self.knows_all_secrets().await {
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "the record of Secrets has caught up");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The two records wait for an API server that is away each for itself.
    async fn knows_all_secrets(&self) -> bool {
        let list = self.secrets.list(&ListParams::default()).await;
        let seen = self.history.seen();
        let is_known = |secret: &KubeSecret| {
            let known = seen.secrets.get(&secret.name_any());
            known.is_some_and(|known| known.resource_version() == secret.resource_version())
        };
        list.is_ok_and(|list| {
            list.items.len() == seen.secrets.len() && list.items.iter().all(is_known)
        })
    }

    /// Waits for that, and judges all that has happened so far.
    pub async fn is_whole(&self) {
        self.is_done().await;
        self.history.is_sound().await;
        self.admits_its_devices();
        holds_no_secret(&self.launcher.log(), &self.history.plaintexts());
    }

    /// `keyward check` allows: who took a secret, and a device of each other phase.
    fn admits_its_devices(&self) {
        let (untouched, rotated) = (&self.phases.untouched, &self.phases.rotated);
        let phases = [untouched.first(), untouched.last(), rotated.last()];
        let devices: Vec<_> = phases.into_iter().flatten().collect();
        let devices: Vec<_> = devices
            .iter()
            .map(|number| self.delivered(**number))
            .collect();
        for delivered in devices.iter().chain(self.phases.consumed.last()) {
            let Delivered {
                device,
                key,
                secret,
            } = delivered;
            let flags = [
                "--namespace",
                &self.namespace,
                "--device",
                device,
                "--key",
                key,
            ];
            let answer = self.asker.ask(&flags, secret);
            assert_eq!(answer.code, Some(0), "{device}: {answer:?}");
        }
    }

    /// What the Secret of a key holds.
    fn delivered(&self, number: usize) -> Delivered {
        let seen = self.history.seen();
        let secret = seen.secrets.get(&name(number)).expect("it is delivered");
        let entry = |name: &str| {
            let bytes = secret.data.as_ref().expect("data")[name].0.clone();
            String::from_utf8(bytes).expect("text")
        };
        Delivered {
            device: name(number),
            key: entry("key"),
            secret: entry("secret"),
        }
    }
}

fn name(number: usize) -> String {
    format!("key-{number}")
}

/// Tries until the API server answers: a server that was restarted takes connections with it.
async fn insist<T>(mut attempt: impl AsyncFnMut() -> Result<T, kube::Error>) -> T {
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(kube::Error::Api(status)) if status.code < 500 => panic!("refused: {status:?}"),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
