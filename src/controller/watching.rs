//! Watching objects, so that nothing silent goes unnoticed and nothing seen is missed.
//!
//! kube's watcher lists, and then goes on from the version of the list. Five things come on top of
//! it:
//!
//! - Every request has an end. Of itself kube waits for ever for a page of a list, and five minutes
//!   for a watch that says nothing. See [`crate::punctual`].
//! - After every error everything is listed again. If etcd was restored from a backup, the version
//!   that a watch would go on from lies in the future.
//! - What a list finds is looked at once the list is complete. Before that the cache holds what was
//!   known before.
//! - From time to time what is cached is held against a list. See [`relist`].
//! - Errors are reported here and go no further. See [`objects_only`].

mod relist;
mod rivals;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt, select};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{Error, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::relist::Relist;
pub use self::rivals::Rivals;

use super::failure::Failure;
use crate::api::{AccessKey, Restrictions, Sources, Topics};
use crate::backoff::Backoff;
use crate::punctual;

/// An object as it came, also if it cannot be read.
pub type Guarded = DeserializeGuard<AccessKey>;

/// AccessKeys are listed so many at a time: what a page takes is several times what is kept of it.
const PAGE: u32 = 100;

/// The longest that a failed watch waits before it lists again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// AccessKeys as they come from the API server, and the cache of them.
pub struct Watch {
    /// The cache. It is ready once the first list is complete.
    pub store: Store<Guarded>,
    /// The AccessKeys to look at, and no errors. The cache holds what comes from here before it does.
    pub stream: BoxStream<'static, Result<Guarded, Error>>,
    /// Which AccessKey has a key that several claim.
    pub rivals: Rivals,
}

impl Watch {
    /// Begins with a list once it is polled. Each nudge has it compared with a list.
    pub fn start(api: Api<Guarded>, nudges: impl Stream<Item = ()> + Send + 'static) -> Watch {
        let (store, writer) = reflector::store();
        let missed = Relist(api.clone()).missed(store.clone(), nudges);
        let rivals = Rivals::in_cache(store.clone());
        let (noticed, disturbed) = (rivals.clone(), rivals.clone());
        let cached = select(events(api, PAGE), missed.map(Ok))
            .modify(forget_bulk)
            .inspect_ok(move |event| noticed.notice(event))
            .reflect(writer);
        let seen = to_look_at(cached, store.clone(), move || disturbed.disturbed());
        Watch {
            stream: objects_only(seen).boxed(),
            store,
            rivals,
        }
    }
}

/// What happens to the objects of `api`, listed so many a page. An error is followed by a pause and
/// a new list.
pub fn events<K>(api: Api<K>, page: u32) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default()
        .timeout(punctual::LONGEST_WATCH)
        .page_size(page);
    let start = move || watcher(api.clone(), config.clone()).boxed();
    let watching = Watching {
        events: start(),
        start,
        since: Instant::now(),
        backoff: Backoff::default(),
        pause: None,
    };
    stream::unfold(watching, |mut watching| async move {
        Some((watching.next().await?, watching))
    })
}

struct Watching<F, S> {
    start: F,
    events: S,
    /// When the list began that `events` began with.
    since: Instant,
    backoff: Backoff,
    /// After an error: before the next list.
    pause: Option<Duration>,
}

impl<F, S, K> Watching<F, S>
where
    F: Fn() -> S,
    S: Stream<Item = Result<Event<K>, Error>> + Unpin,
{
    async fn next(&mut self) -> Option<Result<Event<K>, Error>> {
        if let Some(pause) = self.pause {
            sleep(pause).await;
            self.pause = None;
            self.events = (self.start)();
            self.since = Instant::now();
        }
        let event = self.events.next().await?;
        if event.is_err() {
            self.pause = Some(self.pause_after_error());
        }
        Some(event)
    }

    /// Whoever may list and not watch must not list all the time, so only a watch that lasted makes
    /// the pause short again.
    fn pause_after_error(&mut self) -> Duration {
        if self.since.elapsed() >= punctual::PATIENCE {
            self.backoff.reset();
        }
        self.backoff.fail(rand::random()).min(LONGEST_PAUSE)
    }
}

/// Of what happens, the objects that have to be looked at, and those that are `disturbed` by it; those
/// of a list once it is complete and cached.
fn to_look_at<K>(
    cached: impl Stream<Item = Result<Event<K>, Error>>,
    store: Store<K>,
    mut disturbed: impl FnMut() -> Vec<Arc<K>>,
) -> impl Stream<Item = Result<K, Error>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut objects = move |event| {
        let mut objects = disturbed();
        match event {
            Event::Apply(object) => objects.push(Arc::new(object)),
            Event::InitDone => objects = store.state(),
            Event::Init | Event::InitApply(_) | Event::Delete(_) => {}
        }
        objects
    };
    cached
        .map_ok(move |event| stream::iter(objects(event)).map(Ok))
        .try_flatten()
        .map_ok(Arc::unwrap_or_clone)
}

/// kube's queue (kube-runtime 5.0, `trystream_try_via`) reads objects and errors as two halves of one stream. An error
/// that comes at once behind an AccessKey's next turn is seen by the wrong half, which leaves it where it is and wakes
/// nobody. Then nothing is watched any more until some AccessKey's turn comes, or for ever where there is none.
fn objects_only<K>(
    seen: impl Stream<Item = Result<K, Error>>,
) -> impl Stream<Item = Result<K, Error>> {
    seen.filter_map(|seen| {
        std::future::ready(match seen {
            Ok(object) => Some(Ok(object)),
            Err(error) => {
                warn!("cannot watch AccessKeys, trying again: {}", failure(error));
                None
            }
        })
    })
}

/// Drops what is large and never looked at: with 10,000 keys it would be most of the memory. A
/// status is written without it all the same: the API server takes only the status from such a
/// write. Annotations stay: whoever applied one would lose it to a write without it, and could not
/// remove it any more.
fn forget_bulk(object: &mut Guarded) {
    object.meta_mut().managed_fields = None;
    let Ok(key) = &mut object.0 else { return };
    key.spec.restrictions = Restrictions::default();
    key.spec.topics = Topics::default();
    key.spec.sources = Sources::default();
    key.spec.description = None;
}

/// Why there is nothing to be seen.
pub fn failure(error: Error) -> Failure {
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => error.into(),
        Error::WatchError(status) => kube::Error::Api(status).into(),
        Error::NoResourceVersion => Failure::Garbled,
    }
}

#[cfg(test)]
mod tests;
