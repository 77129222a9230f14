//! The API server, as far as the protocol depends on it: it carries out one request at a time, and refuses one that
//! names another object or version than there is.

use keyward::controller::ledger::{AttemptId, Ledger, Uid, Version};
use keyward::controller::observed::Answer;

use crate::rules::Attempts;
use crate::shared::Shared;
use crate::world::{World, wall};

/// A Secret. It holds an attempt, or bytes that a user put there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    pub uid: Uid,
    pub version: Version,
    pub owner: Option<Uid>,
    pub holds: Option<AttemptId>,
}

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    Status(StatusWrite),
    Create {
        owner: Uid,
        attempt: AttemptId,
    },
    Replace {
        uid: Uid,
        version: Version,
        owner: Uid,
        attempt: AttemptId,
    },
    Delete {
        uid: Uid,
        version: Version,
        /// The AccessKey for which it is sent; the API server does not see that.
        owner: Uid,
        /// Whether the key was delivered in it, and not by mistake.
        withdraws: bool,
    },
}

impl Write {
    pub fn publishes(&self) -> bool {
        matches!(self, Write::Create { .. } | Write::Replace { .. })
    }
}

/// A write of the AccessKey's status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusWrite {
    pub uid: Uid,
    pub version: Version,
    pub ledger: Ledger,
    pub purpose: Purpose,
    /// The attempts that whoever sent it knew of and drops; the API server does not see that.
    pub lets_go: Attempts,
}

/// Which step a status write takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Commit(AttemptId),
    Confirm,
    ClearMark,
    Retire,
    /// A schedule was added or removed.
    Schedule,
    /// A rotation that was due is left out.
    Skip,
    /// The Secret is gone.
    Consume,
    TakeOver,
}

impl World {
    /// Carries a request out, or refuses it.
    pub fn serve(&mut self, write: &Write) -> Answer {
        match write {
            Write::Status(status) => self.write_status(status),
            Write::Create { owner, attempt } => {
                if self.secret.is_some() && !self.mutant.creates_over() {
                    return Answer::Conflict;
                }
                let uid = self.new_uid();
                self.store(uid, Version(0), owner, *attempt)
            }
            Write::Replace {
                uid,
                version,
                owner,
                attempt,
            } => match self.stored(uid, *version, self.mutant.replaces()) {
                Some(Stored { uid, version, .. }) => {
                    let (uid, version) = (uid.clone(), Version(version.0 + 1));
                    self.store(uid, version, owner, *attempt)
                }
                None => Answer::Conflict,
            },
            Write::Delete {
                uid,
                version,
                owner,
                withdraws,
            } => match self.stored(uid, *version, self.mutant.deletes()) {
                Some(secret) => {
                    let secret = secret.clone();
                    match withdraws {
                        true => self.history.withdraws(owner, &secret),
                        false => self.history.deletes(owner, &secret),
                    }
                    self.secret = None;
                    Answer::Done
                }
                None => Answer::Conflict,
            },
        }
    }

    fn write_status(&mut self, write: &StatusWrite) -> Answer {
        let Some(key) = &*self.key else {
            return Answer::Conflict;
        };
        let checks = self.mutant.writes(write.purpose);
        if (checks.uid && write.uid != key.uid) || (checks.version && write.version != key.version)
        {
            return Answer::Conflict;
        }
        let there = self.secret.is_some();
        self.history.records(write, key, self.hour, there);
        let withdraws = self.left.withdraws;
        let view = self.edit_key(|key| {
            key.ledger = write.ledger.clone();
            let delivered = key.ledger.secret.is_some() && !key.ledger.consumed;
            key.withdrawal = (withdraws && delivered).then(|| wall(0));
        });
        match write.purpose {
            Purpose::Commit(attempt) => Answer::Committed(view, attempt),
            _ => Answer::Written(view),
        }
    }

    fn stored(&self, uid: &Uid, version: Version, checks: Checks) -> Option<&Stored> {
        self.secret.as_ref().filter(|secret| {
            (!checks.uid || secret.uid == *uid) && (!checks.version || secret.version == version)
        })
    }

    fn store(&mut self, uid: Uid, version: Version, owner: &Uid, holds: AttemptId) -> Answer {
        let secret = Stored {
            uid: uid.clone(),
            version,
            owner: Some(owner.clone()),
            holds: Some(holds),
        };
        let before = self.secret.replace(secret);
        self.history.publishes(owner, holds, before.as_ref());
        Answer::Published(uid, version)
    }

    /// Requests that nobody waits for any more are kept as a set.
    pub fn orphan(&mut self, write: Write) {
        self.orphans.push(Shared::new(write));
        self.orphans.sort_by_key(Shared::order);
    }
}

/// The preconditions that the API server holds a request against.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub uid: bool,
    pub version: bool,
}

impl Checks {
    pub const ALL: Checks = Checks {
        uid: true,
        version: true,
    };
    pub const NOT_THE_UID: Checks = Checks {
        uid: false,
        version: true,
    };
    pub const NOT_THE_VERSION: Checks = Checks {
        uid: true,
        version: false,
    };
}
