//! A gateway of one namespace, without a network and without a cluster: it is told what AccessKeys and Devices say.

use std::sync::LazyLock;

use jiff::Timestamp;
use keyward::api::AccessKey;
use keyward::clock::{Clock, ManualClock};
use keyward::gateway::metrics::Metrics;
use keyward::gateway::{Authenticator, Object, Options, Watched};
use keyward::policy::{DeviceRecord, KeyRecord};

pub const NAMESPACE: &str = "plant";
pub const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";

/// The time does not pass.
pub fn now() -> Timestamp {
    static NOW: LazyLock<Timestamp> =
        LazyLock::new(|| "2026-06-01T12:00:00Z".parse().expect("a timestamp"));
    *NOW
}

pub struct Gateway {
    pub authenticator: Authenticator,
    version: u64,
    _hand: ManualClock,
    _watched: Watched,
}

impl Gateway {
    pub fn new(requires_registration: bool) -> Gateway {
        let (clock, hand) = Clock::manual(now());
        let options = Options {
            requires_registration,
            ..Options::of_namespace(NAMESPACE)
        };
        let authenticator = Authenticator::new(options, clock, Metrics::new()).expect("entropy");
        let watched = authenticator.expect_watch();
        watched.listed(watched.now(), 1);
        Gateway {
            authenticator,
            version: 1,
            _hand: hand,
            _watched: watched,
        }
    }

    /// Knows nothing of this namespace any more.
    pub fn forget(&self, namespace: &str) {
        self.authenticator
            .retain_keys(|other, _| other != namespace);
        self.authenticator
            .retain_devices(|other, _| other != namespace);
    }

    pub fn apply_key(&mut self, namespace: &str, record: KeyRecord) {
        let object = self.object(namespace, "fleet");
        self.authenticator.apply_key(object, record);
    }

    pub fn apply_device(&mut self, namespace: &str, record: DeviceRecord) {
        let name = record.id().to_owned();
        let object = self.object(namespace, &name);
        self.authenticator.apply_device(object, record);
    }

    fn object<'a>(&mut self, namespace: &'a str, name: &'a str) -> Object<'a> {
        self.version += 1;
        Object {
            namespace,
            name,
            created: Timestamp::UNIX_EPOCH,
            version: self.version,
        }
    }
}

/// What a gateway keeps of an AccessKey; none if it cannot be read, or is to be taken for deleted.
pub fn record(key: &AccessKey) -> Option<KeyRecord> {
    KeyRecord::of(key).ok().flatten()
}
