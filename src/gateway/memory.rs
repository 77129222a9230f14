//! What is remembered of secrets: which one matched a verifier, and which did not.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::hashing::{Fingerprint, Hashing};
use crate::key::Secret;
use crate::policy::{AcceptedVerifier, Hashed, Matches, Presented};

/// What is remembered of secrets, in the course of one decision.
pub(super) struct Memory<'a> {
    pub secret: &'a str,
    pub fingerprint: Fingerprint,
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
    pub fn of(
        fingerprints: &'a Hmac<Sha256>,
        hashing: &'a Hashing,
        presented: &Presented<'a>,
    ) -> Memory<'a> {
        let fingerprint = fingerprints
            .clone()
            .chain_update(presented.key)
            .chain_update(b"\0")
            .chain_update(presented.secret);
        Memory {
            secret: presented.secret,
            fingerprint: fingerprint.finalize().into_bytes().into(),
            fingerprints,
            hashing,
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
