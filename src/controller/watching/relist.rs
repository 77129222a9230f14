//! Finding what a watch has missed: from time to time the AccessKeys are listed, by their metadata
//! only, and held against the cache.
//!
//! A watch that is silent is abandoned, but one that lost a single event, or delivered two in the
//! wrong order, shows nothing of it (etcd and the API server's cache have done both). Without this,
//! a key whose deletion or rotation was lost would stay as it was until the watch is next begun with
//! a list.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Api, Resource};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Guarded;
use crate::controller::failure::Failure;
use crate::controller::ledger::Version;
use crate::controller::status::version;

/// So often, a tenth more or less.
const INTERVAL: Duration = Duration::from_secs(300);

/// Metadata without the rest is small.
const PAGE: u32 = 500;

/// Lists the AccessKeys that are watched.
pub(super) struct Relist(pub(super) Api<Guarded>);

impl Relist {
    /// What the cache should have been told, as its watch would have told it. Lists every five
    /// minutes, and at each nudge.
    pub(super) fn missed(
        self,
        store: Store<Guarded>,
        nudges: impl Stream<Item = ()> + Send + 'static,
    ) -> impl Stream<Item = Event<Guarded>> + Send {
        let state = (self, store.clone(), Box::pin(nudges.fuse()));
        let lists = stream::unfold(state, |(relist, store, mut nudges)| async {
            tokio::select! {
                () = sleep(INTERVAL.mul_f64(0.9 + 0.2 * rand::random::<f64>())) => {}
                Some(()) = nudges.next() => {}
            }
            let missed = relist.compare(&store).await.unwrap_or_else(|failure| {
                warn!("could not list AccessKeys to find what the watch has missed: {failure}");
                Vec::new()
            });
            Some((stream::iter(missed), (relist, store, nudges)))
        });
        lists
            .flatten()
            .filter_map(move |missed| std::future::ready(missed.event(&store)))
    }

    /// Each object that differs is read by itself: what is listed grows old while the pages come.
    async fn compare(&self, store: &Store<Guarded>) -> Result<Vec<Missed>, Failure> {
        let mut cached: HashMap<_, _> = store.state().iter().map(entry).collect();
        let mut suspects = Vec::new();
        for (reference, listed) in self.list().await? {
            if cached.remove(&reference) != Some(listed) {
                suspects.push(reference);
            }
        }
        suspects.extend(cached.into_keys());
        let mut missed = Vec::new();
        for reference in suspects {
            let before = store.get(&reference).map(|object| version_of(&object));
            let now = self.read(&reference).await?;
            missed.push(Missed {
                reference,
                before,
                now: now.map(Box::new),
            });
        }
        Ok(missed)
    }

    async fn list(&self) -> Result<Vec<(ObjectRef<Guarded>, Option<Version>)>, Failure> {
        let mut found = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.0.list_metadata(&params).await?;
            found.extend(page.items.iter().map(|object| {
                let version = version(object.metadata.resource_version.as_deref());
                (reference(&object.metadata), version)
            }));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn read(&self, reference: &ObjectRef<Guarded>) -> Result<Option<Guarded>, Failure> {
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let keys: Api<Guarded> = Api::namespaced(self.0.clone().into_client(), namespace);
        let read = keys.get(&reference.name).await;
        Failure::or_absent(read.map_err(|e| Failure::about::<Guarded>(e, &reference.name)))
    }
}

/// What the cache did not have when a list was held against it.
struct Missed {
    reference: ObjectRef<Guarded>,
    /// The version that the cache had when the object was read; none if it had none.
    before: Option<Option<Version>>,
    /// The object, as it was read.
    now: Option<Box<Guarded>>,
}

impl Missed {
    /// None if the watch has told of it, or of more, meanwhile. What has stayed in the cache is as
    /// the watch left it before the object was read, so that counts, also if its version is lower:
    /// etcd may have been restored.
    fn event(self, store: &Store<Guarded>) -> Option<Event<Guarded>> {
        let cached = store.get(&self.reference);
        let has_stayed = cached.as_ref().map(|cached| version_of(cached)) == self.before;
        let event = match (self.now, cached) {
            (Some(now), Some(cached)) if version_of(&cached) < version_of(&now) => {
                Event::Apply(*now)
            }
            (Some(now), _) if has_stayed => Event::Apply(*now),
            (None, Some(cached)) if has_stayed => Event::Delete(Guarded::clone(&cached)),
            _ => return None,
        };
        let (namespace, name) = (self.reference.namespace.as_deref(), &*self.reference.name);
        debug!(namespace, name, "the watch has not told of this change");
        Some(event)
    }
}

fn entry(object: &Arc<Guarded>) -> (ObjectRef<Guarded>, Option<Version>) {
    (reference(object.meta()), version_of(object))
}

fn version_of(object: &Guarded) -> Option<Version> {
    version(object.meta().resource_version.as_deref())
}

fn reference(meta: &ObjectMeta) -> ObjectRef<Guarded> {
    let name = meta.name.as_deref().unwrap_or_default();
    ObjectRef::new(name).within(meta.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::reflector::store::Writer;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_missed_is_told_unless_the_watch_was_quicker() {
        // The version in the cache when the object was read and when this is told, the version that
        // was read, and the version that is told; none where there is no object.
        let rows = [
            (Some(5), Some(5), Some(7), Some(Some(7))),
            (None, None, Some(7), Some(Some(7))),
            (Some(5), Some(5), None, Some(None)),
            // Restored.
            (Some(9), Some(9), Some(7), Some(Some(7))),
            // The watch has told of it, of more, or of its end.
            (Some(5), Some(7), Some(7), None),
            (Some(5), Some(8), Some(7), None),
            (Some(5), None, Some(7), None),
            (Some(5), Some(8), None, None),
            (None, Some(8), None, None),
            // Of less.
            (Some(5), Some(6), Some(7), Some(Some(7))),
        ];
        for row @ (before, cached, read, told) in rows {
            let (store, mut writer): (_, Writer<Guarded>) = reflector::store();
            if let Some(version) = cached {
                writer.apply_watcher_event(&Event::Apply(object(version)));
            }
            let missed = Missed {
                reference: reference(object(1).meta()),
                before: before.map(|version| version_of(&object(version))),
                now: read.map(|version| Box::new(object(version))),
            };
            let event = missed.event(&store).map(|event| match event {
                Event::Apply(object) => version_of(&object).map(|version| version.0),
                _ => None,
            });
            assert_eq!(event, told, "{row:?}");
        }
    }

    fn object(version: u64) -> Guarded {
        let object = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "namespace": "plant", "name": "pump", "resourceVersion": version.to_string() },
            "spec": { "restrictions": { "allDevices": true } },
        });
        serde_json::from_value(object).expect("an AccessKey")
    }
}
