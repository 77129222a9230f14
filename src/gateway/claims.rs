//! Objects that claim IDs: of those of one namespace that claim the same ID, one has it.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use jiff::Timestamp;

use super::directory::Object;
use super::namespaces::{Namespaces, Number};
use super::slab::{Place, Slab};
use crate::devices::Claim;
use crate::text::Text;

/// What an object is a claim to.
pub(super) trait Claims {
    /// The ID, unique in a namespace.
    fn id(&self) -> &Text;
}

/// One object, and what counts of it. What a decision reads lies together, and comes first.
#[derive(Debug)]
#[repr(C)]
struct Claimant<R> {
    namespace: Number,
    record: R,
    name: Box<str>,
    /// When the object was made, in whole seconds, as the API has it: of two claims the older stands.
    created: i64,
    version: u64,
}

impl<R: Claims> Claimant<R> {
    fn claim(&self) -> Claim<'_> {
        Claim {
            created: Timestamp::from_second(self.created).unwrap_or(Timestamp::MAX),
            name: &self.name,
            id: self.record.id(),
        }
    }
}

/// Objects by name, and those whose claims stand by ID. Both tables hold nothing but places, since
/// there may be very many.
#[derive(Debug)]
pub(super) struct Register<R> {
    objects: Objects<R>,
    by_name: HashTable<Place>,
    by_id: HashTable<Place>,
    /// How many objects have a claim that does not stand.
    beaten: usize,
}

impl<R> Default for Register<R> {
    fn default() -> Self {
        Register {
            objects: Objects {
                hasher: RandomState::new(),
                namespaces: Namespaces::default(),
                at: Slab::default(),
            },
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
        let objects = &self.objects;
        let hash = objects.hasher.hash_one((namespace, id));
        let has_id = |place: &Place| objects.has_id(*place, namespace, id);
        let place = self.by_id.find(hash, has_id)?;
        Some(&objects.at[*place].record)
    }

    /// The records of a namespace whose claims stand.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a R> {
        let objects = &self.objects;
        let standing = self.by_id.iter();
        let own = standing.filter(move |place| objects.namespace(**place) == namespace);
        own.map(|place| &objects.at[*place].record)
    }

    /// The record of the object with this name, whether its claim stands or not.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&R> {
        let known = self.claimant(namespace, name);
        known.map(|claimant| &claimant.record)
    }

    fn claimant(&self, namespace: &str, name: &str) -> Option<&Claimant<R>> {
        let objects = &self.objects;
        let hash = objects.hasher.hash_one((namespace, name));
        let is_named = |place: &Place| objects.is_named(*place, namespace, name);
        let place = self.by_name.find(hash, is_named)?;
        Some(&objects.at[*place])
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
    pub fn insert(&mut self, object: Object<'_>, record: R) {
        self.remove(object.namespace, object.name);
        let place = self.objects.at.insert(Claimant {
            namespace: self.objects.namespaces.number(object.namespace),
            record,
            name: object.name.into(),
            created: object.created.as_second(),
            version: object.version,
        });
        let name_hash = |place: &Place| self.objects.name_hash(*place);
        self.by_name
            .insert_unique(name_hash(&place), place, name_hash);
        self.stand(place);
    }

    /// Forgets an object. Was it known?
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let objects = &self.objects;
        let hash = objects.hasher.hash_one((namespace, name));
        let is_named = |place: &Place| objects.is_named(*place, namespace, name);
        let Ok(entry) = self.by_name.find_entry(hash, is_named) else {
            return false;
        };
        let (place, _) = entry.remove();
        self.fall(place);
        true
    }

    /// Forgets the objects for which this does not hold, by namespace and name; how many?
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) -> usize {
        let objects = &self.objects;
        let gone = self
            .by_name
            .extract_if(|place| !keep(objects.namespace(*place), &objects.at[*place].name))
            .collect::<Vec<_>>();
        for place in &gone {
            self.fall(*place);
        }
        gone.len()
    }

    /// The claim stands, unless another does.
    fn stand(&mut self, place: Place) {
        let objects = &self.objects;
        let claimant = &objects.at[place];
        let namespace = objects.namespace(place);
        let is_rival = |other: &Place| objects.has_id(*other, namespace, claimant.record.id());
        match self.by_id.find_mut(objects.id_hash(place), is_rival) {
            Some(rival) => {
                self.beaten += 1;
                if claimant.claim().beats(&objects.at[*rival].claim()) {
                    *rival = place;
                }
            }
            None => {
                let id_hash = |place: &Place| objects.id_hash(*place);
                self.by_id.insert_unique(id_hash(&place), place, id_hash);
            }
        }
    }

    /// The claim of an object that is gone stands no more, and that of another may.
    fn fall(&mut self, place: Place) {
        let hash = self.objects.id_hash(place);
        let gone = self.objects.at.remove(place);
        let namespace = &self.objects.namespaces[gone.namespace];
        match self.by_id.find_entry(hash, |other| *other == place) {
            Ok(entry) => _ = entry.remove(),
            Err(_) => self.beaten -= 1,
        }
        let id = gone.record.id();
        if self.beaten == 0 || self.get(namespace, id).is_some() {
            return;
        }
        let objects = &self.objects;
        let rivals = self
            .by_name
            .iter()
            .filter(|other| objects.has_id(**other, namespace, id));
        let next = rivals.reduce(|one, other| {
            if objects.at[*other].claim().beats(&objects.at[*one].claim()) {
                other
            } else {
                one
            }
        });
        if let Some(next) = next.copied() {
            self.beaten -= 1;
            self.stand(next);
        }
    }
}

/// What tables of places are asked with.
#[derive(Debug)]
struct Objects<R> {
    hasher: RandomState,
    namespaces: Namespaces,
    at: Slab<Claimant<R>>,
}

impl<R: Claims> Objects<R> {
    fn has_id(&self, place: Place, namespace: &str, id: &str) -> bool {
        let claimant = &self.at[place];
        *claimant.record.id() == *id && self.namespaces[claimant.namespace] == *namespace
    }

    fn is_named(&self, place: Place, namespace: &str, name: &str) -> bool {
        let claimant = &self.at[place];
        *claimant.name == *name && self.namespaces[claimant.namespace] == *namespace
    }

    fn namespace(&self, place: Place) -> &str {
        &self.namespaces[self.at[place].namespace]
    }

    fn id_hash(&self, place: Place) -> u64 {
        let id = self.at[place].record.id().as_str();
        self.hasher.hash_one((self.namespace(place), id))
    }

    fn name_hash(&self, place: Place) -> u64 {
        let name = &*self.at[place].name;
        self.hasher.hash_one((self.namespace(place), name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::KeyRecord;

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

    /// What a decision reads comes first, and takes two of them: `src/policy/tests/secrets.rs`.
    #[test]
    fn what_is_kept_of_a_key_takes_three_lines_of_a_cache() {
        assert_eq!(offset_of!(Claimant<KeyRecord>, record), 8);
        assert_eq!(size_of::<Claimant<KeyRecord>>(), 3 * 64);
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
                        let object = Object {
                            namespace: &namespace,
                            name: &name,
                            created: Timestamp::from_second(created).expect("small"),
                            version: 0,
                        };
                        register.insert(object, Id(id.as_str().into()));
                        expected.insert((namespace, name), (created, id));
                    }
                    Change::Remove { name } => {
                        let was_known = register.remove(&namespace, &name);
                        prop_assert_eq!(expected.remove(&(namespace, name)).is_some(), was_known);
                    }
                    Change::Retain { names } => {
                        let kept = |of: &str, name: &str| of != namespace || names.contains(name);
                        let gone = register.retain(kept);
                        let before = expected.len();
                        expected.retain(|(of, name), _| kept(of, name));
                        prop_assert_eq!(gone, before - expected.len());
                    }
                }
                for namespace in ["n", "p"] {
                    for id in ["x", "y", "z"] {
                        let claims = expected.iter().filter(|((of, _), (_, own))| of == namespace && own == id);
                        let oldest = claims.min_by_key(|((_, name), (created, _))| (*created, name.clone()));
                        let objects = &register.objects;
                        let stands = register.by_id.iter().find(|place| objects.has_id(**place, namespace, id));
                        prop_assert_eq!(
                            stands.map(|place| objects.at[*place].name.to_string()),
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
