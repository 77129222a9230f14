//! What an AccessKey says, as far as issuing is concerned: plain data, without bytes.

use jiff::Timestamp;

use super::ledger::{AttemptId, Ledger, Uid, Version};
use super::observed::PresentSecret;
use super::rotation::Rotation;

/// What an AccessKey says, as far as issuing is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// It has a deletionTimestamp.
    pub deleted: bool,
    /// `spec.suspend`.
    pub suspended: bool,
    /// A backup tool restored it.
    pub restored: bool,
    /// `spec.rotation.revision`.
    pub wanted: u32,
    /// What its spec says of rotations.
    pub rotation: Rotation,
    /// Its spec has changed since the status was last written for it.
    pub news: bool,
    /// From when on the Secret that was delivered is to be deleted.
    pub withdrawal: Option<Timestamp>,
    /// `spec.existing`: a key that was made elsewhere.
    pub existing: Option<Existing>,
    /// What its status says.
    pub ledger: Ledger,
}

/// A key that was made elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Existing {
    /// Its secret, as an attempt that needs no issue.
    Usable(AttemptId),
    /// A person has to act before it can be taken over.
    Unusable,
}

impl View {
    /// Is a new secret asked for, or due by itself?
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let scheduled = self.rotation.is_due(self.ledger.next_rotation, now);
        self.is_asked() || (scheduled && !self.suspended)
    }

    /// Is a new secret asked for, by the first revision or a higher one?
    pub(super) fn is_asked(&self) -> bool {
        !self.suspended && (self.wanted > self.ledger.requested || self.ledger.is_blank())
    }

    /// What its status should say of when a new secret is due by itself.
    pub(super) fn next_rotation(&self, now: Timestamp) -> Option<Timestamp> {
        let Ledger { next_rotation, .. } = self.ledger;
        self.rotation.next(next_rotation, self.ledger.newest(), now)
    }

    /// Was it issued as another object, before a restore?
    pub(super) fn is_moved(&self) -> bool {
        self.ledger.uid.as_ref().is_some_and(|uid| *uid != self.uid)
    }

    /// Is there a Secret that was delivered, and is not known to be gone?
    pub(super) fn has_delivered(&self) -> bool {
        self.ledger.secret.is_some() && !self.ledger.consumed
    }

    pub(super) fn owns(&self, secret: &PresentSecret) -> bool {
        secret.owner.is_some()
            && (secret.owner.as_ref() == Some(&self.uid) || secret.owner == self.ledger.uid)
    }
}
