//! mosquitto, whose plugin asks in the broker's own process, on the broker's one thread: an answer is a function call,
//! and nothing here waits.
//!
//! The plugin (`plugins/mosquitto`) passes on what the broker says, and does what it is told. What is decided:
//!
//! | the broker says | here | it is told |
//! |---|---|---|
//! | `BASIC_AUTH` | [`Adapter::connect`] | whether the device has a session |
//! | `ACL_CHECK` | [`Adapter::act`] | whether the session may; asked for each delivery, too |
//! | `DISCONNECT` | [`Adapter::gone`] | |
//! | `TICK` | [`Adapter::tick`], [`Adapter::next_cut`] | whom to cut |
//!
//! What the broker does that one would not expect:
//!
//! - It asks again for every session after SIGHUP. One whose secret still matches must not be told to try again: that
//!   would close it.
//! - Sessions that were restored after a restart come without password and address. So do those of clients that
//!   vanished before the broker looked for their address, so neither proves anything: who shows no password is refused,
//!   and what was not admitted here receives, at most, what is kept for it until it comes.
//! - After `DISCONNECT` it asks whether the will may be sent, and for sessions without a connection whether a message is
//!   to be kept for them. Nobody says when such a session ends.
//! - An empty client ID has become one that the broker made up.
//! - Where 2.0.11 is configured by `per_listener_settings true` it does not tick, and nobody could be cut: so nobody is
//!   admitted.

mod permits;
mod sessions;
mod share;

use std::collections::VecDeque;
use std::ffi::CString;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use self::permits::Asked;
use self::sessions::{Asking, Entry, Sessions};
use self::share::Share;
use super::looks::{Seen, keep_looking};
use crate::clock::{Clock, Moment};
use crate::gateway::{Authenticator, Credentials};
use crate::policy::{Decision, Reason};
use crate::topics::Action;
use crate::verifier::{HashProfile, Verifier};

/// A client, by where the broker keeps it. Another may lie there later.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Client(pub usize);

/// What a client shows. Has no `Debug`: the password is plaintext.
pub struct Shown<'a> {
    /// The client ID.
    pub id: &'a str,
    /// The user name, if there is one.
    pub username: Option<&'a str>,
    /// The password, if there is one.
    pub password: Option<&'a str>,
    /// From where it comes; none if it does not come by IP.
    pub source: Option<IpAddr>,
}

/// Who a client says it is, as the broker remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The client ID, as its bytes, which are compared only.
    pub id: &'a [u8],
    /// The user name, likewise.
    pub username: &'a [u8],
    /// Whether the broker knows an address of it: not if its session was restored from disk.
    pub has_address: bool,
}

/// What the broker is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Nobody can tell: the client is to come again.
    NotNow,
}

/// A session that is to end.
#[derive(Debug)]
pub struct Cut {
    entry: Entry,
    reason: Reason,
}

impl Cut {
    /// The client ID by which the broker is asked to end it.
    pub fn client_id(&self) -> Option<CString> {
        CString::new(self.entry.id.as_bytes()).ok()
    }
}

/// Translates between the broker and an [`Authenticator`].
pub struct Adapter {
    authenticator: Authenticator,
    clock: Clock,
    /// What the broker puts before the IDs that it makes up.
    made_up: String,
    sessions: Mutex<Sessions>,
    share: Mutex<Share>,
    ticked: Mutex<Option<Moment>>,
    cuts: Mutex<VecDeque<Cut>>,
    has_cuts: AtomicBool,
}

/// Without a tick for so long the broker does not cut.
const TICKS: Duration = Duration::from_secs(2);

impl Adapter {
    /// For a broker that puts `made_up` before the client IDs that it makes up (`auto_id_prefix`).
    pub fn new(authenticator: Authenticator, clock: Clock, made_up: &str) -> Adapter {
        Adapter {
            authenticator,
            clock,
            made_up: made_up.to_owned(),
            sessions: Mutex::default(),
            share: Mutex::default(),
            ticked: Mutex::default(),
            cuts: Mutex::default(),
            has_cuts: AtomicBool::new(false),
        }
    }

    /// Whether this client has a session, from now on.
    pub fn connect(&self, client: Client, shown: &Shown<'_>) -> Answer {
        let credentials = Credentials {
            device_id: shown.id,
            key: shown.username.unwrap_or_default(),
            secret: shown.password.unwrap_or_default(),
            source: shown.source,
        };
        let decision = match self.is_made_up(shown.id) {
            true => self.authenticator.refuse(&credentials, Reason::Malformed),
            false if self.ticks() => self.authenticate(&credentials),
            false => Decision::Unavailable,
        };
        match decision {
            Decision::Allow(session) => {
                lock(&self.sessions).admit(client, shown.id, session);
                Answer::Yes
            }
            Decision::Deny(_) => Answer::No,
            Decision::Unavailable if self.goes_on(client, &credentials) => Answer::Yes,
            Decision::Unavailable => Answer::NotNow,
        }
    }

    /// Where a hash takes long, or too many do, it is not for the broker's thread.
    fn authenticate(&self, credentials: &Credentials<'_>) -> Decision {
        let begun = self.clock.monotonic();
        let mut has_hashed = false;
        let decision = self
            .authenticator
            .authenticate_at_once(credentials, |verifier| {
                let may_hash = is_cheap(verifier) && lock(&self.share).is_left(begun);
                has_hashed |= may_hash;
                may_hash
            });
        if has_hashed {
            let now = self.clock.monotonic();
            lock(&self.share).take(now.since(begun));
        }
        decision
    }

    /// Whether this is a session that is asked about again, as after SIGHUP, and may go on for what is known.
    fn goes_on(&self, client: Client, credentials: &Credentials<'_>) -> bool {
        let who = Who {
            id: credentials.device_id.as_bytes(),
            username: credentials.key.as_bytes(),
            has_address: true,
        };
        let session = lock(&self.sessions).connected(client, who);
        session.is_some_and(|session| {
            !matches!(self.authenticator.confirm(&session), Decision::Deny(_))
        })
    }

    /// Whether a client may do this with a topic, or subscribe to this filter. One that is no UTF-8 is refused.
    pub fn act(&self, client: Client, who: Who<'_>, action: Action, topic: &[u8]) -> Answer {
        let asked = Asked {
            client,
            who,
            action,
            topic,
            // Read before anything is looked at: what changes meanwhile makes it old.
            version: self.authenticator.version(),
        };
        let asking = lock(&self.sessions).asking(&asked);
        let decision = match asking {
            Asking::Again => {
                let session = || lock(&self.sessions).session(client);
                Some(self.authenticator.allow_again(session, action, topic))
            }
            Asking::Admitted(session, mark) => {
                let judged = str::from_utf8(topic)
                    .ok()
                    .map(|topic| self.authenticator.authorize(&session, action, topic));
                let is_allowed = judged == Some(Decision::Allow(()));
                if is_allowed && self.authenticator.is_timeless(&session) {
                    lock(&self.sessions).permit(mark, asked.version);
                }
                judged
            }
            Asking::Unknown if action == Action::Receive && !who.has_address => {
                self.keep(who, topic)
            }
            Asking::Unknown => None,
        };
        decision.map_or(Answer::No, told)
    }

    /// For a device whose session was restored from disk.
    fn keep(&self, who: Who<'_>, topic: &[u8]) -> Option<Decision<()>> {
        let (id, username) = (
            str::from_utf8(who.id).ok()?,
            str::from_utf8(who.username).ok()?,
        );
        let session = self.authenticator.session_of(id, username)?;
        let topic = str::from_utf8(topic).ok()?;
        Some(self.authenticator.keep(&session, topic))
    }

    /// A client is gone. `is_over` says that its session is, too, as far as one can tell.
    pub fn gone(&self, client: Client, is_over: bool) {
        lock(&self.sessions).gone(client, is_over);
    }

    /// Has to be called several times a second, or nobody is admitted. Gives whether the clock has moved since the last
    /// call: where much is sent the broker ticks for each message, and there is nothing to do for most of these.
    pub fn tick(&self) -> bool {
        let now = Some(self.clock.coarse());
        let has_gone_on = std::mem::replace(&mut *lock(&self.ticked), now) != now;
        if has_gone_on {
            lock(&self.sessions).forget();
        }
        has_gone_on
    }

    fn ticks(&self) -> bool {
        let ticked = *lock(&self.ticked);
        ticked.is_some_and(|ticked| self.clock.coarse().since(ticked) < TICKS)
    }

    /// The next session that is to end, if any.
    pub fn next_cut(&self) -> Option<Cut> {
        if !self.has_cuts.load(Ordering::Relaxed) {
            return None;
        }
        loop {
            let cut = {
                let mut cuts = lock(&self.cuts);
                let cut = cuts.pop_front();
                self.has_cuts.store(!cuts.is_empty(), Ordering::Relaxed);
                cut?
            };
            // It may have ended by itself, or what is known have changed again.
            let is_there = lock(&self.sessions).has(&cut.entry);
            let is_denied = || {
                matches!(
                    self.authenticator.confirm(&cut.entry.session),
                    Decision::Deny(_)
                )
            };
            if is_there && is_denied() {
                return Some(cut);
            }
        }
    }

    /// The broker has ended the session, or knows none (`is_known`).
    pub fn was_cut(&self, cut: &Cut, is_known: bool) {
        if is_known {
            self.authenticator.cut(&cut.entry.session, cut.reason);
        } else {
            lock(&self.sessions).gone(cut.entry.client, true);
        }
    }

    /// Holds the sessions against what is known, whenever it is time to. Never ends.
    pub async fn keep_cutting(&self) {
        keep_looking(&self.authenticator, &self.clock, async || {
            Seen::All(self.look())
        })
        .await;
    }

    /// Finds sessions that are to end. When does the first of the others end?
    fn look(&self) -> Option<Moment> {
        let entries = lock(&self.sessions).all_connected();
        let now = self.clock.now();
        let mut ends = None;
        for entry in entries {
            if let Decision::Deny(reason) = self.authenticator.confirm(&entry.session) {
                lock(&self.cuts).push_back(Cut { entry, reason });
                self.has_cuts.store(true, Ordering::Relaxed);
            } else if let Some(granted) = self.authenticator.granted(&entry.session) {
                ends = [ends, granted.ends].into_iter().flatten().min();
            }
        }
        ends.map(|ends| {
            now.monotonic + Duration::try_from(ends.duration_since(now.wall)).unwrap_or_default()
        })
    }

    /// Whether the broker made up this client ID, for a client that has none.
    fn is_made_up(&self, id: &str) -> bool {
        let rest = id.strip_prefix(&self.made_up);
        rest.is_some_and(is_uuid)
    }

    /// How many clients have a session and a connection.
    pub fn connected(&self) -> usize {
        lock(&self.sessions).connected_count()
    }
}

fn told(decision: Decision<()>) -> Answer {
    match decision {
        Decision::Allow(()) => Answer::Yes,
        Decision::Deny(_) | Decision::Unavailable => Answer::No,
    }
}

/// Shows how many clients have a session and a connection, at the time of each scrape.
pub struct Connected(pub Arc<Adapter>);

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connected")
    }
}

impl Collector for Connected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let connected = i64::try_from(self.0.connected()).unwrap_or(i64::MAX);
        let connected = ConstGauge::new(connected);
        let to = encoder.encode_descriptor(
            "broker_sessions",
            "Sessions of devices that are connected to the broker",
            None,
            connected.metric_type(),
        )?;
        connected.encode(to)
    }
}

/// Eight, four, four, four and twelve hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_part = |length: usize| {
        let part = parts.next();
        part.is_some_and(|part| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    [8, 4, 4, 4, 12].into_iter().all(is_part) && parts.next().is_none()
}

fn is_cheap(verifier: &Verifier) -> bool {
    verifier.cost() <= HashProfile::default().work()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
