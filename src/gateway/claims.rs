//! Objects that claim IDs: of those of one namespace that claim the same ID, one has it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use jiff::Timestamp;

use crate::devices::Claim;
use crate::text::Text;

/// What an object is a claim to.
pub(super) trait Claims {
    /// The ID, unique in a namespace.
    fn id(&self) -> &Text;
}

/// One object, and what counts of it.
#[derive(Debug)]
pub(super) struct Claimant<R> {
    pub namespace: Arc<str>,
    pub name: Box<str>,
    /// When the object was made: of two claims the older stands.
    pub created: Timestamp,
    pub version: u64,
    pub record: R,
}

impl<R: Claims> Claimant<R> {
    fn claim(&self) -> Claim<'_> {
        Claim {
            created: self.created,
            name: &self.name,
            id: self.record.id(),
        }
    }
}

/// Objects by name, and those whose claims stand by ID. Both tables hold nothing but pointers, since
/// there may be very many.
#[derive(Debug)]
pub(super) struct Register<R> {
    hasher: RandomState,
    by_name: HashTable<Arc<Claimant<R>>>,
    by_id: HashTable<Arc<Claimant<R>>>,
    /// How many objects have a claim that does not stand.
    beaten: usize,
}

impl<R> Default for Register<R> {
    fn default() -> Self {
        Register {
            hasher: RandomState::new(),
            by_name: HashTable::new(),
            by_id: HashTable::new(),
            beaten: 0,
        }
    }
}

impl<R: Claims> Register<R> {
    /// The record of the object that has this ID.
    pub fn get(&self, namespace: &str, id: &str) -> Option<&R> {
        if self.by_id.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one((namespace, id));
        let found = self
            .by_id
            .find(hash, |claimant| has(claimant, namespace, id));
        found.map(|claimant| &claimant.record)
    }

    /// The record of the object with this name, whether its claim stands or not.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&R> {
        let known = self.claimant(namespace, name);
        known.map(|claimant| &claimant.record)
    }

    fn claimant(&self, namespace: &str, name: &str) -> Option<&Arc<Claimant<R>>> {
        let hash = self.hasher.hash_one((namespace, name));
        self.by_name
            .find(hash, |claimant| is(claimant, namespace, name))
    }

    /// Whether a later version of the object with this name is known.
    pub fn is_behind(&self, namespace: &str, name: &str, version: u64) -> bool {
        let known = self.claimant(namespace, name);
        known.is_some_and(|known| version < known.version)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Sets what is known about an object.
    pub fn insert(&mut self, claimant: Claimant<R>) {
        self.remove(&claimant.namespace, &claimant.name);
        let claimant = Arc::new(claimant);
        let hasher = &self.hasher;
        let name_hash =
            |claimant: &Arc<Claimant<R>>| hasher.hash_one((&*claimant.namespace, &*claimant.name));
        self.by_name
            .insert_unique(name_hash(&claimant), Arc::clone(&claimant), name_hash);
        self.stand(claimant);
    }

    /// Forgets an object. Was it known?
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let hash = self.hasher.hash_one((namespace, name));
        let found = self
            .by_name
            .find_entry(hash, |claimant| is(claimant, namespace, name));
        let Ok(entry) = found else {
            return false;
        };
        let (gone, _) = entry.remove();
        self.fall(&gone);
        true
    }

    /// Forgets what this does not hold of.
    pub fn retain(&mut self, keep: impl Fn(&Claimant<R>) -> bool) -> Vec<Arc<Claimant<R>>> {
        let gone: Vec<_> = self
            .by_name
            .extract_if(|claimant| !keep(claimant))
            .collect();
        for gone in &gone {
            self.fall(gone);
        }
        gone
    }

    /// The claim stands, unless another does.
    fn stand(&mut self, claimant: Arc<Claimant<R>>) {
        let hasher = &self.hasher;
        let id_hash = |claimant: &Arc<Claimant<R>>| {
            hasher.hash_one((&*claimant.namespace, claimant.record.id().as_str()))
        };
        let is_rival =
            |other: &Arc<Claimant<R>>| has(other, &claimant.namespace, claimant.record.id());
        match self.by_id.find_mut(id_hash(&claimant), is_rival) {
            Some(rival) => {
                self.beaten += 1;
                if claimant.claim().beats(&rival.claim()) {
                    *rival = claimant;
                }
            }
            None => {
                let hash = id_hash(&claimant);
                self.by_id.insert_unique(hash, claimant, id_hash);
            }
        }
    }

    /// The claim of an object that is gone stands no more, and that of another may.
    fn fall(&mut self, gone: &Arc<Claimant<R>>) {
        let id = gone.record.id();
        let hash = self.hasher.hash_one((&*gone.namespace, id.as_str()));
        let stood = self
            .by_id
            .find_entry(hash, |other| Arc::ptr_eq(other, gone));
        match stood {
            Ok(entry) => _ = entry.remove(),
            Err(_) => self.beaten -= 1,
        }
        if self.beaten == 0 || self.get(&gone.namespace, id).is_some() {
            return;
        }
        let rivals = self
            .by_name
            .iter()
            .filter(|other| has(other, &gone.namespace, id));
        let next = rivals.reduce(|one, other| {
            if other.claim().beats(&one.claim()) {
                other
            } else {
                one
            }
        });
        if let Some(next) = next.cloned() {
            self.beaten -= 1;
            self.stand(next);
        }
    }
}

fn has<R: Claims>(claimant: &Claimant<R>, namespace: &str, id: &str) -> bool {
    *claimant.record.id() == *id && *claimant.namespace == *namespace
}

fn is<R>(claimant: &Claimant<R>, namespace: &str, name: &str) -> bool {
    *claimant.name == *name && *claimant.namespace == *namespace
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Id(Text);

    impl Claims for Id {
        fn id(&self) -> &Text {
            &self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert {
            name: String,
            id: String,
            created: i64,
        },
        Remove {
            name: String,
        },
        Retain {
            names: String,
        },
    }

    fn changes() -> impl Strategy<Value = Change> {
        let name = "[a-e]";
        prop_oneof![
            6 => (name, "[x-z]", 0_i64..3).prop_map(|(name, id, created)| Change::Insert { name, id, created }),
            3 => name.prop_map(|name| Change::Remove { name }),
            1 => "[a-e]{0,4}".prop_map(|names| Change::Retain { names }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Against a map that elects anew each time.
        #[test]
        fn the_oldest_claim_stands_whatever_happened(
            changes in prop::collection::vec(("[np]", changes()), 0..40),
        ) {
            let mut register = Register::default();
            let mut expected: BTreeMap<(String, String), (i64, String)> = BTreeMap::new();
            for (namespace, change) in changes {
                match change {
                    Change::Insert { name, id, created } => {
                        register.insert(Claimant {
                            namespace: namespace.as_str().into(),
                            name: name.as_str().into(),
                            created: Timestamp::from_second(created).expect("small"),
                            version: 0,
                            record: Id(id.as_str().into()),
                        });
                        expected.insert((namespace, name), (created, id));
                    }
                    Change::Remove { name } => {
                        let was_known = register.remove(&namespace, &name);
                        prop_assert_eq!(expected.remove(&(namespace, name)).is_some(), was_known);
                    }
                    Change::Retain { names } => {
                        let kept = |of: &str, name: &str| of != namespace || names.contains(name);
                        let gone = register.retain(|claimant| kept(&claimant.namespace, &claimant.name));
                        let before = expected.len();
                        expected.retain(|(of, name), _| kept(of, name));
                        prop_assert_eq!(gone.len(), before - expected.len());
                    }
                }
                for namespace in ["n", "p"] {
                    for id in ["x", "y", "z"] {
                        let claims = expected.iter().filter(|((of, _), (_, own))| of == namespace && own == id);
                        let oldest = claims.min_by_key(|((_, name), (created, _))| (*created, name.clone()));
                        let stands = register.by_id.iter().find(|claimant| has(claimant, namespace, id));
                        prop_assert_eq!(
                            stands.map(|claimant| claimant.name.to_string()),
                            oldest.map(|((_, name), _)| name.clone())
                        );
                        prop_assert_eq!(register.get(namespace, id).is_some(), oldest.is_some());
                    }
                }
                prop_assert_eq!(register.len(), expected.len());
                prop_assert_eq!(register.beaten, register.len() - register.by_id.len());
            }
        }
    }
}
