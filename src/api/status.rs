//! The status of an `AccessKey`: what was issued, and what is being issued.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What was issued, and what is being issued. Only the controller writes it; losing it loses the
/// key.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyStatus {
    /// The `metadata.generation` that the controller has acted on, -1 before it has seen any.
    #[serde(default = "never_observed")]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,

    /// The `metadata.uid` of the object that the key was issued for. Another than its own tells
    /// that the object was restored from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,

    /// The public part of the access key: `kwk_` and 26 characters, or that of `spec.existing`. Safe
    /// in logs. It stays the same through every rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub key: Option<String>,

    /// How many secrets have been issued for this key, one that was taken over included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = i32::MAX))]
    pub revision: Option<i32>,

    /// The `spec.rotation.revision` that was last acted on; a new secret is due when the spec's is
    /// higher, or `nextRotation` has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i32::MAX))]
    pub rotation_requested: Option<i32>,

    /// `Pending` until the first secret has been issued; then `Inactive` if the spec says so, else
    /// `NotYetValid`, `Active` or `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EffectiveState>,

    /// Present while a secret is being issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuance: Option<Issuance>,

    /// The hashes of the secrets that are accepted, newest last, at most 4. Nothing else is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub verifiers: Vec<AcceptedVerifier>,

    /// The Secret in which the newest secret was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Delivery>,

    /// Present while a Secret may still appear from a request that was given up; cleared once that
    /// is ruled out. It has no effect on who is admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,

    /// When the next scheduled rotation is due. Absent without `spec.rotation.every`, and while a
    /// secret is being issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// Names the Secret as the Service Binding specification has it: an AccessKey is a Provisioned
    /// Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// `Ready`: issued and delivered (an inactive key is `Ready` too). `Active`: would authenticate
    /// now. `Reconciling`: the controller is at work. `Stalled`: a person has to act, as the
    /// message says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Whether the key would be accepted now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum EffectiveState {
    /// No secret has been issued yet.
    Pending,
    /// The key is accepted.
    Active,
    /// The key is refused, because its spec says `Inactive`, or because an older AccessKey has it.
    Inactive,
    /// The key is refused until `spec.notBefore`.
    NotYetValid,
    /// The key is refused, because `spec.expiresAt` has come.
    Expired,
}

/// A secret being issued.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuance {
    /// Which issue of the key this is, counted from 1.
    #[schemars(range(min = 1, max = i32::MAX))]
    pub revision: i32,

    /// The secrets made for it so far, at most 8; one of them will be accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub attempts: Vec<Attempt>,
}

/// A secret that was made, and is not accepted.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The secret's argon2id hash, as a PHC string.
    #[schemars(length(max = 512))]
    pub verifier: String,

    /// The first 8 hex digits of a SHA-256 over key and secret: nearly every wrong secret is
    /// refused by it, without running argon2id.
    #[schemars(length(max = 64))]
    pub check: String,

    /// When it was made.
    pub at: Time,
}

/// A secret that is accepted.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedVerifier {
    /// Which issue of the key it came from.
    #[schemars(range(min = 0, max = i32::MAX))]
    pub revision: i32,

    /// The secret's argon2id hash, as a PHC string.
    #[schemars(length(max = 512))]
    pub verifier: String,

    /// The first 8 hex digits of a SHA-256 over key and secret: nearly every wrong secret is
    /// refused by it, without running argon2id. None for a secret that was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub check: Option<String>,

    /// When it was issued.
    pub issued_at: Time,

    /// Until when it is accepted, once a newer one has replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
}

/// The Secret in which a secret was delivered.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,

    /// The Secret's uid.
    #[schemars(length(max = 64))]
    pub uid: String,

    /// When key and secret were written to it.
    pub published_at: Time,

    /// When the controller found that the Secret is gone, or deleted it as `spec.secret.deleteAfter` asks. It is never
    /// made again but by a higher `spec.rotation.revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed_at: Option<Time>,
}

/// A Secret of the same namespace, for tools that bind workloads to services.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// An issue that is over, but for requests that may still arrive. Present and empty means that one
/// may.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsettled {
    /// The secrets of that issue that were not accepted, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub attempts: Vec<Attempt>,
}

impl Default for AccessKeyStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            uid: None,
            key: None,
            revision: None,
            rotation_requested: None,
            state: None,
            issuance: None,
            verifiers: Vec::new(),
            secret: None,
            unsettled: None,
            next_rotation: None,
            binding: None,
            conditions: Vec::new(),
        }
    }
}

fn never_observed() -> i64 {
    -1
}
