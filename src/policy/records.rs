//! What [`super::decide`] asks about: keys and devices as plain records.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use thiserror::Error;

use crate::api::{
    self, AccessKey, AccessKeyStatus, Device, DeviceClass, KeyState, Restrictions, Tag, TagPair,
};
use crate::key::Check;
use crate::verifier::Verifier;

/// What counts of an AccessKey.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    pub(super) key: String,
    pub(super) state: KeyState,
    pub(super) scope: Scope,
    pub(super) verifiers: Vec<AcceptedVerifier>,
    pub(super) attempts: Vec<Check>,
}

impl KeyRecord {
    /// Reads an AccessKey. None when nothing was issued for it yet, or when it is being deleted,
    /// which counts as deleted.
    ///
    /// A verifier or check that cannot be read, or lies outside the caps of [`crate::verifier`],
    /// never matches; the others still do.
    ///
    /// # Errors
    /// When the restrictions are not such as the API server accepts. The key is to be treated as
    /// unknown then.
    pub fn of(access_key: &AccessKey) -> Result<Option<Self>, UnreadableKey> {
        let deleted = access_key.metadata.deletion_timestamp.is_some();
        let Some(status) = access_key.status.as_ref().filter(|_| !deleted) else {
            return Ok(None);
        };
        let Some(key) = status.key.clone() else {
            return Ok(None);
        };
        Ok(Some(Self {
            key,
            state: access_key.spec.state,
            scope: Scope::of(&access_key.spec.restrictions)?,
            verifiers: accepted_verifiers(status),
            attempts: attempts_under_way(status),
        }))
    }

    /// The public identifier that the record is looked up by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which devices the key admits.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// A verifier that a secret may match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcceptedVerifier {
    /// Which issue of the key it came from.
    pub revision: i32,
    /// The hash.
    pub verifier: Verifier,
    /// What the secret's check must be. None for a secret that was not generated.
    pub check: Option<Check>,
    /// The instant from which it is no longer accepted. None: until it is retired.
    pub valid_until: Option<Timestamp>,
}

impl AcceptedVerifier {
    fn of(accepted: &api::AcceptedVerifier) -> Option<Self> {
        Some(Self {
            revision: accepted.revision,
            verifier: Verifier::parse(&accepted.verifier).ok()?,
            check: accepted
                .check
                .as_deref()
                .map(Check::parse)
                .transpose()
                .ok()?,
            valid_until: accepted.valid_until.as_ref().map(|time| time.0),
        })
    }
}

/// Which devices a key admits.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Any device, whether a Device has its ID or not.
    AllDevices,
    /// The devices that any of the three admits.
    Restricted {
        /// Device IDs, compared exactly. A Device need not exist.
        ids: HashSet<String>,
        /// Tags of which the Device must have one. A missing part stands for any.
        tags: Vec<TagPair>,
        /// What the Device's labels must match, all of it.
        selector: Option<Selector>,
    },
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
            (None, true) => Ok(Self::Restricted {
                ids: read_ids(device_ids.as_deref())?,
                tags: read_tags(device_tags.as_deref())?,
                selector: device_selector.as_ref().map(read_selector).transpose()?,
            }),
            (None, false) => Err(UnreadableKey::Empty("restrictions")),
            (Some(_), _) => Err(UnreadableKey::AllDevices),
        }
    }

    /// Whether the device with this ID is admitted; `device` is the record of the Device that has
    /// it, if any.
    pub fn admits(&self, device_id: &str, device: Option<&DeviceRecord>) -> bool {
        let Self::Restricted {
            ids,
            tags,
            selector,
        } = self
        else {
            return true;
        };
        let known = |device: &DeviceRecord| {
            tags.iter().any(|pair| device.has_tag(pair))
                || selector
                    .as_ref()
                    .is_some_and(|selector| selector.matches(&device.labels))
        };
        ids.contains(device_id) || device.is_some_and(known)
    }
}

/// What counts of a Device.
#[derive(Clone, Debug)]
pub struct DeviceRecord {
    pub(super) id: String,
    pub(super) class: DeviceClass,
    tags: Vec<Tag>,
    labels: BTreeMap<String, String>,
    pub(super) disabled: bool,
}

impl DeviceRecord {
    /// Reads a Device. Of two with one ID, and of one that is being deleted, nothing is known here:
    /// see [`crate::devices`].
    pub fn of(device: &Device) -> Self {
        Self {
            id: device.device_id().to_owned(),
            class: device.spec.class,
            tags: device.spec.tags.clone(),
            labels: device.metadata.labels.clone().unwrap_or_default(),
            disabled: device.spec.disabled,
        }
    }

    /// The device's ID.
    pub fn id(&self) -> &str {
        &self.id
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
}
/// The newest first, and no more than the API allows: each may cost a hash.
fn accepted_verifiers(status: &AccessKeyStatus) -> Vec<AcceptedVerifier> {
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

fn read_ids(ids: Option<&[String]>) -> Result<HashSet<String>, UnreadableKey> {
    match ids {
        Some([]) => Err(UnreadableKey::Empty("restrictions.deviceIds")),
        ids => Ok(ids.unwrap_or_default().iter().cloned().collect()),
    }
}

fn read_tags(tags: Option<&[TagPair]>) -> Result<Vec<TagPair>, UnreadableKey> {
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
    Ok(pairs.to_vec())
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
