//! Who may connect.

use std::collections::BTreeMap;

use serde_json::json;

use crate::HABITS;
use crate::mqtt::Connect;
use crate::scene::Scene;
use crate::support::keys::some_secret;
use crate::support::process::holds_no_secret;

/// What a device shows beside its client ID and the key.
enum Shows {
    Its,
    Wrong,
    Empty,
    Of(&'static str),
    /// And no key either.
    Nothing,
}
use Shows::{Empty, Its, Nothing, Of, Wrong};

/// Devices, and keys that admit them.
const ADMITTED: [(&str, &str); 4] = [
    ("pump-1", "pumps"),
    ("valve-1", "valves"),
    ("north-1", "north"),
    ("any", "all"),
];

/// Why a device is refused, who it is, which key it shows, and which secret.
const REFUSED: [(&str, &str, &str, Shows); 15] = [
    ("nobody", "pump-1", "pumps", Nothing),
    ("no secret", "pump-1", "pumps", Empty),
    ("a wrong secret", "pump-1", "pumps", Wrong),
    ("another key's secret", "pump-1", "pumps", Of("all")),
    ("another device", "pump-3", "pumps", Its),
    ("no tag", "pump-1", "valves", Its),
    ("no label", "pump-1", "north", Its),
    ("a peripheral", "sensor-1", "all", Its),
    ("disabled", "broken-1", "all", Its),
    ("a filter", "#", "all", Its),
    ("a part of a filter", "a+b", "all", Its),
    ("two levels", "a/b", "all", Its),
    ("a reserved topic", "$SYS", "all", Its),
    ("two names", "a.b", "all", Its),
    ("no client ID", "", "all", Its),
];

pub async fn who_may_connect_does_and_all_others_are_refused_alike(scene: &Scene) {
    let north = json!({ "zone": "north" });
    for (name, spec, labels) in [
        ("valve-1", json!({ "tags": [valve()] }), json!({})),
        ("north-1", json!({}), north.clone()),
        ("sensor-1", json!({ "class": "Peripheral" }), json!({})),
        ("broken-1", json!({ "disabled": true }), json!({})),
    ] {
        scene.device(name, spec, labels).await;
    }
    let mut keys = BTreeMap::new();
    for (name, restrictions) in [
        ("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] })),
        ("valves", json!({ "deviceTags": [valve()] })),
        (
            "north",
            json!({ "deviceSelector": { "matchLabels": north } }),
        ),
        ("all", json!({ "allDevices": true })),
    ] {
        keys.insert(name, scene.key(name, restrictions).await);
    }

    for (id, key) in ADMITTED {
        scene.session(id, &keys[key]).await;
    }
    for (why, id, key, shows) in REFUSED {
        let key = &keys[key];
        let secret = match shows {
            Its | Nothing => key.secret.clone(),
            Wrong => some_secret(),
            Empty => String::new(),
            Of(other) => keys[other].secret.clone(),
        };
        let mut connect = scene.connect(id, &key.with(&secret));
        if matches!(shows, Nothing) {
            connect.login = None;
        }
        is_refused(scene, &connect, why).await;
    }

    for (key, id, spec) in [
        ("pumps", "pump-1", json!({ "state": "Inactive" })),
        ("all", "any", json!({ "expiresAt": "2026-01-01T00:00:00Z" })),
    ] {
        scene.change(key, spec).await;
        scene.refused(&scene.connect(id, &keys[key])).await;
    }
    let secrets: Vec<_> = keys.into_values().map(|key| key.secret).collect();
    holds_no_secret(&scene.broker.output(), &secrets);
}

async fn is_refused(scene: &Scene, connect: &Connect, why: &str) {
    let own = HABITS.refuses_itself.iter();
    match own.clone().find(|(id, _)| *id == connect.id) {
        Some((_, answers)) => {
            let refusal = connect.to(scene.broker.at).await.err();
            let refusal = refusal.unwrap_or_else(|| panic!("{why} is admitted"));
            assert!(answers.contains(&refusal), "{why}: {refusal:?}");
        }
        None => scene.is_refused(connect, why).await,
    }
}

fn valve() -> serde_json::Value {
    json!({ "key": "kind", "value": "valve" })
}
