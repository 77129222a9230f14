//! The gateway: may this device, with this key and secret, do this, now?
//!
//! [`Authenticator`] answers, from what it was told about AccessKeys and Devices. It is a library
//! before it is a server: whoever accepts connections from devices asks it [`authenticate`] when a
//! device presents itself, and [`authorize`] when the device then wants to do something.
//!
//! [`authenticate`]: Authenticator::authenticate
//! [`authorize`]: Authenticator::authorize
//!
//! ```text
//!   AccessKeys, Devices                       a device: ID, key, secret
//!           |                                          |
//!           v                                          v
//!     feed (watches) ---> Directory <--- look --- Authenticator ---> Allow | Deny | Unavailable
//!                            ^                         |
//!                            '--- look again --- hash, if need be
//! ```
//!
//! - What is decided, and in which order, stands in [`crate::policy`], [`crate::topics`] and
//!   [`crate::sources`]: plain functions.
//! - A secret that is known to match costs one HMAC, one that is wrong one SHA-256 more. Only a
//!   secret that was not seen before is hashed, on threads that yield to all others, and then the
//!   question is asked again of what is known by then.
//! - Nobody is admitted before all was listed once, nor when what is known has grown too old.
//!
//! `examples/gateway.rs` is a gateway that embeds this.

pub mod audit;
mod budget;
pub mod callers;
mod claims;
pub mod command;
mod directory;
pub mod feed;
mod freshness;
mod hashing;
pub mod http;
pub mod keyring;
pub mod metrics;
pub mod token;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::{broadcast, watch};

pub use directory::{Directory, Object};
pub use freshness::{Freshness, Staleness};

use self::audit::{Audit, Subject};
use self::budget::Budgets;
use self::feed::Order;
use self::hashing::{Fingerprint, Hashing, Overload, Question};
use self::metrics::{Asked, Metrics};
use crate::clock::{Clock, Moment};
use crate::devices::is_device_id;
use crate::key::{EntropyError, Secret, random_bytes};
use crate::policy::{
    AcceptedVerifier, Decision, DeviceRecord, Hashed, KeyRecord, Known, Matches, Presented, Reason,
    Session, decide_from_memory, relation, stands,
};
use crate::topics::{Action, Asker, Grants, Layout};

/// What a gateway is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How topics are laid out.
    pub layout: Layout,
    /// The one namespace that is served, whose device IDs stand alone; none if there are several,
    /// and device IDs are presented as `<namespace>.<device>`.
    pub namespace: Option<String>,
    /// Whether only devices are admitted that a Device stands for.
    pub requires_registration: bool,
    /// How old what is known may be.
    pub staleness: Staleness,
}

impl Options {
    /// For one namespace, all else as it is by default.
    pub fn of_namespace(namespace: &str) -> Options {
        Options {
            layout: Layout::of_one_namespace(crate::topics::Root::default()),
            namespace: Some(namespace.to_owned()),
            requires_registration: false,
            staleness: Staleness::default(),
        }
    }
}

/// What a device presents. Has no `Debug`: the secret is plaintext.
pub struct Credentials<'a> {
    /// The device ID, with its namespace before it if the gateway serves several.
    pub device_id: &'a str,
    /// The key.
    pub key: &'a str,
    /// The secret.
    pub secret: &'a str,
    /// The device's address, if it is known.
    pub source: Option<std::net::IpAddr>,
}

/// Who was admitted before.
#[derive(Clone, Copy, Debug)]
pub struct Resumed<'a> {
    /// The namespace of key and device.
    pub namespace: &'a str,
    /// The key.
    pub key: &'a str,
    /// The device ID, without the namespace.
    pub device_id: &'a str,
    /// What stands for the verifier.
    pub verifier: &'a str,
    /// The device's address, if it is known.
    pub source: Option<std::net::IpAddr>,
}

/// What a session may rely on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Granted {
    /// What the key grants outside the topic root.
    pub grants: Grants,
    /// What stands for the verifier that admitted the device: see [`token::digest`].
    pub verifier: String,
    /// When key or verifier end.
    pub ends: Option<Timestamp>,
}

/// Something that sessions may depend on has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A key: its namespace and itself.
    Key(Arc<str>, Arc<str>),
    /// A device: its namespace and its ID.
    Device(Arc<str>, Arc<str>),
    /// All was listed anew.
    All,
}

/// Decides. Clones are one and the same.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    options: Options,
    clock: Clock,
    directory: RwLock<Directory>,
    watches: Mutex<Vec<Freshness>>,
    /// Until when all is known, in milliseconds; [`NEVER`] before all was listed.
    proven: AtomicU64,
    hashing: Hashing,
    budgets: Mutex<Budgets>,
    fingerprints: Hmac<Sha256>,
    changes: broadcast::Sender<Change>,
    metrics: Metrics,
    audit: OnceLock<Audit>,
    ready: watch::Sender<bool>,
}

const NEVER: u64 = u64::MAX;

/// Changes that a listener may be behind.
const MOST_CHANGES: usize = 4096;

/// Each time around one more verifier is hashed, unless the key was rotated meanwhile; whoever rotates
/// quicker than that has to wait.
const MOST_LOOKS: usize = 8;

impl Authenticator {
    /// One that knows nothing yet, and admits nobody.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn new(options: Options, clock: Clock, metrics: Metrics) -> Result<Self, EntropyError> {
        let fingerprints = Hmac::new_from_slice(&random_bytes::<32>()?);
        let (changes, _) = broadcast::channel(MOST_CHANGES);
        Ok(Authenticator(Arc::new(Inner {
            options,
            clock,
            directory: RwLock::default(),
            watches: Mutex::default(),
            proven: AtomicU64::new(NEVER),
            hashing: Hashing::start(metrics.clone()),
            budgets: Mutex::default(),
            fingerprints: fingerprints.expect("an HMAC takes keys of any length"),
            changes,
            metrics,
            audit: OnceLock::new(),
            ready: watch::Sender::new(false),
        })))
    }

    /// The same, which writes a line about every decision.
    #[must_use]
    pub fn audited(self, audit: Option<Audit>) -> Self {
        if let Some(audit) = audit {
            self.0.audit.set(audit).ok();
        }
        self
    }

    /// Whether the device is admitted.
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Decision {
        let decision = self.0.authenticate(credentials).await;
        let subject = Subject {
            namespace: self.0.options.namespace.as_deref().unwrap_or_default(),
            key: credentials.key,
            device_id: credentials.device_id,
            source: credentials.source,
            act: None,
        };
        self.0.decided(Asked::Authenticate, subject, &decision);
        decision
    }

    /// Whether a session may do this with a topic, or subscribe to this filter.
    pub fn authorize(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        let decision = self.0.authorize(session, action, topic);
        let subject = Subject {
            namespace: &session.namespace,
            key: &session.key,
            device_id: &session.device_id,
            source: session.source,
            act: Some((action, topic)),
        };
        self.0.decided(Asked::Authorize, subject, &decision);
        decision
    }

    /// Whether a session that was admitted would be admitted now, its secret being what it was.
    pub fn confirm(&self, session: &Session) -> Decision<()> {
        self.0.confirm(session)
    }

    /// What a session may rely on for as long as nothing changes; none if it does not stand.
    pub fn granted(&self, session: &Session) -> Option<Granted> {
        self.0.granted(session)
    }

    /// The session of a device that was admitted by the verifier with this [digest](token::digest),
    /// if it stands.
    pub fn resume(&self, named: &Resumed<'_>) -> Decision {
        let decision = self.0.resume(named);
        let subject = Subject {
            namespace: named.namespace,
            key: named.key,
            device_id: named.device_id,
            source: named.source,
            act: None,
        };
        self.0.decided(Asked::Authenticate, subject, &decision);
        decision
    }

    /// The device ID as the device presents it.
    pub fn presented_id(&self, session: &Session) -> String {
        match self.0.options.namespace {
            Some(_) => session.device_id.to_string(),
            None => format!("{}.{}", session.namespace, session.device_id),
        }
    }

    /// The topic of this kind (`state`, `command`) of the device with this ID, which is presented like
    /// the session's own; none if it is no ID, or of another namespace.
    pub fn device_topic(&self, session: &Session, target: &str, kind: &str) -> Option<String> {
        let target = match self.0.options.namespace {
            Some(_) => target,
            None => {
                let (namespace, target) = target.split_once('.')?;
                (*namespace == *session.namespace).then_some(target)?
            }
        };
        let layout = &self.0.options.layout;
        is_device_id(target).then(|| layout.device_topic(&session.namespace, target, kind))
    }

    /// What changes from now on. A listener that is too far behind is told so, and has to look at
    /// all.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Whether all was listed once.
    pub fn is_ready(&self) -> bool {
        self.0.proven.load(Ordering::Acquire) != NEVER
    }

    /// Resolves once all was listed.
    pub async fn until_ready(&self) {
        let mut ready = self.0.ready.subscribe();
        ready.wait_for(|ready| *ready).await.ok();
    }

    /// How long ago all was known; none before all was listed.
    pub fn age(&self) -> Option<Duration> {
        self.0.age()
    }

    /// An AccessKey is there, or has changed.
    pub fn apply_key(&self, object: Object<'_>, record: KeyRecord) {
        self.put_key(object, record, Order::Watched);
    }

    fn put_key(&self, object: Object<'_>, record: KeyRecord, order: Order) {
        let change = Change::Key(object.namespace.into(), record.key().into());
        self.0.change(change, |directory| match order {
            Order::Listed => directory.set_key(object, record),
            Order::Watched => directory.apply_key(object, record),
        });
    }

    /// An AccessKey is gone, or admits nobody.
    pub fn delete_key(&self, namespace: &str, name: &str) {
        self.0.change(Change::All, |directory| {
            directory.delete_key(namespace, name)
        });
    }

    /// A Device is there, or has changed.
    pub fn apply_device(&self, object: Object<'_>, record: DeviceRecord) {
        self.put_device(object, record, Order::Watched);
    }

    fn put_device(&self, object: Object<'_>, record: DeviceRecord, order: Order) {
        let change = Change::Device(object.namespace.into(), record.id().into());
        self.0.change(change, |directory| match order {
            Order::Listed => directory.set_device(object, record),
            Order::Watched => directory.apply_device(object, record),
        });
    }

    /// An object could not be read.
    fn unreadable(&self) {
        self.0.metrics.unreadable.inc();
    }

    /// A Device is gone.
    pub fn delete_device(&self, namespace: &str, name: &str) {
        self.0.change(Change::All, |directory| {
            directory.delete_device(namespace, name)
        });
    }

    /// All AccessKeys were listed: those for which this does not hold are gone.
    pub fn retain_keys(&self, exists: impl Fn(&str, &str) -> bool) {
        self.0
            .change(Change::All, |directory| directory.retain_keys(exists));
    }

    /// All Devices were listed: those for which this does not hold are gone.
    pub fn retain_devices(&self, exists: impl Fn(&str, &str) -> bool) {
        self.0
            .change(Change::All, |directory| directory.retain_devices(exists));
    }

    /// One more watch feeds the directory. Nobody is admitted before it has listed all. All watches
    /// are to be named before the first one lists.
    pub fn expect_watch(&self) -> Watched {
        let mut watches = lock(&self.0.watches);
        watches.push(Freshness::default());
        Watched {
            number: watches.len() - 1,
            inner: Arc::clone(&self.0),
        }
    }
}

/// Tells how fresh what one watch has delivered is.
#[derive(Clone)]
pub struct Watched {
    number: usize,
    inner: Arc<Inner>,
}

impl Watched {
    /// See [`Freshness::listed`].
    pub fn listed(&self, asked: Moment, version: u64) {
        self.inner
            .prove(self.number, |watch| watch.listed(asked, version));
    }

    /// See [`Freshness::delivered`].
    pub fn delivered(&self, version: u64) {
        self.inner
            .prove(self.number, |watch| watch.delivered(version));
    }

    /// See [`Freshness::version`].
    pub fn version(&self) -> u64 {
        self.inner.prove(self.number, |watch| watch.version())
    }

    /// See [`Freshness::answered`].
    pub fn answered(&self, asked: Moment, before: u64, version: u64) -> bool {
        let answered = |watch: &mut Freshness| watch.answered(asked, before, version);
        self.inner.prove(self.number, answered)
    }

    /// What time it is for the questions.
    pub fn now(&self) -> Moment {
        self.inner.clock.monotonic()
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Inner {
    fn decided<T>(&self, asked: Asked, subject: Subject<'_>, decision: &Decision<T>) {
        self.metrics.decided(asked, decision);
        if let Some(audit) = self.audit.get() {
            audit.write(self.clock.wall(), asked, subject, decision);
        }
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Decision {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let Some(presented) = self.presented(credentials) else {
            return Decision::Deny(Reason::Malformed);
        };
        // Where some wait in vain, whoever is refused cannot tell why.
        let is_overloaded = self.hashing.is_full();
        let mut memory = Memory::of(self, &presented);
        for _ in 0..MOST_LOOKS {
            let decision = self.look(&presented, &mut memory);
            match (&decision, memory.wanted.take()) {
                (Decision::Deny(Reason::BadSecret) | Decision::Unavailable, Some(wanted)) => {
                    if !self.may_hash(&presented, &wanted) {
                        return Decision::Deny(Reason::Throttled);
                    }
                    match self.hash(&mut memory, wanted).await {
                        Ok(()) => {}
                        Err(Overload) => return Decision::Unavailable,
                    }
                }
                (Decision::Deny(_), _) if is_overloaded => return Decision::Unavailable,
                _ => return decision,
            }
        }
        Decision::Unavailable
    }

    /// What is known now says, the directory standing still meanwhile.
    fn look(&self, presented: &Presented<'_>, memory: &mut Memory<'_>) -> Decision {
        let directory = read(&self.directory);
        let known = self.known(
            &directory,
            presented.namespace,
            presented.key,
            presented.device_id,
        );
        decide_from_memory(known, presented, self.clock.wall(), memory)
    }

    fn known<'a>(
        &self,
        directory: &'a Directory,
        namespace: &str,
        key: &str,
        device_id: &str,
    ) -> Known<'a> {
        Known {
            key: directory.key(namespace, key),
            device: directory.device(namespace, device_id),
            requires_registration: self.options.requires_registration,
        }
    }

    fn presented<'a>(&'a self, credentials: &Credentials<'a>) -> Option<Presented<'a>> {
        let (namespace, device_id) = match &self.options.namespace {
            Some(namespace) => (namespace.as_str(), credentials.device_id),
            None => credentials.device_id.split_once('.')?,
        };
        Some(Presented {
            namespace,
            key: credentials.key,
            device_id,
            secret: credentials.secret,
            source: credentials.source,
        })
    }

    /// Generated secrets that are wrong fail their check, so only others are counted.
    fn may_hash(&self, presented: &Presented<'_>, wanted: &Wanted) -> bool {
        wanted.if_wrong.is_none() || {
            let (cost, now) = (wanted.hashed.verifier.cost(), self.clock.monotonic());
            lock(&self.budgets).take(presented.key, presented.source, cost, now)
        }
    }

    async fn hash(&self, memory: &mut Memory<'_>, wanted: Wanted) -> Result<(), Overload> {
        let Wanted { hashed, if_wrong } = wanted;
        // It was read as a secret before, or it would not be wanted.
        let secret = Secret::foreign(memory.secret).map_err(|_| Overload)?;
        let question = Question {
            hashed: Arc::clone(&hashed),
            secret,
            fingerprint: memory.fingerprint,
            if_wrong,
        };
        if !self.hashing.answer(question).await? {
            memory.wrong.push(hashed);
        }
        Ok(())
    }

    fn authorize(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = read(&self.directory);
        let known = self.known_of(&directory, session);
        let key = match (stands(known, session, self.clock.wall()), known.key) {
            (Ok(()), Some(key)) => key,
            (Ok(()), None) => return Decision::Deny(Reason::UnknownKey),
            (Err(reason), _) => return Decision::Deny(reason),
        };
        let asker = Asker {
            layout: &self.options.layout,
            namespace: &session.namespace,
            device_id: &session.device_id,
            grants: key.grants(),
            admits_all: key.scope().admits_all(),
            relation: |target: &str| {
                let device = directory.device(&session.namespace, target);
                relation(known, &session.device_id, target, device)
            },
        };
        if asker.may(action, topic) {
            Decision::Allow(())
        } else {
            Decision::Deny(Reason::Topic)
        }
    }

    fn confirm(&self, session: &Session) -> Decision<()> {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = read(&self.directory);
        let known = self.known_of(&directory, session);
        match stands(known, session, self.clock.wall()) {
            Ok(()) => Decision::Allow(()),
            Err(reason) => Decision::Deny(reason),
        }
    }

    fn granted(&self, session: &Session) -> Option<Granted> {
        let now = self.clock.wall();
        let directory = read(&self.directory);
        let known = self.known_of(&directory, session);
        stands(known, session, now).ok()?;
        let key = known.key?;
        let is_own = |verifier: &&AcceptedVerifier| {
            verifier.is_valid(now) && session.revision.is_none_or(|own| own == verifier.revision)
        };
        let verifier = key.verifiers().iter().find(is_own)?;
        Some(Granted {
            grants: key.grants().clone(),
            verifier: token::digest(verifier.hashed.verifier.as_str()),
            ends: [key.expires_at(), verifier.valid_until]
                .into_iter()
                .flatten()
                .min(),
        })
    }

    fn resume(&self, named: &Resumed<'_>) -> Decision {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = read(&self.directory);
        let known = self.known(&directory, named.namespace, named.key, named.device_id);
        let verifiers = known.key.map(KeyRecord::verifiers).unwrap_or_default();
        let own = verifiers
            .iter()
            .find(|own| token::digest(own.hashed.verifier.as_str()) == named.verifier);
        let session = Session {
            namespace: named.namespace.into(),
            key: named.key.into(),
            device_id: named.device_id.into(),
            class: known.device.map(DeviceRecord::class).unwrap_or_default(),
            // No issue has this number.
            revision: Some(own.map_or(i32::MIN, |own| own.revision)),
            source: named.source,
        };
        match stands(known, &session, self.clock.wall()) {
            Ok(()) => Decision::Allow(session),
            Err(reason) => Decision::Deny(reason),
        }
    }

    fn known_of<'a>(&self, directory: &'a Directory, session: &Session) -> Known<'a> {
        self.known(
            directory,
            &session.namespace,
            &session.key,
            &session.device_id,
        )
    }

    fn change<T>(&self, change: Change, apply: impl FnOnce(&mut Directory) -> T) -> T {
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let applied = apply(&mut directory);
        self.metrics.keys.set(count(directory.keys()));
        self.metrics.devices.set(count(directory.devices()));
        drop(directory);
        // Nobody may be listening.
        self.changes.send(change).ok();
        applied
    }

    fn prove<T>(&self, number: usize, by: impl FnOnce(&mut Freshness) -> T) -> T {
        let mut watches = lock(&self.watches);
        let proved = by(&mut watches[number]);
        let proven = watches.iter().map(Freshness::proven).min().flatten();
        let proven = proven.map_or(NEVER, millis);
        self.proven.store(proven, Ordering::Release);
        self.ready.send_if_modified(|ready| {
            let is_news = !*ready && proven != NEVER;
            *ready |= is_news;
            is_news
        });
        proved
    }

    fn age(&self) -> Option<Duration> {
        let proven = self.proven.load(Ordering::Acquire);
        let now = millis(self.clock.monotonic());
        (proven != NEVER).then(|| Duration::from_millis(now.saturating_sub(proven)))
    }

    fn is_stale(&self) -> bool {
        self.age()
            .is_none_or(|age| age > self.options.staleness.limit())
    }
}

/// What is remembered of secrets, in the course of one decision.
struct Memory<'a> {
    secret: &'a str,
    fingerprint: Fingerprint,
    fingerprints: &'a Hmac<Sha256>,
    hashing: &'a Hashing,
    /// What was hashed meanwhile, and did not match.
    wrong: Vec<Arc<Hashed>>,
    /// What has to be hashed to know more.
    wanted: Option<Wanted>,
}

/// A verifier that the secret has to be held against.
struct Wanted {
    hashed: Arc<Hashed>,
    if_wrong: Option<Fingerprint>,
}

impl<'a> Memory<'a> {
    fn of(inner: &'a Inner, presented: &Presented<'a>) -> Memory<'a> {
        let fingerprint = inner
            .fingerprints
            .clone()
            .chain_update(presented.key)
            .chain_update(b"\0")
            .chain_update(presented.secret);
        Memory {
            secret: presented.secret,
            fingerprint: fingerprint.finalize().into_bytes().into(),
            fingerprints: &inner.fingerprints,
            hashing: &inner.hashing,
            wrong: Vec::new(),
            wanted: None,
        }
    }

    /// Secrets that were taken over may be wrong more than once.
    fn if_wrong(&self, verifier: &AcceptedVerifier) -> Option<Fingerprint> {
        let with_verifier = || {
            let fingerprint = self.fingerprints.clone();
            fingerprint
                .chain_update(self.fingerprint)
                .chain_update(verifier.hashed.verifier.as_str())
                .finalize()
        };
        verifier
            .check
            .is_none()
            .then(|| with_verifier().into_bytes().into())
    }
}

impl Matches for Memory<'_> {
    fn remembers(&mut self, verifier: &AcceptedVerifier) -> Option<bool> {
        let matched = verifier.hashed.matched.get();
        matched.map(|matched| matched.ct_eq(&self.fingerprint).into())
    }

    fn matches(&mut self, verifier: &AcceptedVerifier, _: &Secret) -> bool {
        let is_wrong = |wrong: &Arc<Hashed>| Arc::ptr_eq(wrong, &verifier.hashed);
        if self.wanted.is_some() || self.wrong.iter().any(is_wrong) {
            return false;
        }
        let if_wrong = self.if_wrong(verifier);
        if if_wrong.is_none_or(|wrong| !self.hashing.is_wrong(&wrong)) {
            self.wanted = Some(Wanted {
                hashed: Arc::clone(&verifier.hashed),
                if_wrong,
            });
        }
        false
    }
}

fn millis(moment: Moment) -> u64 {
    let since_start = moment.since(Moment::default());
    since_start.as_millis().try_into().unwrap_or(NEVER - 1)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(directory: &RwLock<Directory>) -> std::sync::RwLockReadGuard<'_, Directory> {
    directory.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
