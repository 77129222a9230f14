//! `keyward check` says what the live objects say, and never more.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::support::{
    check::Asker,
    cluster::eventually,
    plant::{Issued, Plant, one_sentence},
};
use jiff::{Timestamp, ToSpan};
use keyward::{
    api::Device,
    key::{Check as KeyCheck, Secret},
    verifier::{HashProfile, Verifier},
};
use kube::{Api, api::DeleteParams};
use serde_json::json;

const MALFORMED: &str = "the device ID or the secret is not well formed";
const UNKNOWN: &str = "no access key of this namespace has this key";
const INACTIVE: &str = "the key is inactive";
const CLASS: &str = "devices of class Peripheral or System never authenticate";
const DISABLED: &str = "the device is disabled";
const OUT_OF_SCOPE: &str = "the key's restrictions do not admit the device";
const BAD_SECRET: &str = "the secret is not one that the key accepts now";

#[tokio::test]
async fn restrictions_admit_by_id_tag_or_label_and_nobody_else() {
    let plant = Plant::new().await;
    let all = plant.issue("all", json!({ "allDevices": true })).await;
    let ids = plant
        .issue("ids", json!({ "deviceIds": ["pump-1", "Pump_2"] }))
        .await;
    let tags = plant
        .issue(
            "tags",
            json!({ "deviceTags": [
                { "key": "site", "value": "north" }, { "key": "spare" }, { "value": "red" },
            ] }),
        )
        .await;
    let selector = plant
        .issue(
            "selector",
            json!({ "deviceSelector": {
                "matchLabels": { "line": "7" },
                "matchExpressions": [{ "key": "old", "operator": "DoesNotExist" }],
            } }),
        )
        .await;
    let any_of = plant
        .issue(
            "any-of",
            json!({ "deviceIds": ["alone"], "deviceTags": [{ "key": "site" }] }),
        )
        .await;
    let tag = |key: &str, value: &str| json!({ "tags": [{ "key": key, "value": value }] });
    plant.device("north", tag("site", "north")).await;
    plant.device("south", tag("site", "south")).await;
    plant.device("spare", tag("spare", "yes")).await;
    plant.device("red", tag("colour", "red")).await;
    plant.labelled("line-7", json!({ "line": "7" })).await;
    plant
        .labelled("line-7-old", json!({ "line": "7", "old": "" }))
        .await;

    let allowed = [
        (&all, "unregistered"),
        (&all, "north"),
        (&ids, "pump-1"),
        (&ids, "Pump_2"),
        (&tags, "north"),
        (&tags, "spare"),
        (&tags, "red"),
        (&selector, "line-7"),
        (&any_of, "alone"),
        (&any_of, "south"),
    ];
    for (issued, device) in allowed {
        plant.allows(device, issued);
    }
    let out_of_scope = [
        (&ids, "pump-2"),
        (&ids, "pump_2"),
        (&ids, "pump-11"),
        (&tags, "south"),
        (&tags, "line-7"),
        (&tags, "unregistered"),
        (&selector, "line-7-old"),
        (&selector, "north"),
        (&selector, "unregistered"),
        (&any_of, "red"),
    ];
    for (issued, device) in out_of_scope {
        plant.denies(device, issued, OUT_OF_SCOPE);
    }
}

#[tokio::test]
async fn a_device_and_a_key_can_each_be_shut_out() {
    let plant = Plant::new().await;
    let key = plant.issue("all", json!({ "allDevices": true })).await;
    plant.device("gateway", json!({ "class": "Gateway" })).await;
    plant
        .device("sensor", json!({ "class": "Peripheral" }))
        .await;
    plant.device("group", json!({ "class": "System" })).await;
    plant.device("off", json!({ "disabled": true })).await;
    plant.allows("gateway", &key);
    plant.denies("sensor", &key, CLASS);
    plant.denies("group", &key, CLASS);
    plant.denies("off", &key, DISABLED);

    plant
        .change("all", json!({ "spec": { "state": "Inactive" } }))
        .await;
    plant.denies("gateway", &key, INACTIVE);
    plant
        .change("all", json!({ "spec": { "state": "Active" } }))
        .await;
    plant.allows("gateway", &key);

    let params = DeleteParams::background();
    plant.keys.delete("all", &params).await.expect("deleted");
    plant.denies("gateway", &key, UNKNOWN);
}

#[tokio::test]
async fn only_the_secret_that_was_issued_is_accepted() {
    let plant = Plant::new().await;
    let restrictions = json!({ "allDevices": true });
    let key = plant.issue("one", restrictions.clone()).await;
    let other = plant.issue("two", restrictions).await;
    let with = |key: &str, secret: String| Issued {
        key: key.to_owned(),
        secret,
    };
    plant.allows("pump", &key);
    // A shell's `echo` adds a newline, Windows two characters.
    for end in ["\n", "\r\n"] {
        plant.allows("pump", &with(&key.key, format!("{}{end}", key.secret)));
    }

    let stranger = Secret::generate().expect("a secret").expose().to_owned();
    plant.denies("pump", &with(&key.key, stranger), BAD_SECRET);
    plant.denies("pump", &with(&key.key, other.secret), BAD_SECRET);
    let mut typo = key.secret.clone();
    let last = typo.pop().expect("a secret");
    typo.push(if last == 'a' { 'b' } else { 'a' });
    plant.denies("pump", &with(&key.key, typo), MALFORMED);
    for end in [" ", "\0", "\n\r\n"] {
        let answer = plant.ask("pump", &with(&key.key, format!("{}{end}", key.secret)));
        assert_ne!(answer.code, Some(0), "{end:?}: {answer:?}");
    }
    plant.denies("pump", &with(&key.key, "x".repeat(10_000)), MALFORMED);
    plant.denies("pump/1", &key, MALFORMED);

    for unknown in [
        "kwk_00000000000000000000000000",
        "one",
        "",
        "a,b=c\\",
        &key.key[..29],
    ] {
        let answer = plant.ask("pump", &with(unknown, key.secret.clone()));
        // The empty one is a mistake on the command line, not a key.
        let expected = if unknown.is_empty() { 2 } else { 1 };
        assert_eq!(answer.code, Some(expected), "{unknown:?}: {answer:?}");
    }
    let elsewhere = Plant::new().await;
    elsewhere.denies("pump", &key, UNKNOWN);
}

#[tokio::test]
async fn the_old_secret_is_accepted_until_its_overlap_ends() {
    let mut plant = Plant::new().await;
    let old = plant.issue("pump", json!({ "allDevices": true })).await;
    let rotation = json!({ "spec": { "rotation": { "revision": 2, "overlap": "1h" } } });
    plant.change("pump", rotation).await;
    let new = plant.issued("pump", 2).await;
    assert_eq!(new.key, old.key);
    plant.allows("pump", &old);
    plant.allows("pump", &new);

    // Whether the controller has retired it makes no difference.
    plant.stop_controller().await;
    let status = plant.keys.get("pump").await.unwrap().status.unwrap();
    let mut verifiers = serde_json::to_value(status.verifiers).unwrap();
    verifiers[0]["validUntil"] = json!(Timestamp::now() - 1.second());
    plant
        .tamper("pump", json!({ "verifiers": verifiers }))
        .await;
    plant.denies("pump", &old, BAD_SECRET);
    plant.allows("pump", &new);
}

/// A device can read its Secret a moment before the controller has confirmed it.
#[tokio::test]
async fn a_secret_that_is_being_issued_is_neither_allowed_nor_denied() {
    let mut plant = Plant::new().await;
    let old = plant.issue("pump", json!({ "allDevices": true })).await;
    plant.stop_controller().await;
    let secret = Secret::generate().expect("a secret");
    let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a verifier");
    let attempt = json!({
        "verifier": verifier.as_str(),
        "check": KeyCheck::of(&old.key, &secret).as_str(),
        "at": Timestamp::now(),
    });
    let issuance = json!({ "revision": 2, "attempts": [attempt] });
    plant.tamper("pump", json!({ "issuance": issuance })).await;

    let new = Issued {
        key: old.key.clone(),
        secret: secret.expose().to_owned(),
    };
    plant.cannot_tell("pump", &new, "being issued right now");
    plant.allows("pump", &old);
    let stranger = Issued {
        key: old.key,
        secret: Secret::generate().expect("a secret").expose().to_owned(),
    };
    plant.denies("pump", &stranger, BAD_SECRET);
}

#[tokio::test]
async fn of_two_devices_with_one_id_the_older_has_the_say() {
    let plant = Plant::new().await;
    let restrictions = json!({ "deviceTags": [{ "key": "site", "value": "north" }] });
    let north = plant.issue("north", restrictions).await;
    let device =
        |tag: &str| json!({ "deviceId": "pump", "tags": [{ "key": "site", "value": tag }] });
    // Named so that within one second the name decides as the age does.
    plant.device("a-older", device("north")).await;
    plant.device("b-younger", device("south")).await;
    plant.allows("pump", &north);

    let devices: Api<Device> = plant.api();
    let params = DeleteParams::default();
    devices.delete("a-older", &params).await.expect("deleted");
    plant.denies("pump", &north, OUT_OF_SCOPE);
}

#[tokio::test]
async fn of_two_access_keys_with_one_key_the_older_has_it() {
    let mut plant = Plant::new().await;
    let restrictions = json!({ "allDevices": true });
    // Named so that within one second the name decides as the age does.
    let genuine = plant.issue("a-genuine", restrictions.clone()).await;
    let forged = plant.issue("b-forged", restrictions).await;
    plant.stop_controller().await;
    plant
        .tamper("b-forged", json!({ "key": genuine.key }))
        .await;
    plant.allows("pump", &genuine);
    plant.denies("pump", &genuine.with(&forged.secret), BAD_SECRET);
}

#[tokio::test]
async fn whoever_may_edit_may_check_and_whoever_may_view_may_not() {
    let plant = Plant::new().await;
    let key = plant.issue("pump", json!({ "allDevices": true })).await;
    let editor = plant.person("edit").await;
    eventually("the editor may check", async || {
        plant.asked_by(&editor, "pump", &key).code == Some(0)
    })
    .await;
    let viewer = plant.person("view").await;
    let answer = plant.asked_by(&viewer, "pump", &key);
    one_sentence(
        &answer,
        "ask for a role with the verbs get and list on accesskeys",
    );
}

#[tokio::test]
async fn what_keeps_it_from_telling_is_one_sentence_and_code_2() {
    let plant = Plant::new().await;
    let key = plant.issue("pump", json!({ "allDevices": true })).await;
    let input = |input: &str| plant.ask_with("pump", &key.key, input);
    one_sentence(&input(""), "it holds nothing");
    one_sentence(&input("\n"), "it holds nothing");
    one_sentence(
        &input(&format!("{0}\n{0}\n", key.secret)),
        "more than one line",
    );

    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let nowhere = Asker::of(&plant.access.by_way_of(address));
    let answer = plant.asked_by(&nowhere, "pump", &key);
    one_sentence(&answer, "Connection refused");

    let stranger = Asker::holding(&plant.access, "unknown");
    let answer = plant.asked_by(&stranger, "pump", &key);
    one_sentence(&answer, "does not accept the credentials");

    let nobody = Asker::changed(&plant.access, |config| config["contexts"] = json!([]));
    let answer = plant.asked_by(&nobody, "pump", &key);
    one_sentence(&answer, "KUBECONFIG");
}

#[tokio::test]
async fn a_secret_in_the_arguments_is_refused_before_anything_else() {
    let plant = Plant::new().await;
    let key = plant.issue("pump", json!({ "allDevices": true })).await;
    let answer = plant.ask_with("pump", &key.secret, &key.secret);
    one_sentence(&answer, "rotate it");
    let answer = plant.ask_with(&key.secret, &key.key, &key.secret);
    one_sentence(&answer, "rotate it");
}

/// Whatever else is wrong, the arguments come from a program that may run unattended.
#[test]
fn wrong_arguments_end_with_2_and_without_standard_input() {
    for arguments in [
        &["check"][..],
        &[
            "check",
            "--namespace",
            "../x",
            "--device",
            "d",
            "--key",
            "k",
        ],
        &[
            "check",
            "--namespace",
            "n",
            "--device",
            "d",
            "--key",
            "k",
            "--log-level",
            "loud",
        ],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("keyward runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(!output.stderr.is_empty(), "{output:?}");
    }
}
