//! What the gateway knows: the keys and the Devices of its namespaces.
//!
//! A plain structure, which others feed. The keys and Devices of a namespace never mix with those of
//! another.

use jiff::Timestamp;

use super::claims::{Claims, Register};
use crate::policy::{DeviceRecord, KeyRecord};
use crate::text::Text;

/// Keys by their public identifier, and Devices by their ID.
#[derive(Debug, Default)]
pub struct Directory {
    keys: Register<KeyRecord>,
    devices: Register<DeviceRecord>,
}

/// Which object it is, and since when there is one.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.creationTimestamp`. Of two objects that claim one key or device ID the older has it.
    pub created: Timestamp,
    /// `metadata.resourceVersion`.
    pub version: u64,
}

impl Directory {
    /// The record of this key.
    pub fn key(&self, namespace: &str, key: &str) -> Option<&KeyRecord> {
        self.keys.get(namespace, key)
    }

    /// The record of the Device with this ID.
    pub fn device(&self, namespace: &str, id: &str) -> Option<&DeviceRecord> {
        self.devices.get(namespace, id)
    }

    /// The record of the AccessKey with this name, whether it has its key or another AccessKey does.
    pub fn key_named(&self, namespace: &str, name: &str) -> Option<&KeyRecord> {
        self.keys.named(namespace, name)
    }

    /// The records of all Devices of a namespace.
    pub fn devices_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a DeviceRecord> {
        self.devices.of(namespace)
    }

    /// The record of the Device with this name, whether it has its ID or another Device does.
    pub fn device_named(&self, namespace: &str, name: &str) -> Option<&DeviceRecord> {
        self.devices.named(namespace, name)
    }

    /// How many AccessKeys are known.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many Devices are known.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// An AccessKey is there, or has changed, unless a later version of it is known.
    pub fn apply_key(&mut self, object: Object<'_>, record: KeyRecord) {
        if !self
            .keys
            .is_behind(object.namespace, object.name, object.version)
        {
            self.set_key(object, record);
        }
    }

    /// An AccessKey is as it is listed, whatever is known of it. What was found out about verifiers
    /// that it keeps is kept.
    pub fn set_key(&mut self, object: Object<'_>, mut record: KeyRecord) {
        if let Some(earlier) = self.keys.named(object.namespace, object.name) {
            record.learn_from(earlier);
        }
        self.keys.insert(object, record);
    }

    /// An AccessKey is gone, or admits nobody. Was it known?
    pub fn delete_key(&mut self, namespace: &str, name: &str) -> bool {
        self.keys.remove(namespace, name)
    }

    /// A Device is there, or has changed, unless a later version of it is known.
    pub fn apply_device(&mut self, object: Object<'_>, record: DeviceRecord) {
        if !self
            .devices
            .is_behind(object.namespace, object.name, object.version)
        {
            self.set_device(object, record);
        }
    }

    /// A Device is as it is listed, whatever is known of it.
    pub fn set_device(&mut self, object: Object<'_>, record: DeviceRecord) {
        self.devices.insert(object, record);
    }

    /// A Device is gone. Was it known?
    pub fn delete_device(&mut self, namespace: &str, name: &str) -> bool {
        self.devices.remove(namespace, name)
    }

    /// Forgets the AccessKeys for which this does not hold, by namespace and name; how many?
    pub fn retain_keys(&mut self, exists: impl Fn(&str, &str) -> bool) -> usize {
        self.keys.retain(exists)
    }

    /// Forgets the Devices for which this does not hold, by namespace and name; how many?
    pub fn retain_devices(&mut self, exists: impl Fn(&str, &str) -> bool) -> usize {
        self.devices.retain(exists)
    }
}

impl Claims for KeyRecord {
    fn id(&self) -> &Text {
        self.key()
    }
}

impl Claims for DeviceRecord {
    fn id(&self) -> &Text {
        DeviceRecord::id(self)
    }
}
