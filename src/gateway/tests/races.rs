//! Keys that change while one of their secrets is hashed: nobody is admitted by what was so before.
//!
//! A hash leaves with its verifier that it has found a match, and only then does anybody decide. So
//! where it has left nothing yet once a change has been made, all is decided after the change.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};

use super::*;
use crate::policy::Hashed;

const RACES: usize = 10_000;

/// Keys that change together. Most wait: there is one thread to hash for each processor.
const BATCH: usize = 24;

#[tokio::test]
async fn changes_count_while_hashes_run_and_wait() {
    let plant = Plant::new();
    let authenticator = &plant.authenticator;
    let mut raced = 0;
    while raced < RACES {
        let races = Race::batch(authenticator, raced);
        let held = authenticator.0.hashing.hold();
        let mut asked: Vec<_> = races
            .iter()
            .map(|race| Box::pin(race.ask(authenticator)))
            .collect();
        for asked in &mut asked {
            assert_eq!(asked.as_mut().now_or_never(), None, "it waits for the hash");
        }
        for race in &*races {
            race.change(authenticator);
            assert!(race.is_open());
        }
        drop(held);
        for (race, asked) in races.iter().zip(asked) {
            race.was_decided_after_the_change(&asked.await);
        }
        Race::end(authenticator, &races).await;
        raced += BATCH;
    }
    assert_eq!(plant.hashes(), raced as u64, "one for each key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_count_whenever_they_come() {
    let plant = Plant::new();
    let authenticator = &plant.authenticator;
    let (mut tried, mut raced) = (0, 0);
    while raced < RACES {
        assert!(tried < 1000 * RACES, "no change comes in time");
        let races = Race::batch(authenticator, tried);
        // Two devices show the same secret, and one hash answers both.
        let asked = races.iter().chain(&*races).map(|race| {
            let (race, authenticator) = (Arc::clone(race), authenticator.clone());
            tokio::spawn(async move { race.ask(&authenticator).await })
        });
        let asked: Vec<_> = asked.collect();
        let changed = {
            let (races, authenticator) = (races.clone(), authenticator.clone());
            thread::spawn(move || change_one_by_one(&races, &authenticator))
        };
        let decisions = futures::future::join_all(asked).await;
        let open = changed.join().expect("no panic");
        for (number, decision) in decisions.into_iter().enumerate() {
            let (race, decision) = (&races[number % BATCH], decision.expect("no panic"));
            match open[number % BATCH] {
                true => race.was_decided_after_the_change(&decision),
                false => race.was_decided(&decision),
            }
        }
        Race::end(authenticator, &races).await;
        tried += BATCH;
        raced += open.iter().filter(|open| **open).count();
    }
    println!("measured: of {tried} changes {raced} came while something was hashed");
}

/// For each, whether its secret was being hashed all the time. Where nobody had asked yet, it says
/// no.
fn change_one_by_one(races: &[Arc<Race>], authenticator: &Authenticator) -> Vec<bool> {
    let changed = races.iter().map(|race| {
        for _ in 0..rand::random_range(0..200) {
            spin_loop();
        }
        let is_asked = race.is_asked.load(Ordering::SeqCst);
        race.change(authenticator);
        is_asked && race.is_open()
    });
    changed.collect()
}

/// A key that is changed while somebody asks.
struct Race {
    change: Change,
    name: String,
    key: String,
    device: String,
    manifest: Value,
    hashed: Arc<Hashed>,
    /// Somebody waits for the hash.
    is_asked: AtomicBool,
}

/// What is done to it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Deactivate,
    Rotate,
    Narrow,
    Delete,
    DisableDevice,
    /// Nothing that matters.
    Rewrite,
}

impl Change {
    const ALL: [Change; 6] = [
        Change::Deactivate,
        Change::Rotate,
        Change::Narrow,
        Change::Delete,
        Change::DisableDevice,
        Change::Rewrite,
    ];

    /// Why nobody is admitted any more, if so.
    fn refusal(self) -> Option<Reason> {
        match self {
            Change::Deactivate => Some(Reason::Inactive),
            Change::Rotate => Some(Reason::BadSecret),
            Change::Narrow => Some(Reason::OutOfScope),
            Change::Delete => Some(Reason::UnknownKey),
            Change::DisableDevice => Some(Reason::DeviceDisabled),
            Change::Rewrite => None,
        }
    }
}

impl Race {
    /// For keys that nobody has used yet.
    fn batch(authenticator: &Authenticator, from: usize) -> Vec<Arc<Race>> {
        let numbers = from..from + BATCH;
        numbers
            .map(|number| Arc::new(Race::prepare(authenticator, number)))
            .collect()
    }

    fn prepare(authenticator: &Authenticator, number: usize) -> Race {
        let (name, key) = (format!("key-{number}"), format!("kwk_{number:026}"));
        let manifest = key_of(&name, &key, &ISSUED[0]);
        let record = record(manifest.clone());
        let hashed = Arc::clone(&record.verifiers()[0].hashed);
        authenticator.apply_key(object(&name, 1), record);
        Race {
            change: Change::ALL[number % Change::ALL.len()],
            device: format!("pump-{number}"),
            name,
            key,
            manifest,
            hashed,
            is_asked: AtomicBool::default(),
        }
    }

    fn change(&self, authenticator: &Authenticator) {
        let manifest = self.manifest.clone();
        let apply = |manifest| authenticator.apply_key(object(&self.name, 2), record(manifest));
        match self.change {
            Change::Deactivate => apply(with(manifest, "/spec/state", json!("Inactive"))),
            Change::Rotate => apply(key_of(&self.name, &self.key, &ISSUED[1])),
            Change::Narrow => {
                let others = json!({ "deviceIds": ["other"] });
                apply(with(manifest, "/spec/restrictions", others));
            }
            Change::Delete => authenticator.delete_key("plant", &self.name),
            Change::DisableDevice => {
                let device = json!({
                    "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
                    "metadata": { "name": self.device }, "spec": { "disabled": true },
                });
                let device = serde_json::from_value(device).expect("a Device");
                let record = DeviceRecord::of(&device);
                authenticator.apply_device(object(&self.device, 2), record);
            }
            Change::Rewrite => apply(with(manifest, "/spec/description", json!("another"))),
        }
    }

    /// Is there no answer of the hash yet?
    fn is_open(&self) -> bool {
        self.hashed.matched.get().is_none()
    }

    async fn ask(&self, authenticator: &Authenticator) -> Decision {
        let credentials = Credentials {
            device_id: &self.device,
            key: &self.key,
            secret: ISSUED[0].secret,
            source: None,
        };
        let mut asked = Box::pin(authenticator.authenticate(&credentials));
        if let Some(decision) = asked.as_mut().now_or_never() {
            return decision;
        }
        self.is_asked.store(true, Ordering::SeqCst);
        asked.await
    }

    #[track_caller]
    fn was_decided_after_the_change(&self, decision: &Decision) {
        match self.change.refusal() {
            Some(reason) => assert_eq!(*decision, Decision::Deny(reason), "{:?}", self.change),
            None => assert!(is_allow(decision), "{:?}: {decision:?}", self.change),
        }
    }

    #[track_caller]
    fn was_decided(&self, decision: &Decision) {
        if !is_allow(decision) {
            self.was_decided_after_the_change(decision);
        }
    }

    /// What was found out meanwhile admits nobody either.
    async fn end(authenticator: &Authenticator, races: &[Arc<Race>]) {
        for race in races {
            race.was_decided_after_the_change(&race.ask(authenticator).await);
            authenticator.delete_key("plant", &race.name);
            authenticator.delete_device("plant", &race.device);
        }
    }
}

fn key_of(name: &str, public: &str, issued: &Issued) -> Value {
    let secret = Secret::parse(issued.secret).expect("well formed");
    let accepted = json!({
        "revision": 1, "issuedAt": "2026-01-01T00:00:00Z",
        "verifier": quick_verifier(issued.secret),
        "check": Check::of(public, &secret).as_str(),
    });
    let manifest = with(key(json!([accepted])), "/metadata/name", json!(name));
    with(manifest, "/status/key", json!(public))
}

fn record(manifest: Value) -> KeyRecord {
    let key: crate::api::AccessKey = serde_json::from_value(manifest).expect("an AccessKey");
    KeyRecord::of(&key).expect("readable").expect("issued")
}

/// One of the least cost that argon2 has.
fn quick_verifier(secret: &str) -> String {
    let params = Params::new(8, 1, 1, None).expect("within argon2's limits");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let (salt, mut tag) = (b"keyward-salt-16b", [0; 32]);
    let hashed = argon2.hash_password_into(secret.as_bytes(), salt, &mut tag);
    hashed.expect("a hash");
    let [salt, tag] = [&salt[..], &tag].map(Base64Unpadded::encode_string);
    format!("$argon2id$v=19$m=8,t=1,p=1${salt}${tag}")
}
