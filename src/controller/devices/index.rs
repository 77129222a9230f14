//! Which Device speaks for which ID, and which statuses say otherwise. Pure: fed with what a watch
//! tells, asked what to write.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::api::{Device, DeviceSpec, DeviceStatus};
use crate::conditions;
use crate::devices::{Claim, DUPLICATE_DEVICE_ID};

const READY: &str = "Ready";

/// The reason of `Ready=True`, once a conflict is over.
const UNIQUE_DEVICE_ID: &str = "UniqueDeviceId";

/// All Devices, by the ID they claim.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Those that claim one ID, in the order in which they win it.
    claims: HashMap<Id, Vec<Record>>,
    ids: HashMap<Name, Arc<str>>,
    due: BTreeSet<Name>,
}

impl Index {
    /// A Device is there, or has changed. News that is older than what is known is no news.
    pub(super) fn apply(&mut self, record: Record) {
        if self.is_newer_than(&record) {
            return;
        }
        self.delete(&record.name);
        self.insert(record);
    }

    /// A Device is gone, or counts as gone.
    pub(super) fn delete(&mut self, name: &Name) {
        self.due.remove(name);
        let Some(id) = self.ids.remove(name) else {
            return;
        };
        let id = Id::new(name, id);
        let Some(claims) = self.claims.get_mut(&id) else {
            return;
        };
        let led = claims.first().is_some_and(|first| first.name == *name);
        claims.retain(|claim| claim.name != *name);
        if claims.is_empty() {
            self.claims.remove(&id);
        } else if led {
            self.review(&id);
        }
    }

    /// These are all the Devices of the namespace, or of all namespaces.
    pub(super) fn reset(&mut self, namespace: Option<&str>, records: Vec<Record>) {
        let is_kept = |of: &str| namespace.is_some_and(|listed| listed != of);
        self.claims.retain(|id, _| is_kept(&id.namespace));
        self.ids.retain(|name, _| is_kept(&name.namespace));
        self.due.retain(|name| is_kept(&name.namespace));
        for record in records {
            self.insert(record);
        }
    }

    /// Devices that have come to need a write since the last call; they may not need it any more.
    pub(super) fn take_due(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.due)
    }

    /// What to put at the Device's status; None: what it says is right.
    pub(super) fn write(&self, name: &Name, now: Timestamp) -> Option<Device> {
        let id = Id::new(name, Arc::clone(self.ids.get(name)?));
        let claims = self.claims.get(&id)?;
        let record = claims.iter().find(|claim| claim.name == *name)?;
        let winner = claims.first().filter(|first| first.name != *name);
        let status = record.wanted(winner, now)?;
        Some(record.with_status(status))
    }

    fn is_newer_than(&self, news: &Record) -> bool {
        let Some(id) = self.ids.get(&news.name) else {
            return false;
        };
        let claims = self.claims.get(&Id::new(&news.name, Arc::clone(id)));
        let known = claims.and_then(|all| all.iter().find(|claim| claim.name == news.name));
        known.is_some_and(|known| known.uid == news.uid && known.version() > news.version())
    }

    fn insert(&mut self, record: Record) {
        let id = record.id();
        let name = record.name.clone();
        let claims = self.claims.entry(id.clone()).or_default();
        let place = claims.partition_point(|other| other.cmp(&record) == Ordering::Less);
        claims.insert(place, record);
        self.ids.insert(name.clone(), Arc::clone(&id.id));
        if place == 0 {
            self.review(&id);
        } else {
            self.due.insert(name);
        }
    }

    /// The winner is another than before, which concerns everyone who claims the ID.
    fn review(&mut self, id: &Id) {
        let Some([winner, losers @ ..]) = self.claims.get(id).map(Vec::as_slice) else {
            return;
        };
        // Most Devices have no rival and no status, and need no look.
        if winner.status.is_some() {
            self.due.insert(winner.name.clone());
        }
        self.due
            .extend(losers.iter().map(|loser| loser.name.clone()));
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Name {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        }
    }
}

/// Which device ID, of which namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id {
    namespace: Arc<str>,
    id: Arc<str>,
}

impl Id {
    fn new(name: &Name, id: Arc<str>) -> Self {
        Self {
            namespace: Arc::clone(&name.namespace),
            id,
        }
    }
}

/// What is kept of a Device.
#[derive(Clone, Debug)]
pub(super) struct Record {
    name: Name,
    id: Arc<str>,
    created: Timestamp,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: i64,
    /// Most Devices have none.
    status: Option<Box<DeviceStatus>>,
}

impl Record {
    /// None when it claims nothing, because it is being deleted.
    pub(super) fn of(device: &Device) -> Option<Self> {
        let claim = Claim::of(device)?;
        let meta = &device.metadata;
        let name = Name::of(meta);
        let id = if claim.id == claim.name {
            Arc::clone(&name.name)
        } else {
            claim.id.into()
        };
        Some(Self {
            id,
            created: claim.created,
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
            generation: meta.generation.unwrap_or_default(),
            status: device.status.clone().map(Box::new),
            name,
        })
    }

    fn id(&self) -> Id {
        Id::new(&self.name, Arc::clone(&self.id))
    }

    fn claim(&self) -> Claim<'_> {
        Claim {
            created: self.created,
            name: &self.name.name,
            id: &self.id,
        }
    }

    /// Winners first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (self.claim(), other.claim());
        if mine.beats(&theirs) {
            Ordering::Less
        } else if theirs.beats(&mine) {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    fn version(&self) -> Option<u64> {
        self.resource_version.parse().ok()
    }

    /// The status that it should have and has not.
    fn wanted(&self, winner: Option<&Self>, now: Timestamp) -> Option<DeviceStatus> {
        let said = self.status.as_deref().cloned().unwrap_or_default();
        let wanted = match winner {
            Some(winner) => self.lost(winner, said.clone(), now),
            None if has_conflict(&said) => self.settled(said.clone(), now),
            None => return None,
        };
        (wanted != said).then_some(wanted)
    }

    fn lost(&self, winner: &Self, mut status: DeviceStatus, now: Timestamp) -> DeviceStatus {
        let message = format!(
            "Device {winner} has the device ID {id} too and is older, so this one counts for \
             nothing: delete one of the two, or create this one anew with another spec.deviceId.",
            winner = winner.name.name,
            id = self.id,
        );
        status.observed_generation = Some(self.generation);
        self.set_ready(&mut status, false, DUPLICATE_DEVICE_ID, &message, now);
        status
    }

    /// From here on nothing is written, so that the status must not look outdated when the spec
    /// changes: tools compare the generation at its top, not the one in the condition.
    fn settled(&self, mut status: DeviceStatus, now: Timestamp) -> DeviceStatus {
        let message = format!("No older Device has the device ID {} any more.", self.id);
        status.observed_generation = None;
        self.set_ready(&mut status, true, UNIQUE_DEVICE_ID, &message, now);
        status
    }

    fn set_ready(
        &self,
        status: &mut DeviceStatus,
        holds: bool,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) {
        let conditions = &mut status.conditions;
        conditions::set(
            conditions,
            READY,
            holds,
            reason,
            message,
            self.generation,
            now,
        );
    }

    /// The API server takes the status alone from what is put there, and wants the rest to be
    /// valid; so this is the least that is valid.
    fn with_status(&self, status: DeviceStatus) -> Device {
        let spec = DeviceSpec {
            device_id: Some(self.id.to_string()),
            ..DeviceSpec::default()
        };
        let mut device = Device::new(&self.name.name, spec);
        device.metadata.namespace = Some(self.name.namespace.to_string());
        device.metadata.uid = Some(self.uid.to_string());
        device.metadata.resource_version = Some(self.resource_version.to_string());
        device.status = Some(status);
        device
    }
}

/// Whether the Device was told that another has its ID.
pub(super) fn conflict_of(device: &Device) -> bool {
    device.status.as_ref().is_some_and(has_conflict)
}

fn has_conflict(status: &DeviceStatus) -> bool {
    let tells = |condition: &Condition| {
        condition.type_ == READY
            && condition.status == "False"
            && condition.reason == DUPLICATE_DEVICE_ID
    };
    status.conditions.iter().any(tells)
}

#[cfg(test)]
mod tests;
