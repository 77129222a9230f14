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
//! | has its time begun? | [`Reason::NotYetValid`] |
//! | has it not ended? | [`Reason::Expired`] |
//! | may the key be used from the client's address? | [`Reason::Source`] |
//! | if a Device has to have the ID: does one? | [`Reason::NotRegistered`] |
//! | if a Device has the ID: may its class authenticate? | [`Reason::DeviceClass`] |
//! | if a Device has the ID: is it enabled? | [`Reason::DeviceDisabled`] |
//! | do the restrictions admit the device? | [`Reason::OutOfScope`] |
//! | does the secret match an accepted verifier that is still valid? | see below |
//!
//! A secret that matches none is [`Reason::BadSecret`], unless it may be one that is being issued:
//! then the answer is [`Decision::Unavailable`], since a device can read its Secret a moment before
//! the controller has confirmed it, and some clients stop for good when they are refused.
//!
//! [`stands`] asks the same of a session that was admitted before, without its secret.
//!
//! What cannot be read denies: [`KeyRecord::of`] refuses whatever the API server would have
//! refused, and without a record a key is unknown.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::api::{DeviceClass, KeyState};
use crate::devices::is_device_id;
use crate::key::{Check, Secret, is_foreign_secret, is_secret};
use crate::sources::Sources;
use crate::text::Text;
use crate::topics::{Reach, Relation};

mod compact;
mod issues;
mod records;

pub use issues::Issues;
use records::Rare;
pub use records::{
    AcceptedVerifier, DeviceRecord, Digest, Hashed, KeyRecord, Scope, UnreadableKey,
};

/// What is known about who asks: the key that was presented, and the Device that has the ID.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The record of the key.
    pub key: Option<&'a KeyRecord>,
    /// The record of the Device that has the presented ID; [`crate::devices::elect`] tells which.
    pub device: Option<&'a DeviceRecord>,
    /// Whether only registered devices are admitted: those that a Device stands for.
    pub requires_registration: bool,
}

/// Decides whether a device may have a session.
///
/// `now` is wall time. `matches` says whether a secret is the one that was hashed, as
/// [`crate::verifier::Verifier::verifies`] does; it is asked only about verifiers that are accepted
/// now, and not when a check already says no.
pub fn decide(
    known: Known<'_>,
    presented: &Presented<'_>,
    now: Timestamp,
    matches: impl FnMut(&AcceptedVerifier, &Secret) -> bool,
) -> Decision {
    decide_from_memory(known, presented, now, &mut Forgetful(matches))
}

/// Says whether a secret is the one that was hashed.
pub trait Matches {
    /// Without a hash, and before the check is compared; none if that is not known.
    fn remembers(&mut self, verifier: &AcceptedVerifier) -> Option<bool>;

    /// With a hash, if need be.
    fn matches(&mut self, verifier: &AcceptedVerifier, secret: &Secret) -> bool;
}

struct Forgetful<F>(F);

impl<F: FnMut(&AcceptedVerifier, &Secret) -> bool> Matches for Forgetful<F> {
    fn remembers(&mut self, _: &AcceptedVerifier) -> Option<bool> {
        None
    }

    fn matches(&mut self, verifier: &AcceptedVerifier, secret: &Secret) -> bool {
        self.0(verifier, secret)
    }
}

/// The same as [`decide`], by somebody who remembers matches.
pub fn decide_from_memory(
    known: Known<'_>,
    presented: &Presented<'_>,
    now: Timestamp,
    matches: &mut impl Matches,
) -> Decision {
    if !presented.is_well_formed(known.key) {
        return Decision::Deny(Reason::Malformed);
    }
    let from = |sources: &Sources| sources.admit(presented.source);
    let record = match admitting(known, presented.device_id, from, || now) {
        Ok(record) => record,
        Err(reason) => return Decision::Deny(reason),
    };
    let Ok(secret) = Secret::foreign(presented.secret) else {
        return Decision::Deny(Reason::BadSecret);
    };
    match accepted(record, &secret, now, matches) {
        Some(verifier) => Decision::Allow(session(known, presented, record, verifier)),
        None if record.is_under_way(&secret) => Decision::Unavailable,
        None => Decision::Deny(Reason::BadSecret),
    }
}

/// The session that [`decide`] would allow, if somebody remembers that the secret matches. What is told of the device
/// without its secret is asked first: it lies far away, and comes while whoever remembers makes a digest. `now` is asked
/// only if the answer depends on it, which it rarely does.
pub fn recognise(
    known: Known<'_>,
    presented: &Presented<'_>,
    now: impl Fn() -> Timestamp,
    mut remembers: impl FnMut(&AcceptedVerifier) -> bool,
) -> Option<Session> {
    // A secret that matches is well formed.
    let from = |sources: &Sources| sources.admit(presented.source);
    let record = admitting(known, presented.device_id, from, &now).ok()?;
    let mut valid = record.verifiers.iter();
    let verifier = valid.find(|verifier| verifier.is_valid(&now) && remembers(verifier))?;
    is_device_id(presented.device_id).then(|| session(known, presented, record, verifier))
}

fn session(
    known: Known<'_>,
    presented: &Presented<'_>,
    record: &KeyRecord,
    verifier: &AcceptedVerifier,
) -> Session {
    Session {
        namespace: presented.namespace.into(),
        key: record.key().clone(),
        device_id: presented.device_id.into(),
        class: known.device.map(DeviceRecord::class).unwrap_or_default(),
        revision: Some(verifier.revision),
        source: presented.source,
    }
}

/// Decides whether a session that was admitted once would be admitted now, its secret being what it
/// was. `known` is about its key and its device; `now` is asked as by [`recognise`].
///
/// # Errors
/// Why it would be refused.
pub fn stands(
    known: Known<'_>,
    session: &Session,
    now: impl Fn() -> Timestamp,
) -> Result<(), Reason> {
    let from = |sources: &Sources| sources.admit(session.source);
    let record = admitting(known, &session.device_id, from, &now)?;
    let is_accepted = |verifier: &AcceptedVerifier| {
        verifier.is_valid(&now) && session.revision.is_none_or(|own| own == verifier.revision)
    };
    let is_accepted = record.verifiers.iter().any(is_accepted);
    is_accepted.then_some(()).ok_or(Reason::BadSecret)
}

/// Decides whether a device that was admitted once, and is away, might be admitted if it came now, from where it may come
/// from. `known` is about its key and itself; `now` is asked as by [`recognise`].
///
/// # Errors
/// Why it would be refused.
pub fn may_return(
    known: Known<'_>,
    device_id: &str,
    now: impl Fn() -> Timestamp,
) -> Result<(), Reason> {
    let record = admitting(known, device_id, |_| true, &now)?;
    let mut verifiers = record.verifiers.iter();
    let has_secret = verifiers.any(|verifier| verifier.is_valid(&now));
    has_secret.then_some(()).ok_or(Reason::BadSecret)
}

/// What a target device is to the device with this ID that has a session; `known` is about the
/// session's key and device, `target` the record of the Device that has the ID `target_id`.
pub fn relation(
    known: Known<'_>,
    device_id: &str,
    target_id: &str,
    target: Option<&DeviceRecord>,
) -> Relation {
    if target_id == device_id {
        return Relation::Itself;
    }
    let is_admitted = known
        .key
        .is_some_and(|key| key.scope.admits(target_id, target));
    let is_gateway = known.device.map(DeviceRecord::class) == Some(DeviceClass::Gateway);
    let speaks_for = |target: &DeviceRecord| {
        is_gateway
            && target.class() == DeviceClass::Peripheral
            && !target.disabled
            && target
                .gateway()
                .map_or(is_admitted, |gateway| gateway == device_id)
    };
    match target.is_some_and(speaks_for) {
        true => Relation::Peripheral,
        false if is_admitted => Relation::Admitted,
        false => Relation::Other,
    }
}

/// What the device with this ID reaches that has a session; `known` is about the session's key and device, `devices` are
/// all of the namespace. None without a key.
pub fn reach<'a>(
    known: Known<'_>,
    device_id: &str,
    devices: impl Iterator<Item = &'a DeviceRecord>,
) -> Option<Reach> {
    let key = known.key?;
    let (scope, all) = (key.scope(), key.scope().admits_all());
    let is_gateway = known.device.map(DeviceRecord::class) == Some(DeviceClass::Gateway);
    let mut admitted: Vec<Text> = scope.listed().map(Text::from).collect();
    let mut peripherals = Vec::new();
    let to_ask = (scope.asks_devices() || is_gateway).then_some(devices);
    for device in to_ask.into_iter().flatten() {
        if !all && scope.admits(device.id(), Some(device)) {
            admitted.push(device.id().clone());
        }
        if relation(known, device_id, device.id(), Some(device)) == Relation::Peripheral {
            peripherals.push(device.id().clone());
        }
    }
    admitted.sort_unstable();
    admitted.dedup();
    peripherals.sort_unstable();
    Some(Reach {
        all,
        admitted,
        peripherals,
        grants: key.grants().clone(),
    })
}

/// What a client presents. Has no `Debug`: the secret is plaintext.
pub struct Presented<'a> {
    /// The namespace that key and device are looked for in.
    pub namespace: &'a str,
    /// The key, by which its record is found.
    pub key: &'a str,
    /// The device ID, without any prefix.
    pub device_id: &'a str,
    /// The secret.
    pub secret: &'a str,
    /// The client's address, if it is known.
    pub source: Option<IpAddr>,
}

impl Presented<'_> {
    /// A secret that was taken over may be anything.
    fn is_well_formed(&self, record: Option<&KeyRecord>) -> bool {
        let is_lawful = match record.is_some_and(KeyRecord::was_taken_over) {
            true => is_foreign_secret,
            false => is_secret,
        };
        is_device_id(self.device_id) && is_lawful(self.secret)
    }
}

/// The answer of [`decide`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision<T = Session> {
    /// The device is admitted, or may do what it asks for.
    Allow(T),
    /// The device is refused.
    Deny(Reason),
    /// Nobody can tell yet: the device is to try again. Never to be taken for an Allow.
    Unavailable,
}

impl<T> Decision<T> {
    /// What is allowed; or what to answer to whoever is refused, or is to try again.
    ///
    /// # Errors
    /// One of the two, unless it is an Allow.
    pub fn allowed_or<E>(self, refused: E, try_again: E) -> Result<T, E> {
        match self {
            Self::Allow(allowed) => Ok(allowed),
            Self::Deny(_) => Err(refused),
            Self::Unavailable => Err(try_again),
        }
    }
}

/// What a device was admitted as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The namespace of the key and of the device.
    pub namespace: Text,
    /// The key that admitted it.
    pub key: Text,
    /// The device's ID.
    pub device_id: Text,
    /// The class of its Device, or `Standalone` where none has this ID.
    pub class: DeviceClass,
    /// Which issue of the key its secret came from; none where that is not known any more.
    pub revision: Option<i32>,
    /// From where it was admitted, if that is known.
    pub source: Option<IpAddr>,
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
    /// The key's time has not begun.
    NotYetValid,
    /// The key's time has ended.
    Expired,
    /// The key may not be used from the client's address.
    Source,
    /// No Device has the device ID, and one has to.
    NotRegistered,
    /// Devices of this class never authenticate.
    DeviceClass,
    /// The device is disabled.
    DeviceDisabled,
    /// The key's restrictions do not admit the device.
    OutOfScope,
    /// The secret is not one that is accepted now.
    BadSecret,
    /// The secret would have to be hashed, and too many were for this key and this address.
    Throttled,
    /// The session's device may not do this with the topic.
    Topic,
}

impl Reason {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::Inactive,
        Self::NotYetValid,
        Self::Expired,
        Self::Source,
        Self::NotRegistered,
        Self::DeviceClass,
        Self::DeviceDisabled,
        Self::OutOfScope,
        Self::BadSecret,
        Self::Throttled,
        Self::Topic,
    ];

    /// The reason as one word, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Inactive => "inactive",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Source => "source",
            Self::NotRegistered => "not_registered",
            Self::DeviceClass => "device_class",
            Self::DeviceDisabled => "device_disabled",
            Self::OutOfScope => "out_of_scope",
            Self::BadSecret => "bad_secret",
            Self::Throttled => "throttled",
            Self::Topic => "topic",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the device ID or the secret is not well formed",
            Self::UnknownKey => "no access key of this namespace has this key",
            Self::Inactive => "the key is inactive",
            Self::NotYetValid => "the key is not valid yet",
            Self::Expired => "the key has expired",
            Self::Source => "the key may not be used from the client's address",
            Self::NotRegistered => {
                "no Device has the device ID, and only registered devices are admitted"
            }
            Self::DeviceClass => "devices of class Peripheral or System never authenticate",
            Self::DeviceDisabled => "the device is disabled",
            Self::OutOfScope => "the key's restrictions do not admit the device",
            Self::BadSecret => "the secret is not one that the key accepts now",
            Self::Throttled => "too many secrets were tried for the key from the client's address",
            Self::Topic => "the device may not do this with the topic",
        })
    }
}

/// The cheap questions, in their order.
fn admitting<'a>(
    known: Known<'a>,
    device_id: &str,
    is_from_there: impl FnOnce(&Sources) -> bool,
    now: impl Fn() -> Timestamp,
) -> Result<&'a KeyRecord, Reason> {
    let Known { key, device, .. } = known;
    debug_assert!(
        device.is_none_or(|device| *device.id() == *device_id),
        "the record of another device"
    );
    let record = key.ok_or(Reason::UnknownKey)?;
    let Rare {
        validity, sources, ..
    } = record.rare();
    let class = device.map(DeviceRecord::class).unwrap_or_default();
    let refused = if record.state != KeyState::Active {
        Reason::Inactive
    } else if validity.begins_after(&now) {
        Reason::NotYetValid
    } else if validity.ended_before(&now) {
        Reason::Expired
    } else if !is_from_there(sources) {
        Reason::Source
    } else if known.requires_registration && device.is_none() {
        Reason::NotRegistered
    } else if matches!(class, DeviceClass::Peripheral | DeviceClass::System) {
        Reason::DeviceClass
    } else if device.is_some_and(|device| device.disabled) {
        Reason::DeviceDisabled
    } else if !record.scope.admits(device_id, device) {
        Reason::OutOfScope
    } else {
        return Ok(record);
    };
    Err(refused)
}

/// The verifier that the secret matches, of those that are accepted now.
fn accepted<'a>(
    record: &'a KeyRecord,
    secret: &Secret,
    now: Timestamp,
    matches: &mut impl Matches,
) -> Option<&'a AcceptedVerifier> {
    let mut check = None;
    let mut is_matched = |verifier: &AcceptedVerifier| {
        if let Some(is_known) = matches.remembers(verifier) {
            return is_known;
        }
        let passes =
            |own: &Check| own == check.get_or_insert_with(|| Check::of(record.key(), secret));
        verifier.check.as_ref().is_none_or(passes) && matches.matches(verifier, secret)
    };
    let valid = record.verifiers.iter();
    let mut valid = valid.filter(|verifier| verifier.is_valid(|| now));
    valid.find(|verifier| is_matched(verifier))
}

#[cfg(test)]
mod tests;
