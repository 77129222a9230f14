//! The keys that sign tokens: files, read again when they change.
//!
//! Whoever verifies tokens by the published keys reads these from time to time only. So a key that
//! appears while the gateway runs is published for ten minutes before it signs, and meanwhile the one
//! before it goes on to sign, also if its file is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use tracing::{info, warn};

use super::token::{self, Claims, SigningKey, UnusableKey};
use super::tokens::{Read, Tokens};
use crate::clock::{Clock, Moment};
use crate::key::EntropyError;

/// A key is published for so long before it signs.
const NOTICE: Duration = Duration::from_secs(600);

/// So often the files are read.
const LOOK: Duration = Duration::from_secs(10);

/// The keys that sign tokens, and those that are only published. Clones are one and the same.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    files: Vec<PathBuf>,
    clock: Clock,
    ring: RwLock<Ring>,
    tokens: Tokens,
}

impl Keyring {
    /// Reads these files, the first of which signs.
    ///
    /// # Errors
    /// When one cannot be read, or holds no key.
    pub fn of_files(files: Vec<PathBuf>, clock: Clock) -> Result<Keyring, KeyFileError> {
        let mut ring = Ring::default();
        ring.begin_with(read_all(&files)?);
        Ok(Keyring(Arc::new(Inner {
            files,
            clock,
            ring: RwLock::new(ring),
            tokens: Tokens::default(),
        })))
    }

    /// One new key, which nobody keeps.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn ephemeral(clock: Clock) -> Result<Keyring, EntropyError> {
        let mut ring = Ring::default();
        ring.begin_with(vec![SigningKey::generate()?]);
        Ok(Keyring(Arc::new(Inner {
            files: Vec::new(),
            clock,
            ring: RwLock::new(ring),
            tokens: Tokens::default(),
        })))
    }

    /// Without a key: no tokens.
    pub fn empty(clock: Clock) -> Keyring {
        Keyring(Arc::new(Inner {
            files: Vec::new(),
            clock,
            ring: RwLock::default(),
            tokens: Tokens::default(),
        }))
    }

    /// The key that signs now.
    pub fn signer(&self) -> Option<Arc<SigningKey>> {
        let ring = self.0.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.signer(self.0.clock.monotonic())
    }

    /// All that are published.
    pub fn published(&self) -> Vec<Arc<SigningKey>> {
        let ring = self.0.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.published().cloned().collect()
    }

    /// What a token says that one of the published keys has signed, if it is one of ours. It may have ended.
    pub(super) fn read(
        &self,
        token: &[u8],
        is_ours: impl FnOnce(&Claims) -> bool,
    ) -> Option<Arc<Read>> {
        let known = self.0.tokens.get(token);
        known
            .filter(|known| self.publishes(&known.key))
            .or_else(|| {
                let token = str::from_utf8(token).ok()?;
                let (key, claims) = token::read(token, self.published())?;
                is_ours(&claims).then(|| self.0.tokens.keep(Read::new(token, key, claims)))
            })
    }

    fn publishes(&self, key: &Arc<SigningKey>) -> bool {
        let ring = self.0.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.published()
            .any(|published| Arc::ptr_eq(published, key))
    }

    /// Reads the files from time to time. Never ends.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match read_all(&self.0.files) {
                Ok(found) => self.update(found),
                Err(error) => warn!("the signing keys stay as they are: {error}"),
            }
        }
    }

    fn update(&self, found: Vec<SigningKey>) {
        let now = self.0.clock.monotonic();
        let mut ring = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.update(found, now);
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<SigningKey>, KeyFileError> {
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<SigningKey, KeyFileError> {
    let pem = std::fs::read(file).map_err(|cause| KeyFileError::Read {
        file: file.to_owned(),
        cause,
    })?;
    let unusable = KeyFileError::Unusable {
        file: file.to_owned(),
        cause: UnusableKey,
    };
    match PrivatePkcs8KeyDer::from_pem_slice(&pem) {
        Ok(der) => SigningKey::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable),
        Err(_) => Err(unusable),
    }
}

/// Why a signing key cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the signing key {} (--signing-key): {cause}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It holds something else.
    #[error("cannot use the signing key {} (--signing-key): {cause}", file.display())]
    Unusable {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: UnusableKey,
    },
}

/// Which keys there are, and since when.
#[derive(Default)]
struct Ring {
    /// In the order of their files.
    keys: Vec<Known>,
    /// The one that signed, while its file is gone and none of the others may.
    last: Option<Arc<SigningKey>>,
}

struct Known {
    key: Arc<SigningKey>,
    /// None: from the beginning.
    since: Option<Moment>,
}

impl Known {
    fn may_sign(&self, now: Moment) -> bool {
        self.since.is_none_or(|since| now.since(since) >= NOTICE)
    }
}

impl Ring {
    fn begin_with(&mut self, found: Vec<SigningKey>) {
        let known = found.into_iter().map(|key| Known {
            key: Arc::new(key),
            since: None,
        });
        self.keys = known.collect();
    }

    fn update(&mut self, found: Vec<SigningKey>, now: Moment) {
        let signer = self.signer(now);
        let mut before = std::mem::take(&mut self.keys);
        for key in found {
            let known = before.iter().position(|known| known.key.id() == key.id());
            self.keys.push(match known {
                Some(at) => before.swap_remove(at),
                None => {
                    info!(
                        kid = key.id(),
                        "a signing key has come: it signs in ten minutes"
                    );
                    Known {
                        key: Arc::new(key),
                        since: Some(now),
                    }
                }
            });
        }
        let has_signer = self.keys.iter().any(|known| known.may_sign(now));
        self.last = signer.filter(|_| !has_signer);
    }

    fn signer(&self, now: Moment) -> Option<Arc<SigningKey>> {
        let mut keys = self.keys.iter();
        let own = keys.find(|known| known.may_sign(now));
        own.map(|known| &known.key).or(self.last.as_ref()).cloned()
    }

    fn published(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.keys.iter().map(|known| &known.key).chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (SigningKey, impl Fn() -> SigningKey) {
        use ring::rand::SystemRandom;
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.expect("entropy").as_ref().to_vec();
        let again = move || SigningKey::from_pkcs8(&made).expect("a key");
        (again(), again)
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn signer(ring: &Ring, seconds: u64) -> Option<String> {
        ring.signer(at(seconds)).map(|key| key.id().to_owned())
    }

    #[test]
    fn keys_found_at_the_start_sign_in_their_order() {
        let ((one, _), (two, _)) = (key(), key());
        let first = one.id().to_owned();
        let mut ring = Ring::default();
        assert_eq!(signer(&ring, 0), None);
        ring.begin_with(vec![one, two]);
        assert_eq!(signer(&ring, 0), Some(first));
        assert_eq!(ring.published().count(), 2);
    }

    #[test]
    fn a_key_that_comes_later_signs_after_ten_minutes() {
        let ((old, old_again), (new, new_again)) = (key(), key());
        let (old_id, new_id) = (old.id().to_owned(), new.id().to_owned());
        let mut ring = Ring::default();
        ring.begin_with(vec![old]);
        ring.update(vec![new, old_again()], at(100));
        assert_eq!(signer(&ring, 699), Some(old_id.clone()));
        assert_eq!(signer(&ring, 700), Some(new_id.clone()));
        ring.update(vec![new_again(), old_again()], at(800));
        assert_eq!(
            signer(&ring, 800),
            Some(new_id),
            "it is the one that was known"
        );
        assert_eq!(ring.published().count(), 2);
    }

    #[test]
    fn a_key_whose_file_is_replaced_signs_until_the_new_one_may() {
        let ((old, _), (new, new_again)) = (key(), key());
        let (old_id, new_id) = (old.id().to_owned(), new.id().to_owned());
        let mut ring = Ring::default();
        ring.begin_with(vec![old]);
        ring.update(vec![new], at(100));
        ring.update(vec![new_again()], at(400));
        assert_eq!(signer(&ring, 699), Some(old_id));
        assert_eq!(ring.published().count(), 2);
        assert_eq!(signer(&ring, 700), Some(new_id));
        ring.update(vec![new_again()], at(701));
        assert_eq!(ring.published().count(), 1, "the old one is gone");
    }

    #[test]
    fn a_token_that_was_read_before_is_good_no_longer_than_its_key() {
        let ((one, one_again), (two, two_again)) = (key(), key());
        let (clock, _) = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let keyring = Keyring::empty(clock);
        let claims = Claims {
            iss: "here".into(),
            aud: "there".into(),
            sub: "pump-1".into(),
            client_id: "kwk_0123456789abcdefghjkmnpqrs".into(),
            iat: 0,
            exp: 60,
            jti: token::number().expect("entropy"),
            scope: String::new(),
            keyward: token::Named {
                namespace: "plant".into(),
                device: "pump-1".into(),
                verifier: String::from("0123456789abcdef")
                    .try_into()
                    .expect("16 digits"),
            },
        };
        let token = one.sign(&claims).expect("entropy");
        let said = |token: &str| {
            let read = keyring.read(token.as_bytes(), |claims| claims.are_for("here", "there"));
            read.map(|read| read.claims.clone())
        };
        assert_eq!(said(&token), None);
        keyring.update(vec![one, two]);
        for _ in 0..3 {
            assert_eq!(said(&token).as_ref(), Some(&claims));
        }
        keyring.update(vec![two_again()]);
        assert_eq!(said(&token), None);
        keyring.update(vec![one_again(), two_again()]);
        assert_eq!(said(&token).as_ref(), Some(&claims));
    }

    #[test]
    fn a_key_that_is_taken_away_beside_another_is_gone_at_once() {
        let ((one, _), (two, two_again)) = (key(), key());
        let second = two.id().to_owned();
        let mut ring = Ring::default();
        ring.begin_with(vec![one, two]);
        ring.update(vec![two_again()], at(1));
        assert_eq!(signer(&ring, 1), Some(second));
        assert_eq!(ring.published().count(), 1);
    }
}
