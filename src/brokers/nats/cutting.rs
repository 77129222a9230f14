//! Ends sessions by the system account.
//!
//! Servers are asked for all of their sessions whenever it is time to. When a key changes, those of its sessions that are
//! [known](super::known) are looked at besides, at once. That makes cuts quick; that they are made at all does not depend
//! on it.

use std::sync::Mutex;
use std::time::Duration;

use async_nats::{Client, RequestErrorKind};
use futures::future::join_all;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::super::looks::{Seen, keep_looking_at};
use super::super::pace::Pace;
use super::known::Known;
use super::reaches::Reaches;
use super::sessions::{Answer, Connection, Page};
use super::unconfirmed::Unconfirmed;
use super::verdict::{Judge, Verdict, may_return};
use super::{Servers, lock};
use crate::clock::Clock;
use crate::gateway::{Authenticator, Change};
use crate::policy::{Reason, Session};

/// So long servers have to say that they are there.
const ROLL_CALL: Duration = Duration::from_millis(500);

/// So often they are asked.
const EVERY: Duration = Duration::from_secs(10);

/// Sessions on a page of the list. For each page a server looks at all that it has.
const PAGE: usize = 8192;

/// So many are cut at a time.
const AT_ONCE: usize = 32;

/// Cuts sessions.
pub struct Cutting<'a> {
    pub authenticator: &'a Authenticator,
    pub clock: &'a Clock,
    pub reaches: &'a Mutex<Reaches>,
    pub known: &'a Mutex<Known>,
    pub servers: &'a Servers,
    /// The account that devices are in.
    pub account: &'a str,
    pub pace: Mutex<Pace>,
    pub unconfirmed: Mutex<Unconfirmed<Cut>>,
    /// As the system account.
    pub client: Client,
    /// Told when no server is known to be there.
    pub none_is_known: Notify,
}

/// Why a server has not done what it was asked for.
#[derive(Debug, Error)]
enum Unanswered {
    #[error("it does not answer")]
    Silent,
    #[error("{0}")]
    Request(#[from] async_nats::RequestError),
    #[error("the server answers what cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the server says: {0}")]
    Refused(String),
}

/// A session that is to end.
#[derive(Debug)]
pub struct Cut {
    cid: u64,
    session: Session,
    reason: Reason,
}

/// What has come of a look.
#[derive(Default)]
struct Look {
    ends: Option<Timestamp>,
    is_whole: bool,
    sessions: usize,
}

impl Cutting<'_> {
    /// Holds the sessions against what is known, whenever it is time to. Never ends.
    pub async fn keep_cutting(&self) {
        let mut was_whole = false;
        let more = &self.servers.more;
        let look = keep_looking_at(more, self.authenticator, self.clock, async || {
            let seen = self.look().await;
            let is_whole = seen != Seen::NotAll;
            match (was_whole, is_whole) {
                (true, false) => warn!("not all sessions of NATS could be looked at, or cut"),
                (false, true) => info!("all sessions of NATS are looked at"),
                _ => {}
            }
            was_whole = is_whole;
            seen
        });
        tokio::join!(look, self.keep_looking_at_keys(), self.keep_calling());
    }

    async fn keep_looking_at_keys(&self) {
        let mut changes = self.authenticator.changes();
        self.authenticator.until_ready().await;
        loop {
            match changes.recv().await {
                Ok(Change::Key(_, key)) => self.look_at_key(&key).await,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Looks at the sessions of a key, as far as they are known, and cuts. Who looks at all says so if one goes on.
    async fn look_at_key(&self, key: &str) {
        let known = lock(self.known).of(key);
        let cuts = known.iter().map(async |(server, connections)| {
            let judge = Judge::new(self.authenticator, self.reaches);
            let cuts = Look::default().cuts_of(connections, judge);
            self.cut_all(server, cuts).await;
        });
        join_all(cuts).await;
    }

    /// Asks from time to time which servers there are, and at once if none is known. Never ends. That is not a part of a
    /// look: what takes long is not done again soon.
    async fn keep_calling(&self) {
        loop {
            self.call().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.none_is_known.notified() => {}
            }
        }
    }

    /// Each server answers.
    async fn call(&self) {
        let inbox = self.client.new_inbox();
        let Ok(mut answers) = self.client.subscribe(inbox.clone()).await else {
            return;
        };
        let asked = self
            .client
            .publish_with_reply("$SYS.REQ.SERVER.PING", inbox, "".into());
        if asked.await.is_err() {
            return;
        }
        let end = Instant::now() + ROLL_CALL;
        while let Ok(Some(answer)) = timeout_at(end, answers.next()).await {
            if let Ok(answer) = serde_json::from_slice::<Answer<IgnoredAny>>(&answer.payload) {
                self.servers.add(&answer.server.id);
            }
        }
    }

    async fn look(&self) -> Seen {
        let now = self.clock.now();
        let servers = self.servers.all();
        // At once: none of them waits for one that does not answer.
        let looks = servers.iter().map(|server| self.look_at(server));
        let looks = join_all(looks).await;
        let Some(look) = looks.into_iter().reduce(Look::and) else {
            self.none_is_known.notify_one();
            return Seen::NotAll;
        };
        debug!(sessions = look.sessions, "sessions of NATS were looked at");
        if !look.is_whole {
            return Seen::NotAll;
        }
        lock(self.reaches).end_look();
        lock(self.known).retain(&servers);
        Seen::All(look.ends.map(|ends| {
            let rest = Duration::try_from(ends.duration_since(now.wall));
            now.monotonic + rest.unwrap_or_default()
        }))
    }

    /// Looks at the sessions of a server, and cuts.
    async fn look_at(&self, server: &str) -> Look {
        let asked = lock(self.known).ask();
        let (connections, is_whole) = match self.list(server).await {
            Ok(listed) => listed,
            Err(error) => {
                info!("the NATS server {server} cannot be asked: {error}");
                if matches!(error, Unanswered::Silent) {
                    // Until it answers when servers are called.
                    self.servers.remove(server);
                }
                return Look::default();
            }
        };
        // What is known now is no older than what any of them was given.
        let judge = Judge::new(self.authenticator, self.reaches);
        let mut look = Look {
            is_whole,
            ..Look::default()
        };
        let cuts = look.cuts_of(&connections, judge);
        if is_whole {
            for cut in lock(&self.unconfirmed).take_all_but(server, &connections) {
                self.authenticator.cut(&cut.session, cut.reason);
            }
        }
        lock(self.known).told(server, asked, connections);
        look.is_whole &= self.cut_all(server, cuts).await;
        look
    }

    /// All clients that are connected to a server, page by page; and whether none can be missing.
    async fn list(&self, server: &str) -> Result<(Vec<Connection>, bool), Unanswered> {
        let (mut all, mut total, mut is_whole) = (Vec::new(), 0, true);
        loop {
            let asked = json!({
                "auth": true, "acc": self.account, "sort": "cid", "offset": all.len(), "limit": PAGE,
            });
            let page: Page = self.ask(server, "CONNZ", &asked).await?;
            // Where some have gone meanwhile, others have moved to a page that was read before.
            is_whole &= total <= page.total;
            total = page.total;
            let was_last = page.connections.is_empty();
            all.extend(page.connections);
            if was_last || all.len() >= total {
                return Ok((all, is_whole));
            }
        }
    }

    /// Whether all have ended.
    async fn cut_all(&self, server: &str, cuts: Vec<Cut>) -> bool {
        let now = self.clock.monotonic();
        let is_due = |cut: &Cut| !may_return(cut.reason) || lock(&self.pace).take(1, now) == 1;
        let (due, later): (Vec<Cut>, Vec<Cut>) = cuts.into_iter().partition(is_due);
        let ended = stream::iter(due).map(|cut| self.cut(server, cut));
        let ended = ended.buffer_unordered(AT_ONCE);
        let all_ended = ended.fold(true, async |all, ended| all & ended).await;
        all_ended && later.is_empty()
    }

    async fn cut(&self, server: &str, cut: Cut) -> bool {
        let asked = json!({ "cid": cut.cid });
        let answer = self.ask::<Option<IgnoredAny>>(server, "KICK", &asked).await;
        let mut unconfirmed = lock(&self.unconfirmed);
        let before = unconfirmed.take(server, cut.cid);
        let is_cut = match answer {
            Ok(_) => true,
            // It has ended by itself, unless it was to be cut before.
            Err(Unanswered::Refused(_)) => before.is_some(),
            Err(error) => {
                info!("the NATS server {server} has not cut a session: {error}");
                unconfirmed.put(server, cut.cid, cut);
                return false;
            }
        };
        if is_cut {
            self.authenticator.cut(&cut.session, cut.reason);
        }
        true
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        server: &str,
        what: &str,
        asked: &Value,
    ) -> Result<T, Unanswered> {
        let subject = format!("$SYS.REQ.SERVER.{server}.{what}");
        let answer = self.client.request(subject, asked.to_string().into()).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => Unanswered::Silent,
            _ => Unanswered::Request(error),
        })?;
        let answer: Answer<T> = serde_json::from_slice(&answer.payload)?;
        match (answer.error, answer.data) {
            (Some(problem), _) => Err(Unanswered::Refused(problem.description)),
            (None, Some(data)) => Ok(data),
            (None, None) => Ok(serde_json::from_value(Value::Null)?),
        }
    }
}

impl Look {
    fn and(self, other: Look) -> Look {
        Look {
            ends: [self.ends, other.ends].into_iter().flatten().min(),
            is_whole: self.is_whole && other.is_whole,
            sessions: self.sessions + other.sessions,
        }
    }

    fn cuts_of(&mut self, connections: &[Connection], mut judge: Judge<'_>) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for connection in connections {
            let verdict = judge.judge(connection);
            self.sessions += usize::from(verdict.is_some());
            match verdict {
                None => {}
                Some(Verdict::Stays(ends)) => {
                    self.ends = [self.ends, ends].into_iter().flatten().min();
                }
                Some(Verdict::Ends(session, reason)) => cuts.push(Cut {
                    cid: connection.cid,
                    session,
                    reason,
                }),
            }
        }
        cuts
    }
}
