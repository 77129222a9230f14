//! AccessKeys that claim one key: all but one of them are told so, and again when that is over.
//!
//! A key is claimed by the status that says it, or by `spec.existing`. Of the claims to one key of a
//! namespace one stands. Gateways know the first kind alone, so it goes before the other; of the
//! same kind the older stands, and within a second the name decides, as at gateways.
//!
//! There may be very many AccessKeys and hardly ever two with one key, so nothing is kept but how
//! many claims there are to each; who claims a key that is claimed twice is looked up in the cache.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;

use super::Guarded;
use crate::api::AccessKey;

/// Who has the keys of one watch. Clones are one and the same.
#[derive(Clone)]
pub struct Rivals {
    store: Store<Guarded>,
    claims: Arc<Mutex<Claims>>,
}

impl Rivals {
    pub(super) fn in_cache(store: Store<Guarded>) -> Rivals {
        Rivals {
            store,
            claims: Arc::default(),
        }
    }

    /// The name of the AccessKey whose claim to the key of this one stands, if it is another.
    pub fn of(&self, key: &AccessKey) -> Option<String> {
        let own = Claim::of(key)?;
        if !self.claims().is_contested(&own) {
            return None;
        }
        let cached = self.store.state();
        let claims = cached.iter().filter_map(|object| claim(object));
        let rivals =
            claims.filter(|other| other.is_to(own.namespace, own.key) && other.beats(&own));
        let winner = rivals.reduce(|one, other| if other.beats(&one) { other } else { one })?;
        Some(winner.name.to_owned())
    }

    /// Takes note of what happens, before the cache does.
    pub(super) fn notice(&self, event: &Event<Guarded>) {
        let known = |object: &Guarded| self.store.get(&ObjectRef::from_obj(object));
        let mut claims = self.claims();
        match event {
            Event::Init => claims.listed.clear(),
            Event::InitApply(object) => claims.list(claim(object)),
            // All are looked at then.
            Event::InitDone => claims.counts = std::mem::take(&mut claims.listed),
            Event::Apply(object) => {
                let before = known(object);
                claims.change(before.as_deref().and_then(claim), claim(object));
            }
            Event::Delete(object) => {
                let before = known(object);
                claims.change(before.as_deref().and_then(claim), None);
            }
        }
    }

    /// AccessKeys whose claims may stand now, or stand no more, once the cache shows why.
    pub(super) fn disturbed(&self) -> Vec<Arc<Guarded>> {
        let disturbed = std::mem::take(&mut self.claims().disturbed);
        if disturbed.is_empty() {
            return Vec::new();
        }
        let is_disturbed = |object: &Arc<Guarded>| {
            claim(object).is_some_and(|claim| {
                let mut disturbed = disturbed.iter();
                disturbed.any(|(namespace, key)| claim.is_to(namespace, key))
            })
        };
        let mut cached = self.store.state();
        cached.retain(is_disturbed);
        cached
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many claims there are to each key, by a digest of it.
#[derive(Default)]
struct Claims {
    hasher: RandomState,
    counts: HashMap<u64, u32>,
    /// What the list under way has found so far.
    listed: HashMap<u64, u32>,
    /// Keys, by namespace, that others claim than before.
    disturbed: Vec<(String, String)>,
}

impl Claims {
    fn is_contested(&self, claim: &Claim<'_>) -> bool {
        self.counts
            .get(&self.digest(claim))
            .is_some_and(|count| *count > 1)
    }

    fn list(&mut self, claim: Option<Claim<'_>>) {
        if let Some(claim) = claim {
            let digest = self.digest(&claim);
            *self.listed.entry(digest).or_default() += 1;
        }
    }

    fn change(&mut self, before: Option<Claim<'_>>, after: Option<Claim<'_>>) {
        if before == after {
            return;
        }
        if let Some(before) = &before {
            self.note_if_contested(before);
            self.forget(self.digest(before));
        }
        if let Some(after) = &after {
            let digest = self.digest(after);
            *self.counts.entry(digest).or_default() += 1;
            self.note_if_contested(after);
        }
    }

    fn forget(&mut self, digest: u64) {
        if let Entry::Occupied(mut count) = self.counts.entry(digest) {
            match count.get() {
                0 | 1 => _ = count.remove(),
                _ => *count.get_mut() -= 1,
            }
        }
    }

    fn note_if_contested(&mut self, claim: &Claim<'_>) {
        if self.is_contested(claim) {
            let key = (claim.namespace.to_owned(), claim.key.to_owned());
            self.disturbed.push(key);
        }
    }

    fn digest(&self, claim: &Claim<'_>) -> u64 {
        self.hasher.hash_one((claim.namespace, claim.key))
    }
}

/// What an AccessKey says: that the key is its own.
#[derive(Debug, PartialEq)]
struct Claim<'a> {
    namespace: &'a str,
    key: &'a str,
    /// Its status says so.
    holds: bool,
    /// In seconds.
    created: i64,
    name: &'a str,
}

impl<'a> Claim<'a> {
    /// None if no key is its own yet, or if it is being deleted, which counts as deleted.
    fn of(object: &'a AccessKey) -> Option<Claim<'a>> {
        let (meta, spec) = (&object.metadata, &object.spec);
        let held = object
            .status
            .as_ref()
            .and_then(|status| status.key.as_deref());
        let asked = spec.existing.as_ref().map(|existing| &*existing.key);
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let created = meta.creation_timestamp.as_ref();
        Some(Claim {
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            key: held.or(asked)?,
            holds: held.is_some(),
            created: created.map_or(i64::MAX, |time| time.0.as_second()),
            name: meta.name.as_deref().unwrap_or_default(),
        })
    }

    fn is_to(&self, namespace: &str, key: &str) -> bool {
        self.key == key && self.namespace == namespace
    }

    fn beats(&self, other: &Claim<'_>) -> bool {
        let rank = |claim: &Claim<'_>| (!claim.holds, claim.created);
        (rank(self), self.name) < (rank(other), other.name)
    }
}

/// None if it cannot be read: nobody can say which key it claims.
fn claim(object: &Guarded) -> Option<Claim<'_>> {
    object.0.as_ref().ok().and_then(Claim::of)
}

#[cfg(test)]
mod tests;
