//! The kinds of objects that a gateway is fed with, and what each of them means to it.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use crate::api::{AccessKey, Device};
use crate::gateway::{Authenticator, Object};
use crate::policy::{DeviceRecord, KeyRecord};

/// A kind of object that an authenticator knows.
pub(super) trait Fed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// For people.
    const WHAT: &str;

    /// What becomes of one that cannot be read, for people.
    const UNREADABLE: &str;

    /// What is said is so.
    fn apply(&self, to: &Authenticator, order: Order) -> Result<(), Unreadable>;

    /// What is said cannot be read, but for its metadata.
    fn refuse(meta: &ObjectMeta, to: &Authenticator, order: Order);

    /// It is gone.
    fn delete(to: &Authenticator, namespace: &str, name: &str);

    /// All were listed.
    fn retain(to: &Authenticator, exists: impl Fn(&str, &str) -> bool);
}

/// An object of which nothing is understood but its metadata.
pub(super) struct Unreadable {
    pub metadata: Box<ObjectMeta>,
    /// For people.
    pub why: String,
}

impl Unreadable {
    pub fn of(metadata: ObjectMeta, why: impl ToString) -> Self {
        let (metadata, why) = (Box::new(metadata), why.to_string());
        Self { metadata, why }
    }
}

/// How what is said relates to what is known.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::gateway) enum Order {
    /// It was listed: it is so now.
    Listed,
    /// It comes from a watch: it is so unless more is known.
    Watched,
}

impl Fed for AccessKey {
    const WHAT: &str = "AccessKeys";
    const UNREADABLE: &str = "admits nobody";

    fn apply(&self, to: &Authenticator, order: Order) -> Result<(), Unreadable> {
        let object = object(&self.metadata);
        match KeyRecord::of(self) {
            Ok(Some(record)) => to.put_key(object, record, order),
            Ok(None) => to.delete_key(object.namespace, object.name),
            Err(why) => return Err(Unreadable::of(self.metadata.clone(), why)),
        }
        Ok(())
    }

    fn refuse(meta: &ObjectMeta, to: &Authenticator, _: Order) {
        let object = object(meta);
        to.delete_key(object.namespace, object.name);
    }

    fn delete(to: &Authenticator, namespace: &str, name: &str) {
        to.delete_key(namespace, name);
    }

    fn retain(to: &Authenticator, exists: impl Fn(&str, &str) -> bool) {
        to.retain_keys(exists);
    }
}

impl Fed for Device {
    const WHAT: &str = "Devices";
    const UNREADABLE: &str = "refuses its device";

    fn apply(&self, to: &Authenticator, order: Order) -> Result<(), Unreadable> {
        let object = object(&self.metadata);
        if self.metadata.deletion_timestamp.is_some() {
            to.delete_device(object.namespace, object.name);
        } else {
            to.put_device(object, DeviceRecord::of(self), order);
        }
        Ok(())
    }

    fn refuse(meta: &ObjectMeta, to: &Authenticator, order: Order) {
        let object = object(meta);
        if meta.deletion_timestamp.is_some() {
            to.delete_device(object.namespace, object.name);
        } else {
            to.refuse_device(object, order);
        }
    }

    fn delete(to: &Authenticator, namespace: &str, name: &str) {
        to.delete_device(namespace, name);
    }

    fn retain(to: &Authenticator, exists: impl Fn(&str, &str) -> bool) {
        to.retain_devices(exists);
    }
}

fn object(meta: &ObjectMeta) -> Object<'_> {
    Object {
        namespace: meta.namespace.as_deref().unwrap_or_default(),
        name: meta.name.as_deref().unwrap_or_default(),
        created: meta
            .creation_timestamp
            .as_ref()
            .map_or(jiff::Timestamp::MAX, |time| time.0),
        version: version(meta.resource_version.as_deref()).unwrap_or_default(),
    }
}

/// A resourceVersion as a number, which Kubernetes promises that it is.
pub(super) fn version(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}
