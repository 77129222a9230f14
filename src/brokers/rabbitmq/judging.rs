//! Which sessions are to end.
//!
//! A session ends when it would not be admitted, when its secret may be one that has ended (see [`super::since`]), or when
//! it receives or sends what it may not (see [`super::sent`]).

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::sent::Sent;
use super::sessions::{Client, Connection};
use super::since::Since;
use super::{PUBLISH, SUBSCRIBE};
use crate::clock::Now;
use crate::gateway::Authenticator;
use crate::policy::{Decision, Reason, Session};
use crate::topics::Action;

/// Holds sessions against what is known.
pub struct Judge {
    authenticator: Authenticator,
    sent: Sent,
    since: Mutex<Since>,
}

/// What is to become of a session.
pub enum Verdict {
    /// It goes on, at most until then.
    Stays(Option<Timestamp>),
    /// It ends.
    Ends(Cut),
    /// It is too young for anybody to know.
    Unclear,
}

/// A session that is to end.
pub struct Cut {
    /// Its connection.
    pub connection: String,
    /// Whose it is; of a young one the device is not known.
    pub session: Session,
    /// Why.
    pub reason: Reason,
    /// Whether what is left of it may come back at once.
    pub may_come_back: bool,
}

/// The secret may be one that is not accepted any more.
struct Ended;

impl Judge {
    /// By what is known there, and may be sent.
    pub fn new(authenticator: Authenticator, sent: Sent) -> Judge {
        Judge {
            authenticator,
            sent,
            since: Mutex::default(),
        }
    }

    /// Decides about one.
    pub fn judge(&self, connection: Connection, now: Now) -> Verdict {
        let Connection { name, user, client } = connection;
        let (id, since, filters) = match client {
            Client::Device { id, since, filters } => (id, since, filters),
            Client::Unknown => return self.judge_by_key(name, &user),
            Client::Other => return Verdict::Stays(None),
        };
        // Nobody was admitted here who has another ID.
        let Some(session) = self.authenticator.session_of(&id, &user) else {
            return Verdict::Stays(None);
        };
        let (reason, may_come_back) = match self.authenticator.confirm(&session) {
            Decision::Deny(reason) => (reason, false),
            Decision::Unavailable => return Verdict::Stays(None),
            Decision::Allow(()) => match self.secret(&session, since, now) {
                Ok(until) if self.does_only_what_it_may(&session, &id, &filters) => {
                    return Verdict::Stays(until);
                }
                Ok(_) => (Reason::Topic, true),
                // Some may come back, but who has only the old secret must not stay for them.
                Err(Ended) => (Reason::BadSecret, false),
            },
        };
        Verdict::Ends(Cut {
            connection: name,
            session,
            reason,
            may_come_back,
        })
    }

    /// Why nobody may have a session by this key, whichever device it is; none if somebody may.
    pub fn has_ended(&self, key: &str) -> Option<(Session, Reason)> {
        let any = self.authenticator.session_of("any", key)?;
        match self.authenticator.confirm(&any) {
            Decision::Deny(reason @ (Reason::Inactive | Reason::NotYetValid | Reason::Expired)) => {
                Some((any, reason))
            }
            _ => None,
        }
    }

    /// Its connection is closed: what comes back asks anew whatever it may not send any more.
    pub fn closed(&self, cut: &Cut) {
        let id = self.authenticator.presented_id(&cut.session);
        self.sent.forget(&cut.session.key, &id, |topic| {
            self.is_denied(&cut.session, PUBLISH, topic)
        });
    }

    /// Forgets keys that have no sessions any more.
    pub fn forget(&self, now: Timestamp) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.forget(now);
    }

    /// How long the secret lasts by which a session was admitted, whichever it is.
    fn secret(
        &self,
        session: &Session,
        begun: Timestamp,
        now: Now,
    ) -> Result<Option<Timestamp>, Ended> {
        let issues = self.authenticator.issues(session).unwrap_or_default();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match since.of(session, &issues, now.wall) {
            Some(oldest) if begun < oldest => Err(Ended),
            _ => Ok(issues.ends),
        }
    }

    fn does_only_what_it_may(&self, session: &Session, id: &str, filters: &[String]) -> bool {
        let may_not_send = |topic: &str| self.is_denied(session, PUBLISH, topic);
        !filters
            .iter()
            .any(|filter| self.is_denied(session, SUBSCRIBE, filter))
            && self.sent.has_room(&session.key, id)
            && !self.sent.any(&session.key, id, may_not_send)
    }

    fn is_denied(&self, session: &Session, action: Action, topic: &str) -> bool {
        let decision = self.authenticator.confirm_act(session, action, topic);
        matches!(decision, Decision::Deny(_))
    }

    /// Of which device a young session is, is not known, but of some keys nobody has one.
    fn judge_by_key(&self, connection: String, key: &str) -> Verdict {
        let Some((any, reason)) = self.has_ended(key) else {
            return Verdict::Unclear;
        };
        let session = Session {
            device_id: "".into(),
            ..any
        };
        Verdict::Ends(Cut {
            connection,
            session,
            reason,
            may_come_back: false,
        })
    }
}
