//! What may be changed, and what may not.

use super::*;

#[tokio::test]
async fn access_key_changes() {
    let all = json!({ "allDevices": true });
    let with = |field: &str, value: Value| {
        let mut spec = json!({ "restrictions": all });
        spec[field] = value;
        spec
    };
    let plain = || json!({ "restrictions": all });
    let secret = |value: Value| with("secret", value);
    let revision = |n: i64| with("rotation", json!({ "revision": n }));
    let entries = |key: &str| secret(json!({ "keys": { "key": key, "secret": "s" } }));
    let name = &["spec.secret.name", "immutable"];
    let keys = &["spec.secret.keys", "immutable"];
    let existing = |key: &str, digit: char| {
        let (salt, tag) = ("A".repeat(22), digit.to_string().repeat(43));
        let verifier = format!("$argon2id$v=19$m=1024,t=1,p=1${salt}${tag}");
        with("existing", json!({ "key": key, "verifier": verifier }))
    };
    let taken_over = &["spec", "existing is immutable"];
    let lower = &["spec.rotation.revision", "only increases"];
    check_changes::<AccessKey>(vec![
        (
            "state and back",
            plain(),
            with("state", json!("Inactive")),
            Accepted,
        ),
        (
            "wider restrictions",
            json!({ "restrictions": { "deviceIds": ["a"] } }),
            plain(),
            Accepted,
        ),
        (
            "restrictions taken away",
            plain(),
            json!({}),
            Refused(&["spec.restrictions: Required"]),
        ),
        (
            "the Secret's name given as it is",
            plain(),
            secret(json!({ "name": "subject" })),
            Accepted,
        ),
        (
            "the Secret's default name spelt out no more",
            secret(json!({ "name": "subject" })),
            plain(),
            Accepted,
        ),
        (
            "the Secret's name added",
            plain(),
            secret(json!({ "name": "other" })),
            Refused(name),
        ),
        (
            "the Secret's name changed",
            secret(json!({ "name": "a" })),
            secret(json!({ "name": "b" })),
            Refused(name),
        ),
        (
            "the Secret's name removed",
            secret(json!({ "name": "a" })),
            plain(),
            Refused(name),
        ),
        (
            "the Secret's name made null",
            secret(json!({ "name": "a" })),
            secret(json!({ "name": null })),
            Refused(name),
        ),
        (
            "the Secret's labels",
            plain(),
            secret(json!({ "labels": { "a": "b" } })),
            Accepted,
        ),
        (
            "the entries given as they are",
            plain(),
            secret(json!({ "keys": { "key": "key" } })),
            Accepted,
        ),
        (
            "the entries changed",
            entries("a"),
            entries("b"),
            Refused(keys),
        ),
        ("the entries added", plain(), entries("a"), Refused(keys)),
        ("the entries removed", entries("a"), plain(), Refused(keys)),
        (
            "the entries made null",
            entries("a"),
            secret(json!({ "keys": null })),
            Refused(keys),
        ),
        (
            "one entry removed",
            entries("a"),
            secret(json!({ "keys": { "key": "a" } })),
            Refused(keys),
        ),
        ("the revision raised", revision(2), revision(3), Accepted),
        ("the revision kept", revision(2), revision(2), Accepted),
        ("the first revision removed", revision(1), plain(), Accepted),
        (
            "the revision lowered",
            revision(2),
            revision(1),
            Refused(lower),
        ),
        (
            "the revision removed",
            revision(2),
            with("rotation", json!({})),
            Refused(lower),
        ),
        (
            "the revision made null",
            revision(2),
            with("rotation", json!({ "revision": null })),
            Refused(lower),
        ),
        ("the rotation removed", revision(2), plain(), Refused(lower)),
        (
            "the existing key as it is",
            existing("a", 'A'),
            existing("a", 'A'),
            Accepted,
        ),
        (
            "an existing key added",
            plain(),
            existing("a", 'A'),
            Refused(taken_over),
        ),
        (
            "the existing key removed",
            existing("a", 'A'),
            plain(),
            Refused(taken_over),
        ),
        (
            "the existing key changed",
            existing("a", 'A'),
            existing("b", 'A'),
            Refused(taken_over),
        ),
        (
            "the existing verifier changed",
            existing("a", 'A'),
            existing("a", 'B'),
            Refused(taken_over),
        ),
        (
            "the revision raised beside an existing key",
            existing("a", 'A'),
            {
                let mut spec = existing("a", 'A');
                spec["rotation"] = json!({ "revision": 2 });
                spec
            },
            Accepted,
        ),
        (
            "the rotation made null",
            revision(2),
            with("rotation", json!(null)),
            Refused(lower),
        ),
    ])
    .await;
}

#[tokio::test]
async fn device_changes() {
    let id = |id: &str| json!({ "deviceId": id });
    let refused = &["spec.deviceId", "immutable"];
    check_changes::<Device>(vec![
        (
            "tags",
            json!({}),
            json!({ "tags": [{ "key": "a", "value": "b" }] }),
            Accepted,
        ),
        ("the id given as it is", json!({}), id("subject"), Accepted),
        ("the id added", json!({}), id("other"), Refused(refused)),
        ("the id changed", id("a"), id("b"), Refused(refused)),
        ("the id removed", id("a"), json!({}), Refused(refused)),
        (
            "the id made null",
            id("a"),
            json!({ "deviceId": null }),
            Refused(refused),
        ),
    ])
    .await;
}

/// A list that merged would keep what its owner took away.
#[tokio::test]
async fn an_id_that_its_owner_removes_is_gone_although_another_applies_ids_too() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    apply_ids(&keys, "git", &["a", "b"]).await;
    apply_ids(&keys, "by-hand", &["a", "b", "c"]).await;
    let last = apply_ids(&keys, "git", &["a"]).await;
    assert_eq!(last.data["spec"]["restrictions"]["deviceIds"], json!(["a"]));
}

async fn apply_ids(keys: &Api<DynamicObject>, manager: &str, ids: &[&str]) -> DynamicObject {
    let object = json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": { "name": "subject" },
        "spec": { "restrictions": { "deviceIds": ids } },
    });
    let params = PatchParams::apply(manager).force();
    keys.patch("subject", &params, &Patch::Apply(&object))
        .await
        .expect("applied")
}

/// Creates an object of each first spec, and replaces its spec by the second.
async fn check_changes<K: Resource<DynamicType = ()>>(rows: Vec<(&str, Value, Value, Verdict)>) {
    let namespace = TestNamespace::unserved("schema").await;
    let api = dynamic::<K>(&namespace.admin, &namespace.name);
    for (what, before, after, verdict) in rows {
        let created = api
            .create(&PostParams::default(), &object::<K>("subject", before))
            .await;
        let mut subject = created.unwrap_or_else(|error| panic!("{what}: {error}"));
        subject.data["spec"] = after;
        let changed = api
            .replace("subject", &PostParams::default(), &subject)
            .await;
        judge(what, changed.map(|_| ()), verdict);
        api.delete("subject", &DeleteParams::default())
            .await
            .expect("deleted");
    }
}
