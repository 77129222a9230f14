//! A gateway as a library, and keys that were issued to many devices.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use jiff::Timestamp;
use keyward::api::AccessKey;
use keyward::clock::Clock;
use keyward::gateway::metrics::Metrics;
use keyward::gateway::{Authenticator, Credentials, Object, Options};
use keyward::key::{Check, KeyId, Secret};
use keyward::policy::KeyRecord;
use keyward::verifier::{HashProfile, Verifier};
use serde_json::{Value, json};

/// The namespace of all keys.
pub const NAMESPACE: &str = "plant";

/// A gateway that has listed all.
pub struct Plant {
    /// Decides.
    pub authenticator: Authenticator,
    /// Counts.
    pub metrics: Metrics,
    /// The gateway's.
    pub clock: Clock,
    /// So many objects it was told of.
    told: u64,
}

impl Plant {
    /// Without keys.
    pub fn new(options: Options) -> Plant {
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let made = Authenticator::new(options, clock.clone(), metrics.clone());
        let authenticator = made.expect("entropy");
        let watched = authenticator.expect_watch();
        watched.listed(watched.now(), 1);
        Plant {
            authenticator,
            metrics,
            clock,
            told: 0,
        }
    }

    /// With so many keys.
    pub fn of(count: usize, issue: impl Fn(usize) -> Issued) -> (Plant, Vec<Issued>) {
        let mut plant = Plant::new(Options::of_namespace(NAMESPACE));
        let fleet: Vec<Issued> = (0..count).map(issue).collect();
        for issued in &fleet {
            plant.apply(issued.manifest());
        }
        (plant, fleet)
    }

    /// Puts an AccessKey into the directory.
    pub fn apply(&mut self, manifest: Value) {
        self.told += 1;
        let key: AccessKey = serde_json::from_value(manifest).expect("an AccessKey");
        let record = KeyRecord::of(&key).expect("readable").expect("issued");
        let object = self.object(key.metadata.name.as_deref().expect("a name"));
        self.authenticator.apply_key(object, record);
    }

    /// The object with this name, as it was last told of.
    pub fn object<'a>(&self, name: &'a str) -> Object<'a> {
        Object {
            namespace: NAMESPACE,
            name,
            created: Timestamp::UNIX_EPOCH,
            version: self.told,
        }
    }
}

/// A key of one device.
#[derive(Clone)]
pub struct Issued {
    pub key: String,
    pub device: String,
    pub secret: String,
    pub verifier: String,
    pub check: Option<String>,
}

impl Issued {
    /// With a secret of its own, whose hash costs next to nothing.
    pub fn cheaply(number: usize) -> Issued {
        let secret = Secret::generate().expect("entropy");
        let verifier = cheap(&secret);
        Issued::with(number, &Common { secret, verifier })
    }

    /// With a secret that other keys have, too, and that was hashed once for all of them.
    pub fn with(number: usize, common: &Common) -> Issued {
        let key = KeyId::generate().expect("entropy").to_string();
        Issued {
            check: Some(Check::of(&key, &common.secret).as_str().to_owned()),
            device: format!("device-{number}"),
            secret: common.secret.expose().to_owned(),
            verifier: common.verifier.clone(),
            key,
        }
    }

    /// As one that was made elsewhere.
    pub fn taken_over(self) -> Issued {
        Issued {
            check: None,
            ..self
        }
    }

    /// What a status says of it.
    pub fn status(&self) -> Value {
        let accepted = json!({
            "revision": 1, "verifier": self.verifier, "check": self.check, "issuedAt": "2026-01-01T00:00:00Z",
        });
        json!({ "key": self.key, "revision": 1, "state": "Active", "verifiers": [accepted] })
    }

    /// The AccessKey, for its device alone.
    pub fn manifest(&self) -> Value {
        json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": self.device, "namespace": NAMESPACE },
            "spec": { "restrictions": { "deviceIds": [self.device] } },
            "status": self.status(),
        })
    }

    /// What its device presents.
    pub fn credentials(&self) -> Credentials<'_> {
        self.with_secret(&self.secret)
    }

    /// The same, with another secret.
    pub fn with_secret<'a>(&'a self, secret: &'a str) -> Credentials<'a> {
        Credentials {
            device_id: &self.device,
            key: &self.key,
            secret,
            source: None,
        }
    }
}

/// A secret, and its hash.
pub struct Common {
    secret: Secret,
    verifier: String,
}

impl Common {
    /// A new one.
    pub fn new(profile: HashProfile) -> Common {
        let secret = Secret::generate().expect("entropy");
        let verifier = Verifier::of(&secret, profile).expect("a hash");
        Common {
            verifier: verifier.as_str().to_owned(),
            secret,
        }
    }

    /// One whose hash costs as much as a gateway accepts. It matches nothing.
    pub fn dearest() -> Common {
        let tag = Base64Unpadded::encode_string(&[7; 32]);
        let verifier = format!("$argon2id$v=19$m=65536,t=10,p=1$AAAAAAAAAAAAAAAAAAAAAA${tag}");
        Common {
            secret: Secret::generate().expect("entropy"),
            verifier,
        }
    }
}

/// The cheapest verifier there is: 8 KiB, one pass. Its memory leaves no holes between what is kept.
fn cheap(secret: &Secret) -> String {
    let (salt, mut tag) = ([7; 16], [0; 32]);
    let params = Params::new(8, 1, 1, Some(tag.len())).expect("parameters");
    let mut blocks: [Block; 8] = std::array::from_fn(|_| Block::default());
    let password = secret.expose().as_bytes();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, &salt, &mut tag, &mut blocks)
        .expect("a hash");
    let base64 = Base64Unpadded::encode_string;
    format!(
        "$argon2id$v=19$m=8,t=1,p=1${}${}",
        base64(&salt),
        base64(&tag)
    )
}

/// Well formed, and of no key.
pub fn another_secret() -> String {
    Secret::generate().expect("entropy").expose().to_owned()
}
