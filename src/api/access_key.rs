//! `AccessKey`: what is asked for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};

use super::{AccessKeyStatus, GoDuration, schema};

/// What the access key is for, which devices may use it, and how it is delivered.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "keyward.dev",
    version = "v1alpha1",
    kind = "AccessKey",
    namespaced,
    status = "AccessKeyStatus",
    derive = "PartialEq",
    shortname = "ak",
    category = "keyward",
    // So that tools find what the Service Binding specification calls a Provisioned Service.
    label("servicebinding.io/provisioned-service", "true"),
    doc = "An access key: a public key and a secret that devices of this namespace present, with \
           their device ID, to an MQTT broker or a REST endpoint. The controller generates both, \
           delivers them in a Secret once, and keeps only a hash of the secret.",
    selectable = ".spec.state",
    selectable = ".status.key",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.key"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secret.name"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "(has(self.spec.secret.name) ? self.spec.secret.name : self.metadata.name) \
         == (has(oldSelf.spec.secret.name) ? oldSelf.spec.secret.name : oldSelf.metadata.name)"
    )
    .message(
        "secret.name is immutable (it is the AccessKey's name if absent): set it back, or create \
         another AccessKey"
    )
    .field_path(".spec.secret.name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.notBefore) || !has(self.expiresAt) || self.expiresAt > self.notBefore"
)
.message("expiresAt must lie after notBefore: set a later expiresAt, or an earlier notBefore"))]
#[x_kube(validation = Rule::new(
    "!has(self.rotation) || !has(self.rotation.every) || !has(self.secret) || !has(self.secret.deleteAfter)"
)
.message(
    "secret.deleteAfter and rotation.every exclude each other, since a schedule makes no Secret again that is gone: \
     remove one of the two"
))]
#[x_kube(validation = Rule::new(
    "has(self.existing) ? has(oldSelf.existing) && self.existing == oldSelf.existing : !has(oldSelf.existing)"
)
.message("existing is immutable: set it back, or create another AccessKey"))]
pub struct AccessKeySpec {
    /// Whether the key may be used: `Active` (the default) or `Inactive`. Reversible: the secret
    /// stays the same.
    #[serde(default)]
    pub state: KeyState,

    /// What the key is for, in your own words. At most 1024 characters. Nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,

    /// Which devices may use the key: either `allDevices: true` alone, or at least one of
    /// `deviceIds`, `deviceTags` and `deviceSelector`; a device that any of them admits may use it.
    /// A device that used a restricted key also sees only devices inside the same restrictions.
    #[serde(deserialize_with = "object")]
    pub restrictions: Restrictions,

    /// Topics that devices with this key may use beside those of devices.
    #[serde(default, deserialize_with = "object")]
    pub topics: Topics,

    /// From where the key may be used.
    #[serde(default, deserialize_with = "object")]
    pub sources: Sources,

    /// From when the key may be used, as `2026-11-27T08:00:00Z`. Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(schema::BEFORE_THE_END_OF_TIME).message(
        "notBefore must lie before the end of the year 9999"
    ))]
    pub not_before: Option<Time>,

    /// From when the key may not be used any more, shaped like `notBefore`. A key that has expired
    /// can be extended: its secret stays the same. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(schema::BEFORE_THE_END_OF_TIME).message(
        "expiresAt must lie before the end of the year 9999: leave it out for a key that never expires"
    ))]
    pub expires_at: Option<Time>,

    /// When a new secret is issued for the same key.
    #[serde(default)]
    pub rotation: Rotation,

    /// The Secret that delivers key and secret.
    #[serde(default)]
    pub secret: SecretTemplate,

    /// A key that devices have already: it is taken over with its secret, and no Secret is made.
    /// Immutable. Only a higher `rotation.revision` than 1 has a new secret made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingKey>,

    /// Pauses the controller for this object; an issue under way is finished first. It never
    /// affects who is admitted: to refuse devices, set `state: Inactive`.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether the key may be used.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema,
)]
#[schemars(inline)]
pub enum KeyState {
    /// The key may be used by the devices that its restrictions admit.
    #[default]
    Active,
    /// Nobody may use the key.
    Inactive,
}

/// Which devices may use the key.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "has(self.allDevices) || has(self.deviceIds) || has(self.deviceTags) \
         || has(self.deviceSelector)"
    )
    .message(
        "restrictions admit no device: set at least one of deviceIds, deviceTags and \
         deviceSelector, or allDevices: true"
    ),
    validation = Rule::new(
        "!has(self.allDevices) || !(has(self.deviceIds) || has(self.deviceTags) \
         || has(self.deviceSelector))"
    )
    .message(
        "allDevices stands alone: remove it, or remove deviceIds, deviceTags and deviceSelector"
    )
)]
pub struct Restrictions {
    /// `true`: every device of the namespace may use the key. The only value; leave the field out
    /// to restrict the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message(
        "allDevices can only be true: to restrict the key remove it and set deviceIds, deviceTags \
         or deviceSelector"
    ))]
    pub all_devices: Option<bool>,

    /// Device IDs, 1 to 1000, each of 1 to 64 letters, digits, `_` and `-`; compared exactly, by
    /// case too. They need not exist as Device objects. The list has one owner: applying it
    /// replaces all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(max = 64), regex(pattern = schema::DEVICE_ID)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub device_ids: Option<Vec<String>>,

    /// Tags, 1 to 100: a Device that carries any one of them may use the key. Only tags on Device
    /// objects count, never what a client claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub device_tags: Option<Vec<TagPair>>,

    /// A label selector over Device objects: a Device that matches all of it may use the key. Not
    /// empty: an empty selector would match every Device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub device_selector: Option<LabelSelector>,
}

/// A tag to look for. With only a key it matches any value, with only a value any key.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.key) || has(self.value)").message(
    "an entry of deviceTags has neither key nor value: set at least one of the two"
))]
pub struct TagPair {
    /// The tag's key, 1 to 255 characters. Absent: any key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub key: Option<String>,

    /// The tag's value, 1 to 255 characters. Absent: any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub value: Option<String>,
}

/// Topics that devices with this key may use beside those of devices, which lie below the gateway's
/// topic root (`devices` by default).
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(self.filter in ['AllowList', 'DenyList']) || (has(self.publish) && size(self.publish) > 0) \
         || (has(self.subscribe) && size(self.subscribe) > 0)"
    )
    .message("topics.filter AllowList and DenyList need a filter in topics.publish or topics.subscribe"),
    validation = Rule::new(
        "self.filter in ['AllowList', 'DenyList'] || ((!has(self.publish) || size(self.publish) == 0) \
         && (!has(self.subscribe) || size(self.subscribe) == 0))"
    )
    .message(
        "topics.publish and topics.subscribe have no effect with topics.filter None or All: remove \
         them, or set topics.filter to AllowList or DenyList"
    )
)]
pub struct Topics {
    /// `None` (the default): no other topics. `All`: every other topic. `AllowList`: those that a
    /// filter of the lists matches. `DenyList`: all but those.
    #[serde(default)]
    pub filter: TopicFilter,

    /// Filters of topics to send to, at most 100 of 1 to 1024 characters, with MQTT's wildcards `+`
    /// and `#`; `{device}` stands for the device's ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = Rule::new(schema::topic_filters())
        .message(schema::TOPIC_FILTERS))]
    pub publish: Vec<String>,

    /// Filters of topics to receive from. Shaped like `publish`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = Rule::new(schema::topic_filters())
        .message(schema::TOPIC_FILTERS))]
    pub subscribe: Vec<String>,
}

/// Which topics count, beside those of devices.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema,
)]
#[schemars(inline)]
pub enum TopicFilter {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those that a filter matches.
    AllowList,
    /// All but those that a filter matches.
    DenyList,
}

/// From where the key may be used: the addresses that gateways see clients come from.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!(self.filter in ['AllowList', 'DenyList']) || (has(self.cidrs) && size(self.cidrs) > 0)"
    )
    .message("sources.filter AllowList and DenyList need an address in sources.cidrs"),
    validation = Rule::new(
        "self.filter in ['AllowList', 'DenyList'] || !has(self.cidrs) || size(self.cidrs) == 0"
    )
    .message(
        "sources.cidrs has no effect with sources.filter All: remove it, or set sources.filter to \
         AllowList or DenyList"
    )
)]
pub struct Sources {
    /// `All` (the default): from everywhere. `AllowList`: from the addresses of the list. `DenyList`:
    /// from all but those.
    #[serde(default)]
    pub filter: SourceFilter,

    /// IPv4 and IPv6 addresses, and ranges of them such as `10.0.0.0/8`, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 49)))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(source, isIP(source) || isCIDR(source))").message(
            "each of sources.cidrs must be an IPv4 or IPv6 address, or a range such as 10.0.0.0/8"
        )
    )]
    pub cidrs: Vec<String>,
}

/// Which addresses count.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema,
)]
#[schemars(inline)]
pub enum SourceFilter {
    /// All.
    #[default]
    All,
    /// Those of the list.
    AllowList,
    /// All but those of the list.
    DenyList,
}

/// When a new secret is issued for the same key.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(format!(
    "!has(self.every) || !has(self.overlap) || !self.every.matches('{shape}') || !self.overlap.matches('{shape}') \
     || duration(self.overlap) <= duration(self.every) + duration(self.every) + duration(self.every)",
    shape = super::duration::SHAPE
))
.message(
    "rotation.overlap must be at most three times rotation.every, since four secrets are accepted at a time: set a \
     shorter overlap (it is 24h if absent), or a longer every"
))]
pub struct Rotation {
    /// Raise it to have a new secret issued for the same key: 1 (the default) to 2147483647, and
    /// never lower than before. The Secret is replaced, or created anew if it was taken away.
    #[serde(default = "first_revision")]
    #[schemars(range(min = 1, max = i32::MAX))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message(
        "rotation.revision only increases: set it to the value it had, or higher"
    ))]
    pub revision: i32,

    /// How long the previous secret stays valid after a rotation: `24h` by default, `0s` to
    /// `2160h`. With `0s` no older secret stays valid; otherwise each stays for the overlap that there
    /// was when it was replaced, but at most four are valid at a time. Whole numbers with the units
    /// `h`, `m`, `s` and `ms`; for 90 days write `2160h`.
    #[serde(default = "default_overlap")]
    #[x_kube(validation = Rule::new(format!(
        "!self.matches('{}') || duration(self) <= duration('2160h')",
        super::duration::SHAPE
    ))
    .message("rotation.overlap must be between 0s and 2160h (90 days)"))]
    pub overlap: GoDuration,

    /// How often a new secret is issued by itself: `1h` or more, written like `overlap`, counted from
    /// the last issue. Up to a tenth later, so that keys that were issued together rotate apart. The
    /// secret of a key that nobody may use stays the same, and a Secret that was taken away is not
    /// made again. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(format!(
        "!self.matches('{}') || duration(self) >= duration('1h')",
        super::duration::SHAPE
    ))
    .message("rotation.every must be at least 1h"))]
    pub every: Option<GoDuration>,
}

/// A key that was made elsewhere.
// Its rules are about the whole: of a field that breaks a rule the API server repeats the value, and
// somebody may put a secret there.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!self.key.startsWith('kws_')").message(
        "existing.key is the public part of the key, and this looks like a secret, which others may have seen now: \
         have a new one made, and put the key here"
    )
    .field_path(".key"),
    validation = Rule::new(schema::verifier())
        .message(schema::VERIFIER)
        .field_path(".verifier")
)]
pub struct ExistingKey {
    /// The public part, as devices present it: 1 to 128 letters, digits, `_` and `-`. Of two
    /// AccessKeys of a namespace with one key the older counts.
    #[schemars(length(max = 128), regex(pattern = "^[A-Za-z0-9_-]{1,128}$"))]
    pub key: String,

    /// The secret's argon2id hash, as a PHC string: what `keyward hash` prints, or a verifier from
    /// the status of another AccessKey. It may cost up to 64 MiB, 10 passes and 4 lanes.
    #[schemars(length(max = 256))]
    pub verifier: String,
}

/// The Secret that delivers key and secret.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// The Secret's name: the AccessKey's name by default. Immutable. A Secret of that name that
    /// is not this AccessKey's is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message(
        "secret.name must be a DNS subdomain name: lower-case letters, digits, '-' and '.', \
         beginning and ending with a letter or digit"
    ))]
    pub name: Option<String>,

    /// Labels for the Secret, at most 64, used when it is next published. Keys under
    /// `kubernetes.io/`, `k8s.io/` and `keyward.dev/` are reserved, but for `app.kubernetes.io/`
    /// other than `managed-by`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::secret_labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations for the Secret, at most 64 of at most 2048 characters, used when it is next
    /// published. Keys are reserved as for `labels`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::secret_annotations")]
    pub annotations: BTreeMap<String, String>,

    /// How long after key and secret were delivered the controller deletes the Secret, if nobody
    /// did: `1m` or more, written like `rotation.overlap`. The key stays valid. Leave it out where
    /// pods mount the Secret: they need it whenever they start. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(format!(
        "!self.matches('{}') || duration(self) >= duration('1m')",
        super::duration::SHAPE
    ))
    .message("secret.deleteAfter must be at least 1m"))]
    pub delete_after: Option<GoDuration>,

    /// The names of the Secret's two entries, such as `username` and `password` for a client that
    /// expects those. Immutable.
    #[serde(default)]
    pub keys: SecretKeys,
}

/// The names of the Secret's two entries.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message(
        "secret.keys is immutable: set it back, or create another AccessKey"
    ),
    validation = Rule::new("self.key != self.secret").message(
        "secret.keys.key and secret.keys.secret are the same: give the two entries different names"
    )
)]
pub struct SecretKeys {
    /// The name of the entry that holds the key: `key` by default. 1 to 253 letters, digits, `-`,
    /// `_` and `.`; not `type` or `provider`.
    #[serde(default = "default_key_entry")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    #[x_kube(validation = Rule::new(
        "self != '.' && !self.startsWith('..') && !(self in ['type', 'provider'])"
    )
    .message("secret.keys.key must not be '.', begin with '..', or be type or provider"))]
    pub key: String,

    /// The name of the entry that holds the secret: `secret` by default. Shaped like `key`.
    #[serde(default = "default_secret_entry")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    #[x_kube(validation = Rule::new(
        "self != '.' && !self.startsWith('..') && !(self in ['type', 'provider'])"
    )
    .message("secret.keys.secret must not be '.', begin with '..', or be type or provider"))]
    pub secret: String,
}

impl AccessKey {
    /// The name of the Secret that delivers this key.
    pub fn secret_name(&self) -> &str {
        let own = self.metadata.name.as_deref();
        self.spec.secret.name.as_deref().or(own).unwrap_or_default()
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            revision: first_revision(),
            overlap: default_overlap(),
            every: None,
        }
    }
}

impl Default for SecretKeys {
    fn default() -> Self {
        Self {
            key: default_key_entry(),
            secret: default_secret_entry(),
        }
    }
}

/// An object and nothing else: a list would be read as the fields in their order, and `[true]` as `allDevices: true`.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    // Some deserializers take null for an empty map.
    let fields = Option::<serde_json::Map<_, _>>::deserialize(from)?;
    let fields = fields.ok_or_else(|| D::Error::custom("null is no object"))?;
    T::deserialize(serde_json::Value::Object(fields)).map_err(D::Error::custom)
}

fn first_revision() -> i32 {
    1
}

fn default_overlap() -> GoDuration {
    GoDuration::from_hours(24)
}

fn default_key_entry() -> String {
    "key".into()
}

fn default_secret_entry() -> String {
    "secret".into()
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn restrictions_are_an_object_and_never_a_list() {
        let read =
            |restrictions| from_value::<AccessKeySpec>(json!({ "restrictions": restrictions }));
        assert!(read(json!({ "allDevices": true })).is_ok());
        for wrong in [
            json!([true]),
            json!([]),
            json!(null),
            json!("all"),
            json!({ "allDevices": "true" }),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
            let key = json!({
                "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
                "metadata": { "name": "key" }, "spec": { "restrictions": wrong },
            });
            // As watches read it.
            let guarded: DeserializeGuard<AccessKey> = from_value(key).expect("metadata");
            assert!(guarded.0.is_err(), "{wrong}");
        }
    }
}
