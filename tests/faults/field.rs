//! Where runs take place: so many namespaces at once, and one record of what happens in them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Secret as KubeSecret};
use keyward::api::AccessKey;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Semaphore;

use super::plan::Line;
use super::recorder::Recorder;
use super::run::{Outcome, Run};
use super::support::canary;
use super::support::cluster::{self, TestNamespace, from_json};
use super::workload::Workload;

/// As many runs go on at once.
pub const PLACES: usize = 24;

/// Namespaces, taken in turns.
pub struct Field {
    pub admin: Client,
    /// A client with the rights of the shipped ServiceAccount.
    pub controller: Client,
    pub recorder: Recorder,
    free: Mutex<Vec<Place>>,
    turns: Semaphore,
    runs: AtomicU32,
}

/// A namespace in which one run at a time takes place.
pub struct Place {
    pub name: String,
    namespace: TestNamespace,
}

impl Field {
    /// Makes the namespaces.
    pub async fn new() -> Arc<Field> {
        canary::search_as_it_is_written();
        let admin = cluster::admin().await;
        let recorder = Recorder::start(&admin).await;
        let places = join_all((0..PLACES).map(|_| Place::new(&recorder))).await;
        Arc::new(Field {
            controller: cluster::controller().await,
            admin,
            recorder,
            free: Mutex::new(places),
            turns: Semaphore::new(PLACES),
            runs: AtomicU32::new(0),
        })
    }

    /// A number that no other run has.
    pub fn next_number(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::SeqCst)
    }

    /// Does a run as soon as there is room for it.
    pub async fn run(&self, line: &Line) -> Outcome {
        let _turn = self.turns.acquire().await.expect("never closed");
        if line.workload == Workload::EndNamespace {
            let place = Place::new(&self.recorder).await;
            return Run::of(self, &place, line).await;
        }
        let place = self.free().pop().expect("as many as turns");
        let outcome = Run::of(self, &place, line).await;
        self.free().push(place);
        outcome
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Place>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    async fn new(recorder: &Recorder) -> Place {
        let namespace = TestNamespace::served("faults").await;
        recorder.include(&namespace.name);
        Place {
            name: namespace.name.clone(),
            namespace,
        }
    }

    fn secrets(&self) -> Api<KubeSecret> {
        self.namespace.api(&self.namespace.admin)
    }

    /// Deletes the Secret, and gives what it held.
    pub async fn take_secret(&self, name: &str) -> Option<String> {
        let secrets = self.secrets();
        let secret = secrets.get_opt(name).await.expect("the admin may")?;
        let held = String::from_utf8(secret.data?.get("secret")?.0.clone()).ok()?;
        let preconditions = Preconditions {
            uid: secret.metadata.uid,
            resource_version: secret.metadata.resource_version,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match secrets.delete(name, &params).await {
            Ok(_) => Some(held),
            // The controller was quicker.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => None,
            Err(error) => panic!("the admin may: {error}"),
        }
    }

    /// Deletes the namespace with all that is in it.
    pub async fn delete(&self) {
        let namespaces: Api<Namespace> = Api::all(self.namespace.admin.clone());
        let params = DeleteParams::default();
        let deleted = namespaces.delete(&self.name, &params);
        deleted.await.expect("the admin may");
    }

    /// Clears away what a run has left, and waits until all that it did is recorded: a Secret that is
    /// made last, and the end of its AccessKeys, are recorded behind the rest.
    pub async fn clear(&self, recorder: &Recorder, prefix: &str) -> Cleared {
        let fence = format!("fence-{prefix}0");
        let secret = from_json(json!({ "metadata": { "name": fence } }));
        let made = self.secrets().create(&PostParams::default(), &secret).await;
        let end = made
            .ok()
            .and_then(|made: KubeSecret| made.resource_version());
        let keys: Api<AccessKey> = self.namespace.api(&self.namespace.admin);
        let all = keys.list_metadata(&ListParams::default()).await;
        let names: Vec<String> = all
            .expect("the admin may")
            .items
            .into_iter()
            .map(|key| key.name_any())
            .filter(|name| name.starts_with(prefix))
            .collect();
        let params = DeleteParams::background();
        for name in &names {
            keys.delete(name, &params).await.ok();
        }
        let is_recorded = recorder
            .until(|recorder| {
                let gone = |name: &String| recorder.key(&self.name, name).is_none();
                let fenced = || recorder.secret(&self.name, &fence).is_some();
                names.iter().all(gone) && (end.is_none() || fenced())
            })
            .await;
        self.secrets()
            .delete(&fence, &DeleteParams::default())
            .await
            .ok();
        recorder.take(&self.name, &fence);
        Cleared {
            end: end.map_or(u64::MAX, |end| end.parse().expect("a version")),
            is_recorded,
        }
    }
}

/// What came of clearing a place.
pub struct Cleared {
    /// The version at which it began.
    pub end: u64,
    /// Is all recorded that happened before?
    pub is_recorded: bool,
}
