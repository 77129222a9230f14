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
//! `examples/gateway.rs` is a gateway of 30 lines that embeds this.

pub mod audit;
mod budget;
pub mod callers;
mod claims;
pub mod command;
mod core;
mod directory;
pub mod feed;
mod freshness;
mod hashing;
pub mod http;
pub mod keyring;
mod memory;
pub mod metrics;
mod namespaces;
mod slab;
pub mod token;
mod tokens;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;

pub use directory::{Directory, Object};
pub use freshness::{Freshness, Staleness};
pub use watched::Watched;

use self::audit::{Audit, Subject};
use self::core::Core;
use self::feed::Order;
use self::metrics::{Asked, Metrics};
use crate::clock::Clock;
use crate::devices::is_device_id;
use crate::key::EntropyError;
use crate::policy::{Decision, DeviceRecord, Issues, KeyRecord, Reason, Session};
use crate::topics::{Action, Grants, InvalidRoot, Layout, Permitted, Reach, Root};
use crate::verifier::{Thumbprint, Verifier};

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
    /// For these namespaces, or for all if none is named, whose topics lie below `root`; all else as it is by default.
    ///
    /// # Errors
    /// When the root would mix several namespaces.
    pub fn of(namespaces: &[String], root: Root) -> Result<Options, InvalidRoot> {
        let (layout, namespace) = match namespaces {
            [one] => (Layout::of_one_namespace(root), Some(one.clone())),
            _ => (Layout::of_several_namespaces(root)?, None),
        };
        Ok(Options {
            layout,
            namespace,
            requires_registration: false,
            staleness: Staleness::default(),
        })
    }

    /// For one namespace, all else as it is by default.
    pub fn of_namespace(namespace: &str) -> Options {
        Options {
            layout: Layout::of_one_namespace(Root::default()),
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

impl<'a> Credentials<'a> {
    /// From an address that is not known: keys that are limited to some addresses are refused.
    pub fn new(device_id: &'a str, key: &'a str, secret: &'a str) -> Self {
        Credentials {
            device_id,
            key,
            secret,
            source: None,
        }
    }
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
    /// The verifier that admitted it.
    pub verifier: Thumbprint,
    /// The device's address, if it is known.
    pub source: Option<std::net::IpAddr>,
}

/// What a session may rely on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Granted {
    /// What the key grants outside the topic root.
    pub grants: Grants,
    /// The verifier that admitted the device.
    pub verifier: Thumbprint,
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
pub struct Authenticator(Arc<Core>);

impl Authenticator {
    /// One that knows nothing yet, and admits nobody.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn new(options: Options, clock: Clock, metrics: Metrics) -> Result<Self, EntropyError> {
        let core = Core::new(options, clock, metrics)?;
        Ok(Authenticator(Arc::new(core)))
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
        let decision = self.consider(credentials).await;
        self.told(credentials, &decision);
        decision
    }

    /// The same, for who has more to find out before it answers, and then says what it [told](Authenticator::told) the
    /// device.
    pub async fn consider(&self, credentials: &Credentials<'_>) -> Decision {
        match self.0.recognise(credentials) {
            Some(session) => Decision::Allow(session),
            None => self.0.authenticate(credentials).await,
        }
    }

    /// The same, told at once, for callers that can wait for nobody. A secret that has to be hashed to tell is hashed on
    /// this thread if `may_hash` says so of its verifier; otherwise elsewhere, and the device is to try again.
    pub fn authenticate_at_once(
        &self,
        credentials: &Credentials<'_>,
        may_hash: impl FnMut(&Verifier) -> bool,
    ) -> Decision {
        let decision = match self.0.recognise(credentials) {
            Some(session) => Decision::Allow(session),
            None => self.0.authenticate_at_once(credentials, may_hash),
        };
        self.told(credentials, &decision);
        decision
    }

    /// Counts a refusal that somebody decided who knows of a device what is not known here, and writes it down.
    pub fn refuse(&self, credentials: &Credentials<'_>, reason: Reason) -> Decision {
        let decision = Decision::Deny(reason);
        self.told(credentials, &decision);
        decision
    }

    /// Counts what was decided about a device that presented itself, and writes it down.
    pub fn told(&self, credentials: &Credentials<'_>, decision: &Decision) {
        let subject = || Subject {
            namespace: self.0.options.namespace.as_deref().unwrap_or_default(),
            key: credentials.key,
            device_id: credentials.device_id,
            source: credentials.source,
            act: None,
        };
        self.0.decided(Asked::Authenticate, subject, decision);
    }

    /// A session is over because of what is known now.
    pub fn cut(&self, session: &Session, reason: Reason) {
        let subject = || Subject::of(session, None);
        self.0
            .decided(Asked::Cut, subject, &Decision::<()>::Deny(reason));
    }

    /// Whether a session may do this with a topic, or subscribe to this filter.
    pub fn authorize(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        let decision = self.0.authorize(session, action, topic);
        self.done(session, action, topic, &decision);
        decision
    }

    /// Which version of what is known decides: it changes with all that does.
    pub fn version(&self) -> u64 {
        self.0.version()
    }

    /// Whether what a session is allowed is as long as the [version](Authenticator::version) stays: neither its key nor
    /// a secret of it begins or ends by the clock.
    pub fn is_timeless(&self, session: &Session) -> bool {
        self.0.is_timeless(session)
    }

    /// Allows what was [authorized](Authenticator::authorize) before, and is the same as then; not if what is known has
    /// grown too old. Whose session it is, is asked only where it is written down.
    pub fn allow_again(
        &self,
        session: impl FnOnce() -> Option<Arc<Session>>,
        action: Action,
        topic: &[u8],
    ) -> Decision<()> {
        let decision = match self.0.is_stale() {
            true => Decision::Unavailable,
            false => Decision::Allow(()),
        };
        let session = self.0.is_audited().then(session).flatten();
        let subject = || {
            let act = str::from_utf8(topic).ok().map(|topic| (action, topic));
            let subject = session.as_deref().map(|session| Subject::of(session, act));
            subject.unwrap_or_default()
        };
        self.0.decided(Asked::Authorize, subject, &decision);
        decision
    }

    /// Whether a session stands, as somebody asks who serves it.
    pub fn stands(&self, session: &Session) -> Decision<()> {
        let decision = self.0.confirm(session);
        let subject = || Subject::of(session, None);
        self.0.decided(Asked::Authorize, subject, &decision);
        decision
    }

    /// Counts a refusal to let somebody act who has no session, or asks for what there is not, and writes it down. The
    /// device ID is as the device presents it.
    pub fn refuse_to_act(&self, device_id: &str, key: &str) -> Decision<()> {
        let decision = Decision::Deny(Reason::Malformed);
        let subject = || Subject {
            namespace: self.0.options.namespace.as_deref().unwrap_or_default(),
            key,
            device_id,
            ..Subject::default()
        };
        self.0.decided(Asked::Authorize, subject, &decision);
        decision
    }

    /// Whether a session that was admitted would be admitted now, its secret being what it was.
    pub fn confirm(&self, session: &Session) -> Decision<()> {
        self.0.confirm(session)
    }

    /// Whether a session may go on with what it was allowed.
    pub fn confirm_act(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        self.0.authorize(session, action, topic)
    }

    /// The issues of a session's key; none if it is not known.
    pub fn issues(&self, session: &Session) -> Option<Issues> {
        self.0.issues(session)
    }

    /// Whether a session's device was named by anybody but itself: by a Device, or by the restrictions of its key.
    pub fn is_named(&self, session: &Session) -> bool {
        self.0.is_named(session)
    }

    /// What a session may rely on for as long as nothing changes; none if it does not stand.
    pub fn granted(&self, session: &Session) -> Option<Granted> {
        self.0.granted(session)
    }

    /// Which devices a session reaches, and what else, for as long as nothing changes; none if there is no such key. Of
    /// sessions with the same key only those of gateways differ.
    pub fn reach(&self, session: &Session) -> Option<Reach> {
        self.0.reach(session)
    }

    /// All that a session may do which reaches this.
    pub fn permitted(&self, session: &Session, reach: &Reach) -> Permitted {
        let layout = &self.0.options.layout;
        Permitted::of(layout, &session.namespace, &session.device_id, reach)
    }

    /// The session of a device that was admitted by this verifier, if it stands.
    pub fn resume(&self, named: &Resumed<'_>) -> Decision {
        let decision = self.0.resume(named);
        let subject = || Subject {
            namespace: named.namespace,
            key: named.key,
            device_id: named.device_id,
            source: named.source,
            act: None,
        };
        self.0.decided(Asked::Authenticate, subject, &decision);
        decision
    }

    /// The session of a device that was admitted before, it is not known by which verifier. The device ID is as the
    /// device presents it. It may not stand any more.
    pub fn session_of(&self, device_id: &str, key: &str) -> Option<Session> {
        self.0.session_of(device_id, key)
    }

    /// Whether a message may be kept for a device that is away, whose [session](Authenticator::session_of) is not known
    /// by which verifier it was admitted, nor from where.
    pub fn keep(&self, session: &Session, topic: &str) -> Decision<()> {
        let decision = self.0.keep(session, topic);
        self.done(session, Action::Receive, topic, &decision);
        decision
    }

    fn done(&self, session: &Session, action: Action, topic: &str, decision: &Decision<()>) {
        let subject = || Subject::of(session, Some((action, topic)));
        self.0.decided(Asked::Authorize, subject, decision);
    }

    /// The one namespace that is served, if it is one.
    pub fn namespace(&self) -> Option<&str> {
        self.0.options.namespace.as_deref()
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
        self.0.watches.have_listed()
    }

    /// Resolves once all was listed.
    pub async fn until_ready(&self) {
        self.0.watches.until_listed().await;
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
        let change = Change::Key(object.namespace.into(), record.key().as_str().into());
        self.0.change(change, |directory| match order {
            Order::Listed => directory.set_key(object, record),
            Order::Watched => directory.apply_key(object, record),
        });
    }

    /// An AccessKey is gone, or admits nobody.
    pub fn delete_key(&self, namespace: &str, name: &str) {
        let known = self.0.directory().key_named(namespace, name).map(|key| {
            let key = key.key().as_str();
            Change::Key(namespace.into(), key.into())
        });
        self.0.change(known.unwrap_or(Change::All), |directory| {
            directory.delete_key(namespace, name)
        });
    }

    /// A Device is there, or has changed.
    pub fn apply_device(&self, object: Object<'_>, record: DeviceRecord) {
        self.put_device(object, record, Order::Watched);
    }

    fn put_device(&self, object: Object<'_>, record: DeviceRecord, order: Order) {
        let change = Change::Device(object.namespace.into(), record.id().as_str().into());
        self.0.change(change, |directory| match order {
            Order::Listed => directory.set_device(object, record),
            Order::Watched => directory.apply_device(object, record),
        });
    }

    /// A Device cannot be read: it may say that its device is disabled, or a peripheral. The device
    /// has the ID that it had, or the Device's name.
    fn refuse_device(&self, object: Object<'_>, order: Order) {
        let record = {
            let directory = self.0.directory();
            let known = directory.device_named(object.namespace, object.name);
            DeviceRecord::refused(known.map_or(object.name, |known| known.id()))
        };
        self.put_device(object, record, order);
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
        Watched {
            number: self.0.watches.add(),
            watches: Arc::clone(&self.0.watches),
            clock: self.0.clock.clone(),
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
