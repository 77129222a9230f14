//! What was allowed before, and still is as long as nothing that is known changes. Most messages are like one that went
//! before, and to judge each anew would take more than all else that the plugin does for it.
//!
//! Most devices send to one topic and receive from another, so the last of each lies beside what else is kept of a
//! client ([`Last`]). For those that have more there is one table ([`Permits`]): what was asked is kept there as 128 bits
//! that nobody can foresee, and whatever else falls on the same place takes it.

use std::array;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::text::Text;
use crate::topics::Action;

/// What one client was allowed last.
#[derive(Debug, Default)]
pub(super) struct Last {
    sent: Option<Allowed>,
    received: Option<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    version: u64,
    action: Action,
    topic: Text,
}

impl Last {
    /// Whether this was allowed when what is known had this version.
    pub fn is(&self, action: Action, topic: &str, version: u64) -> bool {
        let last = match action {
            Action::Publish { .. } => &self.sent,
            Action::Subscribe { .. } | Action::Receive => &self.received,
        };
        last.as_ref().is_some_and(|last| {
            last.version == version && last.action == action && last.topic == *topic
        })
    }

    /// It is allowed.
    pub fn set(&mut self, action: Action, topic: &str, version: u64) {
        let last = match action {
            Action::Publish { .. } => &mut self.sent,
            Action::Subscribe { .. } | Action::Receive => &mut self.received,
        };
        *last = Some(Allowed {
            version,
            action,
            topic: topic.into(),
        });
    }
}

/// Places.
const SIZE: usize = 1 << 16;

/// What a session asked, in short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Mark([u64; 2]);

#[derive(Clone, Copy)]
struct Permit {
    mark: Mark,
    version: u64,
}

/// What was allowed.
pub(super) struct Permits {
    hashers: [RandomState; 2],
    places: Box<[Option<Permit>]>,
}

impl Permits {
    /// Of what the session of this admission asks.
    pub fn mark(&self, admission: u64, action: Action, topic: &str) -> Mark {
        let asked = (admission, action, topic);
        Mark(array::from_fn(|at| self.hashers[at].hash_one(asked)))
    }

    /// Whether this was allowed when what is known had this version.
    pub fn has(&self, mark: Mark, version: u64) -> bool {
        let known = self.places[place(mark)];
        known.is_some_and(|known| known.mark == mark && known.version == version)
    }

    /// It is allowed.
    pub fn put(&mut self, mark: Mark, version: u64) {
        self.places[place(mark)] = Some(Permit { mark, version });
    }
}

impl Default for Permits {
    fn default() -> Permits {
        Permits {
            hashers: array::from_fn(|_| RandomState::new()),
            places: vec![None; SIZE].into_boxed_slice(),
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permits")
    }
}

fn place(mark: Mark) -> usize {
    let [low, _] = mark.0;
    usize::try_from(low).unwrap_or(usize::MAX) % SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_the_last_in_each_direction() {
        let send = Action::Publish { retain: false };
        let mut last = Last::default();
        assert!(!last.is(send, "a/b", 1));
        last.set(send, "a/b", 1);
        last.set(Action::Receive, "a/c", 1);
        assert!(last.is(send, "a/b", 1) && last.is(Action::Receive, "a/c", 1));
        assert!(!last.is(send, "a/b", 2));
        assert!(!last.is(send, "a/c", 1));
        assert!(!last.is(Action::Publish { retain: true }, "a/b", 1));
        let subscribe = Action::Subscribe {
            checks_deliveries: true,
        };
        assert!(!last.is(subscribe, "a/c", 1));
        last.set(send, "a/d", 1);
        assert!(!last.is(send, "a/b", 1) && last.is(send, "a/d", 1));
    }

    #[test]
    fn what_was_allowed_is_allowed_for_the_same_question_and_version_only() {
        let mut permits = Permits::default();
        let mark = permits.mark(1, Action::Receive, "a/b");
        assert!(!permits.has(mark, 1));
        permits.put(mark, 1);
        assert!(permits.has(permits.mark(1, Action::Receive, "a/b"), 1));
        assert!(!permits.has(mark, 2));
        let others = [
            permits.mark(2, Action::Receive, "a/b"),
            permits.mark(1, Action::Publish { retain: false }, "a/b"),
            permits.mark(1, Action::Receive, "a/c"),
        ];
        for other in others {
            assert!(!permits.has(other, 1));
        }
    }
}
