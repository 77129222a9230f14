//! The rows of `table.md`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::SignedDuration;
use keyward::gateway::Credentials;
use keyward::key::{Check, Secret};
use keyward::policy::{Decision, DeviceRecord, Session};
use keyward::topics::Action;
use keyward::verifier::{HashProfile, Verifier};
use serde_json::{Value, json};

use super::gateway::{Gateway, KEY, NAMESPACE, now, record};

const SECRET: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";
const TABLE: &str = include_str!("table.md");

#[tokio::test]
async fn restrictions_admit_as_the_table_says() {
    for [restrictions, device, answer] in rows("Restrictions") {
        let key = json!({ "restrictions": yaml(restrictions) });
        let found = authenticate(key, device, "").await;
        assert_eq!(found, answer, "{restrictions} {device}");
    }
}

#[tokio::test]
async fn keys_classes_and_sources_count_as_the_table_says() {
    for [key, device, address, answer] in rows("Keys, classes and sources") {
        let found = authenticate(yaml(key), device, address).await;
        assert_eq!(found, answer, "{key} {device} {address}");
    }
}

#[test]
fn who_sees_whom_is_as_the_table_says() {
    for [restrictions, viewer, about, expected @ ..] in rows::<7>("Who sees whom") {
        let gateway = gateway(json!({ "restrictions": yaml(restrictions) }));
        let may = |action, kind| {
            let topic = format!("devices/{about}/{kind}");
            match gateway
                .authenticator
                .authorize(&session(viewer), action, &topic)
            {
                Decision::Allow(()) => "yes",
                Decision::Deny(_) => "no",
                Decision::Unavailable => "unavailable",
            }
        };
        let publish = Action::Publish { retain: false };
        let subscribe = Action::Subscribe {
            checks_deliveries: false,
        };
        let found = [
            may(publish, "state"),
            may(publish, "command"),
            may(subscribe, "state"),
            may(subscribe, "command"),
        ];
        assert_eq!(found, expected, "{restrictions} {viewer} about {about}");
    }
}

#[test]
fn the_table_has_all_its_rows() {
    let asked = rows::<3>("Restrictions").len()
        + rows::<4>("Keys, classes and sources").len()
        + rows::<7>("Who sees whom").len();
    let written = TABLE.lines().filter(|line| line.starts_with("| {")).count();
    assert!(asked == written && asked >= 80, "{asked} of {written}");
}

/// The answer, which is the same whether the gateway has seen the secret before or not.
async fn authenticate(key: Value, device_id: &str, address: &str) -> &'static str {
    let answer = ask(&gateway(key.clone()), device_id, address).await;
    let mut gateway = gateway(json!({ "restrictions": { "allDevices": true } }));
    assert_eq!(ask(&gateway, "any-device", "").await, "allow");
    set_key(&mut gateway, key);
    assert_eq!(ask(&gateway, device_id, address).await, answer);
    answer
}

/// The answer in one word.
async fn ask(gateway: &Gateway, device_id: &str, address: &str) -> &'static str {
    let credentials = Credentials {
        device_id,
        key: KEY,
        secret: SECRET,
        source: (!address.is_empty()).then(|| address.parse().expect("an address")),
    };
    match gateway.authenticator.authenticate(&credentials).await {
        Decision::Allow(_) => "allow",
        Decision::Deny(reason) => reason.as_str(),
        Decision::Unavailable => "unavailable",
    }
}

fn session(device_id: &str) -> Session {
    Session {
        namespace: NAMESPACE.into(),
        key: KEY.into(),
        device_id: device_id.into(),
        class: Default::default(),
        revision: Some(1),
        source: None,
    }
}

/// One that knows the devices of the table, and a key.
fn gateway(spec: Value) -> Gateway {
    let mut gateway = Gateway::new(false);
    for row in rows::<6>("Devices") {
        let device = serde_json::from_value(device_manifest(row)).expect("a Device");
        gateway.apply_device(NAMESPACE, DeviceRecord::of(&device));
    }
    set_key(&mut gateway, spec);
    gateway
}

fn set_key(gateway: &mut Gateway, mut spec: Value) {
    // In seconds from now.
    for field in ["notBefore", "expiresAt"] {
        if let Some(time) = spec.get_mut(field) {
            let seconds = SignedDuration::from_secs(time.as_i64().expect("seconds"));
            *time = json!(now() + seconds);
        }
    }
    let key = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "fleet", "namespace": NAMESPACE }, "spec": spec,
        "status": { "key": KEY, "verifiers": [*VERIFIER] },
    });
    let key = serde_json::from_value(key).expect("an AccessKey");
    match record(&key) {
        Some(record) => gateway.apply_key(NAMESPACE, record),
        None => gateway.authenticator.delete_key(NAMESPACE, "fleet"),
    }
}

static VERIFIER: LazyLock<Value> = LazyLock::new(|| {
    let secret = Secret::parse(SECRET).expect("well formed");
    let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
    json!({
        "revision": 1, "verifier": verifier.as_str(), "check": Check::of(KEY, &secret).as_str(),
        "issuedAt": "2026-01-01T00:00:00Z",
    })
});

fn device_manifest([id, class, gateway, tags, labels, disabled]: [&str; 6]) -> Value {
    let tags: Vec<Value> = pairs(tags)
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    let labels: BTreeMap<&str, &str> = pairs(labels).collect();
    json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
        "metadata": { "name": format!("device-{id}"), "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "deviceId": id, "class": class, "gateway": (!gateway.is_empty()).then_some(gateway),
            "tags": tags, "disabled": disabled == "yes",
        },
    })
}

/// `key=value`, separated by spaces.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split_whitespace();
    words.map(|pair| pair.split_once('=').expect("key=value"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The cells of the rows below a heading, without those that only say what the next ones are about.
fn rows<const N: usize>(heading: &str) -> Vec<[&'static str; N]> {
    let heading = format!("\n## {heading}\n");
    let (_, section) = TABLE.split_once(&heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.skip(1).filter(|row| !row.starts_with("**"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        cells
            .try_into()
            .unwrap_or_else(|cells| panic!("{cells:?} are not {N} cells"))
    })
    .collect()
}
