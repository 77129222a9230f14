//! `Device`: what is known about a device beyond its ID.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::schema;

/// What is known about the device.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "keyward.dev",
    version = "v1alpha1",
    kind = "Device",
    namespaced,
    status = "DeviceStatus",
    derive = "PartialEq",
    shortname = "kwd",
    category = "keyward",
    doc = "What is known about one device of this namespace: its tags, its class, its gateway. \
           Devices need no such object to use an access key, unless a key is restricted by tags or \
           labels. An object's labels count for `restrictions.deviceSelector` of an AccessKey.",
    selectable = ".spec.deviceId",
    printcolumn(name = "Id", type_ = "string", json_path = ".spec.deviceId"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(
        name = "Gateway",
        type_ = "string",
        json_path = ".spec.gateway",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "has(self.spec.deviceId) || self.metadata.name.matches('^[a-z0-9-]{1,64}$')"
    )
    .message(
        "the Device's name stands for its ID, which has at most 64 letters, digits, '_' and '-': \
         set spec.deviceId, or choose a name without '.'"
    )
    .field_path(".spec.deviceId"),
    validation = Rule::new(
        "(has(self.spec.deviceId) ? self.spec.deviceId : self.metadata.name) \
         == (has(oldSelf.spec.deviceId) ? oldSelf.spec.deviceId : oldSelf.metadata.name)"
    )
    .message(
        "deviceId is immutable (it is the Device's name if absent): set it back, or create another \
         Device"
    )
    .field_path(".spec.deviceId")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.gateway) || self.class == 'Peripheral'")
    .message("gateway is only for class Peripheral: remove it, or set class: Peripheral")
    .field_path(".gateway"))]
pub struct DeviceSpec {
    /// The device's ID, as it presents it: 1 to 64 letters, digits, `_` and `-`. The object's name
    /// by default. Immutable. Of two Devices with one ID the older counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = schema::DEVICE_ID))]
    pub device_id: Option<String>,

    /// Tags, at most 100; a key may appear more than once. An AccessKey's
    /// `restrictions.deviceTags` looks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tags: Vec<Tag>,

    /// What the device is: `Standalone` (the default), `Gateway`, `Peripheral` or `System`.
    #[serde(default)]
    pub class: DeviceClass,

    /// The device ID of the gateway that speaks for this peripheral. Absent: any gateway of the
    /// namespace may. Only for `class: Peripheral`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = schema::DEVICE_ID))]
    pub gateway: Option<String>,

    /// `true`: the device is refused, whatever key it presents. `false` by default.
    #[serde(default)]
    pub disabled: bool,

    /// What the device is, in your own words. At most 1024 characters. Nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// What a device is, which decides what it may do.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, schemars::JsonSchema,
)]
#[schemars(inline)]
pub enum DeviceClass {
    /// Speaks for itself.
    #[default]
    Standalone,
    /// Speaks for itself and for its peripherals.
    Gateway,
    /// Never authenticates: a gateway speaks for it.
    Peripheral,
    /// Never authenticates: stands for a group or a service.
    System,
}

/// One tag of a device.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// The tag's key, 1 to 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub key: String,

    /// The tag's value, 1 to 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub value: String,
}

/// What the controller found. Written only for a Device that has, or had, a conflict.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// `Ready` is `False`, with the reason `DuplicateDeviceId`, while an older Device has the same
    /// ID: this one then counts for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

impl Device {
    /// The ID that this object is about.
    pub fn device_id(&self) -> &str {
        let own = self.metadata.name.as_deref();
        self.spec.device_id.as_deref().or(own).unwrap_or_default()
    }
}
