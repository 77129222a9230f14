use kube::core::DeserializeGuard;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;

fn object(namespace: &str, status: Value, spec: Value) -> Guarded {
    let mut object = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "key", "namespace": namespace },
        "spec": { "restrictions": { "allDevices": true } },
        "status": status,
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value::<DeserializeGuard<AccessKey>>(object).expect("metadata")
}

fn status(state: &str, conditions: &[(&str, &str, &str)]) -> Value {
    let conditions = conditions.iter().map(|(type_, status, reason)| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    });
    json!({ "state": state, "conditions": conditions.collect::<Vec<_>>() })
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

const NOW: &str = "2026-06-01T00:00:00Z";

fn until(end: &str) -> Value {
    json!({ "expiresAt": end })
}

#[test]
fn keys_are_counted_by_namespace_and_by_what_their_status_says() {
    let stalled = [
        ("Ready", "False", "SecretExists"),
        ("Stalled", "True", "SecretExists"),
    ];
    let working = [
        ("Reconciling", "True", "Issuing"),
        ("Ready", "False", "Issuing"),
    ];
    let objects = [
        object(
            "plant",
            status("Active", &[("Ready", "True", "Issued")]),
            json!({}),
        ),
        object("plant", status("Active", &stalled), json!({})),
        object("plant", status("Pending", &working), json!({})),
        object("plant", Value::Null, json!({})),
        object(
            "plant",
            status("Inactive", &[]),
            json!({ "restrictions": null }),
        ),
        object(
            "quay",
            status("Inactive", &[("Stalled", "False", "Gone")]),
            json!({}),
        ),
    ];
    let tallies = count(&objects, at(NOW));
    assert_eq!(
        tallies.keys().copied().collect::<Vec<_>>(),
        ["plant", "quay"]
    );
    let plant = &tallies["plant"];
    let states = [("Active", 2), ("Pending", 2), ("Unreadable", 1)];
    assert_eq!(plant.states, states.into());
    assert_eq!(plant.stalled, [("SecretExists", 1)].into());
    assert_eq!(plant.reconciling, [("Issuing", 1)].into());
    let quay = Tally {
        states: [("Inactive", 1)].into(),
        ..Tally::default()
    };
    assert_eq!(tallies["quay"], quay);
}

#[test]
fn the_next_expiry_is_that_of_a_key_which_may_be_used_and_lies_ahead() {
    let soon = [("Active", "True", EXPIRING_SOON)];
    let objects = [
        object(
            "plant",
            status("Active", &[]),
            until("2026-09-01T00:00:00Z"),
        ),
        object(
            "plant",
            status("Active", &soon),
            until("2026-06-02T00:00:00Z"),
        ),
        object("plant", status("Active", &[]), json!({})),
        object(
            "plant",
            status("Inactive", &[]),
            until("2026-06-01T12:00:00Z"),
        ),
        object(
            "plant",
            status("Expired", &[]),
            until("2026-05-01T00:00:00Z"),
        ),
        // Nobody has said so yet.
        object("plant", status("Active", &[]), until(NOW)),
    ];
    let tallies = count(&objects, at(NOW));
    let plant = &tallies["plant"];
    assert_eq!(plant.next_expiry, Some(at("2026-06-02T00:00:00Z")));
    assert_eq!((plant.expiring_soon, plant.past_expiry), (1, 1));
}

/// Delivered in a Secret, which is known to be gone since this time.
fn delivered(mut status: Value, consumed_at: Option<&str>) -> Value {
    status["secret"] = json!({
        "name": "key", "uid": "9d3c6b0e", "publishedAt": NOW, "consumedAt": consumed_at,
    });
    status
}

#[test]
fn a_secret_counts_as_consumed_once_its_status_says_since_when() {
    let key = |namespace, status| object(namespace, status, json!({}));
    let objects = [
        key("plant", status("Active", &[])),
        key("plant", delivered(status("Active", &[]), None)),
        key("plant", delivered(status("Active", &[]), Some(NOW))),
        // Nor does it count less for what else is the case.
        key("plant", delivered(status("Inactive", &[]), Some(NOW))),
        key("quay", delivered(status("Active", &[]), None)),
    ];
    let tallies = count(&objects, at(NOW));
    let consumed: Vec<_> = tallies.values().map(|tally| tally.consumed).collect();
    assert_eq!(consumed, [2, 0]);
}

#[test]
fn a_key_that_waits_for_its_end_does_not_count() {
    let status = delivered(status("Active", &[]), Some(NOW));
    let mut going = object("plant", status, json!({}));
    let time = serde_json::from_value(json!(NOW)).expect("a time");
    going.meta_mut().deletion_timestamp = Some(time);
    assert_eq!(count(&[going], at(NOW)), BTreeMap::new());
}

#[test]
fn there_is_a_series_for_what_there_is_and_none_for_what_there_is_not() {
    let (store, mut writer) = kube::runtime::reflector::store();
    let (clock, _) = Clock::manual(at(NOW));
    let mut registry = Registry::with_prefix("keyward");
    let stores = vec![store];
    registry.register_collector(Box::new(Census { stores, clock }));
    let shown = || {
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(), Vec::<String>::new());

    let conditions = [
        ("Stalled", "True", "SecretExists"),
        ("Active", "True", EXPIRING_SOON),
    ];
    let key = object(
        "plant",
        delivered(status("Active", &conditions), Some(NOW)),
        until("2026-06-02T00:00:00Z"),
    );
    writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(key.clone()));
    let expected = [
        r#"keyward_keys{namespace="plant",state="Active"} 1"#,
        r#"keyward_keys_stalled{namespace="plant",reason="SecretExists"} 1"#,
        r#"keyward_keys_consumed{namespace="plant"} 1"#,
        r#"keyward_keys_expiring_soon{namespace="plant"} 1"#,
        r#"keyward_next_expiry_timestamp_seconds{namespace="plant"} 1780358400"#,
    ];
    assert_eq!(shown(), expected);

    writer.apply_watcher_event(&kube::runtime::watcher::Event::Delete(key));
    assert_eq!(shown(), Vec::<String>::new());
}
