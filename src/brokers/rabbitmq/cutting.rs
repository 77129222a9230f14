//! Ends the sessions that are not to go on: RabbitMQ's lists are held against what is known.
//!
//! A session ends when it would not be admitted, when its secret may be one that has ended (see [`super::since`]), or when
//! it receives or sends what it may not (see [`super::sent`]). To end it, its connection is closed. What comes back is asked about, and
//! inherits nothing that it may not have: see [`super::queues`].

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tracing::{info, warn};

use super::sessions::{Client, Connection};
use super::since::Since;
use super::way::ManagementError;
use super::{Broker, PUBLISH, SUBSCRIBE};
use crate::brokers::looks::{Seen, keep_looking};
use crate::brokers::pace::Pace;
use crate::clock::{Clock, Moment, Now};
use crate::gateway::{Authenticator, Change};
use crate::policy::{Decision, Reason, Session};
use crate::topics::Action;

/// Connections that are closed at a time.
const AT_ONCE: usize = 8;

/// After so long RabbitMQ knows of a connection what it is.
const YOUNG: Duration = Duration::from_secs(10);

/// Ends sessions.
pub struct Cutter {
    authenticator: Authenticator,
    clock: Clock,
    broker: Broker,
    pace: Pace,
    since: Since,
    changes: Receiver<Change>,
    changed: Moment,
    is_away: bool,
}

/// A session that is to end.
struct Cut {
    connection: String,
    session: Session,
    reason: Reason,
    may_come_back: bool,
}

/// What is to become of a session.
enum Verdict {
    /// It goes on, at most until then.
    Stays(Option<Timestamp>),
    Ends(Cut),
    /// It is too young for anybody to know.
    Unclear,
}

/// The secret may be one that is not accepted any more.
struct Ended;

impl Cutter {
    /// Ends at most `rate` sessions a second that may come back.
    pub fn new(authenticator: Authenticator, clock: Clock, broker: Broker, rate: u32) -> Cutter {
        Cutter {
            changes: authenticator.changes(),
            changed: clock.monotonic(),
            authenticator,
            clock,
            broker,
            pace: Pace::of(rate),
            since: Since::default(),
            is_away: false,
        }
    }

    /// Holds the sessions against what is known, whenever it is time to. Never ends.
    pub async fn keep_cutting(mut self) {
        let (authenticator, clock) = (self.authenticator.clone(), self.clock.clone());
        keep_looking(&authenticator, &clock, async || {
            self.look_or_say_why_not().await
        })
        .await;
    }

    async fn look_or_say_why_not(&mut self) -> Seen {
        let looked = self.look().await;
        match &looked {
            Ok(_) if self.is_away => info!("sessions at RabbitMQ are cut again"),
            Err(error) if !self.is_away => {
                warn!(
                    "sessions at RabbitMQ are not cut, and maybe nobody is admitted there, until this is mended: {error}"
                );
            }
            _ => {}
        }
        self.is_away = looked.is_err();
        looked.unwrap_or(Seen::NotAll)
    }

    async fn look(&mut self) -> Result<Seen, ManagementError> {
        let connections = self.broker.management.lists().await?.connections();
        let now = self.clock.now();
        let (mut cuts, mut ends, mut is_unclear) = (Vec::new(), None, false);
        let devices: HashSet<_> = connections.iter().filter_map(device).collect();
        for connection in connections {
            match self.judge(connection, now) {
                Verdict::Stays(until) => ends = [ends, until].into_iter().flatten().min(),
                Verdict::Ends(cut) => cuts.push(cut),
                Verdict::Unclear => is_unclear = true,
            }
        }
        self.since.forget(now.wall);
        let is_there = |key: &str, id: &str| devices.contains(&(key.to_owned(), id.to_owned()));
        self.broker.sent.retain(is_there, now.monotonic);
        let is_all = self.end(cuts, now).await?;
        match is_all && !(is_unclear && self.has_just_changed(now)) {
            true => Ok(Seen::All(ends.map(|ends| in_time(ends, now)))),
            false => Ok(Seen::NotAll),
        }
    }

    /// Whether what was found out about sessions that were young then may have changed.
    fn has_just_changed(&mut self, now: Now) -> bool {
        while !matches!(
            self.changes.try_recv(),
            Err(TryRecvError::Empty | TryRecvError::Closed)
        ) {
            self.changed = now.monotonic;
        }
        now.monotonic.since(self.changed) < YOUNG
    }

    fn judge(&mut self, connection: Connection, now: Now) -> Verdict {
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

    /// How long the secret lasts by which a session was admitted, whichever it is.
    fn secret(
        &mut self,
        session: &Session,
        since: Timestamp,
        now: Now,
    ) -> Result<Option<Timestamp>, Ended> {
        let issues = self.authenticator.issues(session).unwrap_or_default();
        match self.since.of(session, &issues, now.wall) {
            Some(oldest) if since < oldest => Err(Ended),
            _ => Ok(issues.ends),
        }
    }

    fn does_only_what_it_may(&self, session: &Session, id: &str, filters: &[String]) -> bool {
        let may_not_send = |topic: &str| self.is_denied(session, PUBLISH, topic);
        let sent = &self.broker.sent;
        !filters
            .iter()
            .any(|filter| self.is_denied(session, SUBSCRIBE, filter))
            && sent.has_room(&session.key, id)
            && !sent.any(&session.key, id, may_not_send)
    }

    fn is_denied(&self, session: &Session, action: Action, topic: &str) -> bool {
        let decision = self.authenticator.confirm_act(session, action, topic);
        matches!(decision, Decision::Deny(_))
    }

    /// Of which device a young session is, is not known, but of some keys nobody has one.
    fn judge_by_key(&self, connection: String, key: &str) -> Verdict {
        let Some(any) = self.authenticator.session_of("any", key) else {
            return Verdict::Unclear;
        };
        match self.authenticator.confirm(&any) {
            Decision::Deny(reason @ (Reason::Inactive | Reason::NotYetValid | Reason::Expired)) => {
                Verdict::Ends(Cut {
                    connection,
                    session: Session {
                        device_id: "".into(),
                        ..any
                    },
                    reason,
                    may_come_back: false,
                })
            }
            _ => Verdict::Unclear,
        }
    }

    /// Ends these. Whether all have ended.
    async fn end(&mut self, mut cuts: Vec<Cut>, now: Now) -> Result<bool, ManagementError> {
        // A user that RabbitMQ knows by itself was not admitted here, and may not be a key.
        if cuts.iter().any(|cut| cut.reason == Reason::UnknownKey) {
            let users = self.broker.management.users().await?;
            cuts.retain(|cut| !users.iter().any(|user| **user == *cut.session.key));
        }
        let (paced, at_once): (Vec<_>, Vec<_>) =
            cuts.into_iter().partition(|cut| cut.may_come_back);
        let taken = self.pace.take(paced.len(), now.monotonic);
        let ending = stream::iter(at_once.iter().chain(&paced[..taken]));
        let ended = ending.map(|cut| self.cut(cut)).buffer_unordered(AT_ONCE);
        let ended: Vec<_> = ended.collect().await;
        ended.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(taken == paced.len())
    }

    async fn cut(&self, cut: &Cut) -> Result<(), ManagementError> {
        let why = format!("Keyward: {}", cut.reason);
        if self.broker.management.close(&cut.connection, &why).await? {
            self.authenticator.cut(&cut.session, cut.reason);
        }
        // What comes back asks anew whatever it may not send any more.
        let id = self.authenticator.presented_id(&cut.session);
        self.broker.sent.forget(&cut.session.key, &id, |topic| {
            self.is_denied(&cut.session, PUBLISH, topic)
        });
        Ok(())
    }
}

/// Key and client ID.
fn device(connection: &Connection) -> Option<(String, String)> {
    match &connection.client {
        Client::Device { id, .. } => Some((connection.user.clone(), id.clone())),
        Client::Unknown | Client::Other => None,
    }
}

fn in_time(time: Timestamp, now: Now) -> Moment {
    let left = Duration::try_from(time.duration_since(now.wall));
    now.monotonic + left.unwrap_or_default()
}
