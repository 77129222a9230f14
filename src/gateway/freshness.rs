//! How old what is known may be: proof that a watch has delivered all that had happened by a time.
//!
//! A watch that says nothing may have nothing to say, or be broken, or stand before an API server
//! that is itself behind. So from time to time the API server is asked for the current version: once
//! the watch has delivered that version or a later one, all that happened before the question is
//! known. It takes no write.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::Moment;

/// How long known keys go on working without proof that nothing has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Staleness {
    /// 24 hours: an API server that is away stops no device.
    #[default]
    BestEffort,
    /// 60 seconds.
    Strict,
}

impl Staleness {
    /// The greatest age of the last proof.
    pub const fn limit(self) -> Duration {
        match self {
            Self::BestEffort => Duration::from_secs(24 * 60 * 60),
            Self::Strict => Duration::from_secs(60),
        }
    }
}

/// What one watch has shown.
#[derive(Debug, Default)]
pub struct Freshness {
    /// The highest version that it has delivered.
    delivered: u64,
    /// Until when all is known.
    proven: Option<Moment>,
    /// When the current version was asked for, and what it was; not delivered yet.
    open: VecDeque<(Moment, u64)>,
}

impl Freshness {
    /// All was listed, at this version, by a list that was begun at `asked`.
    pub fn listed(&mut self, asked: Moment, version: u64) {
        self.delivered = version;
        self.open.clear();
        self.proven = self.proven.max(Some(asked));
    }

    /// The watch has delivered an event, or a bookmark, of this version.
    pub fn delivered(&mut self, version: u64) {
        self.delivered = self.delivered.max(version);
        while let Some((asked, version)) = self.open.front()
            && *version <= self.delivered
        {
            self.proven = self.proven.max(Some(*asked));
            self.open.pop_front();
        }
    }

    /// The highest version that the watch has delivered: to be taken before the next question.
    pub fn version(&self) -> u64 {
        self.delivered
    }

    /// The current version was asked for at `asked`, when the watch had delivered `before`, and is
    /// `version`. Is what is known of the future? Then the API server's data were restored from a
    /// backup, and all has to be listed anew.
    pub fn answered(&mut self, asked: Moment, before: u64, version: u64) -> bool {
        if version < before {
            return true;
        }
        // The oldest is the first to be delivered.
        if self.open.len() == MOST_OPEN {
            self.open.pop_back();
        }
        self.open.push_back((asked, version));
        self.delivered(self.delivered);
        false
    }

    /// Until when all is known; none before the first list.
    pub fn proven(&self) -> Option<Moment> {
        self.proven
    }
}

/// Answers that wait for the watch. What is older proves less, but is proven sooner.
const MOST_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_is_proven_before_a_list() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.proven(), None);
        assert!(!freshness.answered(at(1), 0, 7));
        assert_eq!(freshness.proven(), None);
        freshness.listed(at(2), 9);
        assert_eq!(freshness.proven(), Some(at(2)));
    }

    #[test]
    fn a_version_is_proof_once_the_watch_has_delivered_it() {
        let mut freshness = Freshness::default();
        freshness.listed(at(0), 5);
        assert!(!freshness.answered(at(10), 5, 5));
        assert_eq!(freshness.proven(), Some(at(10)), "nothing has happened");

        assert!(!freshness.answered(at(20), 5, 8));
        assert!(!freshness.answered(at(30), 5, 9));
        assert_eq!(freshness.proven(), Some(at(10)), "the watch is behind");
        freshness.delivered(7);
        assert_eq!(freshness.proven(), Some(at(10)), "still");
        freshness.delivered(8);
        assert_eq!(freshness.proven(), Some(at(20)));
        freshness.delivered(12);
        assert_eq!(freshness.proven(), Some(at(30)));
    }

    #[test]
    fn a_silent_watch_proves_nothing_however_often_one_asks() {
        let mut freshness = Freshness::default();
        freshness.listed(at(0), 5);
        for second in 1..1000 {
            assert!(!freshness.answered(at(second), 5, 6));
        }
        assert_eq!(freshness.proven(), Some(at(0)));
        assert!(freshness.open.len() <= MOST_OPEN);
        freshness.delivered(6);
        assert!(freshness.proven() > Some(at(900)));
    }

    #[test]
    fn a_version_below_what_was_delivered_before_the_question_means_a_restored_backup() {
        let mut freshness = Freshness::default();
        freshness.listed(at(0), 50);
        assert!(freshness.answered(at(10), 50, 49));
        assert_eq!(freshness.proven(), Some(at(0)));

        // Delivered while the question was under way.
        freshness.delivered(60);
        assert!(!freshness.answered(at(20), 50, 55));
        assert_eq!(freshness.proven(), Some(at(20)));

        freshness.listed(at(30), 20);
        assert!(!freshness.answered(at(40), 20, 20));
        assert_eq!(freshness.proven(), Some(at(40)));
    }
}
