//! Devices, each with a key that comes to a turn of its life, and what was seen of it.

use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::{AccessKey, EffectiveState};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::super::plant::Issued;
use super::super::support::keys::entry;

const EVERY: SignedDuration = SignedDuration::from_hours(1);
const OVERLAP: &str = "1m";

/// When keys come to their turns.
pub struct Minute {
    pub begin: Timestamp,
    pub keys: usize,
}

/// All of them, by their numbers.
#[derive(Default)]
pub struct Fleet {
    pub devices: Vec<Device>,
}

/// One with a key of its own.
pub struct Device {
    /// With the secret that it has from the beginning.
    pub issued: Issued,
    pub turn: Turn,
    /// When it was seen that a new secret is accepted.
    pub accepted: OnceLock<Accepted>,
    /// The new secret, and when it was known to the device.
    pub new: OnceLock<(String, Timestamp)>,
    /// When it was seen that the key has expired, or the secret before is retired.
    pub done: OnceLock<Timestamp>,
}

/// What is to happen, and when.
#[derive(Clone, Copy)]
pub enum Turn {
    Expires(Timestamp),
    Rotates(Timestamp),
}

/// What was seen of a rotation.
pub struct Accepted {
    pub at: Timestamp,
    /// Until when the secret before is valid.
    pub old_until: Timestamp,
}

impl Minute {
    /// So late that all can be made before.
    pub fn after_preparation(keys: usize) -> Minute {
        let begin = Timestamp::now().as_second() + 60 + keys as i64 / 30;
        Minute {
            // Times in an AccessKey are whole seconds.
            begin: Timestamp::from_second(begin).expect("a time"),
            keys,
        }
    }

    fn turn(&self, number: usize) -> Turn {
        let later = number * 60 / self.keys;
        let at = self.begin + SignedDuration::from_secs(later as i64);
        if number.is_multiple_of(2) {
            Turn::Expires(at)
        } else {
            Turn::Rotates(at)
        }
    }

    /// The AccessKey of a device.
    pub fn manifest(&self, number: usize) -> Value {
        let name = format!("device-{number}");
        let restrictions = json!({ "deviceIds": [name] });
        let spec = match self.turn(number) {
            Turn::Expires(at) => json!({ "restrictions": restrictions, "expiresAt": at }),
            Turn::Rotates(_) => {
                let rotation = json!({ "every": "1h", "overlap": OVERLAP });
                json!({ "restrictions": restrictions, "rotation": rotation })
            }
        };
        json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": name }, "spec": spec,
        })
    }
}

fn number(name: &str) -> usize {
    let number = name.strip_prefix("device-").expect("a device");
    number.parse().expect("a number")
}

impl Fleet {
    /// Adds a device.
    pub fn add(&mut self, device: &str, key: String, secret: String, minute: &Minute) {
        self.devices.push(Device {
            turn: minute.turn(number(device)),
            issued: Issued {
                key,
                device: device.to_owned(),
                secret,
                verifier: String::new(),
                check: None,
            },
            accepted: OnceLock::new(),
            new: OnceLock::new(),
            done: OnceLock::new(),
        });
    }

    /// All of them.
    pub fn share(mut self, count: usize) -> Arc<Fleet> {
        assert_eq!(self.devices.len(), count, "each has a Secret");
        self.devices
            .sort_by_key(|device| number(&device.issued.device));
        Arc::new(self)
    }

    /// Takes note of a version of an AccessKey. Has a new secret just been accepted? Then whose?
    pub fn saw(&self, key: &AccessKey) -> Option<usize> {
        let (now, number) = (Timestamp::now(), number(&key.name_any()));
        let (device, status) = (&self.devices[number], key.status.as_ref()?);
        match (device.turn, &status.verifiers[..]) {
            (Turn::Expires(_), _) if status.state == Some(EffectiveState::Expired) => {
                device.done.set(now).ok();
            }
            (Turn::Rotates(_), [old, _]) => {
                let old_until = old.valid_until.as_ref().expect("it was replaced").0;
                let accepted = Accepted { at: now, old_until };
                return device.accepted.set(accepted).is_ok().then_some(number);
            }
            (Turn::Rotates(_), [only]) if only.revision == 2 => _ = device.done.set(now),
            _ => {}
        }
        None
    }

    /// As a device does whose Secret is mounted.
    pub async fn read_new_secret(self: Arc<Fleet>, number: usize, secrets: Api<KubeSecret>) {
        let device = &self.devices[number];
        let secret = secrets.get(&device.issued.device).await.expect("a Secret");
        let new = entry(&secret, "secret");
        assert_ne!(new, device.issued.secret, "it is the new one");
        device.new.set((new, Timestamp::now())).ok();
    }
}

/// Has a key rotate then, as if its secret had been issued so long before.
pub async fn put_back(keys: &Api<AccessKey>, name: &str, at: Timestamp) {
    let key = keys.get(name).await.expect("an AccessKey");
    let mut verifiers = key.status.expect("a status").verifiers;
    for verifier in &mut verifiers {
        verifier.issued_at.0 = at - EVERY;
    }
    let status = json!({ "status": { "verifiers": verifiers, "nextRotation": at } });
    let (params, status) = (PatchParams::default(), Patch::Merge(status));
    let put = keys.patch_status(name, &params, &status).await;
    put.expect("it is put back");
}
