//! What a run knows of one AccessKey and its Secret, and how an answer of the API server changes
//! it. Pure, like [`step`](super::step), and without bytes: which attempt a Secret holds is all
//! that counts.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use super::ledger::{AttemptId, Ledger, Uid, Version};
use super::memory::{Held, Memory, Publish};
use super::step::{Rest, Situation, Step, Timing};
use super::view::View;
use crate::clock::Moment;

/// Where a [`View`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// From the watch, or read before the Secret was: it may be old.
    Cache,
    /// The answer to a write of this run.
    Answer,
    /// Read from the API server, after the Secret.
    Live,
}

/// The Secret, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSeen {
    /// There was none when a read begun at this moment was answered.
    Absent(Moment),
    /// There was one.
    Present(PresentSecret),
}

impl SecretSeen {
    /// When the read that found it so was begun.
    pub fn at(&self) -> Moment {
        match self {
            SecretSeen::Absent(at) | SecretSeen::Present(PresentSecret { at, .. }) => *at,
        }
    }
}

/// A Secret of the AccessKey's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PresentSecret {
    /// Its uid.
    pub uid: Uid,
    /// Its resourceVersion.
    pub version: Version,
    /// The uid of the AccessKey that controls it; none if it is being deleted.
    pub owner: Option<Uid>,
    /// It will go by itself: the AccessKey that controls it has the name of ours, or it is being
    /// deleted.
    pub namesake: bool,
    /// What its bytes are.
    pub bytes: Bytes,
    /// When the read that found it so was begun.
    pub at: Moment,
}

/// What a Secret's bytes are, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bytes {
    /// Not read.
    Unread,
    /// Read, and not yet held against the verifiers of the live AccessKey.
    Read,
    /// They verify against this attempt, or against none that the AccessKey knows.
    Hold(Option<AttemptId>),
    /// They verify against none, and a second look found the same Secret.
    Settled,
}

/// Everything that a run knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The AccessKey.
    pub view: View,
    /// Where it comes from.
    pub source: Source,
    /// The Secret, if this run looked.
    pub secret: Option<SecretSeen>,
    /// The AccessKey's version when the Secret was first looked at.
    pub(super) remembered: Option<Version>,
    /// Its public key belongs to another AccessKey.
    pub(super) beaten: bool,
    /// What stays between runs.
    pub memory: Memory,
}

impl Observed {
    /// The start of a run, from the AccessKey as the cache has it. A cache that is behind tells
    /// nothing new: what it does not show yet was seen all the same, and grows older.
    pub fn cached(view: View, memory: Memory, now: Moment) -> Observed {
        let mut observed = Observed {
            view,
            source: Source::Cache,
            secret: None,
            remembered: None,
            beaten: false,
            memory,
        };
        if !observed.is_behind() {
            observed.memory.notice(&observed.view, now);
        }
        observed
    }

    /// Says whether its public key belongs to another AccessKey.
    #[must_use]
    pub fn beaten(self, beaten: bool) -> Observed {
        Observed { beaten, ..self }
    }

    /// As if the run had begun longer ago than any grace: for models.
    pub fn age(&mut self) {
        self.memory.age();
        match &mut self.secret {
            Some(SecretSeen::Absent(at) | SecretSeen::Present(PresentSecret { at, .. })) => {
                *at = Moment::default();
            }
            None => {}
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.view.ledger
    }

    /// Is the cache older than this process's own last answer, or than what a write was refused for
    /// (rule 5)?
    pub(super) fn is_behind(&self) -> bool {
        self.source == Source::Cache
            && self.secret.is_none()
            && self.memory.own.is_some_and(|own| self.view.version < own)
    }

    /// The attempt under way whose plaintext is held and may still be published.
    pub(super) fn publishable(&self, now: Moment, timing: &Timing) -> Option<AttemptId> {
        let held = self.memory.held.as_ref()?;
        let fresh = now.since(held.since) < timing.plaintext();
        (fresh && self.ledger().tries(held.attempt)).then_some(held.attempt)
    }

    /// Does the process hold an attempt that is neither under way nor accepted?
    pub(super) fn holds_dead(&self) -> Option<AttemptId> {
        let held = self.memory.held.as_ref()?.attempt;
        (!self.ledger().tries(held) && !self.ledger().accepts(held)).then_some(held)
    }

    /// Did this run look for the Secret while the AccessKey was as it is?
    pub(super) fn has_looked(&self) -> bool {
        self.remembered == Some(self.view.version)
    }

    /// Did it find that the Secret that was delivered is gone?
    pub(super) fn misses_delivered(&self) -> bool {
        let has_seen = self.has_looked() && self.secret.is_some();
        self.view.has_delivered() && has_seen && self.delivered().is_none()
    }

    /// The Secret that was delivered, if it was seen to be there.
    pub(super) fn delivered(&self) -> Option<&PresentSecret> {
        match &self.secret {
            Some(SecretSeen::Present(secret)) => {
                (self.ledger().secret.as_ref() == Some(&secret.uid)).then_some(secret)
            }
            Some(SecretSeen::Absent(_)) | None => None,
        }
    }

    /// How long until this process may move the time of the next rotation again, which nobody asked for. Another whose
    /// clock is hours off would move it back, and the two would do so without end.
    pub(super) fn until_movable(&self, now: Moment, timing: &Timing) -> Duration {
        let since_moved = self.memory.moved.map(|moved| now.since(moved));
        let left = since_moved.map(|since| timing.grace.saturating_sub(since));
        left.filter(|_| !self.view.news).unwrap_or_default()
    }

    /// How long until the sweep that the mark asks for may run.
    pub(super) fn until_sweep(&self, now: Moment, timing: &Timing) -> Option<Duration> {
        let (_, seen) = self.memory.mark?;
        Some(timing.grace.saturating_sub(now.since(seen)))
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A status write was answered cleanly, with the AccessKey as it is now.
    Written(View),
    /// A commit was, with the attempt that it added.
    Committed(View, AttemptId),
    /// The AccessKey, read live, and what the Secret's bytes hold by its verifiers.
    Key(View, Option<AttemptId>),
    /// The AccessKey is gone.
    Gone,
    /// What a read of the Secret found.
    Secret(SecretSeen),
    /// A publish was answered cleanly: the Secret as it is now.
    Published(Uid, Version),
    /// A delete or an adoption was answered cleanly.
    Done,
    /// The API server refused because of what is there: a conflict, a name that is taken, a missing
    /// object.
    Conflict,
    /// Anything else: refused for another reason, no answer, or one that could not be read.
    Failed,
}

impl Observed {
    /// What is known after a step.
    /// It breaks, with what to remember, once the run is over: it
    /// rested, or has to start over later.
    pub fn after(
        mut self,
        step: &Step,
        answer: Answer,
        now: Moment,
    ) -> ControlFlow<Memory, Observed> {
        match (step, answer) {
            (Step::Commit { .. }, Answer::Committed(view, attempt)) => {
                self.memory.held = Some(Held {
                    attempt,
                    since: now,
                    publish: Publish::Unsent,
                });
                Continue(self.written(view, now))
            }
            (Step::Publish { .. }, answer) => self.published(answer, now),
            (Step::Confirm { .. }, Answer::Conflict) => Continue(Observed {
                source: Source::Cache,
                ..self
            }),
            (Step::ReadKey, Answer::Key(view, holds)) => Continue(self.read_key(view, holds, now)),
            (Step::ReadKey, Answer::Gone) => {
                self.view.deleted = true;
                Continue(self)
            }
            (Step::ReadSecret { bytes }, Answer::Secret(seen)) => {
                Continue(self.read_secret(seen, *bytes))
            }
            (Step::Recheck, Answer::Secret(SecretSeen::Present(seen))) => self.rechecked(&seen),
            (Step::Adopt { .. }, Answer::Done) => Continue(self.adopted()),
            (Step::Look, Answer::Secret(seen)) => Continue(self.read_secret(seen, false)),
            (Step::Look, _) => Continue(Observed {
                remembered: Some(self.view.version),
                ..self
            }),
            (Step::Withdraw { .. }, Answer::Done) => Continue(Observed {
                secret: Some(SecretSeen::Absent(now)),
                ..self
            }),
            (Step::Schedule { skips: false, .. }, Answer::Written(view)) => {
                let is_moved = self.ledger().next_rotation.is_some();
                self.memory.moved = is_moved.then_some(now);
                Continue(self.unread().written(view, now))
            }
            (step, Answer::Written(view))
                if step.records() || matches!(step, Step::Confirm { .. }) =>
            {
                Continue(self.unread().written(view, now))
            }
            (step, Answer::Conflict) if step.records() || matches!(step, Step::Commit { .. }) => {
                self.memory.outdated(self.view.version);
                Break(self.forget(step))
            }
            _ => Break(self.forget(step)),
        }
    }

    /// The end of a run that must start over: what was held goes with a failed commit, or when it
    /// turned out dead.
    fn forget(mut self, step: &Step) -> Memory {
        if matches!(
            step,
            Step::Commit { .. } | Step::StartOver | Step::DeleteSecret { .. }
        ) {
            self.memory.held = None;
        }
        self.memory
    }

    fn written(mut self, view: View, now: Moment) -> Observed {
        self.memory.wrote(&view, now);
        Observed {
            view,
            source: Source::Answer,
            ..self
        }
    }

    /// Reads the pair again before anything is decided.
    fn unread(self) -> Observed {
        Observed {
            source: Source::Cache,
            secret: None,
            remembered: None,
            ..self
        }
    }

    /// A run ends; how long the cache is behind is counted from the first time that it was seen to
    /// be.
    pub fn rested(mut self, rest: &Rest, now: Moment) -> Memory {
        if rest.situation == Situation::Behind {
            self.memory.behind_since.get_or_insert(now);
        }
        self.memory
    }

    /// Only a clean first answer is believed; after a conflict the run inspects at once, after a
    /// failure the next does.
    fn published(mut self, answer: Answer, at: Moment) -> ControlFlow<Memory, Observed> {
        let Some(held) = &mut self.memory.held else {
            return Break(self.memory);
        };
        if let (Answer::Published(uid, version), Publish::Unsent) = (&answer, &held.publish) {
            held.publish = Publish::Clean(uid.clone());
            let bytes = Bytes::Hold(Some(held.attempt));
            let owner = Some(self.view.uid.clone());
            let secret = PresentSecret {
                uid: uid.clone(),
                version: *version,
                owner,
                namesake: true,
                bytes,
                at,
            };
            return Continue(Observed {
                secret: Some(SecretSeen::Present(secret)),
                ..self
            });
        }
        held.publish = Publish::Unclear;
        match answer {
            Answer::Published(..) | Answer::Conflict => Continue(self.unread()),
            _ => Break(self.memory),
        }
    }

    fn read_key(mut self, view: View, holds: Option<AttemptId>, now: Moment) -> Observed {
        if self.memory.own.is_some_and(|own| view.version < own) {
            self.memory.own = None;
        }
        self.memory.behind_since = None;
        self.memory.notice(&view, now);
        if let Some(SecretSeen::Present(PresentSecret {
            bytes: bytes @ Bytes::Read,
            ..
        })) = &mut self.secret
        {
            *bytes = Bytes::Hold(holds);
        }
        // Versions of different objects do not compare.
        let remembered = self.remembered.filter(|_| view.uid == self.view.uid);
        Observed {
            remembered,
            view,
            source: Source::Live,
            ..self
        }
    }

    fn read_secret(self, seen: SecretSeen, bytes: bool) -> Observed {
        let remembered = if bytes {
            self.remembered
        } else {
            Some(self.view.version)
        };
        Observed {
            secret: Some(seen),
            source: Source::Cache,
            remembered,
            ..self
        }
    }

    fn rechecked(mut self, again: &PresentSecret) -> ControlFlow<Memory, Observed> {
        match &mut self.secret {
            Some(SecretSeen::Present(secret))
                if (&secret.uid, secret.version) == (&again.uid, again.version) =>
            {
                secret.bytes = Bytes::Settled;
                Continue(self)
            }
            _ => Break(self.memory),
        }
    }

    fn adopted(mut self) -> Observed {
        if let Some(SecretSeen::Present(secret)) = &mut self.secret {
            secret.owner = Some(self.view.uid.clone());
        }
        self
    }
}
