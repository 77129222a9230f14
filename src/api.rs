//! The API group `keyward.dev/v1alpha1`: [`AccessKey`] and [`Device`].
//!
//! Types, schema and validation rules only. The doc comments below become the descriptions that
//! `kubectl explain accesskey.spec` prints, so they speak to people who write manifests. Each rule
//! that the API server can check is written beside the field it guards: as a bound or a pattern
//! where that says enough, and in CEL where it takes a sentence to say what to change.

mod access_key;
mod device;
mod duration;
pub(crate) mod schema;
mod status;

pub use access_key::{
    AccessKey, AccessKeySpec, ExistingKey, KeyState, Restrictions, Rotation, SecretKeys,
    SecretTemplate, SourceFilter, Sources, TagPair, TopicFilter, Topics,
};
pub use device::{Device, DeviceClass, DeviceSpec, DeviceStatus, Tag};
pub use duration::{GoDuration, ParseDurationError};
pub use status::{
    AcceptedVerifier, AccessKeyStatus, Attempt, Binding, Delivery, EffectiveState, Issuance,
    Unsettled,
};

/// The group of the API.
pub const GROUP: &str = "keyward.dev";

/// The version of the API.
pub const VERSION: &str = "v1alpha1";
