mod races;

use std::sync::LazyLock;

use futures::FutureExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::clock::ManualClock;
use crate::key::{Check, Secret};
use crate::policy::Reason;
use crate::topics::Root;
use crate::verifier::{HashProfile, Verifier};

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const OTHER_KEY: &str = "kwk_zzzzzzzzzzzzzzzzzzzzzzzzzz";
const DEVICE: &str = "pump-1";

/// Secrets with their verifiers.
static ISSUED: LazyLock<[Issued; 3]> = LazyLock::new(|| {
    [
        "kws_00000000000000000000000000000000000000000002XkAl1",
        "kws_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz4HDBrW",
        "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge",
    ]
    .map(Issued::of)
});

struct Issued {
    secret: &'static str,
    verifier: String,
    check: String,
}

impl Issued {
    fn of(text: &'static str) -> Issued {
        let secret = Secret::parse(text).expect("well formed");
        let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
        Issued {
            secret: text,
            verifier: verifier.as_str().to_owned(),
            check: Check::of(KEY, &secret).as_str().to_owned(),
        }
    }

    fn accepted(&self, revision: i32) -> Value {
        json!({
            "revision": revision, "verifier": self.verifier, "check": self.check,
            "issuedAt": "2026-01-01T00:00:00Z",
        })
    }

    /// As one that was taken over.
    fn existing(&self) -> Value {
        let mut accepted = self.accepted(0);
        accepted["check"] = Value::Null;
        accepted
    }
}

/// A gateway, and what is put into its directory.
struct Plant {
    authenticator: Authenticator,
    hand: ManualClock,
    watched: Watched,
    version: u64,
}

impl Plant {
    /// With the key of the first secret, and all listed.
    fn new() -> Plant {
        let mut plant = Plant::with(Options::of_namespace("plant"));
        plant.apply(key(json!([ISSUED[0].accepted(1)])));
        plant.watched.listed(plant.watched.now(), 1);
        plant
    }

    fn with(options: Options) -> Plant {
        let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a timestamp");
        let (clock, hand) = Clock::manual(start);
        let authenticator = Authenticator::new(options, clock, Metrics::new()).expect("entropy");
        let watched = authenticator.expect_watch();
        Plant {
            authenticator,
            hand,
            watched,
            version: 0,
        }
    }

    fn apply(&mut self, manifest: Value) {
        self.version += 1;
        let key: crate::api::AccessKey = serde_json::from_value(manifest).expect("an AccessKey");
        let record = KeyRecord::of(&key).expect("readable").expect("issued");
        self.authenticator
            .apply_key(object("fleet", self.version), record);
    }

    async fn ask(&self, secret: &str) -> Decision {
        self.ask_from(KEY, secret, None).await
    }

    async fn ask_from(&self, key: &str, secret: &str, source: Option<&str>) -> Decision {
        let credentials = Credentials {
            device_id: DEVICE,
            key,
            secret,
            source: source.map(|address| address.parse().expect("an address")),
        };
        self.authenticator.authenticate(&credentials).await
    }

    fn hashes(&self) -> u64 {
        self.authenticator.0.metrics.hashes.get()
    }
}

fn object(name: &str, version: u64) -> Object<'_> {
    Object {
        namespace: "plant",
        name,
        created: Timestamp::UNIX_EPOCH,
        version,
    }
}

fn key(verifiers: Value) -> Value {
    json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "fleet", "namespace": "plant" },
        "spec": { "restrictions": { "allDevices": true } },
        "status": { "key": KEY, "verifiers": verifiers },
    })
}

fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    manifest.pointer_mut(parent).expect("a parent")[field] = value;
    manifest
}

fn is_allow<T>(decision: &Decision<T>) -> bool {
    matches!(decision, Decision::Allow(_))
}

#[tokio::test]
async fn nobody_is_admitted_before_all_was_listed() {
    let mut plant = Plant::with(Options::of_namespace("plant"));
    let second = plant.authenticator.expect_watch();
    plant.apply(key(json!([ISSUED[0].accepted(1)])));
    assert_eq!(plant.ask(ISSUED[0].secret).await, Decision::Unavailable);
    plant.watched.listed(plant.watched.now(), 1);
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Unavailable,
        "one of two"
    );
    assert!(!plant.authenticator.is_ready());
    second.listed(second.now(), 1);
    assert!(plant.authenticator.is_ready());
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
}

#[tokio::test]
async fn what_is_known_grows_old_as_the_mode_says() {
    let rows = [
        (Staleness::BestEffort, 24 * 60 * 60),
        (Staleness::Strict, 60),
    ];
    for (staleness, limit) in rows {
        let mut plant = Plant::with(Options {
            staleness,
            ..Options::of_namespace("plant")
        });
        plant.apply(key(json!([ISSUED[0].accepted(1)])));
        plant.watched.listed(plant.watched.now(), 1);
        let Decision::Allow(session) = plant.ask(ISSUED[0].secret).await else {
            panic!("it is fresh");
        };
        let topic = "devices/pump-1/state";
        let authorize = |plant: &Plant| {
            let publish = Action::Publish { retain: false };
            plant.authenticator.authorize(&session, publish, topic)
        };
        plant.hand.advance(Duration::from_secs(limit));
        assert!(
            is_allow(&plant.ask(ISSUED[0].secret).await),
            "{staleness:?}"
        );
        assert!(is_allow(&authorize(&plant)));
        plant.hand.advance(Duration::from_secs(1));
        assert_eq!(plant.ask(ISSUED[0].secret).await, Decision::Unavailable);
        assert_eq!(
            plant.ask("nonsense").await,
            Decision::Unavailable,
            "for all alike"
        );
        assert_eq!(authorize(&plant), Decision::Unavailable);
        assert_eq!(plant.authenticator.confirm(&session), Decision::Unavailable);

        let asked = plant.watched.now();
        assert!(!plant.watched.answered(asked, 1, 1));
        assert!(is_allow(&plant.ask(ISSUED[0].secret).await), "it is proven");
    }
}

#[tokio::test]
async fn a_secret_is_hashed_once_and_wrong_ones_never() {
    let mut plant = Plant::new();
    for secret in [ISSUED[1].secret, ISSUED[2].secret] {
        assert_eq!(plant.ask(secret).await, Decision::Deny(Reason::BadSecret));
    }
    assert_eq!(plant.hashes(), 0, "their checks differ");
    for _ in 0..3 {
        assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    }
    let remembered = || plant.authenticator.0.metrics.remembered.get();
    assert_eq!((plant.hashes(), remembered()), (1, 2));

    // A rewrite of the status with the same verifier.
    let rewritten = json!([ISSUED[0].accepted(1), ISSUED[1].accepted(2)]);
    plant.apply(key(rewritten));
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    assert_eq!(plant.hashes(), 1, "it is remembered");
    assert!(is_allow(&plant.ask(ISSUED[1].secret).await));
    assert_eq!(plant.hashes(), 2);
    plant.apply(key(json!([ISSUED[1].accepted(2)])));
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Deny(Reason::BadSecret)
    );
}

/// Goal G8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_identical_misses_run_one_hash() {
    let plant = Arc::new(Plant::new());
    let asked = (0..10_000).map(|_| {
        let plant = Arc::clone(&plant);
        tokio::spawn(async move { plant.ask(ISSUED[0].secret).await })
    });
    for decision in futures::future::join_all(asked).await {
        assert!(is_allow(&decision.expect("no panic")));
    }
    assert_eq!(plant.hashes(), 1);
}

#[tokio::test]
async fn a_secret_that_was_taken_over_is_hashed_within_a_budget() {
    let mut plant = Plant::new();
    let dear = Verifier::of(
        &Secret::parse(ISSUED[0].secret).expect("well formed"),
        HashProfile::Owasp,
    );
    let mut existing = ISSUED[0].existing();
    existing["verifier"] = json!(dear.expect("a hash").as_str());
    plant.apply(key(json!([existing])));
    let attacker = Some("192.0.2.1");
    let guess = |number: usize| format!("hunter{number}");
    for number in 0..20 {
        let decision = plant.ask_from(KEY, &guess(number), attacker).await;
        assert_eq!(decision, Decision::Deny(Reason::BadSecret));
    }
    assert_eq!(plant.hashes(), 20);
    let decision = plant.ask_from(KEY, &guess(20), attacker).await;
    assert_eq!(decision, Decision::Deny(Reason::Throttled));
    for number in 0..20 {
        let decision = plant.ask_from(KEY, &guess(number), attacker).await;
        assert_eq!(
            decision,
            Decision::Deny(Reason::BadSecret),
            "it is remembered"
        );
    }
    assert_eq!(plant.hashes(), 20);

    // The device is elsewhere, and once it is known it may be anywhere.
    assert!(is_allow(
        &plant
            .ask_from(KEY, ISSUED[0].secret, Some("192.0.2.2"))
            .await
    ));
    assert!(is_allow(
        &plant.ask_from(KEY, ISSUED[0].secret, attacker).await
    ));
    let decision = plant.ask_from(KEY, &guess(21), attacker).await;
    assert_eq!(
        decision,
        Decision::Deny(Reason::BadSecret),
        "no other can be right"
    );
    assert_eq!(plant.hashes(), 21);
}

#[tokio::test]
async fn a_change_while_a_secret_is_hashed_counts() {
    for round in 0..3 {
        let mut plant = Plant::new();
        let credentials = Credentials {
            device_id: DEVICE,
            key: KEY,
            secret: ISSUED[0].secret,
            source: None,
        };
        let authenticator = plant.authenticator.clone();
        let mut asked = Box::pin(authenticator.authenticate(&credentials));
        let held = authenticator.0.hashing.hold();
        let answer = asked.as_mut().now_or_never();
        assert!(answer.is_none(), "it waits for the hash");
        let active = key(json!([ISSUED[0].accepted(1)]));
        let expected = match round {
            0 => {
                plant.apply(with(active, "/spec/state", json!("Inactive")));
                Reason::Inactive
            }
            1 => {
                plant.apply(key(json!([ISSUED[1].accepted(2)])));
                Reason::BadSecret
            }
            _ => {
                let restrictions = json!({ "deviceIds": ["other"] });
                plant.apply(with(active, "/spec/restrictions", restrictions));
                Reason::OutOfScope
            }
        };
        drop(held);
        assert_eq!(asked.await, Decision::Deny(expected));
    }
}

#[tokio::test]
async fn a_device_whose_object_cannot_be_read_is_refused() {
    let plant = Plant::new();
    let gateway = &plant.authenticator;
    let device: crate::api::Device = serde_json::from_value(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
        "metadata": { "name": "pump" }, "spec": { "deviceId": DEVICE },
    }))
    .expect("a Device");
    let apply = |version| gateway.apply_device(object("pump", version), DeviceRecord::of(&device));
    apply(1);
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    gateway.refuse_device(object("pump", 3), Order::Watched);
    let refused = Decision::Deny(Reason::DeviceDisabled);
    assert_eq!(plant.ask(ISSUED[0].secret).await, refused, "by its ID");
    apply(2);
    assert_eq!(plant.ask(ISSUED[0].secret).await, refused, "it is older");
    apply(4);
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    gateway.delete_device("plant", "pump");
    gateway.refuse_device(object(DEVICE, 5), Order::Listed);
    assert_eq!(plant.ask(ISSUED[0].secret).await, refused, "by its name");
}

#[tokio::test]
async fn where_hashes_wait_in_vain_nobody_learns_who_is_known() {
    let plant = Plant::new();
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    plant.authenticator.0.hashing.fill();
    assert!(
        is_allow(&plant.ask(ISSUED[0].secret).await),
        "a match that is known"
    );
    assert_eq!(plant.ask(ISSUED[1].secret).await, Decision::Unavailable);
    assert_eq!(
        plant.ask_from(OTHER_KEY, ISSUED[1].secret, None).await,
        Decision::Unavailable
    );
}

#[tokio::test]
async fn with_several_namespaces_a_device_says_which_one_is_its_own() {
    let root: Root = "{namespace}/devices".parse().expect("a root");
    let mut plant = Plant::with(Options {
        layout: Layout::of_several_namespaces(root).expect("a layout"),
        namespace: None,
        ..Options::of_namespace("plant")
    });
    plant.apply(key(json!([ISSUED[0].accepted(1)])));
    plant.watched.listed(plant.watched.now(), 1);
    let ask = async |device_id| {
        let credentials = Credentials {
            device_id,
            key: KEY,
            secret: ISSUED[0].secret,
            source: None,
        };
        plant.authenticator.authenticate(&credentials).await
    };
    let Decision::Allow(session) = ask("plant.pump-1").await else {
        panic!("it is admitted");
    };
    assert_eq!(
        (&*session.namespace, &*session.device_id),
        ("plant", "pump-1")
    );
    assert_eq!(ask("pump-1").await, Decision::Deny(Reason::Malformed));
    assert_eq!(
        ask("other.pump-1").await,
        Decision::Deny(Reason::UnknownKey)
    );
    assert_eq!(ask("plant.pump.1").await, Decision::Deny(Reason::Malformed));
    let may = |topic| {
        let publish = Action::Publish { retain: false };
        is_allow(&plant.authenticator.authorize(&session, publish, topic))
    };
    assert!(may("plant/devices/pump-1/state"));
    assert!(!may("other/devices/pump-1/state") && !may("devices/pump-1/state"));
}

#[tokio::test]
async fn changes_are_told_after_they_count() {
    let mut plant = Plant::new();
    let mut changes = plant.authenticator.changes();
    plant.apply(with(
        key(json!([ISSUED[0].accepted(1)])),
        "/spec/state",
        json!("Inactive"),
    ));
    let change = changes.recv().await.expect("a change");
    assert_eq!(change, Change::Key("plant".into(), KEY.into()));
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Deny(Reason::Inactive)
    );
    plant.authenticator.delete_key("plant", "fleet");
    let change = changes.recv().await.expect("a change");
    assert_eq!(change, Change::Key("plant".into(), KEY.into()));
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Deny(Reason::UnknownKey)
    );
}

#[tokio::test]
async fn an_object_does_not_go_back_in_time_but_by_a_list() {
    let mut plant = Plant::new();
    let active = key(json!([ISSUED[0].accepted(1)]));
    plant.version = 10;
    plant.apply(with(active.clone(), "/spec/state", json!("Inactive")));
    plant.version = 5;
    plant.apply(active.clone());
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Deny(Reason::Inactive)
    );
    let listed: crate::api::AccessKey = serde_json::from_value(active).expect("an AccessKey");
    let record = KeyRecord::of(&listed).expect("readable").expect("issued");
    plant
        .authenticator
        .put_key(object("fleet", 7), record, Order::Listed);
    assert!(is_allow(&plant.ask(ISSUED[0].secret).await));
    plant.authenticator.retain_keys(|_, name| name != "fleet");
    assert_eq!(
        plant.ask(ISSUED[0].secret).await,
        Decision::Deny(Reason::UnknownKey)
    );
}
