//! The order of the questions, and what each of them asks. Which devices restrictions admit, and who sees whom: see
//! `tests/semantics`.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::api::DeviceClass;
use crate::verifier::{HashProfile, Verifier};

mod issues;
mod secrets;
mod unreadable;

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const DEVICE: &str = "pump-1";
const NOW: &str = "2026-06-01T12:00:00Z";

/// Three secrets, each with its verifier and check.
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
    fn of(text: &'static str) -> Self {
        let secret = Secret::parse(text).expect("well formed");
        let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("hash");
        let check = Check::of(KEY, &secret);
        Self {
            secret: text,
            verifier: verifier.as_str().into(),
            check: check.as_str().into(),
        }
    }

    fn accepted(&self, revision: i32, valid_until: Option<&str>) -> Value {
        json!({
            "revision": revision,
            "verifier": self.verifier,
            "check": self.check,
            "issuedAt": "2026-01-01T00:00:00Z",
            "validUntil": valid_until,
        })
    }

    fn attempt(&self) -> Value {
        json!({"verifier": self.verifier, "check": self.check, "at": "2026-06-01T11:59:00Z"})
    }
}

fn current() -> &'static Issued {
    &ISSUED[0]
}

/// An active key for all devices, issued once.
fn access_key() -> Value {
    json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": {"name": "fleet", "namespace": "plant"},
        "spec": {"restrictions": {"allDevices": true}},
        "status": {"key": KEY, "verifiers": [current().accepted(1, None)]},
    })
}

fn device() -> Value {
    json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "Device",
        "metadata": {"name": "one", "labels": {"site": "north", "line": "a"}},
        "spec": {"deviceId": DEVICE, "tags": [{"key": "kind", "value": "pump"}, {"key": "kind", "value": "spare"}]},
    })
}

fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    manifest.pointer_mut(parent).expect("a parent")[field] = value;
    manifest
}

fn read_key(manifest: Value) -> Result<Option<KeyRecord>, UnreadableKey> {
    KeyRecord::of(&serde_json::from_value(manifest).expect("an AccessKey"))
}

fn key(manifest: Value) -> KeyRecord {
    read_key(manifest).expect("readable").expect("issued")
}

fn device_record(manifest: Value) -> DeviceRecord {
    DeviceRecord::of(&serde_json::from_value(manifest).expect("a Device"))
}

fn restricted(restrictions: Value) -> KeyRecord {
    key(with(access_key(), "/spec/restrictions", restrictions))
}

fn now() -> Timestamp {
    NOW.parse().expect("a timestamp")
}

fn decide_by_hash(
    record: Option<&KeyRecord>,
    device: Option<&DeviceRecord>,
    device_id: &str,
    secret: &str,
) -> Decision {
    let presented = presented(device_id, secret);
    decide(
        about(record, device),
        &presented,
        now(),
        AcceptedVerifier::verifies,
    )
}

fn presented<'a>(device_id: &'a str, secret: &'a str) -> Presented<'a> {
    Presented {
        namespace: "plant",
        key: KEY,
        device_id,
        secret,
        source: None,
    }
}

fn about<'a>(key: Option<&'a KeyRecord>, device: Option<&'a DeviceRecord>) -> Known<'a> {
    Known {
        key,
        device,
        requires_registration: false,
    }
}

/// Decides with a match that must not be asked for.
fn decide_without_hash(
    record: Option<&KeyRecord>,
    device: Option<&DeviceRecord>,
    device_id: &str,
    secret: &str,
) -> Decision {
    let presented = presented(device_id, secret);
    decide(about(record, device), &presented, now(), |_, _| {
        panic!("a hash was run")
    })
}

fn is_allow(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(_))
}

#[test]
fn a_device_with_the_secret_is_admitted_as_what_it_is() {
    let record = key(access_key());
    let unregistered = decide_by_hash(Some(&record), None, DEVICE, current().secret);
    let session = |class| Session {
        namespace: "plant".into(),
        key: KEY.into(),
        device_id: DEVICE.into(),
        class,
        revision: Some(1),
        source: None,
    };
    assert_eq!(
        unregistered,
        Decision::Allow(session(DeviceClass::Standalone))
    );

    let gateway = device_record(with(device(), "/spec/class", json!("Gateway")));
    let registered = decide_by_hash(Some(&record), Some(&gateway), DEVICE, current().secret);
    assert_eq!(registered, Decision::Allow(session(DeviceClass::Gateway)));
}

/// Each row has everything wrong that the rows below it have, and one thing more: so the order of
/// the questions is the order of the rows.
#[test]
fn the_first_question_that_fails_gives_the_reason_and_no_hash_is_run() {
    let wrong = ISSUED[2].secret;
    let disabled = with(device(), "/spec/disabled", json!(true));
    let peripheral = device_record(with(disabled.clone(), "/spec/class", json!("Peripheral")));
    let disabled = device_record(disabled);
    let enabled = device_record(device());
    let elsewhere = with(
        access_key(),
        "/spec/restrictions",
        json!({"deviceIds": ["pump-2"]}),
    );

    let limited = json!({"filter": "AllowList", "cidrs": ["10.0.0.0/8"]});
    let limited = with(elsewhere.clone(), "/spec/sources", limited);
    let expired = with(limited.clone(), "/spec/expiresAt", json!(NOW));
    let later = json!("2026-06-01T12:00:01Z");
    let not_yet = with(expired.clone(), "/spec/notBefore", later);
    let inactive = key(with(not_yet.clone(), "/spec/state", json!("Inactive")));
    let (limited, expired, not_yet) = (key(limited), key(expired), key(not_yet));
    let elsewhere = key(elsewhere);
    let everywhere = key(access_key());

    let rows = [
        (None, None, "pump/1", wrong, Reason::Malformed),
        (
            None,
            Some(&peripheral),
            DEVICE,
            "kws_typo",
            Reason::Malformed,
        ),
        (
            Some(&inactive),
            Some(&peripheral),
            DEVICE,
            "kws_typo",
            Reason::Malformed,
        ),
        (None, Some(&peripheral), DEVICE, wrong, Reason::UnknownKey),
        (
            Some(&inactive),
            Some(&peripheral),
            DEVICE,
            wrong,
            Reason::Inactive,
        ),
        (
            Some(&not_yet),
            Some(&peripheral),
            DEVICE,
            wrong,
            Reason::NotYetValid,
        ),
        (
            Some(&expired),
            Some(&peripheral),
            DEVICE,
            wrong,
            Reason::Expired,
        ),
        (
            Some(&limited),
            Some(&peripheral),
            DEVICE,
            wrong,
            Reason::Source,
        ),
        (
            Some(&elsewhere),
            Some(&peripheral),
            DEVICE,
            wrong,
            Reason::DeviceClass,
        ),
        (
            Some(&elsewhere),
            Some(&disabled),
            DEVICE,
            wrong,
            Reason::DeviceDisabled,
        ),
        (
            Some(&elsewhere),
            Some(&enabled),
            DEVICE,
            wrong,
            Reason::OutOfScope,
        ),
        (Some(&elsewhere), None, DEVICE, wrong, Reason::OutOfScope),
        (
            Some(&everywhere),
            Some(&enabled),
            DEVICE,
            wrong,
            Reason::BadSecret,
        ),
        (Some(&everywhere), None, DEVICE, wrong, Reason::BadSecret),
    ];
    for (row, (record, device, id, secret, reason)) in rows.into_iter().enumerate() {
        let decision = decide_without_hash(record, device, id, secret);
        assert_eq!(decision, Decision::Deny(reason), "row {row}");
    }
}

#[test]
fn a_right_secret_helps_nobody_whom_a_cheaper_question_refuses() {
    let record = key(access_key());
    let inactive = key(with(access_key(), "/spec/state", json!("Inactive")));
    let classed = |class: &str| device_record(with(device(), "/spec/class", json!(class)));
    let disabled = device_record(with(device(), "/spec/disabled", json!(true)));
    let rows = [
        (&inactive, None, Reason::Inactive),
        (&record, Some(classed("Peripheral")), Reason::DeviceClass),
        (&record, Some(classed("System")), Reason::DeviceClass),
        (&record, Some(disabled), Reason::DeviceDisabled),
    ];
    for (record, device, reason) in rows {
        let decision = decide_without_hash(Some(record), device.as_ref(), DEVICE, current().secret);
        assert_eq!(decision, Decision::Deny(reason));
    }
}

#[test]
fn a_key_is_valid_from_its_beginning_up_to_its_end() {
    let (before, now, after) = ("2026-06-01T11:59:59Z", NOW, "2026-06-01T12:00:01Z");
    let rows = [
        (None, None, None),
        (Some(before), Some(after), None),
        (Some(now), Some(after), None),
        (Some(after), None, Some(Reason::NotYetValid)),
        (None, Some(now), Some(Reason::Expired)),
        (None, Some(before), Some(Reason::Expired)),
        (Some(after), Some(before), Some(Reason::NotYetValid)),
    ];
    for (not_before, expires_at, refused) in rows {
        let record = with(access_key(), "/spec/notBefore", json!(not_before));
        let record = key(with(record, "/spec/expiresAt", json!(expires_at)));
        let decision = decide_by_hash(Some(&record), None, DEVICE, current().secret);
        match refused {
            None => assert!(is_allow(&decision), "{not_before:?} {expires_at:?}"),
            Some(reason) => assert_eq!(decision, Decision::Deny(reason)),
        }
    }
}

#[test]
fn where_registration_is_required_a_device_needs_its_object() {
    let record = key(access_key());
    let registered = device_record(device());
    let rows = [
        (false, None, None),
        (false, Some(&registered), None),
        (true, None, Some(Reason::NotRegistered)),
        (true, Some(&registered), None),
    ];
    for (requires_registration, device, refused) in rows {
        let known = Known {
            requires_registration,
            ..about(Some(&record), device)
        };
        let presented = presented(DEVICE, current().secret);
        let decision = decide(known, &presented, now(), AcceptedVerifier::verifies);
        match refused {
            None => assert!(is_allow(&decision), "{requires_registration}"),
            Some(reason) => assert_eq!(decision, Decision::Deny(reason)),
        }
    }
}

#[test]
fn a_key_may_be_used_from_where_its_sources_say() {
    let sources = json!({"filter": "AllowList", "cidrs": ["10.0.0.0/8"]});
    let record = key(with(access_key(), "/spec/sources", sources));
    for (source, admitted) in [
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("192.0.2.1"), false),
        (None, false),
    ] {
        let presented = Presented {
            source: source.map(|address| address.parse().expect("an address")),
            ..presented(DEVICE, current().secret)
        };
        let known = about(Some(&record), None);
        let decision = decide(known, &presented, now(), AcceptedVerifier::verifies);
        assert_eq!(is_allow(&decision), admitted, "{source:?}");
    }
}

#[test]
fn a_session_stands_as_long_as_it_would_be_admitted() {
    let [old, new, _] = &*ISSUED;
    let record = |verifiers: Value| key(with(access_key(), "/status/verifiers", verifiers));
    let both = record(json!([
        old.accepted(1, Some("2026-06-01T12:00:01Z")),
        new.accepted(2, None)
    ]));
    let ended = record(json!([old.accepted(1, Some(NOW)), new.accepted(2, None)]));
    let retired = record(json!([new.accepted(2, None)]));
    let inactive = key(with(access_key(), "/spec/state", json!("Inactive")));
    let elsewhere = restricted(json!({"deviceIds": ["pump-2"]}));
    let session = |revision| Session {
        namespace: "plant".into(),
        key: KEY.into(),
        device_id: DEVICE.into(),
        class: DeviceClass::Standalone,
        revision,
        source: None,
    };
    let rows = [
        (Some(&both), Some(1), Ok(())),
        (Some(&both), Some(2), Ok(())),
        (Some(&both), None, Ok(())),
        (Some(&ended), Some(1), Err(Reason::BadSecret)),
        (Some(&retired), Some(1), Err(Reason::BadSecret)),
        (Some(&retired), Some(2), Ok(())),
        (Some(&retired), None, Ok(())),
        (Some(&inactive), Some(1), Err(Reason::Inactive)),
        (Some(&elsewhere), Some(1), Err(Reason::OutOfScope)),
        (None, Some(1), Err(Reason::UnknownKey)),
    ];
    for (row, (record, revision, expected)) in rows.into_iter().enumerate() {
        let stands = stands(about(record, None), &session(revision), now);
        assert_eq!(stands, expected, "row {row}");
    }
}

#[test]
fn a_malformed_device_id_is_refused_for_every_key() {
    let named = ["#", "a+b", "a/b", ""];
    let records = [key(access_key()), restricted(json!({"deviceIds": named}))];
    let long = "x".repeat(65);
    for id in [
        "",
        "#",
        "+",
        "a+b",
        "a/b",
        "*",
        ">",
        "a.b",
        "plant.pump-1",
        "a b",
        "$SYS",
        "é",
        "a\0",
        "a\n",
        &long,
    ] {
        for record in &records {
            let decision = decide_without_hash(Some(record), None, id, current().secret);
            assert_eq!(decision, Decision::Deny(Reason::Malformed), "{id:?}");
        }
    }
}
