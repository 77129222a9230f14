//! Ends the sessions that are not to go on: RabbitMQ's lists are held against what is known.
//!
//! Which these are, [`super::judging`] says. To end one, its connection is closed. What comes back is asked about, and
//! inherits nothing that it may not have: see [`super::queues`].
//!
//! All sessions are looked at whenever it is time to, which takes the longer the more there are, and is not done without a
//! rest. So when a key changes, its own are looked at besides, at once. That makes cuts quick; that they are made at all
//! does not depend on it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::{debug, info, warn};

use super::Broker;
use super::closing::{Closing, Turn};
use super::judging::{Cut, Judge, Verdict};
use super::management::AT_ONCE;
use super::sessions::{Client, Connection};
use super::way::ManagementError;
use crate::brokers::looks::{Seen, keep_looking};
use crate::brokers::pace::Pace;
use crate::clock::{Clock, Moment, Now};
use crate::gateway::{Authenticator, Change};
use crate::policy::Reason;

/// After so long RabbitMQ knows of a connection what it is.
const YOUNG: Duration = Duration::from_secs(10);

/// Of no more keys a second the sessions are looked at apart from all others.
const KEYS: u32 = 100;

/// Of so many sessions it is asked apart what they are; of more it takes less to look at all.
const FEW: usize = 16;

/// Of a key that has ended so many end apart; the others with all that do, so that no other key waits for them.
const MANY: usize = 16 * FEW;

/// Ends sessions.
pub struct Cutter {
    authenticator: Authenticator,
    clock: Clock,
    broker: Broker,
    judge: Judge,
    pace: Mutex<Pace>,
    closing: Closing,
}

impl Cutter {
    /// Ends at most `rate` sessions a second that may come back.
    pub fn new(authenticator: Authenticator, clock: Clock, broker: Broker, rate: u32) -> Cutter {
        Cutter {
            judge: Judge::new(authenticator.clone(), broker.sent.clone()),
            authenticator,
            clock,
            broker,
            pace: Mutex::new(Pace::of(rate)),
            closing: Closing::default(),
        }
    }

    /// Holds the sessions against what is known, whenever it is time to. Never ends.
    pub async fn keep_cutting(self) {
        tokio::join!(self.keep_looking_at_all(), self.keep_looking_at_keys());
    }

    async fn keep_looking_at_all(&self) {
        let mut all = All {
            cutter: self,
            changes: self.authenticator.changes(),
            changed: self.clock.monotonic(),
            is_away: false,
        };
        keep_looking(&self.authenticator, &self.clock, async || {
            all.look_or_say_why_not().await
        })
        .await;
    }

    async fn keep_looking_at_keys(&self) {
        let mut changes = self.authenticator.changes();
        let mut pace = Pace::of(KEYS);
        self.authenticator.until_ready().await;
        loop {
            let key = match changes.recv().await {
                Ok(Change::Key(_, key)) => key,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let is_time = pace.take(1, self.clock.monotonic()) == 1;
            if is_time && let Err(error) = self.look_at(&key).await {
                // Who looks at all says so if it goes on.
                debug!("the sessions of a key that has changed are not looked at: {error}");
                changes = changes.resubscribe();
            }
        }
    }

    /// Looks at the sessions of one key, if they all are to end, or they are few.
    async fn look_at(&self, key: &str) -> Result<(), ManagementError> {
        let management = &self.broker.management;
        let mut connections = management.connections_of(key).await?;
        let have_ended = self.judge.has_ended(key).is_some();
        if !have_ended && connections.len() > FEW {
            return Ok(());
        }
        connections.truncate(MANY);
        for few in connections.chunks(FEW) {
            // What a session receives does not matter if it is to end anyway.
            let lists = management.lists_of(few, !have_ended).await?;
            let now = self.clock.now();
            let verdicts = lists.connections().into_iter();
            let verdicts = verdicts.map(|connection| self.judge.judge(connection, now));
            let cuts = verdicts.filter_map(|verdict| match verdict {
                Verdict::Ends(cut) => Some(cut),
                Verdict::Stays(_) | Verdict::Unclear => None,
            });
            self.end(cuts.collect(), now).await?;
        }
        Ok(())
    }

    /// Ends these. Whether all have ended.
    async fn end(&self, mut cuts: Vec<Cut>, now: Now) -> Result<bool, ManagementError> {
        // A user that RabbitMQ knows by itself was not admitted here, and may not be a key.
        if cuts.iter().any(|cut| cut.reason == Reason::UnknownKey) {
            let users = self.broker.management.users().await?;
            cuts.retain(|cut| !users.iter().any(|user| **user == *cut.session.key));
        }
        let (paced, at_once): (Vec<_>, Vec<_>) =
            cuts.into_iter().partition(|cut| cut.may_come_back);
        let taken = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(paced.len(), now.monotonic)
        };
        let ending = stream::iter(at_once.iter().chain(&paced[..taken]));
        let ended = ending.map(|cut| self.cut(cut)).buffer_unordered(AT_ONCE);
        let ended: Vec<_> = ended.collect().await;
        let ended: Vec<bool> = ended.into_iter().collect::<Result<_, _>>()?;
        Ok(taken == paced.len() && ended.iter().all(|has_ended| *has_ended))
    }

    /// Ends one, unless somebody else is about to. Whether it has ended.
    async fn cut(&self, cut: &Cut) -> Result<bool, ManagementError> {
        let name = &*cut.connection;
        match self.closing.begin(name, self.clock.monotonic()) {
            Turn::Own => {}
            Turn::Others => return Ok(false),
            Turn::Closed => return Ok(true),
        }
        let why = format!("Keyward: {}", cut.reason);
        let closed = self.broker.management.close(name, &why).await;
        let is_closed = closed.is_ok();
        self.closing.end(name, is_closed, self.clock.monotonic());
        if closed? {
            self.authenticator.cut(&cut.session, cut.reason);
        }
        self.judge.closed(cut);
        Ok(true)
    }
}

/// Looks at all sessions.
struct All<'a> {
    cutter: &'a Cutter,
    changes: Receiver<Change>,
    changed: Moment,
    is_away: bool,
}

impl All<'_> {
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
        let Cutter {
            broker,
            judge,
            clock,
            ..
        } = self.cutter;
        let connections = broker.management.lists().await?.connections();
        let now = clock.now();
        let (mut cuts, mut ends, mut is_unclear) = (Vec::new(), None, false);
        let devices: HashSet<_> = connections.iter().filter_map(device).collect();
        for connection in connections {
            match judge.judge(connection, now) {
                Verdict::Stays(until) => ends = [ends, until].into_iter().flatten().min(),
                Verdict::Ends(cut) => cuts.push(cut),
                Verdict::Unclear => is_unclear = true,
            }
        }
        judge.forget(now.wall);
        let is_there = |key: &str, id: &str| devices.contains(&(key.to_owned(), id.to_owned()));
        broker.sent.retain(is_there, now.monotonic);
        let is_all = self.cutter.end(cuts, now).await?;
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

#[cfg(test)]
mod tests;
