//! What an authenticator knows, and how it decides from it.

use std::cell::LazyCell;
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
use crate::key::{EntropyError, Secret, random_bytes};
use crate::policy::{
    AcceptedVerifier, Decision, DeviceRecord, KeyRecord, Known, Matches, Presented, Reason,
    Session, decide_from_memory, recognise, relation, stands,
};
use crate::topics::{Action, Asker};

/// What clones of an authenticator share.
pub(super) struct Core {
    pub options: Options,
    pub clock: Clock,
    directory: RwLock<Directory>,
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
            watches: Arc::new(Watches::new()),
            hashing: Hashing::start(metrics.clone()),
            budgets: Mutex::default(),
            fingerprints: fingerprints.expect("an HMAC takes keys of any length"),
            changes,
            metrics,
            audit: OnceLock::new(),
        })
    }

    /// Counts a decision, and writes it down.
    pub fn decided<T>(&self, asked: Asked, subject: Subject<'_>, decision: &Decision<T>) {
        self.metrics.decided(asked, decision);
        if let Some(audit) = self.audit.get() {
            audit.write(self.clock.wall(), asked, subject, decision);
        }
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
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let Some(presented) = self.presented(credentials) else {
            return Decision::Deny(Reason::Malformed);
        };
        // Where some wait in vain, whoever is refused cannot tell why.
        let is_overloaded = self.hashing.is_full();
        let mut memory = Memory::of(&self.fingerprints, &self.hashing, presented.secret);
        for look in 0..MOST_LOOKS {
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
                (Decision::Allow(_), _) if look == 0 => {
                    self.metrics.remembered.inc();
                    return decision;
                }
                _ => return decision,
            }
        }
        Decision::Unavailable
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

    async fn hash(&self, memory: &mut Memory<'_>, wanted: Wanted) -> Result<(), Overload> {
        let Wanted { hashed, if_wrong } = wanted;
        // It was read as a secret before, or it would not be wanted.
        let secret = Secret::foreign(memory.secret).map_err(|_| Overload)?;
        let question = Question {
            hashed: Arc::clone(&hashed),
            secret,
            fingerprint: *memory.fingerprint(),
            if_wrong,
        };
        if !self.hashing.answer(question).await? {
            memory.wrong.push(hashed);
        }
        Ok(())
    }

    /// See [`super::Authenticator::authorize`].
    pub fn authorize(&self, session: &Session, action: Action, topic: &str) -> Decision<()> {
        if self.is_stale() {
            return Decision::Unavailable;
        }
        let directory = self.directory();
        let known = self.known_of(&directory, session);
        let key = match (self.stands(known, session), known.key) {
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

    fn is_stale(&self) -> bool {
        self.watches
            .age(self.clock.coarse())
            .is_none_or(|age| age > self.options.staleness.limit())
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The lock, also after a panic: what it guards is whole at all times.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
