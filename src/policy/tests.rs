use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::{DeviceClass, Restrictions};
use crate::verifier::{HashProfile, Verifier};

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
    let inactive = key(with(elsewhere.clone(), "/spec/state", json!("Inactive")));

    let limited = json!({"filter": "AllowList", "cidrs": ["10.0.0.0/8"]});
    let limited = key(with(elsewhere.clone(), "/spec/sources", limited));
    let until = |not_before: Option<&str>, expires_at: Option<&str>| {
        let read = |text: &str| text.parse().expect("a timestamp");
        limited.clone().with_validity(Validity {
            not_before: not_before.map(read),
            expires_at: expires_at.map(read),
        })
    };
    let expired = until(None, Some(NOW));
    let not_yet = until(Some("2026-06-01T12:00:01Z"), Some(NOW));
    let inactive = inactive.with_validity(not_yet.rare().validity);
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
    let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
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
        let record = key(access_key()).with_validity(Validity {
            not_before: not_before.map(at),
            expires_at: expires_at.map(at),
        });
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
fn a_secret_that_was_taken_over_may_be_anything_up_to_a_length() {
    let taken_over = with(current().accepted(0, None), "/check", Value::Null);
    let record = key(with(access_key(), "/status/verifiers", json!([taken_over])));
    let long = "x".repeat(1024);
    for secret in ["hunter2", " ", "\0", "kws_", &long] {
        let decision = decide_by_hash(Some(&record), None, DEVICE, secret);
        assert_eq!(decision, Decision::Deny(Reason::BadSecret), "{secret:?}");
    }
    for secret in ["", &format!("{long}x")] {
        let decision = decide_without_hash(Some(&record), None, DEVICE, secret);
        assert_eq!(decision, Decision::Deny(Reason::Malformed), "{secret:?}");
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
        let stands = stands(about(record, None), &session(revision), now());
        assert_eq!(stands, expected, "row {row}");
    }
}

#[test]
fn what_was_found_out_about_a_verifier_is_kept_when_the_record_is_rewritten() {
    let [old, new, _] = &*ISSUED;
    let earlier = key(access_key());
    earlier.verifiers()[0]
        .hashed
        .matched
        .set([7; 32])
        .expect("it is new");
    let accepted = json!([old.accepted(1, Some(NOW)), new.accepted(2, None)]);
    let mut later = key(with(access_key(), "/status/verifiers", accepted));
    later.learn_from(&earlier);
    let known: Vec<_> = later
        .verifiers()
        .iter()
        .map(|own| own.hashed.matched.get())
        .collect();
    assert_eq!(known, [None, Some(&[7; 32])]);
}

#[test]
fn who_sees_whom_follows_the_key_of_who_looks() {
    let with_class = |id: &str, class: &str, gateway: Option<&str>| {
        let spec = json!({"deviceId": id, "class": class, "gateway": gateway});
        device_record(with(device(), "/spec", spec))
    };
    let gateway = with_class("gate", "Gateway", None);
    let plain = with_class("pump-1", "Standalone", None);
    let its = with_class("own", "Peripheral", Some("gate"));
    let others = with_class("foreign", "Peripheral", Some("other"));
    let anyones = with_class("any", "Peripheral", None);
    let all = key(access_key());
    let ids = restricted(json!({"deviceIds": ["gate", "pump-1", "valve"]}));
    let tagged = restricted(json!({"deviceIds": ["gate", "any", "foreign"]}));
    use Relation::{Admitted, Itself, Other, Peripheral};
    let rows = [
        (&all, "pump-1", Some(&plain), "pump-1", Some(&plain), Itself),
        (&all, "pump-1", None, "pump-1", None, Itself),
        (&all, "pump-1", None, "nobody", None, Admitted),
        (&ids, "pump-1", None, "valve", None, Admitted),
        (&ids, "pump-1", None, "other", None, Other),
        (&ids, "pump-1", Some(&plain), "own", Some(&its), Other),
        (&all, "pump-1", Some(&plain), "own", Some(&its), Admitted),
        (&ids, "gate", Some(&gateway), "own", Some(&its), Peripheral),
        (&all, "gate", Some(&gateway), "own", Some(&its), Peripheral),
        (&ids, "gate", None, "own", Some(&its), Other),
        (
            &ids,
            "gate",
            Some(&gateway),
            "foreign",
            Some(&others),
            Other,
        ),
        (
            &tagged,
            "gate",
            Some(&gateway),
            "foreign",
            Some(&others),
            Admitted,
        ),
        (
            &all,
            "gate",
            Some(&gateway),
            "any",
            Some(&anyones),
            Peripheral,
        ),
        (
            &tagged,
            "gate",
            Some(&gateway),
            "any",
            Some(&anyones),
            Peripheral,
        ),
        (&ids, "gate", Some(&gateway), "any", Some(&anyones), Other),
        (
            &ids,
            "gate",
            Some(&gateway),
            "pump-1",
            Some(&plain),
            Admitted,
        ),
        (&ids, "gate", Some(&gateway), "pump-2", None, Other),
    ];
    for (row, (key, viewer, own, target, device, expected)) in rows.into_iter().enumerate() {
        let known = about(Some(key), own);
        assert_eq!(
            relation(known, viewer, target, device),
            expected,
            "row {row}"
        );
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

#[test]
fn malformed_credentials_are_all_refused_alike() {
    let record = key(access_key());
    let secret = current().secret;
    let texts = [
        "",
        " ",
        "\0",
        "\n",
        "null",
        "undefined",
        "Bearer nothing",
        "kws_",
        "kws",
        "kwk_",
        KEY,
        "anonymous",
        "kws_0000000000000000000000000000000000000000000",
        "' OR 1=1 --",
        "{}",
        "\u{202e}kws_",
        "ｋｗｓ＿",
        "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    let mut rows: Vec<String> = texts.map(String::from).to_vec();
    rows.extend((0..secret.len()).map(|len| secret[..len].to_owned()));
    rows.extend((1..secret.len()).map(|from| secret[from..].to_owned()));
    rows.extend((0..=secret.len()).map(|at| format!("{}\0{}", &secret[..at], &secret[at..])));
    rows.extend(
        (0..secret.len()).map(|at| format!("{}{}", &secret[..at], &secret[at + 1..]) + "é"),
    );
    rows.extend([
        format!(" {secret}"),
        format!("{secret} "),
        format!("{secret}\r\n"),
        secret.repeat(2),
    ]);
    rows.extend([
        "x".repeat(1 << 20),
        current().verifier.clone(),
        current().check.clone(),
    ]);
    assert!(rows.len() >= 200, "{}", rows.len());
    for row in rows {
        let decision = decide_without_hash(Some(&record), None, DEVICE, &row);
        assert_eq!(decision, Decision::Deny(Reason::Malformed), "{row:.80?}");
    }
}

#[test]
fn restrictions_admit_by_id_or_tag_or_label() {
    let one = device_record(device());
    let registered = Some(&one);
    let sees_both = json!({"matchLabels": {"site": "north"}, "matchExpressions": [{"key": "line", "operator": "In", "values": ["a", "b"]}]});
    let sees_one = json!({"matchLabels": {"site": "north", "line": "b"}});
    let label = |key: &str, operator: &str| json!({"deviceSelector": {"matchExpressions": [{"key": key, "operator": operator}]}});
    let not_in = |key: &str, value: &str| json!({"deviceSelector": {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}});
    let tag = |pair: Value| json!({"deviceTags": [pair]});
    let rows = [
        // Any device.
        (json!({"allDevices": true}), registered, true),
        (json!({"allDevices": true}), None, true),
        // Device IDs: exact, and with or without a Device.
        (json!({"deviceIds": [DEVICE]}), registered, true),
        (json!({"deviceIds": [DEVICE]}), None, true),
        (json!({"deviceIds": ["x", DEVICE, "y"]}), None, true),
        (json!({"deviceIds": ["Pump-1"]}), registered, false),
        (json!({"deviceIds": ["pump-"]}), registered, false),
        (json!({"deviceIds": ["pump-11"]}), registered, false),
        (json!({"deviceIds": ["one"]}), registered, false),
        // Tags: any of them, a missing part is any, and a Device must exist.
        (
            tag(json!({"key": "kind", "value": "pump"})),
            registered,
            true,
        ),
        (
            tag(json!({"key": "kind", "value": "spare"})),
            registered,
            true,
        ),
        (tag(json!({"key": "kind"})), registered, true),
        (tag(json!({"value": "pump"})), registered, true),
        (
            tag(json!({"key": "kind", "value": "Pump"})),
            registered,
            false,
        ),
        (tag(json!({"key": "Kind"})), registered, false),
        (tag(json!({"value": "kind"})), registered, false),
        (tag(json!({"key": "pump"})), registered, false),
        (tag(json!({"key": "kind", "value": "pump"})), None, false),
        (tag(json!({"key": "kind"})), None, false),
        (
            json!({"deviceTags": [{"key": "no"}, {"value": "spare"}]}),
            registered,
            true,
        ),
        (
            json!({"deviceTags": [{"key": "no", "value": "pump"}, {"key": "kind", "value": "no"}]}),
            registered,
            false,
        ),
        // Labels: all of the selector, and a Device must exist.
        (json!({"deviceSelector": sees_both}), registered, true),
        (json!({"deviceSelector": sees_both}), None, false),
        (json!({"deviceSelector": sees_one}), registered, false),
        (label("line", "Exists"), registered, true),
        (label("line", "DoesNotExist"), registered, false),
        (label("no", "DoesNotExist"), registered, true),
        (label("no", "DoesNotExist"), None, false),
        (not_in("line", "b"), registered, true),
        (not_in("line", "a"), registered, false),
        (not_in("no", "a"), registered, true),
        (not_in("no", "a"), None, false),
        // Any of the three.
        (
            json!({"deviceIds": [DEVICE], "deviceTags": [{"key": "no"}], "deviceSelector": sees_one}),
            registered,
            true,
        ),
        (
            json!({"deviceIds": ["no"], "deviceTags": [{"key": "kind"}], "deviceSelector": sees_one}),
            registered,
            true,
        ),
        (
            json!({"deviceIds": ["no"], "deviceTags": [{"key": "no"}], "deviceSelector": sees_both}),
            registered,
            true,
        ),
        (
            json!({"deviceIds": ["no"], "deviceTags": [{"key": "no"}], "deviceSelector": sees_one}),
            registered,
            false,
        ),
    ];
    for (restrictions, device, admitted) in rows {
        let record = restricted(restrictions.clone());
        let decision = decide_by_hash(Some(&record), device, DEVICE, current().secret);
        assert_eq!(is_allow(&decision), admitted, "{restrictions} {device:?}");
    }
}

#[test]
fn restrictions_that_the_api_server_would_refuse_make_no_record() {
    use UnreadableKey::{AllDevices, Empty, EmptyTag, Selector};
    let selector =
        |requirement: Value| json!({"deviceSelector": {"matchExpressions": [requirement]}});
    let rows = [
        (json!({}), Empty("restrictions")),
        (json!({"allDevices": null}), Empty("restrictions")),
        (json!({"alldevices": true}), Empty("restrictions")),
        (json!({"allDevices": false}), AllDevices),
        (json!({"allDevices": false, "deviceIds": ["a"]}), AllDevices),
        (json!({"allDevices": true, "deviceIds": ["a"]}), AllDevices),
        (
            json!({"allDevices": true, "deviceTags": [{"key": "a"}]}),
            AllDevices,
        ),
        (
            json!({"allDevices": true, "deviceSelector": {}}),
            AllDevices,
        ),
        (json!({"deviceIds": []}), Empty("restrictions.deviceIds")),
        (json!({"deviceTags": []}), Empty("restrictions.deviceTags")),
        (
            json!({"deviceIds": ["a"], "deviceTags": []}),
            Empty("restrictions.deviceTags"),
        ),
        (json!({"deviceTags": [{}]}), EmptyTag),
        (
            json!({"deviceTags": [{"key": "a"}, {"key": null}]}),
            EmptyTag,
        ),
        (
            json!({"deviceSelector": {}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            json!({"deviceSelector": {"matchLabels": {}}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            json!({"deviceSelector": {"matchExpressions": []}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            selector(json!({"key": "a", "operator": "NotIn", "values": []})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "NotIn"})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "In"})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "in", "values": ["b"]})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "DoesNotExist", "values": ["b"]})),
            Selector("a".into()),
        ),
    ];
    for (restrictions, expected) in rows {
        let read = read_key(with(
            access_key(),
            "/spec/restrictions",
            restrictions.clone(),
        ));
        assert_eq!(read.err(), Some(expected), "{restrictions}");
    }
}

#[test]
fn what_is_not_issued_or_is_being_deleted_is_no_record() {
    let rows = [
        with(access_key(), "/status", Value::Null),
        with(access_key(), "/status/key", Value::Null),
        with(
            access_key(),
            "/metadata/deletionTimestamp",
            json!("2026-06-01T00:00:00Z"),
        ),
    ];
    for row in rows {
        assert!(read_key(row).expect("readable").is_none());
    }
}

#[test]
fn a_secret_is_accepted_by_any_verifier_that_is_still_valid() {
    let [old, new, other] = &*ISSUED;
    let record = |valid_until: Option<&str>| {
        key(with(
            access_key(),
            "/status/verifiers",
            json!([old.accepted(1, valid_until), new.accepted(2, None)]),
        ))
    };
    let rows = [
        (old, Some("2026-06-01T12:00:01Z"), Some(1)),
        (old, Some("2026-06-01T12:00:00.000001Z"), Some(1)),
        (old, Some("2026-06-01T12:00:00Z"), None),
        (old, Some("2026-06-01T11:59:59Z"), None),
        (old, Some("1970-01-01T00:00:00Z"), None),
        (old, None, Some(1)),
        (new, Some("2026-06-01T11:59:59Z"), Some(2)),
        (new, Some("2026-06-01T12:00:01Z"), Some(2)),
        (other, Some("2026-06-01T12:00:01Z"), None),
    ];
    for (issued, valid_until, revision) in rows {
        let decision = decide_by_hash(Some(&record(valid_until)), None, DEVICE, issued.secret);
        match decision {
            Decision::Allow(session) => assert_eq!(session.revision, revision),
            decision => assert_eq!(
                (decision, None),
                (Decision::Deny(Reason::BadSecret), revision)
            ),
        }
    }
}

#[test]
fn a_secret_under_way_is_neither_admitted_nor_refused() {
    let [accepted, attempted, other] = &*ISSUED;
    let issuing = |manifest: Value| {
        with(
            manifest,
            "/status/issuance",
            json!({"revision": 2, "attempts": [attempted.attempt()]}),
        )
    };
    let first = with(access_key(), "/status/verifiers", json!([]));
    let inactive = with(access_key(), "/spec/state", json!("Inactive"));
    let confirmed = with(
        access_key(),
        "/status/verifiers",
        json!([attempted.accepted(2, None)]),
    );
    let expired = json!([attempted.accepted(1, Some("2026-01-02T00:00:00Z"))]);
    let reissued = with(access_key(), "/status/verifiers", expired);
    let unsettled = with(
        access_key(),
        "/status/unsettled",
        json!({"attempts": [attempted.attempt()]}),
    );
    let rows = [
        (issuing(first), attempted, "unavailable"),
        (issuing(access_key()), attempted, "unavailable"),
        (issuing(access_key()), accepted, "allow"),
        (issuing(access_key()), other, "bad_secret"),
        (issuing(inactive), attempted, "inactive"),
        (issuing(confirmed), attempted, "allow"),
        (issuing(reissued), attempted, "unavailable"),
        (access_key(), attempted, "bad_secret"),
        (unsettled, attempted, "bad_secret"),
    ];
    for (row, (manifest, issued, expected)) in rows.into_iter().enumerate() {
        let answer = match decide_by_hash(Some(&key(manifest)), None, DEVICE, issued.secret) {
            Decision::Allow(_) => "allow",
            Decision::Deny(reason) => reason.as_str(),
            Decision::Unavailable => "unavailable",
        };
        assert_eq!(answer, expected, "row {row}");
    }
}

#[test]
fn a_verifier_that_cannot_be_read_never_matches_and_harms_no_other() {
    let hostile =
        |field: &str, value: Value| with(current().accepted(1, None), &format!("/{field}"), value);
    let costly = current().verifier.replace("m=1024", "m=4294967295");
    let rows = [
        hostile("verifier", json!(costly)),
        hostile("verifier", json!("")),
        hostile("verifier", json!("$".repeat(512))),
        hostile("check", json!("")),
        hostile("check", json!(current().check.to_uppercase() + "0")),
        hostile("check", json!("00000000")),
    ];
    for row in rows {
        let record = key(with(
            access_key(),
            "/status/verifiers",
            json!([row, ISSUED[1].accepted(2, None)]),
        ));
        let refused = decide_by_hash(Some(&record), None, DEVICE, current().secret);
        assert_eq!(refused, Decision::Deny(Reason::BadSecret), "{row}");
        assert!(is_allow(&decide_by_hash(
            Some(&record),
            None,
            DEVICE,
            ISSUED[1].secret
        )));
    }
}

#[test]
fn a_verifier_without_a_check_is_asked_for_a_match() {
    let taken_over = with(current().accepted(0, None), "/check", Value::Null);
    let record = key(with(access_key(), "/status/verifiers", json!([taken_over])));
    assert!(is_allow(&decide_by_hash(
        Some(&record),
        None,
        DEVICE,
        current().secret
    )));
    let refused = decide_by_hash(Some(&record), None, DEVICE, ISSUED[1].secret);
    assert_eq!(refused, Decision::Deny(Reason::BadSecret));
}

#[test]
fn forged_status_costs_no_more_than_four_hashes() {
    let forged = with(current().accepted(1, None), "/check", Value::Null);
    let record = key(with(
        access_key(),
        "/status/verifiers",
        json!(vec![forged; 1000]),
    ));
    let mut hashes = 0;
    let presented = presented(DEVICE, ISSUED[1].secret);
    let decision = decide(about(Some(&record), None), &presented, now(), |_, _| {
        hashes += 1;
        false
    });
    assert_eq!((decision, hashes), (Decision::Deny(Reason::BadSecret), 4));
}

#[test]
fn the_check_is_bound_to_the_key() {
    let stolen = with(
        access_key(),
        "/status/key",
        json!("kwk_00000000000000000000000000"),
    );
    let decision = decide_without_hash(Some(&key(stolen)), None, DEVICE, current().secret);
    assert_eq!(decision, Decision::Deny(Reason::BadSecret));
}

#[test]
fn nothing_that_can_be_printed_holds_the_secret() {
    let record = key(access_key());
    let decision = decide_by_hash(Some(&record), None, DEVICE, current().secret);
    let printed = format!("{record:?} {decision:?}");
    assert!(!printed.contains(current().secret) && !printed.contains(&current().verifier));
}

/// Restrictions in words of their own: what was written, and not how it is read.
#[derive(Clone, Debug)]
struct Written {
    all: Option<bool>,
    ids: Option<Vec<String>>,
    tags: Option<Vec<(Option<String>, Option<String>)>>,
    labels: Option<Vec<(String, &'static str, Vec<String>)>>,
}

#[derive(Clone, Debug)]
struct Registered {
    tags: Vec<(String, String)>,
    labels: BTreeMap<String, String>,
}

/// The specification, read naively: each sentence a line.
fn oracle(written: &Written, id: &str, device: Option<&Registered>) -> bool {
    let Written {
        all,
        ids,
        tags,
        labels,
    } = written;
    let nothing_else = ids.is_none() && tags.is_none() && labels.is_none();
    if *all == Some(true) && nothing_else {
        return true;
    }
    let refused_by_the_schema = all.is_some()
        || nothing_else
        || ids.as_ref().is_some_and(Vec::is_empty)
        || tags
            .as_ref()
            .is_some_and(|tags| tags.is_empty() || tags.contains(&(None, None)))
        || labels.as_ref().is_some_and(|labels| {
            labels.is_empty()
                || labels
                    .iter()
                    .any(|(_, op, values)| op.ends_with("In") == values.is_empty())
        });
    if refused_by_the_schema {
        return false;
    }
    for listed in ids.iter().flatten() {
        if listed == id {
            return true;
        }
    }
    let Some(device) = device else {
        return false;
    };
    for (key, value) in tags.iter().flatten() {
        for (own_key, own_value) in &device.tags {
            let key_fits = match key {
                Some(key) => key == own_key,
                None => true,
            };
            let value_fits = match value {
                Some(value) => value == own_value,
                None => true,
            };
            if key_fits && value_fits {
                return true;
            }
        }
    }
    let Some(labels) = labels else {
        return false;
    };
    let mut all_of_them = true;
    for (label, operator, values) in labels {
        let own = device.labels.get(label);
        all_of_them &= match *operator {
            "In" => own.is_some_and(|own| values.contains(own)),
            "NotIn" => !own.is_some_and(|own| values.contains(own)),
            "Exists" => own.is_some(),
            _ => own.is_none(),
        };
    }
    all_of_them
}

fn restrictions(written: &Written) -> Value {
    let tags = written.tags.as_ref().map(|tags| {
        tags.iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect::<Vec<Value>>()
    });
    let labels = written.labels.as_ref().map(|labels| {
        let requirement = |(key, operator, values): &(String, &str, Vec<String>)| {
            json!({"key": key, "operator": operator, "values": values})
        };
        json!({"matchExpressions": labels.iter().map(requirement).collect::<Vec<Value>>()})
    });
    json!({"allDevices": written.all, "deviceIds": written.ids, "deviceTags": tags, "deviceSelector": labels})
}

/// Short lists over two or three letters, so that hits and misses are about as frequent.
fn written() -> impl Strategy<Value = Written> {
    let word = "[a-c]";
    let ids = prop::option::of(prop::collection::vec("[a-d]", 0..3));
    let tags = prop::option::of(prop::collection::vec(
        (prop::option::of(word), prop::option::of(word)),
        0..3,
    ));
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    let requirement = (word, operator, prop::collection::vec(word, 0..3));
    let fitting = requirement.prop_map(|(key, operator, values)| {
        let wants_values = operator.ends_with("In");
        let mostly = if wants_values {
            values
        } else {
            values.into_iter().skip(2).collect()
        };
        (key, operator, mostly)
    });
    let labels = prop::option::of(prop::collection::vec(fitting, 0..3));
    let all = prop::sample::select(vec![None, None, None, None, None, Some(true), Some(false)]);
    (all, ids, tags, labels).prop_map(|(all, ids, tags, labels)| Written {
        all,
        ids,
        tags,
        labels,
    })
}

fn registered() -> impl Strategy<Value = Option<Registered>> {
    let tags = prop::collection::vec(("[a-c]", "[a-c]"), 0..3);
    let labels = prop::collection::btree_map("[a-c]", "[a-c]", 0..3);
    prop::option::weighted(
        0.8,
        (tags, labels).prop_map(|(tags, labels)| Registered { tags, labels }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn scope_agrees_with_a_naive_reading(written in written(), id in "[a-d]", device in registered()) {
        let record = device.as_ref().map(|device| {
            let tags: Vec<Value> =
                device.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            device_record(json!({
                "apiVersion": "keyward.dev/v1alpha1",
                "kind": "Device",
                "metadata": {"name": "one", "labels": device.labels},
                "spec": {"deviceId": id, "tags": tags},
            }))
        });
        let read: Restrictions = serde_json::from_value(restrictions(&written)).expect("Restrictions");
        let admitted = Scope::of(&read).is_ok_and(|scope| scope.admits(&id, record.as_ref()));
        prop_assert_eq!(admitted, oracle(&written, &id, device.as_ref()));
    }
}
