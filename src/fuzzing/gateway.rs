//! A gateway with one key, whose secret nobody knows, and a token for one device: its real routes,
//! without a network.

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::clock::{Clock, ManualClock};
use crate::gateway::http::{Api, Shared};
use crate::gateway::keyring::Keyring;
use crate::gateway::metrics::Metrics;
use crate::gateway::{Authenticator, Object, Options, Watched};
use crate::key::{Check, KeyId, Secret};
use crate::policy::KeyRecord;
use crate::verifier::{HashProfile, Verifier};

/// The device that has the token.
pub const DEVICE: &str = "pump-1";

#[derive(Clone, Copy)]
pub enum Endpoint {
    Device,
    Token,
    Introspect,
    Authorize,
    ForwardAuth,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

pub struct Gateway {
    runtime: Runtime,
    devices: Router,
    brokers: Router,
    token: String,
    /// The time does not pass, so that the token stays good.
    _hand: ManualClock,
    _watched: Watched,
}

thread_local! {
    static GATEWAY: Gateway = Gateway::new();
}

impl Gateway {
    /// With the one of this thread.
    pub fn with<T>(ask: impl FnOnce(&Gateway) -> T) -> T {
        GATEWAY.with(ask)
    }

    fn new() -> Gateway {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let options = Options::of_namespace("plant");
        let authenticator = Authenticator::new(options, clock.clone(), Metrics::new());
        let authenticator = authenticator.expect("entropy");
        let watched = authenticator.expect_watch();
        watched.listed(watched.now(), 1);
        let api = Api::of(Shared {
            authenticator: authenticator.clone(),
            keyring: Keyring::ephemeral(clock.clone()).expect("entropy"),
            issuer: "https://gateway.example".to_owned(),
            audience: "things".to_owned(),
            trusted_proxies: Vec::new(),
            clock,
            rabbitmq: None,
        });
        let mut gateway = Gateway {
            runtime: runtime.expect("a runtime"),
            devices: api.devices(),
            brokers: api.brokers(),
            token: String::new(),
            _hand: hand,
            _watched: watched,
        };
        gateway.token = gateway.issue(&authenticator);
        gateway
    }

    /// The `Authorization` that is good.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The same bytes, with the token where `TOKEN` stands.
    pub fn with_token(&self, body: &[u8]) -> Vec<u8> {
        const HOLE: &[u8] = b"TOKEN";
        let hole = body.windows(HOLE.len()).position(|part| part == HOLE);
        let mut body = body.to_vec();
        if let Some(at) = hole {
            body.splice(at..at + HOLE.len(), self.token.bytes());
        }
        body
    }

    pub fn ask(
        &self,
        endpoint: Endpoint,
        authorization: Option<HeaderValue>,
        body: Vec<u8>,
    ) -> Answer {
        let (routes, path) = match endpoint {
            Endpoint::Device => (&self.devices, "/auth/device"),
            Endpoint::Token => (&self.devices, "/oauth/token"),
            Endpoint::Introspect => (&self.brokers, "/introspect"),
            Endpoint::Authorize => (&self.brokers, "/authorize"),
            Endpoint::ForwardAuth => (&self.brokers, "/forward-auth"),
        };
        let mut request = Request::post(path);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        self.runtime.block_on(async {
            let answer = routes.clone().oneshot(request).await;
            let (parts, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a body");
            Answer {
                status: parts.status.as_u16(),
                body: body.to_vec(),
            }
        })
    }

    /// Issues a key to the device, and a token for it. The secret is forgotten.
    fn issue(&self, authenticator: &Authenticator) -> String {
        let (key, secret) = (KeyId::generate(), Secret::generate());
        let (key, secret) = (key.expect("entropy"), secret.expect("entropy"));
        let object = Object {
            namespace: "plant",
            name: "fleet",
            created: Timestamp::UNIX_EPOCH,
            version: 2,
        };
        authenticator.apply_key(object, record(&key, &secret));
        let body = json!({ "deviceId": DEVICE, "key": key.as_str(), "secret": secret.expose() });
        let answer = self.ask(Endpoint::Device, None, body.to_string().into());
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        said["token"].as_str().expect("a token").to_owned()
    }
}

fn record(key: &KeyId, secret: &Secret) -> KeyRecord {
    let verifier = Verifier::of(secret, HashProfile::Fleet).expect("a hash");
    let manifest = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "fleet", "namespace": "plant" },
        "spec": { "restrictions": { "deviceIds": [DEVICE] } },
        "status": { "key": key.as_str(), "verifiers": [{
            "revision": 1, "verifier": verifier.as_str(),
            "check": Check::of(key.as_str(), secret).as_str(), "issuedAt": "1970-01-01T00:00:00Z",
        }] },
    });
    let manifest = serde_json::from_value(manifest).expect("an AccessKey");
    KeyRecord::of(&manifest).expect("readable").expect("issued")
}
