use kube::runtime::reflector::store::{Writer, store};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A cache, fed as a watch feeds it.
struct World {
    writer: Writer<Guarded>,
    rivals: Rivals,
}

impl World {
    fn new() -> World {
        let (store, writer) = store();
        let mut world = World {
            writer,
            rivals: Rivals::in_cache(store),
        };
        world.tell(Event::Init);
        world.tell(Event::InitDone);
        world
    }

    /// The names of those that have to be looked at again.
    fn tell(&mut self, event: Event<Guarded>) -> Vec<String> {
        self.rivals.notice(&event);
        self.writer.apply_watcher_event(&event);
        let disturbed = self.rivals.disturbed();
        let names = disturbed.iter().map(|object| named(object));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn list(&mut self, objects: Vec<Guarded>) {
        self.tell(Event::Init);
        for object in objects {
            self.tell(Event::InitApply(object));
        }
        self.tell(Event::InitDone);
    }

    fn has(&self, object: &Guarded) -> Option<String> {
        self.rivals.of(object.0.as_ref().expect("an AccessKey"))
    }
}

fn named(object: &Guarded) -> String {
    use kube::ResourceExt;
    object.name_any()
}

/// An AccessKey of this name, second and key, which its status may say.
fn object(name: &str, second: i64, key: &str, holds: bool) -> Guarded {
    in_namespace("plant", name, second, key, holds)
}

fn in_namespace(namespace: &str, name: &str, second: i64, key: &str, holds: bool) -> Guarded {
    let created = jiff::Timestamp::from_second(second).expect("small");
    let mut object = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "namespace": namespace, "name": name, "creationTimestamp": created },
        "spec": {
            "restrictions": { "allDevices": true },
            "existing": { "key": key, "verifier": "v" },
        },
    });
    if holds {
        object["status"] = json!({ "key": key });
    }
    serde_json::from_value(object).expect("an AccessKey")
}

#[test]
fn the_older_has_the_key_and_the_other_is_looked_at_when_that_changes() {
    let mut world = World::new();
    let (older, younger) = (object("b", 1, "k", false), object("a", 2, "k", false));
    assert!(world.tell(Event::Apply(younger.clone())).is_empty());
    assert_eq!(world.has(&younger), None);
    assert_eq!(world.tell(Event::Apply(older.clone())), ["a", "b"]);
    assert_eq!(world.has(&younger).as_deref(), Some("b"));
    assert_eq!(world.has(&older), None);

    let again = world.tell(Event::Apply(younger.clone()));
    assert!(again.is_empty(), "nothing is new: {again:?}");
    assert_eq!(world.tell(Event::Delete(older)), ["a"]);
    assert_eq!(world.has(&younger), None);
    assert!(world.tell(Event::Delete(younger)).is_empty());
}

#[test]
fn whoever_has_it_in_the_status_goes_before_an_older_one_that_only_asks() {
    let mut world = World::new();
    let (asks, has) = (object("a", 1, "k", false), object("b", 2, "k", true));
    world.tell(Event::Apply(asks.clone()));
    assert_eq!(world.tell(Event::Apply(has.clone())), ["a", "b"]);
    assert_eq!(world.has(&asks).as_deref(), Some("b"));
    assert_eq!(world.has(&has), None);
    // Gateways know both then, and the older has it.
    let both = object("a", 1, "k", true);
    assert_eq!(world.tell(Event::Apply(both.clone())), ["a", "b"]);
    assert_eq!(world.has(&has).as_deref(), Some("a"));
    assert_eq!(world.has(&both), None);
}

#[test]
fn a_key_that_is_being_deleted_or_cannot_be_read_claims_nothing() {
    let mut world = World::new();
    let (older, younger) = (object("a", 1, "k", true), object("b", 2, "k", true));
    world.tell(Event::Apply(older.clone()));
    world.tell(Event::Apply(younger.clone()));
    let mut going = older.clone();
    let time = jiff::Timestamp::UNIX_EPOCH;
    let key = going.0.as_mut().expect("an AccessKey");
    key.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
    assert_eq!(world.tell(Event::Apply(going)), ["b"]);
    assert_eq!(world.has(&younger), None);

    assert_eq!(world.tell(Event::Apply(older)), ["a", "b"]);
    let unreadable = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "namespace": "plant", "name": "a" }, "spec": {},
    });
    let unreadable = serde_json::from_value(unreadable).expect("metadata");
    assert_eq!(world.tell(Event::Apply(unreadable)), ["b"]);
    assert_eq!(world.has(&younger), None);
}

#[test]
fn keys_of_different_namespaces_are_different_keys() {
    let mut world = World::new();
    let (one, other) = (
        object("a", 1, "k", true),
        in_namespace("other", "b", 2, "k", true),
    );
    world.list(vec![one, other.clone()]);
    assert_eq!(world.has(&other), None);
}

#[derive(Clone, Debug)]
enum Change {
    Apply(String, i64, String, bool),
    Delete(String),
    List,
}

fn changes() -> impl Strategy<Value = Change> {
    let apply = ("[a-e]", 0_i64..3, "[xy]", any::<bool>());
    prop_oneof![
        6 => apply.prop_map(|(name, second, key, holds)| Change::Apply(name, second, key, holds)),
        3 => "[a-e]".prop_map(Change::Delete),
        1 => Just(Change::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Against a search through all; and whoever's answer changes is looked at, or was changed.
    #[test]
    fn one_has_each_key_and_all_others_know_whatever_happened(
        changes in prop::collection::vec(changes(), 0..30),
    ) {
        let mut world = World::new();
        let mut objects: HashMap<String, Guarded> = HashMap::new();
        for change in changes {
            let before: HashMap<_, _> =
                objects.iter().map(|(name, object)| (name.clone(), world.has(object))).collect();
            let (looked_at, changed) = match change {
                Change::Apply(name, second, key, holds) => {
                    let object = object(&name, second, &key, holds);
                    objects.insert(name.clone(), object.clone());
                    (world.tell(Event::Apply(object)), vec![name])
                }
                Change::Delete(name) => {
                    let gone = objects.remove(&name).unwrap_or_else(|| object(&name, 0, "x", false));
                    (world.tell(Event::Delete(gone)), vec![name])
                }
                Change::List => {
                    world.list(objects.values().cloned().collect());
                    (Vec::new(), objects.keys().cloned().collect())
                }
            };
            for (name, object) in &objects {
                let own = claim(object).expect("a claim");
                let all = objects.values().filter_map(claim).filter(|other| other.key == own.key);
                let first = all.min_by_key(|claim| (!claim.holds, claim.created, claim.name));
                let first = first.map(|claim| claim.name.to_owned()).filter(|first| first != name);
                let has = world.has(object);
                prop_assert_eq!(&has, &first);
                let is_new = before.get(name) != Some(&has);
                prop_assert!(!is_new || looked_at.contains(name) || changed.contains(name));
            }
            let claims = world.rivals.claims();
            let counted: u32 = claims.counts.values().sum();
            prop_assert_eq!(counted as usize, objects.len());
        }
    }
}
