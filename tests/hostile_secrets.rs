//! Whatever stands in a Secret of an AccessKey's name, the controller touches it only if it is its own, to the last
//! byte: the owner is the AccessKey, and key and secret are those of its status.
//!
//! Each Secret is met in each situation in which the controller looks at one.

use crate::hostile::arena::{Arena, Issued, accepts};
use crate::support::keys::{holds, key, some_secret};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, AccessKeyStatus, Attempt, Issuance, Unsettled};
use keyward::key::{Check, Secret};
use keyward::verifier::{HashProfile, Verifier};
use kube::api::PostParams;
use serde_json::{Value, json};

/// When the controller meets the Secret.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Situation {
    /// It stands there before the first secret is made.
    First,
    /// Its secret is under way: the status has an attempt that fits it, if it is not spoilt.
    UnderWay,
    /// A new secret is asked for.
    Due,
    /// A sweep is due.
    Sweep,
}

const SITUATIONS: [Situation; 4] = [
    Situation::First,
    Situation::UnderWay,
    Situation::Due,
    Situation::Sweep,
];

/// A Secret as the controller would have made it, and what is done to it. `other` is another key's
/// Secret.
type Spoil = fn(secret: &mut Value, other: &KubeSecret);

/// An API version that the garbage collector cannot look up, so that it leaves the Secret there.
const NOWHERE: &str = "keyward.dev/v0";

fn rows() -> Vec<(&'static str, Spoil)> {
    vec![
        ("intact", |_, _| {}),
        ("no owner", |s, _| {
            s["metadata"]["ownerReferences"] = json!([])
        }),
        ("owner gone", |s, _| {
            owner(s)["apiVersion"] = json!(NOWHERE);
            owner(s)["uid"] = json!("00000000-0000-0000-0000-000000000000");
        }),
        ("owner of another name gone", |s, _| {
            owner(s)["apiVersion"] = json!(NOWHERE);
            owner(s)["uid"] = json!("00000000-0000-0000-0000-000000000000");
            owner(s)["name"] = json!("somebody");
        }),
        ("owner of another group", |s, _| {
            owner(s)["apiVersion"] = json!("keyward.example/v1alpha1")
        }),
        ("owner of the core group", |s, _| {
            owner(s)["apiVersion"] = json!("v0")
        }),
        ("owner of another kind", |s, _| {
            owner(s)["apiVersion"] = json!(NOWHERE);
            owner(s)["kind"] = json!("Device");
        }),
        ("owner does not control it", |s, _| {
            owner(s)["controller"] = json!(false)
        }),
        ("owner does not say that it controls it", |s, _| {
            owner(s)
                .as_object_mut()
                .expect("a reference")
                .remove("controller");
        }),
        ("two owners, the other controls it", |s, _| {
            owner(s)["controller"] = json!(false);
            let other = json!({ "apiVersion": NOWHERE, "kind": "Device", "name": "d", "uid": "d", "controller": true });
            s["metadata"]["ownerReferences"]
                .as_array_mut()
                .expect("references")
                .push(other);
        }),
        ("two owners, ours controls it", |s, _| {
            let other = json!({ "apiVersion": NOWHERE, "kind": "Device", "name": "d", "uid": "d" });
            s["metadata"]["ownerReferences"]
                .as_array_mut()
                .expect("references")
                .insert(0, other);
        }),
        ("another type", |s, _| s["type"] = json!("Opaque")),
        ("no data", |s, _| s["data"] = json!({})),
        ("no secret", |s, _| remove(s, "secret")),
        ("no key", |s, _| remove(s, "key")),
        ("other entries", |s, _| {
            let (key, secret) = (entry(s, "key"), entry(s, "secret"));
            s["data"] = json!({ "username": key, "password": secret });
        }),
        ("more entries", |s, _| set(s, "more", &[0; 1000])),
        ("entries swapped", |s, _| {
            let (key, secret) = (entry(s, "key"), entry(s, "secret"));
            s["data"] = json!({ "key": secret, "secret": key });
        }),
        ("empty secret", |s, _| set(s, "secret", b"")),
        ("empty key", |s, _| set(s, "key", b"")),
        ("secret cut short", |s, _| {
            edit(s, "secret", |bytes| bytes.truncate(30))
        }),
        ("secret cut by one", |s, _| {
            edit(s, "secret", |bytes| bytes.truncate(52))
        }),
        ("secret with a line's end", |s, _| {
            edit(s, "secret", |bytes| bytes.push(b'\n'))
        }),
        ("a bit of the secret flipped", |s, _| {
            edit(s, "secret", |bytes| bytes[20] ^= 1)
        }),
        ("a bit of the key flipped", |s, _| {
            edit(s, "key", |bytes| bytes[20] ^= 1)
        }),
        ("secret that is no text", |s, _| {
            set(s, "secret", &[0xff; 53])
        }),
        ("secret of 500 kB", |s, _| {
            set(s, "secret", &[b'k'; 500_000])
        }),
        ("a secret that nobody issued", |s, _| {
            set(s, "secret", some_secret().as_bytes())
        }),
        ("another key's key and secret", |s, other| {
            s["data"] = json!(other.data)
        }),
        ("another key's secret", |s, other| {
            s["data"]["secret"] = json!(other.data.as_ref().expect("data")["secret"])
        }),
        ("another key's key", |s, other| {
            s["data"]["key"] = json!(other.data.as_ref().expect("data")["key"])
        }),
        ("annotations of 200 kB", |s, _| {
            s["metadata"]["annotations"] = json!({ "a": "x".repeat(200_000) })
        }),
        ("labels that say that it is another's", |s, _| {
            s["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "somebody" });
        }),
        ("being deleted", |s, _| {
            s["metadata"]["finalizers"] = json!(["example.com/wait"])
        }),
        ("immutable", |s, _| s["immutable"] = json!(true)),
    ]
}

fn owner(secret: &mut Value) -> &mut Value {
    &mut secret["metadata"]["ownerReferences"][0]
}

fn entry(secret: &Value, name: &str) -> Value {
    secret["data"][name].clone()
}

fn remove(secret: &mut Value, name: &str) {
    secret["data"].as_object_mut().expect("data").remove(name);
}

fn set(secret: &mut Value, name: &str, bytes: &[u8]) {
    secret["data"][name] = json!(ByteString(bytes.to_vec()));
}

fn edit(secret: &mut Value, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let bytes: ByteString = serde_json::from_value(entry(secret, name)).expect("bytes");
    let mut bytes = bytes.0;
    change(&mut bytes);
    set(secret, name, &bytes);
}

struct Row {
    name: String,
    situation: Situation,
    how: &'static str,
    spoil: Spoil,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_touched_only_if_it_is_our_own_to_the_last_byte() {
    let mut arena = Arena::new("hostile-secrets").await;
    arena.start_controller().await;
    let rows: Vec<Row> = SITUATIONS
        .into_iter()
        .flat_map(|situation| {
            rows()
                .into_iter()
                .map(move |(how, spoil)| (situation, how, spoil))
        })
        .enumerate()
        .map(|(number, (situation, how, spoil))| Row {
            name: format!("k{number}"),
            situation,
            how,
            spoil,
        })
        .collect();
    arena.apply(rows.iter().map(|row| key(&row.name))).await;
    arena.apply([key("other")]).await;
    let before = arena.issued().await;
    let memory = arena.end_controller().await;

    let other = &before["other"].secret;
    let placed = arena
        .each(&rows, async |row| {
            place(&arena, row, &before[&row.name], other).await
        })
        .await;
    let stored = arena.keys().await;
    println!("measured: {} spoilt Secrets", rows.len());

    arena.start_controller().await;
    arena.is_at_rest(before.len()).await;
    let (secrets, after) = (arena.secrets().await, arena.keys().await);
    let mut questions = Vec::new();
    for (row, placed) in rows.iter().zip(&placed) {
        let what = format!("{:?}, {}", row.situation, row.how);
        let now = secrets
            .get(&row.name)
            .unwrap_or_else(|| panic!("it is gone: {what}"));
        let (stored, is) = (&stored[&row.name], &after[&row.name]);
        let ours = is_ours(placed, stored);
        touched_if_ours(row, placed, now, ours, &what);
        confirmed_if_ours(row, is, ours, &what);
        let had = stored.status.as_ref().and_then(|status| status.key.clone());
        let has = is.status.as_ref().and_then(|status| status.key.clone());
        assert!(had.is_none() || had == has, "another key: {what}");
        let text = String::from_utf8(bytes(placed, "secret")).unwrap_or_default();
        // As people pass it on: `keyward check` reads a line.
        let line = text.trim_end().to_owned();
        questions.push((has.unwrap_or_else(|| "kwk_".to_owned()), line));
    }
    assert_eq!(secrets.len(), before.len(), "another Secret");
    let admitted = arena.asked(questions.clone()).await;
    for ((row, (key, text)), admitted) in rows.iter().zip(&questions).zip(admitted) {
        let status = after[&row.name].status.clone().unwrap_or_default();
        let may = accepts(&status, key, text);
        assert_eq!(admitted, may, "{:?}, {}", row.situation, row.how);
        assert!(
            !(may && row.situation == Situation::First),
            "admitted: {}",
            row.how
        );
    }
    let plaintexts: Vec<String> = before.values().map(Issued::plaintext).collect();
    arena.has_held(memory, &plaintexts).await;
    // Or the namespace would never go.
    let held = placed
        .iter()
        .filter(|secret| secret.metadata.finalizers.is_some());
    let free = json!({ "metadata": { "finalizers": null } });
    arena
        .each(held, async |secret| {
            let name = secret.metadata.name.as_deref().expect("a name");
            arena.place.patch_secret(name, free.clone()).await
        })
        .await;
}

/// Puts the AccessKey into the situation, and the spoilt Secret in the place of the real one.
async fn place(arena: &Arena, row: &Row, issued: &Issued, other: &KubeSecret) -> KubeSecret {
    let name = &row.name;
    let mut key = issued.key.clone();
    let status = key.status.as_mut().expect("a status");
    match row.situation {
        Situation::First => *status = AccessKeyStatus::default(),
        Situation::UnderWay => {
            let open = Issuance {
                revision: 1,
                attempts: vec![attempt(status)],
            };
            *status = AccessKeyStatus {
                uid: status.uid.clone(),
                key: status.key.clone(),
                rotation_requested: Some(1),
                issuance: Some(open),
                ..AccessKeyStatus::default()
            };
        }
        Situation::Due => {}
        Situation::Sweep => {
            status.unsettled = Some(Unsettled {
                attempts: vec![stray()],
            })
        }
    }
    let written = arena
        .place
        .keys
        .replace_status(name, &PostParams::default(), &key)
        .await;
    written.expect("the admin may");
    if row.situation == Situation::Due {
        arena
            .place
            .patch_key(name, json!({ "spec": { "rotation": { "revision": 2 } } }))
            .await;
    }

    let mut secret = json!({
        "type": issued.secret.type_,
        "metadata": {
            "name": name,
            "labels": issued.secret.metadata.labels,
            "ownerReferences": issued.secret.metadata.owner_references,
        },
        "data": issued.secret.data,
    });
    (row.spoil)(&mut secret, other);
    arena.place.delete_secret(name).await;
    let made: KubeSecret = arena.place.create(secret).await;
    if made.metadata.finalizers.is_none() {
        return made;
    }
    arena.place.delete_secret(name).await;
    arena.place.delivered(name).await
}

/// The attempt that was accepted, as it was under way.
fn attempt(status: &AccessKeyStatus) -> Attempt {
    let accepted = status.verifiers.last().expect("a verifier");
    Attempt {
        verifier: accepted.verifier.clone(),
        check: accepted.check.clone().expect("a check"),
        at: accepted.issued_at.clone(),
    }
}

fn stray() -> Attempt {
    let secret = Secret::generate().expect("a secret");
    let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
    Attempt {
        verifier: verifier.as_str().to_owned(),
        check: Check::of("kwk_", &secret).as_str().to_owned(),
        at: Time(Timestamp::UNIX_EPOCH),
    }
}

/// Read naively: it is there to stay, this AccessKey controls it, and it holds the key and a secret
/// that the status knows.
fn is_ours(secret: &KubeSecret, key: &AccessKey) -> bool {
    if secret.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let owned = secret
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| {
            owner.controller == Some(true)
                && owner.kind == "AccessKey"
                && owner.api_version.starts_with("keyward.dev/")
                && Some(&owner.uid) == key.metadata.uid.as_ref()
        });
    let Some(status) = &key.status else {
        return false;
    };
    let text = String::from_utf8(bytes(secret, "secret")).unwrap_or_default();
    let Ok(parsed) = Secret::parse(&text) else {
        return false;
    };
    let open = status
        .issuance
        .iter()
        .flat_map(|open| &open.attempts)
        .map(|known| &known.verifier);
    let mut known = open.chain(status.verifiers.iter().map(|known| &known.verifier));
    let verifies = known.any(|known| {
        Verifier::parse(known)
            .expect("a verifier")
            .verifies(&parsed)
    });
    owned && verifies && status.key.as_deref().map(str::as_bytes) == Some(&bytes(secret, "key"))
}

fn bytes(secret: &KubeSecret, name: &str) -> Vec<u8> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    bytes.map(|bytes| bytes.0.clone()).unwrap_or_default()
}

fn touched_if_ours(row: &Row, was: &KubeSecret, is: &KubeSecret, ours: bool, what: &str) {
    assert_eq!(was.metadata.uid, is.metadata.uid, "another Secret: {what}");
    let touched = was.metadata.resource_version != is.metadata.resource_version;
    // What is immutable cannot be replaced.
    let may = ours
        && row.situation == Situation::Due
        && was.immutable.is_none()
        && row.how != "another type";
    assert_eq!(touched, may, "touched or not: {what}");
}

/// A first secret is never one that stood there before, and one under way only the one that was made
/// for it. An attempt that lost its Secret is not replaced by another.
fn confirmed_if_ours(row: &Row, key: &AccessKey, ours: bool, what: &str) {
    let status = key.status.clone().unwrap_or_default();
    let accepted = !status.verifiers.is_empty();
    match row.situation {
        Situation::First => assert!(!accepted, "confirmed: {what}"),
        Situation::UnderWay => assert_eq!(accepted, ours, "confirmed or not: {what}"),
        Situation::Due => assert_eq!(
            holds(&status, "Ready"),
            ours && status.revision == Some(2),
            "{what}"
        ),
        Situation::Sweep => assert!(accepted && status.unsettled.is_none(), "not swept: {what}"),
    }
}
