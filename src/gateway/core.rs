//! What an authenticator knows, and how it decides from it.

use std::cell::LazyCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use tokio::sync::broadcast;

use super::audit::{Audit, Subject};
use super::budget::Budgets;
use super::hashing::{Hashing, Overload, Question};
use super::memory::{Memory, Wanted};
use super::metrics::{Asked, Metrics};
use super::watched::Watches;
use super::{Change, Credentials, Directory, Granted, Options, Resumed};
use crate::clock::Clock;
use crate::devices::is_device_id;
use crate::key::{EntropyError, Secret, random_bytes};
use crate::policy::{
    AcceptedVerifier, Decision, DeviceRecord, Hashed, Issues, KeyRecord, Known, Matches, Presented,
    Reason, Session, decide_from_memory, may_return, reach, recognise, relation, stands,
};
use crate::topics::{Action, Asker, Reach};
use crate::verifier::Verifier;

/// What clones of an authenticator share.
pub(super) struct Core {
    pub options: Options,
    pub clock: Clock,
    directory: RwLock<Directory>,
    /// Of the directory.
    version: AtomicU64,
    pub watches: Arc<Watches>,
    pub hashing: Hashing,
    budgets: Mutex<Budgets>,
    fingerprints: Hmac<Sha256>,
    pub changes: broadcast::Sender<Change>,
    pub metrics: Metrics,
    pub audit: OnceLock<Audit>,
}

/// Changes that a listener may be behind.
const MOST_CHANGES: usize = 4096;

/// Each time around one more verifier is hashed, unless the key was rotated meanwhile; whoever rotates
/// quicker than that has to wait.
const MOST_LOOKS: usize = 8;

impl Core {
    /// One that knows nothing yet, and admits nobody.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn new(options: Options, clock: Clock, metrics: Metrics) -> Result<Core, EntropyError> {
        let fingerprints = Hmac::new_from_slice(&random_bytes::<32>()?);
        let (changes, _) = broadcast::channel(MOST_CHANGES);
        Ok(Core {
            options,
            clock,
            directory: RwLock::default(),
            version: AtomicU64::new(0),
            watches: Arc::new(Watches::new()),
            hashing: Hashing::start(metrics.clone()),
            budgets: Mutex::default(),
            fingerprints: fingerprints.expect("an HMAC takes keys of any length"),
            changes,
            metrics,
            audit: OnceLock::new(),
        })
    }

    /// Counts a decision, and writes it down, if anybody reads what was written.
    pub fn decided<'a, T>(
        &self,
        asked: Asked,
        subject: impl FnOnce() -> Subject<'a>,
        decision: &Decision<T>,
    ) {
        self.metrics.decided(asked, decision);
        if let Some(audit) = self.audit.get() {
            audit.write(self.clock.wall(), asked, subject(), decision);
        }
    }

    /// Whether decisions are written down.
    pub fn is_audited(&self) -> bool {
        self.audit.get().is_some()
    }

    /// The session of a device whose secret is known to match, which most have. None if it takes more to tell, or the
    /// device is refused.
    pub fn recognise(&self, credentials: &Credentials<'_>) -> Option<Session> {
        if self.is_stale() {
            return None;
        }
        let presented = self.presented(credentials)?;
        let mut memory = Memory::of(&self.fingerprints, &self.hashing, presented.secret);
        let directory = self.directory();
        let known = self.known_by(&directory, &presented);
        let remembers = |verifier: &AcceptedVerifier| memory.remembers(verifier) == Some(true);
        let now = LazyCell::new(|| self.clock.wall());
        let session = recognise(known, &presented, || *now, remembers)?;
        self.metrics.remembered.inc();
        Some(session)
    }

    /// See [`super::Authenticator::authenticate`].
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Decision {
        let mut inquiry = match self.inquire(credentials) {
            Ok(inquiry) => inquiry,
            Err(unasked) => return unasked.into(),
        };
        loop {
            let question = match inquiry.next() {
                Next::Decided(decision) => return decision,
                Next::Hash(question) => question,
            };
            let hashed = Arc::clone(&question.hashed);
            match self.hashing.answer(question).await {
                Ok(is_right) => inquiry.answered(hashed, is_right),
                Err(Overload) => return Decision::Unavailable,
            }
        }
    }

    /// See [`super::Authenticator::authenticate_at_once`].
    pub fn authenticate_at_once(
        &self,
        credentials: &Credentials<'_>,
        mut may_hash: impl FnMut(&Verifier) -> bool,
    ) -> Decision {
        let mut inquiry = match self.inquire(credentials) {
            Ok(inquiry) => inquiry,
            Err(unasked) => return unasked.into(),
        };
        loop {
            let question = match inquiry.next() {
                Next::Decided(decision) => return decision,
                Next::Hash(question) => question,
            };
            if !may_hash(&question.hashed.verifier) {
                // The answer is left where the next question finds it, or there is too much to do: all the same.
                self.hashing.begin(question).ok();
                return Decision::Unavailable;
            }
            let hashed = Arc::clone(&question.hashed);
            let is_right = self.hashing.answer_here(question);
            inquiry.answered(hashed, is_right);
        }
    }

    fn inquire<'a>(&'a self, credentials: &Credentials<'a>) -> Result<Inquiry<'a>, Unasked> {
        if self.is_stale() {
            return Err(Unasked::Stale);
        }
        let presented = self.presented(credentials);
        let presented = presented.ok_or(Unasked::Malformed)?;
        Ok(Inquiry {
            core: self,
            memory: Memory::of(&self.fingerprints, &self.hashing, presented.secret),
            presented,
            // Where some wait in vain, whoever is refused cannot tell why.
            is_overloaded: self.hashing.is_full(),
            looks: 0,
        })
    }

    /// What is known now says, the directory standing still meanwhile.
    fn look(&self, presented: &Presented<'_>, memory: &mut Memory<'_>) -> Decision {
        let directory = self.directory();
        let known = self.known_by(&directory, presented);
        decide_from_memory(known, presented, self.clock.wall(), memory)
    }

    fn known_by<'a>(&self, directory: &'a Directory, presented: &Presented<'_>) -> Known<'a> {
        self.known(
            directory,
            presented.namespace,
            presented.key,
            presented.device_id,
        )
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

    /// See [`super::Authenticator::authorize`].
    pub fn authorize(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        self.judge(session, action, topic, |known| self.stands(known, session))
    }

    /// See [`super::Authenticator::keep`].
    pub fn keep(&self, session: &Session, topic: &str) -> Decision<()> {
        let now = LazyCell::new(|| self.clock.wall());
        let may_return = |known: Known<'_>| may_return(known, &session.device_id, || *now);
        self.judge(session, Action::Receive, topic, may_return)
    }

    fn judge(
        &self,
        session: &Session,
        action: Action,
        topic: &str,
        stands: impl FnOnce(Known<'_>) -> Result<(), Reason>,
    ) -> Decision<()> {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        let key = match (stands(known), known.key) {
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

    /// See [`super::Authenticator::confirm`].
    pub fn confirm(&self, session: &Session) -> Decision<()> {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        match self.stands(known, session) {
            Ok(()) => Decision::Allow(()),
            Err(reason) => Decision::Deny(reason),
        }
    }

    /// See [`super::Authenticator::granted`].
    pub fn granted(&self, session: &Session) -> Option<Granted> {
        let now = self.clock.wall();
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        stands(known, session, || now).ok()?;
        let key = known.key?;
        let is_own = |verifier: &&AcceptedVerifier| {
            verifier.is_valid(|| now) && session.revision.is_none_or(|own| own == verifier.revision)
        };
        let verifier = key.verifiers().iter().find(is_own)?;
        Some(Granted {
            grants: key.grants().clone(),
            verifier: verifier.thumbprint,
            ends: [key.expires_at(), verifier.valid_until()]
                .into_iter()
                .flatten()
                .min(),
        })
    }

    /// See [`super::Authenticator::version`].
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// See [`super::Authenticator::is_timeless`].
    pub fn is_timeless(&self, session: &Session) -> bool {
        let directory = self.directory();
        let key = self.known_of(&directory, session).key;
        key.is_some_and(KeyRecord::is_timeless)
    }

    /// See [`super::Authenticator::is_named`].
    pub fn is_named(&self, session: &Session) -> bool {
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        known.device.is_some() || known.key.is_some_and(|key| !key.scope().admits_all())
    }

    /// See [`super::Authenticator::issues`].
    pub fn issues(&self, session: &Session) -> Option<Issues> {
        let now = self.clock.wall();
        let directory = self.directory();
        let key = directory.key(&session.namespace, &session.key);
        key.map(|key| key.issues(now))
    }

    /// See [`super::Authenticator::reach`].
    pub fn reach(&self, session: &Session) -> Option<Reach> {
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        let devices = directory.devices_of(&session.namespace);
        reach(known, &session.device_id, devices)
    }

    /// See [`super::Authenticator::resume`].
    pub fn resume(&self, named: &Resumed<'_>) -> Decision {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = self.directory();
        let known = self.known(&directory, named.namespace, named.key, named.device_id);
        let verifiers = known.key.map(KeyRecord::verifiers).unwrap_or_default();
        let own = verifiers
            .iter()
            .find(|own| own.thumbprint == named.verifier);
        let session = Session {
            namespace: named.namespace.into(),
            key: named.key.into(),
            device_id: named.device_id.into(),
            class: known.device.map(DeviceRecord::class).unwrap_or_default(),
            // No issue has this number.
            revision: Some(own.map_or(i32::MIN, |own| own.revision)),
            source: named.source,
        };
        match self.stands(known, &session) {
            Ok(()) => Decision::Allow(session),
            Err(reason) => Decision::Deny(reason),
        }
    }

    fn stands(&self, known: Known<'_>, session: &Session) -> Result<(), Reason> {
        let now = LazyCell::new(|| self.clock.wall());
        stands(known, session, || *now)
    }

    /// See [`super::Authenticator::session_of`].
    pub fn session_of(&self, device_id: &str, key: &str) -> Option<Session> {
        let presented = self.presented(&Credentials::new(device_id, key, ""))?;
        is_device_id(presented.device_id).then_some(())?;
        let directory = self.directory();
        let known = self.known_by(&directory, &presented);
        Some(Session {
            namespace: presented.namespace.into(),
            key: key.into(),
            device_id: presented.device_id.into(),
            class: known.device.map(DeviceRecord::class).unwrap_or_default(),
            revision: None,
            source: None,
        })
    }

    fn known_of<'a>(&self, directory: &'a Directory, session: &Session) -> Known<'a> {
        self.known(
            directory,
            &session.namespace,
            &session.key,
            &session.device_id,
        )
    }

    /// What is known, which stands still meanwhile.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the directory, and tells who listens.
    pub fn change<T>(&self, change: Change, apply: impl FnOnce(&mut Directory) -> T) -> T {
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let applied = apply(&mut directory);
        // Who decides by what is known from now on has begun after this.
        self.version.fetch_add(1, Ordering::Release);
        self.metrics.keys.set(count(directory.keys()));
        self.metrics.devices.set(count(directory.devices()));
        drop(directory);
        // Nobody may be listening.
        self.changes.send(change).ok();
        applied
    }

    /// How long ago all was known; none before all was listed.
    pub fn age(&self) -> Option<Duration> {
        self.watches.age(self.clock.monotonic())
    }

    /// Whether all was known too long ago to decide by it.
    pub fn is_stale(&self) -> bool {
        self.watches
            .age(self.clock.coarse())
            .is_none_or(|age| age > self.options.staleness.limit())
    }
}

/// A device that has presented itself, until it is told what was decided.
struct Inquiry<'a> {
    core: &'a Core,
    presented: Presented<'a>,
    memory: Memory<'a>,
    is_overloaded: bool,
    looks: usize,
}

/// Why nothing is looked for.
enum Unasked {
    /// What is known is too old.
    Stale,
    /// What is presented names no namespace.
    Malformed,
}

impl From<Unasked> for Decision {
    fn from(unasked: Unasked) -> Decision {
        match unasked {
            Unasked::Stale => Decision::Unavailable,
            Unasked::Malformed => Decision::Deny(Reason::Malformed),
        }
    }
}

/// What comes next.
enum Next {
    Decided(Decision),
    /// A secret has to be hashed, and then the question is asked again.
    Hash(Question),
}

impl Inquiry<'_> {
    fn next(&mut self) -> Next {
        let is_first = self.looks == 0;
        self.looks += 1;
        if self.looks > MOST_LOOKS {
            return Next::Decided(Decision::Unavailable);
        }
        let decision = self.core.look(&self.presented, &mut self.memory);
        Next::Decided(match (&decision, self.memory.wanted.take()) {
            (Decision::Deny(Reason::BadSecret) | Decision::Unavailable, Some(wanted)) => {
                match self.core.may_hash(&self.presented, &wanted) {
                    true => return self.hash(wanted),
                    false => Decision::Deny(Reason::Throttled),
                }
            }
            (Decision::Deny(_), _) if self.is_overloaded => Decision::Unavailable,
            (Decision::Allow(_), _) if is_first => {
                self.core.metrics.remembered.inc();
                decision
            }
            _ => decision,
        })
    }

    fn hash(&mut self, Wanted { hashed, if_wrong }: Wanted) -> Next {
        // It was read as a secret before, or it would not be wanted.
        let Ok(secret) = Secret::foreign(self.memory.secret) else {
            return Next::Decided(Decision::Unavailable);
        };
        let fingerprint = *self.memory.fingerprint();
        Next::Hash(Question {
            hashed,
            secret,
            fingerprint,
            if_wrong,
        })
    }

    fn answered(&mut self, hashed: Arc<Hashed>, is_right: bool) {
        if !is_right {
            self.memory.wrong.push(hashed);
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The lock, also after a panic: what it guards is whole at all times.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
