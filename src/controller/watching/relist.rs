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
        let state = (self, store.clone(), Box::pin(nudges));
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
        lists.flatten().filter_map(move |missed| {
            std::future::ready(missed.event(&store).inspect(|_| {
                debug!("the watch has not told of a change to an AccessKey");
            }))
        })
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
            match self.read(&reference).await? {
                Some(object) => missed.push(Missed::Change(Box::new(object))),
                None => missed.push(Missed::Deletion(reference, before)),
            }
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
enum Missed {
    /// This object.
    Change(Box<Guarded>),
    /// The end of this one, which the cache had in this version.
    Deletion(ObjectRef<Guarded>, Option<Option<Version>>),
}

impl Missed {
    /// None if the watch has told of it, or of more, meanwhile: the cache must not go back.
    fn event(self, store: &Store<Guarded>) -> Option<Event<Guarded>> {
        match self {
            Missed::Change(object) => {
                let cached = store.get(&reference(object.meta()));
                let is_newer =
                    cached.is_none_or(|cached| version_of(&cached) < version_of(&object));
                is_newer.then_some(Event::Apply(*object))
            }
            Missed::Deletion(reference, before) => {
                let cached = store.get(&reference)?;
                let same = before == Some(version_of(&cached));
                same.then(|| Event::Delete(Guarded::clone(&cached)))
            }
        }
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
