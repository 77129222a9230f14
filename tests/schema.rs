//! What the API server accepts and refuses, and how it shows what it accepted.

#![allow(clippy::unwrap_used)]

mod changes;
mod shown;
mod specs;
mod status;

use crate::support::{
    cluster::{TestNamespace, admin},
    manifests,
};
use keyward::api::{AccessKey, AccessKeyStatus, Device};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// What the API server is expected to say.
enum Verdict {
    Accepted,
    /// Refused, with these words somewhere in the message.
    Refused(&'static [&'static str]),
}
use Verdict::{Accepted, Refused};

const IDS: &str = "spec.restrictions.deviceIds";

async fn create<K: Resource<DynamicType = ()>>(
    api: &Api<DynamicObject>,
    name: &str,
    spec: Value,
) -> kube::Result<()> {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&params, &object::<K>(name, spec))
        .await
        .map(|_| ())
}

fn judge(what: &str, answer: kube::Result<()>, verdict: Verdict) {
    match (answer, verdict) {
        (Ok(()), Accepted) => {}
        (Ok(()), Refused(_)) => panic!("{what}: accepted"),
        (Err(kube::Error::Api(status)), Refused(words)) => {
            assert_eq!(status.code, 422, "{what}: {status:?}");
            for word in words {
                let message = &status.message;
                assert!(
                    message.contains(word),
                    "{what}: {word:?} is not in: {message}"
                );
            }
        }
        (Err(error), _) => panic!("{what}: {error}"),
    }
}

fn dynamic<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

fn object<K: Resource<DynamicType = ()>>(name: &str, spec: Value) -> DynamicObject {
    let mut object = DynamicObject::new(name, &ApiResource::erase::<K>(&()));
    object.data = json!({ "spec": spec });
    object
}

async fn write_status(keys: &Api<DynamicObject>, name: &str, status: &Value) {
    try_write_status(keys, name, status)
        .await
        .expect("the status is written");
}

async fn try_write_status(
    keys: &Api<DynamicObject>,
    name: &str,
    status: &Value,
) -> kube::Result<DynamicObject> {
    let spec = json!({ "restrictions": { "allDevices": true } });
    let created = keys
        .create(&PostParams::default(), &object::<AccessKey>(name, spec))
        .await;
    let mut subject = created.expect("created");
    subject.data["status"] = status.clone();
    keys.replace_status(name, &PostParams::default(), &subject)
        .await
}

/// A status in which every field is set.
fn issued_status() -> Value {
    let verifier = "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA";
    let time = "2030-01-01T00:00:00Z";
    let attempt = json!({ "verifier": verifier, "check": "0123abcd", "at": time });
    json!({
        "observedGeneration": 1,
        "uid": "9d3c6b0e-5e0c-4a54-9a2b-0f6d5f2f2a01",
        "key": "kwk_00000000000000000000000001",
        "revision": 2,
        "rotationRequested": 2,
        "nextRotation": "2030-02-01T00:00:00Z",
        "state": "Active",
        "issuance": { "revision": 3, "attempts": [attempt] },
        "verifiers": [
            { "revision": 1, "verifier": verifier, "issuedAt": time, "validUntil": time },
            { "revision": 2, "verifier": verifier, "check": "0123abcd", "issuedAt": time },
        ],
        "secret": { "name": "subject", "uid": "9d3c6b0e", "publishedAt": time, "consumedAt": time },
        "unsettled": { "attempts": [attempt] },
        "binding": { "name": "subject" },
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "Issued",
            "message": "",
            "lastTransitionTime": time,
            "observedGeneration": 1,
        }],
    })
}

/// This many labels with keys of the greatest length.
fn numbered(count: usize) -> Value {
    let prefix = [
        "p".repeat(63),
        "p".repeat(63),
        "p".repeat(63),
        "p".repeat(61),
    ]
    .join(".");
    (0..count)
        .map(|i| (format!("{prefix}/{i:063}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
