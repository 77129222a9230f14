//! What [`super::decide`] asks about: keys and devices as plain records.
//!
//! Gateways keep one of each key and Device, so they are small: what is rarely there takes no room.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use thiserror::Error;

use super::compact::{Few, Ids};
use super::issues::Dropped;
use crate::api::{
    self, AccessKey, AccessKeyStatus, Device, DeviceClass, KeyState, Restrictions, Tag, TagPair,
};
use crate::key::{Check, Secret};
use crate::sources::{Sources, UnreadableSources};
use crate::text::Text;
use crate::topics::{Grants, UnreadableFilter};
use crate::verifier::{Thumbprint, Verifier};

/// What counts of an AccessKey. What a decision reads lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct KeyRecord {
    key: Text,
    rare: Option<Box<Rare>>,
    pub(super) state: KeyState,
    pub(super) dropped: Dropped,
    pub(super) scope: Scope,
    pub(super) verifiers: Few<AcceptedVerifier>,
}

/// What most keys have nothing of.
#[derive(Clone, Debug)]
pub(super) struct Rare {
    pub validity: Validity,
    pub sources: Sources,
    grants: Grants,
    attempts: Vec<Check>,
}

static NOTHING_RARE: Rare = Rare {
    validity: Validity {
        not_before: None,
        expires_at: None,
    },
    sources: Sources::All,
    grants: Grants::None,
    attempts: Vec::new(),
};

impl KeyRecord {
    /// Reads an AccessKey. None when nothing was issued for it yet, or when it is being deleted,
    /// which counts as deleted.
    ///
    /// A verifier or check that cannot be read, or lies outside the caps of [`crate::verifier`],
    /// never matches; the others still do.
    ///
    /// # Errors
    /// When the restrictions, topics or sources are not such as the API server accepts. The key is
    /// to be treated as unknown then.
    pub fn of(access_key: &AccessKey) -> Result<Option<Self>, UnreadableKey> {
        let deleted = access_key.metadata.deletion_timestamp.is_some();
        let Some(status) = access_key.status.as_ref().filter(|_| !deleted) else {
            return Ok(None);
        };
        let Some(key) = status.key.as_deref() else {
            return Ok(None);
        };
        let spec = &access_key.spec;
        let rare = Rare {
            validity: Validity {
                not_before: spec.not_before.as_ref().map(|time| time.0),
                expires_at: spec.expires_at.as_ref().map(|time| time.0),
            },
            sources: Sources::of(&spec.sources)?,
            grants: Grants::of(&spec.topics)?,
            attempts: attempts_under_way(status),
        };
        Ok(Some(Self {
            key: key.into(),
            state: spec.state,
            dropped: Dropped::of(access_key),
            scope: Scope::of(&spec.restrictions)?,
            verifiers: accepted_verifiers(status),
            rare: rare.unless_nothing(),
        }))
    }

    /// The public identifier that the record is looked up by.
    pub fn key(&self) -> &Text {
        &self.key
    }

    /// Which devices the key admits.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What the key grants outside the topic root.
    pub fn grants(&self) -> &Grants {
        &self.rare().grants
    }

    /// The verifiers that are accepted until they end, the newest first.
    pub fn verifiers(&self) -> &[AcceptedVerifier] {
        &self.verifiers
    }

    /// Until when the key is valid.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.rare().validity.expires_at
    }

    /// Whether neither the key nor a secret of it begins or ends by the clock.
    pub fn is_timeless(&self) -> bool {
        let ends = |verifier: &AcceptedVerifier| verifier.valid_until().is_some();
        self.rare().validity == Validity::default() && !self.verifiers().iter().any(ends)
    }

    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// Keeps what was found out about the verifiers that an earlier record of the key shares.
    pub fn learn_from(&mut self, earlier: &KeyRecord) {
        for own in &mut *self.verifiers {
            let mut same = earlier.verifiers.iter();
            if let Some(known) = same.find(|known| known.hashed.verifier == own.hashed.verifier) {
                own.hashed = Arc::clone(&known.hashed);
            }
        }
    }

    /// Whether a secret of the key may have been made elsewhere, and look like anything.
    pub(super) fn was_taken_over(&self) -> bool {
        self.verifiers
            .iter()
            .any(|verifier| verifier.check.is_none())
    }

    /// Whether the secret may be one that is being issued.
    pub(super) fn is_under_way(&self, secret: &Secret) -> bool {
        let attempts = &self.rare().attempts;
        !attempts.is_empty() && attempts.contains(&Check::of(self.key(), secret))
    }
}

impl Rare {
    fn unless_nothing(self) -> Option<Box<Self>> {
        let is_nothing = self.validity == Validity::default()
            && self.sources == Sources::All
            && self.grants == Grants::None
            && self.attempts.is_empty();
        (!is_nothing).then(|| Box::new(self))
    }
}

/// When a key is valid.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Validity {
    /// The instant from which it is. None: from the beginning.
    not_before: Option<Timestamp>,
    /// The instant from which it is not any more. None: for ever.
    expires_at: Option<Timestamp>,
}

impl Validity {
    pub(super) fn begins_after(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.not_before.is_some_and(|begin| now() < begin)
    }

    pub(super) fn ended_before(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now())
    }
}

/// A verifier that a secret may match. What a decision reads lies together, and comes first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct AcceptedVerifier {
    /// What [`Hashed::matched`] holds, where it is looked for: the hash itself is mostly far away.
    matched: OnceLock<Digest>,
    /// Which issue of the key it came from.
    pub revision: i32,
    end: End,
    /// The hash.
    pub hashed: Arc<Hashed>,
    /// Names the hash.
    pub thumbprint: Thumbprint,
    /// What the secret's check must be. None for a secret that was not generated.
    pub check: Option<Check>,
}

/// A verifier, and what is known about the secret that it accepts. Shared by all records with it, so
/// that what is found out about one is known for those that replace it.
#[derive(Debug)]
pub struct Hashed {
    /// The hash.
    pub verifier: Verifier,
    /// A keyed digest of the secret that was found to match.
    pub matched: OnceLock<Digest>,
}

/// A keyed digest of a secret: whoever does not know the key guesses it once in 2^128.
pub type Digest = [u8; 16];

/// An instant, in nanoseconds since 1970, or [`End::NEVER`]: half as long as what it is read from.
#[derive(Clone, Copy, Debug)]
struct End(i64);

impl End {
    /// What would end after the year 2261 does not end either.
    const NEVER: End = End(i64::MAX);

    fn at(time: Timestamp) -> End {
        let nanos = time.as_nanosecond();
        End(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }

    fn time(self) -> Option<Timestamp> {
        let is_reached = self.0 != Self::NEVER.0;
        is_reached.then(|| Timestamp::from_nanosecond(self.0.into()).unwrap_or(Timestamp::MAX))
    }
}

impl AcceptedVerifier {
    fn of(accepted: &api::AcceptedVerifier) -> Option<Self> {
        let verifier = Verifier::parse(&accepted.verifier).ok()?;
        let check = accepted.check.as_deref().map(Check::parse);
        Some(Self {
            revision: accepted.revision,
            thumbprint: verifier.thumbprint(),
            hashed: Arc::new(Hashed {
                verifier,
                matched: OnceLock::new(),
            }),
            check: check.transpose().ok()?,
            end: accepted
                .valid_until
                .as_ref()
                .map_or(End::NEVER, |time| End::at(time.0)),
            matched: OnceLock::new(),
        })
    }

    /// The keyed digest of the secret that was found to match, by whichever record of the same hash; none until one was.
    pub fn matched(&self) -> Option<&Digest> {
        self.matched.get().or_else(|| {
            let matched = self.hashed.matched.get()?;
            Some(self.matched.get_or_init(|| *matched))
        })
    }

    /// Whether it is accepted now. `now` is asked only if it ends at all.
    pub fn is_valid(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.end.0 == End::NEVER.0 || now().as_nanosecond() < i128::from(self.end.0)
    }

    /// The instant from which it is no longer accepted. None: until it is retired.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.end.time()
    }

    /// Whether this is the secret that was hashed. Runs one hash.
    pub fn verifies(&self, secret: &Secret) -> bool {
        self.hashed.verifier.verifies(secret)
    }
}

/// Which devices a key admits.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Any device, whether a Device has its ID or not.
    AllDevices,
    /// The devices that the restrictions admit.
    Restricted(Restricted),
}

/// Devices that any of these admits.
#[derive(Clone, Debug)]
pub struct Restricted {
    /// Device IDs, compared exactly. A Device need not exist.
    ids: Ids,
    marks: Option<Box<Marks>>,
}

/// What Devices have to have, any of the two.
#[derive(Clone, Debug)]
struct Marks {
    /// Tags of which the Device must have one. A missing part stands for any.
    tags: Box<[TagPair]>,
    /// What the Device's labels must match, all of it.
    selector: Option<Selector>,
}

impl Scope {
    /// Reads restrictions.
    ///
    /// # Errors
    /// When they are not such as the API server accepts: admitting nobody, or more than they say.
    pub fn of(restrictions: &Restrictions) -> Result<Self, UnreadableKey> {
        let Restrictions {
            all_devices,
            device_ids,
            device_tags,
            device_selector,
        } = restrictions;
        let restricted = device_ids.is_some() || device_tags.is_some() || device_selector.is_some();
        match (all_devices, restricted) {
            (Some(true), false) => Ok(Self::AllDevices),
            (None, true) => {
                let marks = Marks {
                    tags: read_tags(device_tags.as_deref())?,
                    selector: device_selector.as_ref().map(read_selector).transpose()?,
                };
                let has_marks = device_tags.is_some() || device_selector.is_some();
                Ok(Self::Restricted(Restricted {
                    ids: read_ids(device_ids.as_deref())?,
                    marks: has_marks.then(|| Box::new(marks)),
                }))
            }
            (None, false) => Err(UnreadableKey::Empty("restrictions")),
            (Some(_), _) => Err(UnreadableKey::AllDevices),
        }
    }

    /// Whether every device is admitted.
    pub fn admits_all(&self) -> bool {
        matches!(self, Self::AllDevices)
    }

    /// The devices that are admitted by their ID, whether Devices have these or not.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        let restricted = match self {
            Self::AllDevices => None,
            Self::Restricted(restricted) => Some(restricted),
        };
        restricted.into_iter().flat_map(|own| own.ids.iter())
    }

    /// Whether devices are admitted by what their Devices say.
    pub fn asks_devices(&self) -> bool {
        matches!(self, Self::Restricted(Restricted { marks: Some(_), .. }))
    }

    /// Whether the device with this ID is admitted; `device` is the record of the Device that has
    /// it, if any.
    pub fn admits(&self, device_id: &str, device: Option<&DeviceRecord>) -> bool {
        let Self::Restricted(restricted) = self else {
            return true;
        };
        let marks = restricted.marks.as_ref().zip(device);
        restricted.ids.hold(device_id) || marks.is_some_and(|(marks, device)| marks.are_on(device))
    }
}

impl Marks {
    fn are_on(&self, device: &DeviceRecord) -> bool {
        let matches = |selector: &Selector| selector.matches(&device.labels);
        self.tags.iter().any(|pair| device.has_tag(pair))
            || self.selector.as_ref().is_some_and(matches)
    }
}

/// What counts of a Device.
#[derive(Clone, Debug)]
pub struct DeviceRecord {
    id: Text,
    class: DeviceClass,
    gateway: Option<Box<str>>,
    tags: Box<[Tag]>,
    labels: BTreeMap<String, String>,
    pub(super) disabled: bool,
}

impl DeviceRecord {
    /// Reads a Device. Of two with one ID, and of one that is being deleted, nothing is known here:
    /// see [`crate::devices`].
    pub fn of(device: &Device) -> Self {
        let spec = &device.spec;
        Self {
            id: device.device_id().into(),
            class: spec.class,
            gateway: spec.gateway.as_deref().map(Into::into),
            tags: spec.tags.clone().into(),
            labels: device.metadata.labels.clone().unwrap_or_default(),
            disabled: spec.disabled,
        }
    }

    /// Of a Device that cannot be read: of its device nothing is known but that it has this ID, and
    /// it is refused.
    pub fn refused(id: &str) -> Self {
        Self {
            id: id.into(),
            class: DeviceClass::default(),
            gateway: None,
            tags: [].into(),
            labels: BTreeMap::new(),
            disabled: true,
        }
    }

    /// The device's ID.
    pub fn id(&self) -> &Text {
        &self.id
    }

    /// What the device is.
    pub fn class(&self) -> DeviceClass {
        self.class
    }

    /// The ID of the one gateway that speaks for this peripheral.
    pub fn gateway(&self) -> Option<&str> {
        self.gateway.as_deref()
    }

    fn has_tag(&self, pair: &TagPair) -> bool {
        let is =
            |wanted: &Option<String>, part: &str| wanted.as_deref().is_none_or(|text| text == part);
        self.tags
            .iter()
            .any(|tag| is(&pair.key, &tag.key) && is(&pair.value, &tag.value))
    }
}

/// Why an AccessKey cannot be read. It was written under another schema; its key admits nobody.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UnreadableKey {
    /// `allDevices` is not `true` alone.
    #[error(
        "restrictions.allDevices can only be true, and only alone: remove it, or everything else"
    )]
    AllDevices,
    /// A field that may be absent, but not empty.
    #[error("{0} is empty: it must name at least one device, tag or label")]
    Empty(&'static str),
    /// A tag pair that would match every tag.
    #[error("restrictions.deviceTags has an entry with neither key nor value: set one of the two")]
    EmptyTag,
    /// A requirement that is no label selector's.
    #[error(
        "restrictions.deviceSelector is not valid at the label {0:?}: check operator and values"
    )]
    Selector(String),
    /// Topics.
    #[error(transparent)]
    Topics(#[from] UnreadableFilter),
    /// Sources.
    #[error(transparent)]
    Sources(#[from] UnreadableSources),
}

/// The newest first, and no more than the API allows: each may cost a hash.
fn accepted_verifiers(status: &AccessKeyStatus) -> Few<AcceptedVerifier> {
    let newest_first = status.verifiers.iter().rev().take(MAX_VERIFIERS);
    newest_first.filter_map(AcceptedVerifier::of).collect()
}

fn attempts_under_way(status: &AccessKeyStatus) -> Vec<Check> {
    let attempts = status
        .issuance
        .iter()
        .flat_map(|issuance| &issuance.attempts);
    attempts
        .filter_map(|attempt| Check::parse(&attempt.check).ok())
        .collect()
}

fn read_ids(ids: Option<&[String]>) -> Result<Ids, UnreadableKey> {
    if ids.is_some_and(<[String]>::is_empty) {
        return Err(UnreadableKey::Empty("restrictions.deviceIds"));
    }
    Ok(Ids::of(ids.unwrap_or_default()))
}

fn read_tags(tags: Option<&[TagPair]>) -> Result<Box<[TagPair]>, UnreadableKey> {
    let pairs = tags.unwrap_or_default();
    if tags.is_some_and(<[TagPair]>::is_empty) {
        return Err(UnreadableKey::Empty("restrictions.deviceTags"));
    }
    if pairs
        .iter()
        .any(|pair| pair.key.is_none() && pair.value.is_none())
    {
        return Err(UnreadableKey::EmptyTag);
    }
    Ok(pairs.into())
}

/// Stricter than the conversion it ends in, which takes `NotIn` without values for a requirement
/// that everything meets.
fn read_selector(selector: &LabelSelector) -> Result<Selector, UnreadableKey> {
    for requirement in selector.match_expressions.iter().flatten() {
        let has_values = requirement
            .values
            .as_ref()
            .is_some_and(|values| !values.is_empty());
        let wants_values = match requirement.operator.as_str() {
            "In" | "NotIn" => true,
            "Exists" | "DoesNotExist" => false,
            _ => return Err(UnreadableKey::Selector(requirement.key.clone())),
        };
        if has_values != wants_values {
            return Err(UnreadableKey::Selector(requirement.key.clone()));
        }
    }
    let selector = Selector::try_from(selector.clone());
    let selector = selector.map_err(|error| UnreadableKey::Selector(error.to_string()))?;
    if selector.selects_all() {
        return Err(UnreadableKey::Empty("restrictions.deviceSelector"));
    }
    Ok(selector)
}

/// The bound of `status.verifiers` in the schema.
const MAX_VERIFIERS: usize = 4;
