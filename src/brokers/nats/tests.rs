use std::sync::Mutex;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::callout::{Protocol, Request, User, answer};
use super::jwt::{self, Issued};
use super::nkey::{Kind, Seed, Signer, encode};
use super::reaches::Reaches;
use super::sessions::{Connection, Name};
use super::subjects::Permissions;
use super::verdict::{Judge, Verdict};
use crate::clock::{Clock, ManualClock};
use crate::gateway::metrics::Metrics;
use crate::gateway::{Authenticator, Object, Options, Watched};
use crate::key::{Check, Secret};
use crate::policy::{DeviceRecord, KeyRecord, Reason, Session};
use crate::topics::Permitted;
use crate::verifier::{HashProfile, Verifier};

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const SECRET: &str = "kws_00000000000000000000000000000000000000000002XkAl1";

/// A key for all devices that are pumps, and for `spare`.
struct Scene {
    authenticator: Authenticator,
    reaches: Mutex<Reaches>,
    hand: ManualClock,
    watched: Watched,
    version: u64,
}

impl Scene {
    fn new() -> Scene {
        let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a timestamp");
        let (clock, hand) = Clock::manual(start);
        let made = Authenticator::new(Options::of_namespace("plant"), clock, Metrics::new());
        let authenticator = made.expect("entropy");
        let watched = authenticator.expect_watch();
        let mut scene = Scene {
            authenticator,
            reaches: Mutex::default(),
            hand,
            watched,
            version: 0,
        };
        scene.apply_key(json!({}));
        scene.watched.listed(scene.watched.now(), 1);
        for pump in ["pump-1", "pump-2"] {
            scene.apply_device(
                pump,
                json!({ "tags": [{ "key": "kind", "value": "pump" }] }),
            );
        }
        scene
    }

    fn apply_key(&mut self, spec: Value) {
        let secret = Secret::parse(SECRET).expect("well formed");
        let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
        let restrictions = json!({
            "deviceIds": ["spare"], "deviceTags": [{ "key": "kind", "value": "pump" }],
        });
        let mut manifest = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": "fleet", "namespace": "plant" },
            "spec": { "restrictions": restrictions },
            "status": { "key": KEY, "verifiers": [{
                "revision": 1, "verifier": verifier.as_str(), "check": Check::of(KEY, &secret).as_str(),
                "issuedAt": "2026-01-01T00:00:00Z",
            }] },
        });
        for (name, value) in spec.as_object().expect("an object") {
            manifest["spec"][name] = value.clone();
        }
        let key = serde_json::from_value(manifest).expect("an AccessKey");
        let record = KeyRecord::of(&key).expect("readable").expect("issued");
        self.authenticator.apply_key(self.object("fleet"), record);
        self.version += 1;
    }

    fn apply_device(&mut self, name: &str, spec: Value) {
        let device = serde_json::from_value(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
            "metadata": { "name": name, "namespace": "plant" }, "spec": spec,
        }));
        let record = DeviceRecord::of(&device.expect("a Device"));
        self.authenticator.apply_device(self.object(name), record);
        self.version += 1;
    }

    fn object<'a>(&self, name: &'a str) -> Object<'a> {
        Object {
            namespace: "plant",
            name,
            created: Timestamp::UNIX_EPOCH,
            version: self.version,
        }
    }

    /// Of a device that is admitted now, as a server lists it.
    fn connection(&self, device_id: &str, revision: i32, ip: &str) -> Connection {
        let session = self.session(device_id);
        let reach = self.authenticator.reach(&session).expect("a key");
        let digest = super::lock(&self.reaches).name(reach).digest.clone();
        let name = Name {
            device_id,
            revision,
            digest,
            key: KEY,
        };
        let listed = json!({ "cid": 1, "ip": ip, "authorized_user": name.to_string() });
        serde_json::from_value(listed).expect("a connection")
    }

    fn session(&self, device_id: &str) -> Session {
        self.authenticator
            .session_of(device_id, KEY)
            .expect("an ID")
    }

    /// Why a session is to end; none if it goes on.
    fn ends(&self, connection: &Connection) -> Option<Reason> {
        let mut judge = Judge::new(&self.authenticator, &self.reaches);
        match judge.judge(connection).expect("a session of ours") {
            Verdict::Stays(_) => None,
            Verdict::Ends(_, reason) => Some(reason),
        }
    }

    /// One that knows of no session what it was given.
    fn forget(&mut self) {
        self.reaches = Mutex::default();
    }
}

#[test]
fn a_session_goes_on_unless_something_is_taken_away() {
    let mut scene = Scene::new();
    let pump = scene.connection("pump-1", 1, "10.0.0.1");
    assert_eq!(scene.ends(&pump), None);
    let tags = json!({ "tags": [{ "key": "kind", "value": "pump" }] });
    scene.apply_device("pump-3", tags.clone());
    assert_eq!(scene.ends(&pump), None, "something is added");
    scene.apply_device("pump-2", json!({ "tags": [] }));
    assert_eq!(scene.ends(&pump), Some(Reason::Topic));
    let back = scene.connection("pump-1", 1, "10.0.0.1");
    assert_eq!(scene.ends(&back), None);
    scene.apply_device("pump-2", tags);
    assert_eq!(scene.ends(&pump), None, "it has all again");
    scene.apply_key(json!({ "topics": { "filter": "AllowList", "publish": ["log"] } }));
    assert_eq!(scene.ends(&pump), None);
    let logs = scene.connection("pump-1", 1, "10.0.0.1");
    scene.apply_key(json!({}));
    assert_eq!(scene.ends(&logs), Some(Reason::Topic));
    assert_eq!(scene.ends(&pump), None);
}

#[test]
fn a_session_that_would_be_refused_ends() {
    let mut scene = Scene::new();
    let pump = scene.connection("pump-1", 1, "10.0.0.1");
    let rows = [
        (json!({ "state": "Inactive" }), Reason::Inactive),
        (
            json!({ "expiresAt": "2026-06-01T12:00:00Z" }),
            Reason::Expired,
        ),
        (
            json!({ "sources": { "filter": "AllowList", "cidrs": ["10.0.0.2"] } }),
            Reason::Source,
        ),
        (
            json!({ "restrictions": { "deviceIds": ["spare"] } }),
            Reason::OutOfScope,
        ),
    ];
    for (spec, reason) in rows {
        scene.apply_key(spec);
        assert_eq!(scene.ends(&pump), Some(reason));
    }
    scene.apply_key(json!({}));
    assert_eq!(scene.ends(&pump), None);
    let of_before = scene.connection("pump-1", 0, "10.0.0.1");
    assert_eq!(scene.ends(&of_before), Some(Reason::BadSecret));
    scene.authenticator.delete_key("plant", "fleet");
    assert_eq!(scene.ends(&pump), Some(Reason::UnknownKey));
}

#[test]
fn what_another_gateway_gave_is_kept_if_one_would_give_the_same() {
    let mut scene = Scene::new();
    let pump = scene.connection("pump-1", 1, "10.0.0.1");
    scene.forget();
    assert_eq!(scene.ends(&pump), None);
    scene.forget();
    let tags = json!({ "tags": [{ "key": "kind", "value": "pump" }] });
    scene.apply_device("pump-3", tags);
    assert_eq!(scene.ends(&pump), Some(Reason::Topic), "it cannot be told");
}

#[test]
fn a_gateway_has_what_its_peripherals_have_and_other_devices_do_not() {
    let mut scene = Scene::new();
    let tags = json!([{ "key": "kind", "value": "pump" }]);
    scene.apply_device("hub", json!({ "class": "Gateway", "tags": tags }));
    scene.apply_device("probe", json!({ "class": "Peripheral", "gateway": "hub" }));
    let (hub, pump) = (
        scene.connection("hub", 1, ""),
        scene.connection("pump-1", 1, ""),
    );
    let reach = scene
        .authenticator
        .reach(&scene.session("hub"))
        .expect("a key");
    assert_eq!(reach.peripherals.len(), 1);
    scene.apply_device(
        "probe",
        json!({ "class": "Peripheral", "gateway": "other" }),
    );
    assert_eq!(scene.ends(&hub), Some(Reason::Topic));
    assert_eq!(scene.ends(&pump), None);
}

#[test]
fn nobody_is_cut_while_nobody_can_tell() {
    let scene = Scene::new();
    let pump = scene.connection("pump-1", 1, "");
    scene.authenticator.delete_key("plant", "fleet");
    scene
        .hand
        .advance(std::time::Duration::from_secs(25 * 3600));
    assert_eq!(scene.ends(&pump), None, "what is known is too old");
    let other: Connection =
        serde_json::from_value(json!({ "cid": 2, "authorized_user": "backend" }))
            .expect("a connection");
    let mut judge = Judge::new(&scene.authenticator, &scene.reaches);
    assert!(judge.judge(&other).is_none());
}

/// Of any kind: it signs as accounts do.
fn signer(byte: u8) -> Signer {
    Signer::of(&Seed::of([byte; 32]))
}

/// What a server asks which has this key.
fn asked(server: &Signer, change: impl Fn(&mut Value)) -> Option<Request> {
    let public = super::nkey::decode(&server.public, Kind::Account).expect("a key");
    let id = encode(Kind::Server, &public);
    let mut claims = json!({
        "iss": id, "sub": "ACCOUNT", "aud": "nats-authorization-request",
        "nats": {
            "server_id": { "id": id }, "user_nkey": "USER",
            "client_info": { "host": "10.0.0.1", "kind": "Client", "type": "mqtt", "mqtt_id": "pump-1" },
            "connect_opts": { "user": KEY, "pass": "secret", "auth_token": "secret" },
        },
    });
    change(&mut claims);
    jwt::read(jwt::sign(server, &claims).as_bytes(), Kind::Server)
}

#[test]
fn only_a_server_asks_for_itself() {
    let server = signer(1);
    let request = asked(&server, |_| {}).expect("signed");
    assert!(request.is_for("ACCOUNT") && !request.is_for("ANOTHER"));
    let credentials = request.credentials();
    assert_eq!(
        (credentials.device_id, credentials.key, credentials.secret),
        ("pump-1", KEY, "secret")
    );
    assert_eq!(credentials.source, "10.0.0.1".parse().ok());
    let for_another = asked(&server, |claims| claims["aud"] = json!("USER"));
    assert!(!for_another.expect("signed").is_for("ACCOUNT"));
    let of_another = asked(&server, |claims| {
        claims["nats"]["server_id"]["id"] = json!("N");
    });
    assert!(!of_another.expect("signed").is_for("ACCOUNT"));
    let other_id = encode(Kind::Server, &[7; 32]);
    assert!(asked(&server, |claims| claims["iss"] = json!(other_id)).is_none());
    let as_account = signer(1).public;
    assert!(asked(&server, |claims| claims["iss"] = json!(as_account)).is_none());
}

#[test]
fn a_device_id_is_where_its_protocol_has_it() {
    let server = signer(1);
    let of = |info: Value| {
        let request = asked(&server, |claims| {
            claims["nats"]["client_info"] = info.clone()
        });
        let request = request.expect("signed");
        let id = request.credentials().device_id.to_owned();
        (request.protocol(), id, request.is_made_up())
    };
    let rows = [
        (
            json!({ "kind": "Client", "type": "mqtt", "mqtt_id": "a", "name": "b" }),
            Some(Protocol::Mqtt),
            "a",
        ),
        (
            json!({ "kind": "Client", "type": "nats", "name": "b" }),
            Some(Protocol::Nats),
            "b",
        ),
        (
            json!({ "kind": "Client", "type": "websocket", "name": "b" }),
            Some(Protocol::Nats),
            "b",
        ),
        (
            json!({ "kind": "Client", "type": "nats" }),
            Some(Protocol::Nats),
            "",
        ),
        (
            json!({ "kind": "Leafnode", "type": "nats", "name": "b" }),
            None,
            "b",
        ),
        (json!({}), None, ""),
    ];
    for (info, protocol, id) in rows {
        assert_eq!(of(info.clone()), (protocol, id.to_owned(), false), "{info}");
    }
    for (id, is_made_up) in [
        ("TfHTTyLNYt2y7H4aihMLQw", true),
        ("TfHTTyLNYt2y7H4aihMLQ", false),
        ("TfHTTyLNYt2y7H4aih-LQw", false),
    ] {
        let info = json!({ "kind": "Client", "type": "mqtt", "mqtt_id": id });
        assert_eq!(of(info).2, is_made_up, "{id}");
    }
}

#[derive(serde::Deserialize)]
struct Anything {
    iss: String,
    #[serde(flatten)]
    rest: Value,
}

impl Issued for Anything {
    fn issuer(&self) -> &str {
        &self.iss
    }
}

fn claims(token: &str) -> Value {
    let read: Option<Anything> = jwt::read(token.as_bytes(), Kind::Account);
    read.expect("signed by an account").rest
}

#[test]
fn the_answer_is_for_the_one_who_was_asked_about() {
    let (server, account) = (signer(1), signer(2));
    let request = asked(&server, |_| {}).expect("signed");
    let refused = claims(&answer(&account, &request, None, 1000));
    let expected = json!({ "type": "authorization_response", "version": 2, "error": "refused" });
    assert_eq!(refused["nats"], expected);
    assert_eq!(
        (&refused["sub"], &refused["aud"]),
        (&json!("USER"), &json!(request.server()))
    );

    let permitted = Permitted {
        publish: vec!["devices/pump-1/state".to_owned()],
        subscribe: vec!["devices/pump-1/command".to_owned()],
        ..Permitted::default()
    };
    let (permissions, _) = Permissions::of(&permitted, None);
    let user = User {
        name: "pump-1".to_owned(),
        account: "DEVICES",
        protocol: Protocol::Mqtt,
        permissions: &permissions,
        ends: Some(2000),
    };
    let admitted = claims(&answer(&account, &request, Some(&user), 1000));
    assert!(admitted["nats"].get("error").is_none());
    let user = claims(admitted["nats"]["jwt"].as_str().expect("a token"));
    let expected = json!({
        "sub": "USER", "aud": "DEVICES", "name": "pump-1", "iat": 1000, "exp": 2000,
        "nats": {
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": { "allow": ["devices.pump-1.state"] }, "sub": { "allow": ["devices.pump-1.command"] },
            "allowed_connection_types": ["MQTT", "MQTT_WS"],
        },
    });
    assert_eq!(user, expected);
}
