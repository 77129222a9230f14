//! When to write to which Device: at once, and after a failure later and later. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::index::Name;
use crate::backoff::Backoff;
use crate::clock::Moment;

/// Devices that wait for a write.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    order: BTreeSet<(Moment, Name)>,
    waiting: HashMap<Name, (Moment, Backoff)>,
}

impl Schedule {
    /// A Device needs a write. One that waits after a failure goes on waiting: it would come back at
    /// once otherwise, whenever someone touches it.
    pub(super) fn add(&mut self, name: Name, now: Moment) {
        if !self.waiting.contains_key(&name) {
            self.place(name, now, Backoff::default());
        }
    }

    /// The Device whose turn it is, which waits until it is [done](Self::done) or has
    /// [failed](Self::failed).
    pub(super) fn pop(&mut self, now: Moment) -> Option<Name> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        self.order.pop_first().map(|(_, name)| name)
    }

    /// It needs no write any more.
    pub(super) fn done(&mut self, name: &Name) {
        if let Some((at, _)) = self.waiting.remove(name) {
            self.order.remove(&(at, name.clone()));
        }
    }

    /// It needs one still, and waits as long as is returned.
    pub(super) fn failed(&mut self, name: &Name, now: Moment, jitter: f64) -> Duration {
        let known = self.waiting.get(name);
        let mut backoff = known.map_or_else(Backoff::default, |(_, backoff)| *backoff);
        let wait = backoff.fail(jitter);
        self.done(name);
        self.place(name.clone(), now + wait, backoff);
        wait
    }

    /// When the next Device has its turn.
    pub(super) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    fn place(&mut self, name: Name, at: Moment, backoff: Backoff) {
        self.order.insert((at, name.clone()));
        self.waiting.insert(name, (at, backoff));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_device_comes_once_and_at_once() {
        let (mut schedule, now) = (Schedule::default(), Moment::default());
        schedule.add(name("a"), now);
        schedule.add(name("a"), now);
        assert_eq!(schedule.next(), Some(now));
        assert_eq!(schedule.pop(now), Some(name("a")));
        schedule.done(&name("a"));
        assert_eq!((schedule.pop(now), schedule.next()), (None, None));
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_holds_up_nobody() {
        let (mut schedule, start) = (Schedule::default(), Moment::default());
        schedule.add(name("a"), start);
        schedule.add(name("b"), start);
        assert_eq!(schedule.pop(start), Some(name("a")));
        assert_eq!(schedule.failed(&name("a"), start, 0.0), SECOND);

        schedule.add(name("a"), start);
        assert_eq!(schedule.pop(start), Some(name("b")));
        schedule.done(&name("b"));
        assert_eq!(schedule.pop(start), None);
        assert_eq!(schedule.next(), Some(start + SECOND));
        assert_eq!(schedule.pop(start + SECOND), Some(name("a")));
        assert_eq!(schedule.failed(&name("a"), start + SECOND, 0.0), 2 * SECOND);
    }

    #[test]
    fn a_success_begins_anew() {
        let (mut schedule, start) = (Schedule::default(), Moment::default());
        schedule.add(name("a"), start);
        schedule.failed(&name("a"), start, 0.0);
        schedule.done(&name("a"));
        assert_eq!(schedule.next(), None);
        schedule.add(name("a"), start);
        assert_eq!(schedule.pop(start), Some(name("a")));
        assert_eq!(schedule.failed(&name("a"), start, 0.0), SECOND);
    }

    fn name(name: &str) -> Name {
        Name {
            namespace: "plant".into(),
            name: name.into(),
        }
    }
}
