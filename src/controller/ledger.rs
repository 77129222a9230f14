//! The part of an AccessKey's status that issuing reads and writes, without verifiers or text:
//! attempts are numbers here. Every change that a [`Step`](super::step::Step) makes to it is a
//! method of [`Ledger`], so that the controller and a model of it make the same one.

use std::sync::Arc;

use jiff::Timestamp;

use super::rotation::{Newest, Rotation, whole_second};

/// The `metadata.uid` of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub Arc<str>);

/// The `metadata.resourceVersion` of an object. Two versions of one object compare as they were
/// written, until etcd is restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// Stands for one attempt at a secret, that is, for one verifier. Equal numbers mean the same
/// verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// The most attempts an issuance has at a time (rule 3).
pub const MAX_ATTEMPTS: usize = 8;

/// The most verifiers a key has accepted at a time.
pub const MAX_ACCEPTED: usize = 4;

/// What the status says about issuing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Of the object that was issued: another one after a restore from a backup.
    pub uid: Option<Uid>,
    /// How many issues were confirmed.
    pub revision: u32,
    /// The `rotation.revision` of the spec that was last acted on; 0 before the first issue.
    pub requested: u32,
    /// The issue under way.
    pub issuance: Option<Issuance>,
    /// The verifiers that gateways accept, newest last, at most [`MAX_ACCEPTED`].
    pub accepted: Vec<Accepted>,
    /// Attempts whose Secret may still turn up; a sweep is due while this is set, even if it is
    /// empty.
    pub unsettled: Option<Vec<AttemptId>>,
    /// The Secret that was delivered last.
    pub secret: Option<Uid>,
    /// When a new secret is due by itself.
    pub next_rotation: Option<Timestamp>,
    /// That Secret is known to be gone.
    pub consumed: bool,
}

/// An issue under way: a secret was committed to, and none is confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuance {
    /// What [`Ledger::revision`] becomes.
    pub revision: u32,
    /// Oldest first, at most [`MAX_ATTEMPTS`].
    pub attempts: Vec<AttemptId>,
}

/// A confirmed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Which issue confirmed it.
    pub revision: u32,
    /// The attempt.
    pub attempt: AttemptId,
    /// When it was confirmed.
    pub at: Timestamp,
    /// When it stops being accepted; none for the newest.
    pub until: Option<Timestamp>,
}

impl Ledger {
    /// Nothing was ever issued or attempted.
    pub fn is_blank(&self) -> bool {
        self.issuance.is_none() && self.accepted.is_empty() && self.revision == 0
    }

    /// The attempts under way, oldest first.
    pub fn attempts(&self) -> &[AttemptId] {
        self.issuance
            .as_ref()
            .map_or(&[], |issuance| &issuance.attempts)
    }

    /// Is this attempt under way?
    pub fn tries(&self, attempt: AttemptId) -> bool {
        self.attempts().contains(&attempt)
    }

    /// Is this attempt one of the accepted verifiers?
    pub fn accepts(&self, attempt: AttemptId) -> bool {
        self.accepted
            .iter()
            .any(|accepted| accepted.attempt == attempt)
    }

    /// Is this attempt an accepted verifier of an older revision than the one under way, or due
    /// next?
    pub fn is_older(&self, attempt: AttemptId) -> bool {
        let next = self
            .issuance
            .as_ref()
            .map_or(self.revision + 1, |issuance| issuance.revision);
        let older = |accepted: &&Accepted| accepted.revision < next;
        self.accepted
            .iter()
            .filter(older)
            .any(|accepted| accepted.attempt == attempt)
    }

    /// Every attempt that the Secret's bytes are held against.
    pub fn known(&self) -> impl Iterator<Item = AttemptId> {
        let accepted = self.accepted.iter().map(|accepted| accepted.attempt);
        let unsettled = self.unsettled.iter().flatten().copied();
        self.attempts()
            .iter()
            .copied()
            .chain(accepted)
            .chain(unsettled)
    }

    /// When the next verifier stops being accepted.
    pub fn next_retirement(&self) -> Option<Timestamp> {
        self.accepted
            .iter()
            .filter_map(|accepted| accepted.until)
            .min()
    }

    /// The newest verifier, for who draws when the next one is due.
    pub fn newest(&self) -> Option<Newest> {
        let newest = self.accepted.last()?;
        Some(Newest {
            at: newest.at,
            draw: newest.attempt.0,
        })
    }

    /// Adds an attempt and drops those in `outlived`. The first one opens the issuance, for the
    /// object `uid` and the `wanted` revision of its spec, and for the rotation that was due: one due
    /// time, one issue.
    #[must_use]
    pub fn commit(
        &self,
        attempt: AttemptId,
        outlived: &[AttemptId],
        uid: &Uid,
        wanted: u32,
    ) -> Ledger {
        let mut next = self.clone();
        match &mut next.issuance {
            Some(issuance) => {
                issuance
                    .attempts
                    .retain(|attempt| !outlived.contains(attempt));
                issuance.attempts.push(attempt);
            }
            None => {
                next.issuance = Some(Issuance {
                    revision: self.revision + 1,
                    attempts: vec![attempt],
                });
                next.uid = Some(uid.clone());
                next.requested = wanted;
                next.next_rotation = None;
            }
        }
        next
    }

    /// Accepts one attempt of the issuance under way and closes it. The verifier before stays for the
    /// overlap, those before it for what they were promised; without an overlap none stays, and a
    /// fifth retires the oldest. Without an issuance nothing changes.
    #[must_use]
    pub fn confirm(
        &self,
        attempt: AttemptId,
        secret: &Uid,
        settled: bool,
        rotation: &Rotation,
        now: Timestamp,
    ) -> Ledger {
        let mut next = self.clone();
        let Some(issuance) = next.issuance.take() else {
            return next;
        };
        if !settled {
            let rest = issuance
                .attempts
                .iter()
                .copied()
                .filter(|other| *other != attempt);
            next.unsettled.get_or_insert_default().extend(rest);
        }
        next.begin_overlap(rotation, now);
        next.accepted.push(Accepted {
            revision: issuance.revision,
            attempt,
            at: now,
            until: None,
        });
        let surplus = next.accepted.len().saturating_sub(MAX_ACCEPTED);
        next.accepted.drain(..surplus);
        next.revision = issuance.revision;
        next.secret = Some(secret.clone());
        next.next_rotation = rotation.next(None, next.newest(), now);
        next.consumed = false;
        next
    }

    fn begin_overlap(&mut self, Rotation { overlap, .. }: &Rotation, now: Timestamp) {
        let end = whole_second(now.saturating_add(*overlap).unwrap_or(Timestamp::MAX));
        for accepted in &mut self.accepted {
            accepted.until.get_or_insert(end);
        }
        self.accepted
            .retain(|accepted| !overlap.is_zero() && accepted.until > Some(now));
    }

    /// Accepts an attempt that was made elsewhere, for the object `uid` and the `wanted` revision of
    /// its spec.
    #[must_use]
    pub fn take_over(
        &self,
        attempt: AttemptId,
        uid: &Uid,
        wanted: u32,
        rotation: &Rotation,
        now: Timestamp,
    ) -> Ledger {
        let revision = self.revision + 1;
        let mut next = Ledger {
            uid: Some(uid.clone()),
            revision,
            requested: wanted,
            accepted: vec![Accepted {
                revision,
                attempt,
                at: now,
                until: None,
            }],
            ..self.clone()
        };
        next.next_rotation = rotation.next(None, next.newest(), now);
        next
    }

    /// Drops the verifiers whose time is over.
    #[must_use]
    pub fn retire(&self, now: Timestamp) -> Ledger {
        let mut next = self.clone();
        next.accepted
            .retain(|accepted| accepted.until.is_none_or(|until| until > now));
        next
    }

    /// Says when a new secret is due by itself.
    #[must_use]
    pub fn schedule(&self, next: Option<Timestamp>) -> Ledger {
        Ledger {
            next_rotation: next,
            ..self.clone()
        }
    }

    /// Says so of a rotation that was due when the Secret that was delivered was found to be gone.
    #[must_use]
    pub fn skip(&self, next: Option<Timestamp>) -> Ledger {
        self.schedule(next).consume()
    }

    /// Says that the Secret that was delivered is gone.
    #[must_use]
    pub fn consume(&self) -> Ledger {
        Ledger {
            consumed: true,
            ..self.clone()
        }
    }

    /// Clears the mark that a sweep is due.
    #[must_use]
    pub fn settle(&self) -> Ledger {
        Ledger {
            unsettled: None,
            ..self.clone()
        }
    }

    /// Says that the key, restored from a backup, now belongs to the object `uid`.
    #[must_use]
    pub fn rebind(&self, uid: &Uid) -> Ledger {
        Ledger {
            uid: Some(uid.clone()),
            ..self.clone()
        }
    }
}
