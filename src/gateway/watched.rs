//! How fresh what all watches have delivered is: as fresh as what the least fresh of them has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::core::lock;
use super::freshness::Freshness;
use crate::clock::{Clock, Moment};

/// All watches that feed a directory.
pub(super) struct Watches {
    each: Mutex<Vec<Freshness>>,
    /// Until when all is known, in milliseconds; [`NEVER`] before all was listed.
    proven: AtomicU64,
    ready: watch::Sender<bool>,
}

const NEVER: u64 = u64::MAX;

impl Watches {
    /// None yet.
    pub fn new() -> Watches {
        Watches {
            each: Mutex::default(),
            proven: AtomicU64::new(NEVER),
            ready: watch::Sender::new(false),
        }
    }

    /// One more, which gives its number.
    pub fn add(&self) -> usize {
        let mut each = lock(&self.each);
        each.push(Freshness::default());
        each.len() - 1
    }

    /// Whether all was listed once.
    pub fn have_listed(&self) -> bool {
        self.proven.load(Ordering::Acquire) != NEVER
    }

    /// Resolves once all was listed.
    pub async fn until_listed(&self) {
        let mut ready = self.ready.subscribe();
        ready.wait_for(|ready| *ready).await.ok();
    }

    /// How long ago all was known; none before all was listed.
    pub fn age(&self, now: Moment) -> Option<Duration> {
        let proven = self.proven.load(Ordering::Acquire);
        let age = || Duration::from_millis(millis(now).saturating_sub(proven));
        (proven != NEVER).then(age)
    }

    fn prove<T>(&self, number: usize, by: impl FnOnce(&mut Freshness) -> T) -> T {
        let mut each = lock(&self.each);
        let proved = by(&mut each[number]);
        let proven = each.iter().map(Freshness::proven).min().flatten();
        let proven = proven.map_or(NEVER, millis);
        self.proven.store(proven, Ordering::Release);
        self.ready.send_if_modified(|ready| {
            let is_news = !*ready && proven != NEVER;
            *ready |= is_news;
            is_news
        });
        proved
    }
}

/// Tells how fresh what one watch has delivered is.
#[derive(Clone)]
pub struct Watched {
    pub(super) number: usize,
    pub(super) watches: Arc<Watches>,
    pub(super) clock: Clock,
}

impl Watched {
    /// See [`Freshness::listed`].
    pub fn listed(&self, asked: Moment, version: u64) {
        self.prove(|watch| watch.listed(asked, version));
    }

    /// See [`Freshness::delivered`].
    pub fn delivered(&self, version: u64) {
        self.prove(|watch| watch.delivered(version));
    }

    /// See [`Freshness::version`].
    pub fn version(&self) -> u64 {
        self.prove(|watch| watch.version())
    }

    /// See [`Freshness::answered`].
    pub fn answered(&self, asked: Moment, before: u64, version: u64) -> bool {
        self.prove(|watch| watch.answered(asked, before, version))
    }

    /// What time it is for the questions.
    pub fn now(&self) -> Moment {
        self.clock.monotonic()
    }

    fn prove<T>(&self, by: impl FnOnce(&mut Freshness) -> T) -> T {
        self.watches.prove(self.number, by)
    }
}

fn millis(moment: Moment) -> u64 {
    let since_start = moment.since(Moment::default());
    since_start.as_millis().try_into().unwrap_or(NEVER - 1)
}
