//! What a process remembers of one AccessKey between its runs. Pure.

use std::time::Duration;

use super::ledger::{AttemptId, Ledger, Uid, Version};
use super::view::View;
use crate::clock::Moment;

/// An attempt whose plaintext this process holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptId,
    /// When its commit was answered.
    pub since: Moment,
    /// What became of its publish.
    pub publish: Publish,
}

/// What is known of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publish {
    /// It was not sent.
    Unsent,
    /// The first answer was clean: this Secret was written.
    Clean(Uid),
    /// Anything else.
    Unclear,
}

/// Tells the mark of one confirm from that of another: a status that was lost counts its revisions
/// anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    revision: u32,
    accepted: Option<AttemptId>,
}

impl Mark {
    fn of(ledger: &Ledger) -> Option<Mark> {
        ledger.unsettled.as_ref()?;
        Some(Mark {
            revision: ledger.revision,
            accepted: ledger.accepted.last().map(|accepted| accepted.attempt),
        })
    }
}

/// What a process remembers of one AccessKey between runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The plaintext at hand.
    pub held: Option<Held>,
    /// The least version that the AccessKey is known to have.
    pub(super) own: Option<Version>,
    pub(super) behind_since: Option<Moment>,
    pub(super) object: Option<(Uid, Moment)>,
    attempts: Vec<(AttemptId, Moment)>,
    pub(super) mark: Option<(Mark, Moment)>,
    /// When this process last put another time of the next rotation in the place of one.
    pub(super) moved: Option<Moment>,
}

impl Memory {
    /// Takes note of what a view shows for the first time. Another object of the same name begins
    /// anew.
    pub(super) fn notice(&mut self, view: &View, now: Moment) {
        if self.object.as_ref().is_none_or(|(uid, _)| *uid != view.uid) {
            *self = Memory {
                object: Some((view.uid.clone(), now)),
                ..Memory::default()
            };
        }
        self.attempts
            .retain(|(attempt, _)| view.ledger.tries(*attempt));
        for attempt in view.ledger.attempts() {
            if !self.attempts.iter().any(|(known, _)| known == attempt) {
                self.attempts.push((*attempt, now));
            }
        }
        if self
            .held
            .as_ref()
            .is_some_and(|held| view.ledger.accepts(held.attempt))
        {
            self.held = None;
        }
        let mark = Mark::of(&view.ledger);
        if self.mark.map(|(known, _)| known) != mark {
            self.mark = mark.map(|mark| (mark, now));
        }
    }

    /// Takes note of this process's own write, which the API server answered with `view`.
    pub fn wrote(&mut self, view: &View, now: Moment) {
        self.notice(view, now);
        self.own = Some(view.version);
        self.behind_since = None;
    }

    /// Takes note that the AccessKey was written since this version: a cache that still shows it is
    /// behind.
    pub(super) fn outdated(&mut self, version: Version) {
        let newer = Version(version.0.saturating_add(1));
        self.own = self.own.max(Some(newer));
    }

    /// As if all this had been seen longer ago than any grace: for models, which have no clock.
    pub fn age(&mut self) {
        let long_ago = Moment::default();
        let seen = self.attempts.iter_mut().map(|(_, seen)| seen);
        let held = self.held.iter_mut().map(|held| &mut held.since);
        let mark = self.mark.iter_mut().map(|(_, seen)| seen);
        let object = self.object.iter_mut().map(|(_, seen)| seen);
        for moment in seen
            .chain(held)
            .chain(mark)
            .chain(object)
            .chain(&mut self.behind_since)
            .chain(&mut self.moved)
        {
            *moment = long_ago;
        }
    }

    /// Nothing that a later run needs, once the cache shows `version`.
    pub fn is_idle(&self, version: Version) -> bool {
        let caught_up = self.own.is_none_or(|own| own <= version);
        let waits_for_none = self.attempts.is_empty() && self.mark.is_none();
        caught_up && self.held.is_none() && waits_for_none && self.moved.is_none()
    }

    pub(super) fn age_of(&self, attempt: AttemptId, at: Moment) -> Duration {
        let seen = self.attempts.iter().find(|(known, _)| *known == attempt);
        seen.map_or(Duration::ZERO, |(_, seen)| at.since(*seen))
    }
}
