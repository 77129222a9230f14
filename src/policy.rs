//! Who is admitted: one pure function over plain records.
//!
//! [`decide`] asks these questions in this order, and the first "no" is the answer. The secret
//! comes last, because it is the only question that can cost a hash.
//!
//! | question | if not |
//! |---|---|
//! | is the device ID well formed, and the secret? | [`Reason::Malformed`] |
//! | is there a record for the key? | [`Reason::UnknownKey`] |
//! | is the key active? | [`Reason::Inactive`] |
//! | if a Device has the ID: may its class authenticate? | [`Reason::DeviceClass`] |
//! | if a Device has the ID: is it enabled? | [`Reason::DeviceDisabled`] |
//! | do the restrictions admit the device? | [`Reason::OutOfScope`] |
//! | does the secret match an accepted verifier that is still valid? | see below |
//!
//! A secret that matches none is [`Reason::BadSecret`], unless it may be one that is being issued:
//! then the answer is [`Decision::Unavailable`], since a device can read its Secret a moment before
//! the controller has confirmed it, and some clients stop for good when they are refused.
//!
//! What cannot be read denies: [`KeyRecord::of`] refuses whatever the API server would have
//! refused, and without a record a key is unknown.

use std::fmt;

use jiff::Timestamp;

use crate::api::{DeviceClass, KeyState};
use crate::devices::is_device_id;
use crate::key::{Check, Secret};

mod records;

pub use records::{AcceptedVerifier, DeviceRecord, KeyRecord, Scope, UnreadableKey};

/// Decides whether a device may have a session.
///
/// `record` is that of the presented key, `device` that of the Device that has the presented ID
/// ([`crate::devices::elect`] tells which), and `now` is wall time. `matches` says whether a secret
/// is the one that was hashed, by [`crate::verifier::Verifier::verifies`] or from a cache of its
/// answers; it is asked only about verifiers that are accepted now, and not when a check already
/// says no.
pub fn decide(
    record: Option<&KeyRecord>,
    device: Option<&DeviceRecord>,
    presented: &Presented<'_>,
    now: Timestamp,
    matches: impl FnMut(&AcceptedVerifier, &Secret) -> bool,
) -> Decision {
    let Some(secret) = presented.well_formed() else {
        return Decision::Deny(Reason::Malformed);
    };
    let Some(record) = record else {
        return Decision::Deny(Reason::UnknownKey);
    };
    if let Some(reason) = refusal(record, device, presented.device_id) {
        return Decision::Deny(reason);
    }
    let check = Check::of(&record.key, &secret);
    if let Some(verifier) = accepted(record, &check, &secret, now, matches) {
        return Decision::Allow(session(record, device, presented.device_id, verifier));
    }
    if record.attempts.contains(&check) {
        return Decision::Unavailable;
    }
    Decision::Deny(Reason::BadSecret)
}

/// What a client presents, beside the key that its record was looked up by. Has no `Debug`: the
/// secret is plaintext.
pub struct Presented<'a> {
    /// The device ID, without any prefix.
    pub device_id: &'a str,
    /// The secret.
    pub secret: &'a str,
}

impl Presented<'_> {
    fn well_formed(&self) -> Option<Secret> {
        if !is_device_id(self.device_id) {
            return None;
        }
        Secret::parse(self.secret).ok()
    }
}

/// The answer of [`decide`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The device is admitted.
    Allow(Session),
    /// The device is refused.
    Deny(Reason),
    /// Nobody can tell yet: the device is to try again. Never to be taken for an Allow.
    Unavailable,
}

/// What a device was admitted as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The key that admitted it.
    pub key: String,
    /// The device's ID.
    pub device_id: String,
    /// The class of its Device, or `Standalone` where none has this ID.
    pub class: DeviceClass,
    /// Which issue of the key its secret came from.
    pub revision: i32,
}

/// Why a device is refused. For logs, metrics and administrators; clients are told none of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// The device ID or the secret is not well formed.
    Malformed,
    /// No access key has this key.
    UnknownKey,
    /// The key is inactive.
    Inactive,
    /// Devices of this class never authenticate.
    DeviceClass,
    /// The device is disabled.
    DeviceDisabled,
    /// The key's restrictions do not admit the device.
    OutOfScope,
    /// The secret is not one that is accepted now.
    BadSecret,
}

impl Reason {
    /// The reason as one word, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Inactive => "inactive",
            Self::DeviceClass => "device_class",
            Self::DeviceDisabled => "device_disabled",
            Self::OutOfScope => "out_of_scope",
            Self::BadSecret => "bad_secret",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the device ID or the secret is not well formed",
            Self::UnknownKey => "no access key of this namespace has this key",
            Self::Inactive => "the key is inactive",
            Self::DeviceClass => "devices of class Peripheral or System never authenticate",
            Self::DeviceDisabled => "the device is disabled",
            Self::OutOfScope => "the key's restrictions do not admit the device",
            Self::BadSecret => "the secret is not one that the key accepts now",
        })
    }
}
/// The cheap questions, in their order.
fn refusal(record: &KeyRecord, device: Option<&DeviceRecord>, device_id: &str) -> Option<Reason> {
    debug_assert!(
        device.is_none_or(|device| device.id == device_id),
        "the record of another device"
    );
    let class = device.map(|device| device.class).unwrap_or_default();
    if record.state != KeyState::Active {
        return Some(Reason::Inactive);
    }
    if matches!(class, DeviceClass::Peripheral | DeviceClass::System) {
        return Some(Reason::DeviceClass);
    }
    if device.is_some_and(|device| device.disabled) {
        return Some(Reason::DeviceDisabled);
    }
    (!record.scope.admits(device_id, device)).then_some(Reason::OutOfScope)
}
/// The verifier that the secret matches, of those that are accepted now.
fn accepted<'a>(
    record: &'a KeyRecord,
    check: &Check,
    secret: &Secret,
    now: Timestamp,
    mut matches: impl FnMut(&AcceptedVerifier, &Secret) -> bool,
) -> Option<&'a AcceptedVerifier> {
    let mut candidates = record
        .verifiers
        .iter()
        .filter(|verifier| may_match(verifier, check, now));
    candidates.find(|verifier| matches(verifier, secret))
}

fn may_match(verifier: &AcceptedVerifier, check: &Check, now: Timestamp) -> bool {
    let valid = verifier.valid_until.is_none_or(|end| now < end);
    valid && verifier.check.as_ref().is_none_or(|own| own == check)
}

fn session(
    record: &KeyRecord,
    device: Option<&DeviceRecord>,
    device_id: &str,
    verifier: &AcceptedVerifier,
) -> Session {
    Session {
        key: record.key.clone(),
        device_id: device_id.to_owned(),
        class: device.map(|device| device.class).unwrap_or_default(),
        revision: verifier.revision,
    }
}

#[cfg(test)]
mod tests;
