//! What is remembered of secrets: which one matched a verifier, and which did not.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::hashing::{Fingerprint, Hashing};
use crate::key::Secret;
use crate::policy::{AcceptedVerifier, Hashed, Matches};

/// What is remembered of secrets, in the course of one decision.
pub(super) struct Memory<'a> {
    pub secret: &'a str,
    fingerprint: Option<Fingerprint>,
    fingerprints: &'a Hmac<Sha256>,
    hashing: &'a Hashing,
    /// What was hashed meanwhile, and did not match.
    pub wrong: Vec<Arc<Hashed>>,
    /// What has to be hashed to know more.
    pub wanted: Option<Wanted>,
}

/// A verifier that the secret has to be held against.
pub(super) struct Wanted {
    pub hashed: Arc<Hashed>,
    pub if_wrong: Option<Fingerprint>,
}

impl<'a> Memory<'a> {
    /// Of what is presented.
    pub fn of(fingerprints: &'a Hmac<Sha256>, hashing: &'a Hashing, secret: &'a str) -> Memory<'a> {
        Memory {
            secret,
            fingerprint: None,
            fingerprints,
            hashing,
            wrong: Vec::new(),
            wanted: None,
        }
    }

    /// Of the secret.
    pub fn fingerprint(&mut self) -> &Fingerprint {
        self.fingerprint.get_or_insert_with(|| {
            let fingerprint = self.fingerprints.clone().chain_update(self.secret);
            cut(fingerprint)
        })
    }

    /// Secrets that were taken over may be wrong more than once.
    fn if_wrong(&mut self, verifier: &AcceptedVerifier) -> Option<Fingerprint> {
        let with_verifier = || {
            let fingerprint = self.fingerprints.clone();
            let verifier = verifier.hashed.verifier.as_str();
            cut(fingerprint
                .chain_update(self.fingerprint())
                .chain_update(verifier))
        };
        verifier.check.is_none().then(with_verifier)
    }
}

/// The first half, which takes half the room beside each verifier: RFC 2104, section 5.
fn cut(fingerprint: Hmac<Sha256>) -> Fingerprint {
    let whole = fingerprint.finalize().into_bytes();
    std::array::from_fn(|byte| whole[byte])
}

/// In constant time, in few steps: byte by byte it would take a sixth as long as the digest does.
fn are_equal(one: &Fingerprint, other: &Fingerprint) -> bool {
    let words = |all: &Fingerprint| -> [u64; 2] {
        let (words, _) = all.as_chunks();
        std::array::from_fn(|word| u64::from_ne_bytes(words[word]))
    };
    words(one).ct_eq(&words(other)).into()
}

impl Matches for Memory<'_> {
    fn remembers(&mut self, verifier: &AcceptedVerifier) -> Option<bool> {
        let matched = verifier.matched()?;
        Some(are_equal(matched, self.fingerprint()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_equal_if_every_bit_is() {
        let one: Fingerprint = std::array::from_fn(|byte| byte as u8);
        assert!(are_equal(&one, &one.clone()));
        for bit in 0..128 {
            let mut other = one;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!are_equal(&one, &other), "bit {bit}");
        }
    }
}
