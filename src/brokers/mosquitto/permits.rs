//! What was allowed before, and still is as long as nothing that is known changes. Most messages are like one that went
//! before, and to judge each anew would take more than all else that the plugin does for it.
//!
//! What was asked is kept as 128 bits that nobody can foresee, in a table of one size: whatever else falls on the same
//! place takes it.

use std::array;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use crate::topics::Action;

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
