//! What Keyward's safety needs of the libraries that it is built on. An upgrade that changes it fails here.
//!
//! Deadlines stand beside the code that keeps them: `src/controller/run/deadlines.rs` for the steps,
//! `src/controller/watching/tests.rs` for lists and watches.

mod absence;
mod logs;
mod preconditions;
mod server;
mod twice;

use std::sync::Arc;

use keyward::api::AccessKey;
use keyward::controller::ledger::{Uid, Version};
use keyward::key::Secret;
use serde_json::{Value, json};

/// An AccessKey, as the API server would give it.
fn access_key() -> Arc<AccessKey> {
    let key = json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": {
            "name": "pump", "namespace": "plant", "uid": "uid-of-the-key", "resourceVersion": "7",
            "generation": 1,
        },
        "spec": { "restrictions": { "allDevices": true } },
        "status": { "key": "kwk_0123456789abcdefghjkmnpqrs" },
    });
    Arc::new(serde_json::from_value(key).expect("an AccessKey"))
}

/// The Secret that delivers it, without its data.
fn secret_metadata() -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": { "name": "pump", "namespace": "plant", "uid": "uid-of-the-secret", "resourceVersion": "9" },
    })
}

/// Exactly that Secret.
fn that_secret() -> (Uid, Version) {
    (Uid("uid-of-the-secret".into()), Version(9))
}

fn new_secret() -> Secret {
    Secret::generate().expect("a secret")
}
