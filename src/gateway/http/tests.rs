use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::*;
use crate::clock::ManualClock;
use crate::gateway::metrics::Metrics;
use crate::gateway::{Object, Options, Watched};
use crate::key::{Check, Secret};
use crate::policy::{DeviceRecord, KeyRecord};
use crate::verifier::{HashProfile, Verifier};

mod brokers;
mod devices;
mod document;
mod services;
mod tokens;

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const SECRET: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";
const WRONG: &str = "kws_00000000000000000000000000000000000000000002XkAl1";
const ISSUER: &str = "https://gateway.example";
const AUDIENCE: &str = "things";

/// A gateway with one key, spoken to without a network.
struct Gateway {
    api: Api,
    hand: ManualClock,
    watched: Watched,
    version: std::cell::Cell<u64>,
}

impl Gateway {
    fn new() -> Gateway {
        let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a timestamp");
        let (clock, hand) = Clock::manual(start);
        let options = Options::of_namespace("plant");
        let authenticator = Authenticator::new(options, clock.clone(), Metrics::new());
        let authenticator = authenticator.expect("entropy");
        let watched = authenticator.expect_watch();
        let gateway = Gateway {
            api: Api::of(Shared {
                authenticator,
                keyring: Keyring::ephemeral(clock.clone()).expect("entropy"),
                issuer: ISSUER.to_owned(),
                audience: AUDIENCE.to_owned(),
                trusted_proxies: vec!["10.0.0.0/8".parse().expect("a range")],
                clock,
                rabbitmq: None,
            }),
            hand,
            watched,
            version: 1.into(),
        };
        gateway.apply(json!({ "restrictions": { "deviceIds": ["pump-1", "gate", "5f2c0a9b8d7e6f5a4b3c2d1e"] } }));
        gateway.watched.listed(gateway.watched.now(), 1);
        gateway
    }

    fn apply(&self, spec: Value) {
        let secret = Secret::parse(SECRET).expect("well formed");
        let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
        self.apply_with(spec, verifier.as_str());
    }

    fn apply_with(&self, spec: Value, verifier: &str) {
        let check = Check::of(KEY, &Secret::parse(SECRET).expect("well formed"));
        let key = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": "fleet", "namespace": "plant" }, "spec": spec,
            "status": { "key": KEY, "verifiers": [{
                "revision": 1, "verifier": verifier, "check": check.as_str(),
                "issuedAt": "2026-01-01T00:00:00Z",
            }] },
        });
        let key: crate::api::AccessKey = serde_json::from_value(key).expect("an AccessKey");
        let record = KeyRecord::of(&key).expect("readable").expect("issued");
        self.api
            .0
            .authenticator
            .apply_key(self.object("fleet"), record);
    }

    fn device(&self, id: &str, spec: Value) {
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
            "metadata": { "name": id, "namespace": "plant" }, "spec": spec,
        });
        let device: crate::api::Device = serde_json::from_value(device).expect("a Device");
        let record = DeviceRecord::of(&device);
        self.api
            .0
            .authenticator
            .apply_device(self.object(id), record);
    }

    fn object<'a>(&self, name: &'a str) -> Object<'a> {
        self.version.set(self.version.get() + 1);
        Object {
            namespace: "plant",
            name,
            created: Timestamp::UNIX_EPOCH,
            version: self.version.get(),
        }
    }

    async fn ask<S>(&self, routes: S, mut request: Request<Body>) -> Answer
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let peer: SocketAddr = "192.0.2.1:1234".parse().expect("an address");
        request.extensions_mut().insert(crate::listener::Peer(peer));
        let asked = (request.method().clone(), request.uri().path().to_owned());
        let answer = routes.oneshot(request).await.expect("it answers");
        let answer = Answer::of(answer).await;
        document::says(&asked.0, &asked.1, &answer);
        answer
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(body.into()).expect("a request");
        self.ask(self.api.devices(), request).await
    }

    async fn auth(&self, device: &str, key: &str, secret: &str) -> Answer {
        let body = json!({ "deviceId": device, "key": key, "secret": secret });
        self.post("/auth/device", body.to_string()).await
    }

    async fn token(&self, device: &str) -> String {
        let answer = self.auth(device, KEY, SECRET).await;
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    async fn forward(&self, token: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(format!("/forward-auth{query}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        self.ask(self.api.front_ends(), request).await
    }

    async fn introspect(&self, token: &str) -> Value {
        let request = Request::post("/introspect").body(format!("token={token}").into());
        let answer = self
            .ask(self.api.brokers(), request.expect("a request"))
            .await;
        assert_eq!(answer.status, 200);
        answer.json()
    }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(answer: Response<Body>) -> Answer {
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_vec(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    /// All that the other end sees.
    fn seen(&self) -> (u16, Vec<(String, String)>, String) {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
        (
            self.status,
            headers.collect(),
            String::from_utf8_lossy(&self.body).into_owned(),
        )
    }
}
