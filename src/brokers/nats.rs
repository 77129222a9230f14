//! NATS, which asks once for each client that connects (auth callout), is told all that the client may do until it goes,
//! and asks no more.
//!
//! A device speaks MQTT, with its device ID as client ID, or NATS's own protocol, with its device ID as the name of its
//! connection. What is decided:
//!
//! | | here | NATS |
//! |---|---|---|
//! | a client connects | `callout` | asks by `$SYS.REQ.USER.AUTH`, and is told by a signed token |
//! | what it may do | `subjects` | checks by lists in the token |
//! | a session is to end | `verdict`, `cutting` | lists and ends connections for the system account |
//!
//! What NATS does that one would not expect:
//!
//! - Permissions of a live connection stay as they were given, so whoever loses one is cut, and comes back with what is
//!   left. Who gains one gets it when it comes back.
//! - What is denied goes before what is allowed, so all but a part cannot be said if something of that part is allowed.
//!   What a key grants by `All` or a `DenyList` would be such, and is not granted.
//! - An empty list means all.
//! - An empty client ID has become one that the server made up, of 22 letters and digits. So none of this form is
//!   admitted. One with a dot never comes here: gateways for NATS serve one namespace.
//! - An MQTT client gets what the server needs for QoS 1 and 2 by itself. Granted to a client of core NATS, it would show
//!   the messages of others.
//! - Subscriptions of an MQTT session that was kept are checked when it comes back, and what it may not have is dropped.

mod args;
mod callout;
mod connection;
mod cutting;
mod jwt;
mod known;
mod nkey;
mod reaches;
mod sessions;
mod subjects;
mod unconfirmed;
mod verdict;
mod xkey;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use tokio::sync::Notify;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

pub use self::args::{NatsArgs, StartError};

use self::callout::{Protocol, Request, User, answer};
use self::connection::Way;
use self::cutting::Cutting;
use self::known::Known;
use self::nkey::{Kind, Signer};
use self::reaches::Reaches;
use self::sessions::Name;
use self::subjects::{Permissions, inbox};
use self::xkey::Xkey;
use super::pace::Pace;
use crate::clock::Clock;
use crate::gateway::Authenticator;
use crate::policy::{Decision, Reason, Session};
use crate::shutdown::Shutdown;

/// So many clients are told at a time who they are.
const AT_ONCE: usize = 1024;

/// What was asked before the end is answered in this time, or not at all.
const REST: Duration = Duration::from_secs(2);

/// Translates between NATS and an [`Authenticator`].
pub struct Nats {
    authenticator: Authenticator,
    clock: Clock,
    signer: Signer,
    xkey: Option<Xkey>,
    account: String,
    cut_rate: u32,
    way: Way,
    login: PathBuf,
    system_login: PathBuf,
    reaches: Mutex<Reaches>,
    known: Mutex<Known>,
    servers: Servers,
}

/// The servers that are known to be there.
#[derive(Debug, Default)]
struct Servers {
    known: Mutex<BTreeSet<String>>,
    /// Told when there is one more.
    more: Notify,
}

impl Servers {
    fn add(&self, server: &str) {
        let mut known = lock(&self.known);
        if !known.contains(server) {
            known.insert(server.to_owned());
            self.more.notify_one();
        }
    }

    fn remove(&self, server: &str) {
        lock(&self.known).remove(server);
    }

    fn all(&self) -> Vec<String> {
        lock(&self.known).iter().cloned().collect()
    }
}

impl Nats {
    /// Answers, until it is to end and has answered what was asked before. Gateways share the work; one that knows
    /// nothing yet takes no part.
    pub async fn answer_until(&self, shutdown: Shutdown) {
        let begun = tokio::select! {
            begun = self.begin_to_answer() => begun,
            () = shutdown.wait() => return,
        };
        let Some((client, mut asked)) = begun else {
            return shutdown.await;
        };
        let answer = |asked| self.told(&client, asked);
        let before = (&mut asked).take_until(shutdown);
        before.for_each_concurrent(AT_ONCE, answer).await;
        let rest = async {
            asked.unsubscribe().await.ok();
            asked.for_each_concurrent(AT_ONCE, answer).await;
            client.flush().await.ok();
        };
        // NATS may be away.
        tokio::time::timeout(REST, rest).await.ok();
    }

    async fn begin_to_answer(&self) -> Option<(Client, Subscriber)> {
        let client = self.way.connect("the callout", &self.login).await?;
        self.authenticator.until_ready().await;
        let asked = client.queue_subscribe("$SYS.REQ.USER.AUTH", "keyward".into());
        let asked = asked.await.ok()?;
        client.flush().await.ok()?;
        info!("NATS may ask who may connect");
        Some((client, asked))
    }

    /// Cuts sessions. Never ends.
    pub async fn keep_cutting(&self) {
        let client = self.way.connect("the system account", &self.system_login);
        let Some(client) = client.await else {
            return std::future::pending().await;
        };
        let cutting = Cutting {
            authenticator: &self.authenticator,
            clock: &self.clock,
            reaches: &self.reaches,
            known: &self.known,
            servers: &self.servers,
            account: &self.account,
            pace: Mutex::new(Pace::of(self.cut_rate)),
            unconfirmed: Mutex::default(),
            client,
            none_is_known: Notify::new(),
        };
        cutting.keep_cutting().await;
    }

    async fn told(&self, client: &Client, asked: Message) {
        let Some(reply) = asked.reply.clone() else {
            return;
        };
        let xkey = asked
            .headers
            .as_ref()
            .and_then(|all| all.get("Nats-Server-Xkey"));
        let xkey = xkey.map(async_nats::HeaderValue::as_str);
        let Some(request) = self.read(&asked.payload, xkey) else {
            warn!(
                "a request of NATS has no answer: it is not signed by a server for the account of --nats-issuer, or \
                 one of the server and --nats-xkey has no xkey, or another"
            );
            return;
        };
        let most = client.server_info().max_payload;
        let answer = self.answer(&request, most).await;
        let Some(answer) = self.sealed(answer, xkey) else {
            return;
        };
        // Whoever has asked asks again.
        client.publish(reply, answer.into()).await.ok();
    }

    /// What is asked; none if nobody may ask so.
    fn read(&self, payload: &[u8], xkey: Option<&str>) -> Option<Request> {
        let is_plain = payload.starts_with(jwt::BEGIN);
        let opened = match (&self.xkey, xkey) {
            (None, None) => is_plain.then(|| Zeroizing::new(payload.to_vec())),
            (Some(own), Some(server)) => own.open(server, payload),
            _ => None,
        };
        let request: Request = jwt::read(&opened?, Kind::Server)?;
        request.is_for(&self.signer.public).then_some(request)
    }

    fn sealed(&self, answer: String, xkey: Option<&str>) -> Option<Vec<u8>> {
        match (&self.xkey, xkey) {
            (Some(own), Some(server)) => own.seal(server, answer.as_bytes()),
            _ => Some(answer.into_bytes()),
        }
    }

    /// What the server is told, in at most so many bytes.
    async fn answer(&self, request: &Request, most: usize) -> String {
        self.servers.add(request.server());
        let now = self.clock.wall().as_second();
        let refused = || answer(&self.signer, request, None, now);
        let Some((session, protocol)) = self.admitted(request).await else {
            return refused();
        };
        let Some((name, permissions)) = self.given(&session, protocol) else {
            return refused();
        };
        // What changes after the last look at whether it stands has to find it.
        lock(&self.known).admit(request.server(), request.connection(name.clone()));
        // It may have been cut since.
        let Some(granted) = self.authenticator.granted(&session) else {
            return refused();
        };
        let user = User {
            name,
            account: &self.account,
            protocol,
            permissions: &permissions,
            // Cut when it ends, if not by the second.
            ends: granted
                .ends
                .map(|ends| ends.as_second() + i64::from(ends.subsec_nanosecond() > 0)),
        };
        let admitted = answer(&self.signer, request, Some(&user), now);
        let bytes = admitted.len() + OVERHEAD;
        if bytes > most {
            warn!(
                device = %session.device_id,
                key = %session.key,
                "a device is refused, since what its key lets it do takes {bytes} bytes to say, and NATS carries {most}: \
                 raise max_payload, or let the key admit fewer devices, or all"
            );
            return refused();
        }
        admitted
    }

    async fn admitted(&self, request: &Request) -> Option<(Session, Protocol)> {
        let credentials = request.credentials();
        let protocol = match request.protocol() {
            Some(protocol) if !(protocol == Protocol::Mqtt && request.is_made_up()) => protocol,
            _ => {
                self.authenticator.refuse(&credentials, Reason::Malformed);
                return None;
            }
        };
        match self.authenticator.authenticate(&credentials).await {
            Decision::Allow(session) => Some((session, protocol)),
            Decision::Deny(_) | Decision::Unavailable => None,
        }
    }

    /// Under which name a session is listed, and what it may do.
    fn given(&self, session: &Session, protocol: Protocol) -> Option<(String, Permissions)> {
        let reach = self.authenticator.reach(session)?;
        let permitted = self.authenticator.permitted(session, &reach);
        let inbox = match protocol {
            Protocol::Mqtt => None,
            Protocol::Nats => inbox(&session.device_id, &session.key),
        };
        let (permissions, is_whole) = Permissions::of(&permitted, inbox);
        if !is_whole {
            debug!(key = %session.key, "topics of a key are left out, which NATS has no words for");
        }
        let digest = lock(&self.reaches).name(reach).digest.clone();
        let name = Name {
            device_id: &session.device_id,
            revision: session.revision?,
            digest,
            key: &session.key,
        };
        Some((name.to_string(), permissions))
    }
}

/// What sealing may add, and what is sent around it.
const OVERHEAD: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
