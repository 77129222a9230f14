//! Every version of every AccessKey and Secret, as an admin's watches deliver them: what the runs
//! are judged by.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::AccessKey;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What an object was at one version of the store.
#[derive(Clone)]
pub struct Version {
    /// Its resourceVersion. Those of both kinds count the same changes.
    pub at: u64,
    /// Its name.
    pub name: String,
    /// What it was.
    pub what: What,
}

/// An object, or its end.
#[derive(Clone)]
pub enum What {
    Key(Arc<AccessKey>),
    KeyGone,
    Secret(Arc<Stored>),
    SecretGone,
}

/// A Secret.
#[derive(Clone, PartialEq)]
pub struct Stored {
    pub uid: String,
    pub version: String,
    pub owner: Option<String>,
    pub key: String,
    pub plaintext: String,
}

/// Records until it goes out of scope.
pub struct Recorder {
    seen: Arc<Mutex<Seen>>,
    changes: watch::Sender<u64>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Seen {
    versions: HashMap<String, Vec<Version>>,
    /// How many of the two kinds.
    listed: u32,
    gaps: u32,
}

/// For as long all may take to be listed.
const FIRST_LIST: Duration = Duration::from_secs(300);

impl Recorder {
    /// Records what happens in all namespaces.
    pub async fn start(admin: &Client) -> Recorder {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let changes = watch::Sender::default();
        let keys: Api<AccessKey> = Api::all(admin.clone());
        let secrets: Api<KubeSecret> = Api::all(admin.clone());
        let tasks = [
            record(keys, Arc::clone(&seen), changes.clone(), |key, exists| {
                if exists {
                    What::Key(Arc::new(key))
                } else {
                    What::KeyGone
                }
            }),
            record(
                secrets,
                Arc::clone(&seen),
                changes.clone(),
                |secret, exists| {
                    if exists {
                        What::Secret(Arc::new(stored(&secret)))
                    } else {
                        What::SecretGone
                    }
                },
            ),
        ];
        let recorder = Recorder {
            seen,
            changes,
            tasks,
        };
        // The API server may still be busy with what other tests have left to be deleted.
        let all_is_listed = recorder.within(FIRST_LIST, |recorder| recorder.seen().listed == 2);
        let is_listed = all_is_listed.await;
        assert!(is_listed, "all is listed");
        recorder
    }

    /// Records this namespace from now on.
    pub fn include(&self, namespace: &str) {
        self.seen()
            .versions
            .entry(namespace.to_owned())
            .or_default();
    }

    /// How many versions there were so far in a namespace.
    pub fn count(&self, namespace: &str) -> usize {
        self.seen().versions.get(namespace).map_or(0, Vec::len)
    }

    /// The AccessKey of this name, as it is now.
    pub fn key(&self, namespace: &str, name: &str) -> Option<Arc<AccessKey>> {
        self.last(namespace, name, |what| match what {
            What::Key(key) => Some(Some(Arc::clone(key))),
            What::KeyGone => Some(None),
            What::Secret(_) | What::SecretGone => None,
        })
    }

    /// The Secret of this name, as it is now.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.last(namespace, name, |what| match what {
            What::Secret(secret) => Some(Some(Arc::clone(secret))),
            What::SecretGone => Some(None),
            What::Key(_) | What::KeyGone => None,
        })
    }

    /// Every version of the Secrets of this name.
    pub fn secrets(&self, namespace: &str, name: &str) -> Vec<Arc<Stored>> {
        let seen = self.seen();
        let versions = seen.versions.get(namespace).into_iter().flatten();
        versions
            .filter(|version| version.name == name)
            .filter_map(|version| match &version.what {
                What::Secret(secret) => Some(Arc::clone(secret)),
                _ => None,
            })
            .collect()
    }

    fn last<T>(
        &self,
        namespace: &str,
        name: &str,
        pick: impl Fn(&What) -> Option<Option<T>>,
    ) -> Option<T> {
        let seen = self.seen();
        let versions = seen.versions.get(namespace)?.iter().rev();
        versions
            .filter(|version| version.name == name)
            .find_map(|version| pick(&version.what))
            .flatten()
    }

    /// Waits until this holds of what is recorded.
    pub async fn until(&self, holds: impl Fn(&Recorder) -> bool) -> bool {
        self.within(Duration::from_secs(60), holds).await
    }

    async fn within(&self, limit: Duration, holds: impl Fn(&Recorder) -> bool) -> bool {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !holds(self) {
                changes.changed().await.ok();
            }
        };
        timeout(limit, wait).await.is_ok()
    }

    /// What was recorded of the objects whose names begin so, in the order of their versions; it is
    /// forgotten.
    pub fn take(&self, namespace: &str, prefix: &str) -> Vec<Version> {
        let mut seen = self.seen();
        let all = seen.versions.entry(namespace.to_owned()).or_default();
        let mut taken: Vec<Version> = all
            .extract_if(.., |version| version.name.starts_with(prefix))
            .collect();
        taken.sort_by_key(|version| version.at);
        taken
    }

    /// Was something missed?
    pub fn has_gaps(&self) -> bool {
        self.seen().gaps > 0
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record<K>(
    api: Api<K>,
    seen: Arc<Mutex<Seen>>,
    changes: watch::Sender<u64>,
    what: fn(K, bool) -> What,
) -> JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default())
            .default_backoff()
            .boxed();
        let mut is_listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object)) => lock(&seen).saw(object, true, what),
                Ok(Event::Delete(object)) => lock(&seen).saw(object, false, what),
                // What happened before a list and after the watch before it was not seen.
                Ok(Event::Init) if is_listed => lock(&seen).gaps += 1,
                Ok(Event::InitDone) => {
                    lock(&seen).listed += u32::from(!is_listed);
                    is_listed = true;
                }
                // A watch that cannot start goes on where the one before it ended.
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => {}
            }
            changes.send_modify(|count| *count += 1);
        }
    })
}

impl Seen {
    fn saw<K: Resource<DynamicType = ()>>(
        &mut self,
        object: K,
        exists: bool,
        what: fn(K, bool) -> What,
    ) {
        let namespace = object.namespace().unwrap_or_default();
        let Some(versions) = self.versions.get_mut(&namespace) else {
            return;
        };
        let at = object.resource_version();
        versions.push(Version {
            at: at.and_then(|text| text.parse().ok()).expect("a version"),
            name: object.name_any(),
            what: what(object, exists),
        });
    }
}

fn stored(secret: &KubeSecret) -> Stored {
    let entry = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        text.unwrap_or_default().to_owned()
    };
    let owners = secret.metadata.owner_references.as_ref();
    Stored {
        uid: secret.uid().unwrap_or_default(),
        version: secret.resource_version().unwrap_or_default(),
        owner: owners.and_then(|owners| Some(owners.first()?.uid.clone())),
        key: entry("key"),
        plaintext: entry("secret"),
    }
}
