use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
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

mod document;

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
        request
            .extensions_mut()
            .insert(ConnectInfo(crate::listener::Peer(peer)));
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

#[tokio::test]
async fn a_device_gets_what_losant_s_contract_says() {
    let gateway = Gateway::new();
    gateway.device("gate", json!({ "class": "Gateway" }));
    for (device, class) in [
        ("pump-1", "standalone"),
        ("gate", "gateway"),
        ("5f2c0a9b8d7e6f5a4b3c2d1e", "standalone"),
    ] {
        let answer = gateway.auth(device, KEY, SECRET).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, Some("no-store"))
        );
        let mut said = answer.json();
        assert!(
            said["token"]
                .take()
                .as_str()
                .is_some_and(|token| token.split('.').count() == 3)
        );
        let expected = json!({
            "applicationId": "plant", "deviceId": device, "deviceClass": class, "token": null,
            "filterType": "none", "pubTopics": [], "subTopics": [],
        });
        assert_eq!(said, expected);
    }
    let topics =
        json!({ "filter": "AllowList", "publish": ["logs/{device}"], "subscribe": ["news/#"] });
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "topics": topics }));
    let said = gateway.auth("pump-1", KEY, SECRET).await.json();
    assert_eq!(said["filterType"], "whitelist");
    assert_eq!(
        (&said["pubTopics"], &said["subTopics"]),
        (&json!(["logs/pump-1"]), &json!(["news/#"]))
    );
}

/// Whoever is refused sees the same, whatever the reason.
#[tokio::test]
async fn all_refusals_look_the_same() {
    let gateway = Gateway::new();
    gateway.device("gate", json!({ "class": "Peripheral" }));
    let long = "x".repeat(300);
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let mut row = |device: &str, key: &str, secret: &str| {
        rows.push((device.to_owned(), key.to_owned(), secret.to_owned()));
    };
    row("pump-1", KEY, WRONG);
    row("pump-1", "kwk_zzzzzzzzzzzzzzzzzzzzzzzzzz", SECRET);
    row("pump-2", KEY, SECRET);
    row("gate", KEY, SECRET);
    for odd in [
        "",
        "#",
        "+",
        "a/b",
        "*",
        ">",
        "$SYS",
        "a b",
        "é",
        "a\0",
        "plant.pump-1",
        "../x",
        "%00",
        "\n",
        &long,
        "{device}",
        "pump-1 ",
        "PUMP-1",
        "null",
        "'--",
    ] {
        row(odd, KEY, SECRET);
        row("pump-1", odd, SECRET);
        row("pump-1", KEY, odd);
        row(odd, odd, odd);
    }
    for cut in 0..SECRET.len() {
        row("pump-1", KEY, &SECRET[..cut]);
        row(
            "pump-1",
            KEY,
            &format!("{}\0{}", &SECRET[..cut], &SECRET[cut..]),
        );
    }
    for cut in 0..KEY.len() {
        row("pump-1", &KEY[..cut], SECRET);
    }
    assert!(rows.len() >= 200, "{}", rows.len());
    let expected = gateway.auth("pump-1", KEY, WRONG).await.seen();
    assert_eq!(expected.0, 401);
    for (device, key, secret) in rows {
        let seen = gateway.auth(&device, &key, &secret).await.seen();
        assert_eq!(seen, expected, "{device:?} {key:?} {secret:?}");
    }
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "state": "Inactive" }));
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.seen(), expected);
    let sources = json!({ "filter": "AllowList", "cidrs": ["10.0.0.0/8"] });
    gateway.apply(json!({ "restrictions": { "allDevices": true }, "sources": sources }));
    assert_eq!(gateway.auth("pump-1", KEY, SECRET).await.seen(), expected);
}

#[tokio::test]
async fn bodies_that_are_none_are_refused_alike() {
    let gateway = Gateway::new();
    let good = json!({ "deviceId": "pump-1", "key": KEY, "secret": SECRET });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string()
    };
    let mut rows: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "7",
        "{",
        "}",
        "deviceId=pump-1",
        "<a/>",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    rows.extend([&b"\xff"[..], b"\0", b"{\"deviceId\":\"\xff\"}"].map(<[u8]>::to_vec));
    for value in [
        json!(null),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!(["pump-1"]),
    ] {
        rows.push(with("deviceId", value.clone()).into());
        rows.push(with("key", value.clone()).into());
        rows.push(with("secret", value.clone()).into());
        rows.push(with("other", value).into());
    }
    let text = good.to_string();
    rows.extend((0..text.len()).map(|at| text.as_bytes()[..at].to_vec()));
    rows.push(json!([good.clone()]).to_string().into());
    rows.push(format!("{text}{text}").into());
    rows.push(text.replace("\"key\"", "\"deviceId\"").into());
    let expected = gateway.post("/auth/device", "nonsense").await.seen();
    assert_eq!(expected.0, 400);
    for row in rows {
        let seen = gateway.post("/auth/device", row.clone()).await.seen();
        assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&row));
    }
    for (name, value) in [
        ("tokenTTL", json!(0)),
        ("tokenTTL", json!(86_401)),
        ("tokenTTL", json!(-1)),
        ("tokenTTL", json!(1.5)),
        ("tokenTTL", json!("60")),
        ("requestedScopes", json!(["all.User"])),
        ("requestedScopes", json!("all.Device")),
    ] {
        let answer = gateway
            .post("/auth/device", with(name, value.clone()))
            .await;
        assert_eq!(answer.status, 400, "{name} {value}");
    }
    for name in ["tokenTTL", "requestedScopes"] {
        let answer = gateway.post("/auth/device", with(name, Value::Null)).await;
        assert_eq!(
            answer.status, 400,
            "{name} is left out or said, but not null"
        );
    }
    let written = with("tokenTTL", json!(60.0));
    assert!(written.contains("60.0"), "{written}");
    assert_eq!(gateway.post("/auth/device", written).await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_each_endpoint_refuses() {
    let gateway = Gateway::new();
    let large = "x".repeat(LARGEST_BODY + 1);
    let said = json!({ "type": "Validation", "message": "The body must come whole and have at most 16384 bytes." });
    for (router, path, body) in [
        (gateway.api.devices(), "/auth/device", &said),
        (
            gateway.api.devices(),
            "/oauth/token",
            &json!({ "error": "invalid_request" }),
        ),
        (gateway.api.brokers(), "/introspect", &said),
        (gateway.api.brokers(), "/authorize", &said),
    ] {
        let request = Request::post(path).body(large.clone().into());
        let answer = gateway.ask(router, request.expect("a request")).await;
        assert_eq!((answer.status, &answer.json()), (413, body), "{path}");
    }
}

/// What goes past the router, and what does not.
#[tokio::test]
async fn front_ends_are_answered_as_the_router_would() {
    let gateway = Gateway::new();
    gateway.apply(json!({
        "restrictions": { "deviceIds": ["pump-1"] },
        "sources": { "filter": "AllowList", "cidrs": ["192.0.2.1/32"] },
    }));
    let good = format!("Bearer {}", gateway.token("pump-1").await);
    let mut statuses = BTreeSet::new();
    for path in [
        "/forward-auth",
        "/forward-auth?keyward_action=getState&keyward_target=pump-1",
        "/forward-auth?keyward_action=getState&keyward_target=pump-2",
        "/forward-auth/",
        "/ext-authz/forward-auth",
        "/introspect",
        "/nowhere",
    ] {
        for authorization in [&*good, "Bearer x", ""] {
            for method in ["GET", "POST"] {
                let request = || {
                    let request = Request::builder().method(method).uri(path);
                    let request = request.header("authorization", authorization);
                    request.body(Body::empty()).expect("a request")
                };
                let sooner = gateway.ask(gateway.api.front_ends(), request()).await;
                let routed = gateway.ask(gateway.api.brokers(), request()).await;
                // Which the connection adds.
                let said = |mut answer: Answer| {
                    answer.headers.remove("content-length");
                    (answer.status, answer.headers, answer.body)
                };
                statuses.insert(sooner.status);
                assert_eq!(
                    said(sooner),
                    said(routed),
                    "{method} {path} {authorization}"
                );
            }
        }
    }
    assert_eq!(statuses, BTreeSet::from([200, 400, 401, 403, 404, 405]));
}

#[tokio::test]
async fn a_token_lives_as_long_as_what_it_names() {
    let gateway = Gateway::new();
    let ids = json!({ "restrictions": { "deviceIds": ["pump-1"] } });
    let verifier = Verifier::of(
        &Secret::parse(SECRET).expect("well formed"),
        HashProfile::Fleet,
    );
    let verifier = verifier.expect("a hash").as_str().to_owned();
    gateway.apply_with(ids.clone(), &verifier);
    let token = gateway.token("pump-1").await;
    let said = gateway.introspect(&token).await;
    assert_eq!(said["active"], true);
    assert_eq!(
        (&said["sub"], &said["client_id"], &said["iss"], &said["aud"]),
        (
            &json!("pump-1"),
            &json!(KEY),
            &json!(ISSUER),
            &json!(AUDIENCE)
        )
    );
    assert_eq!(
        said["exp"].as_i64().expect("a time") - said["iat"].as_i64().expect("a time"),
        3600
    );
    let inactive = json!({ "active": false });

    let other = json!({ "restrictions": { "deviceIds": ["pump-2"] } });
    let off = json!({ "restrictions": { "deviceIds": ["pump-1"] }, "state": "Inactive" });
    for spec in [other, off] {
        gateway.apply_with(spec, &verifier);
        assert_eq!(gateway.introspect(&token).await, inactive);
        assert_eq!(gateway.forward(&token, "", &[]).await.status, 401);
        gateway.apply_with(ids.clone(), &verifier);
        assert_eq!(gateway.introspect(&token).await["active"], true);
    }
    // The same secret under another salt is another verifier.
    gateway.apply(ids.clone());
    assert_eq!(gateway.introspect(&token).await, inactive);
    gateway.apply_with(ids, &verifier);
    gateway.hand.advance(std::time::Duration::from_secs(3599));
    assert_eq!(gateway.introspect(&token).await["active"], true);
    gateway.hand.advance(std::time::Duration::from_secs(1));
    assert_eq!(gateway.introspect(&token).await, inactive);
    for wrong in ["", "x", "a.b.c", SECRET] {
        assert_eq!(gateway.introspect(wrong).await, inactive);
    }
}

#[tokio::test]
async fn forward_auth_names_the_device_and_overwrites_what_the_client_claims() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    let claimed = [
        ("x-keyward-device", "spoofed"),
        ("x-keyward-key", "spoofed"),
    ];
    let answer = gateway.forward(&token, "", &claimed).await;
    assert_eq!(answer.status, 200);
    let named = ["device", "key", "namespace", "class"].map(|name| {
        answer
            .header(&format!("x-keyward-{name}"))
            .expect("a header")
            .to_owned()
    });
    assert_eq!(named, ["pump-1", KEY, "plant", "Standalone"]);

    for wrong in ["", "x", "a.b.c", &token[..token.len() - 1]] {
        let answer = gateway.forward(wrong, "", &claimed).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.header("www-authenticate").is_some());
        for name in ["device", "key", "namespace", "class"] {
            assert_eq!(answer.header(&format!("x-keyward-{name}")), Some(""));
        }
    }
}

#[tokio::test]
async fn ext_authz_answers_whatever_path_is_asked_about() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    for path in ["", "/", "//", "/firmware", "/firmware/?version=1", "?a=b"] {
        let request = Request::get(format!("/ext-authz{path}"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).expect("a request");
        let answer = gateway.ask(gateway.api.brokers(), request).await;
        assert_eq!(answer.status, 200, "{path:?}");
        assert_eq!(answer.header("x-keyward-device"), Some("pump-1"));
    }
}

#[tokio::test]
async fn an_act_on_a_device_is_judged_like_a_topic() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    let about = |act: &str, target: &str| format!("?keyward_action={act}&keyward_target={target}");
    let rows = [
        ("sendState", "pump-1", 200),
        ("sendCommand", "pump-1", 403),
        ("getState", "pump-1", 200),
        ("getCommand", "pump-1", 200),
        ("sendState", "gate", 403),
        ("sendCommand", "gate", 200),
        ("getState", "gate", 200),
        ("getState", "stranger", 403),
        ("sendCommand", "stranger", 403),
        ("getState", "%23", 403),
        ("getState", "%2B", 403),
        ("getState", "gate/state", 403),
        ("getState", "", 403),
        ("fly", "pump-1", 403),
        ("", "pump-1", 403),
    ];
    for (act, target, status) in rows {
        let answer = gateway.forward(&token, &about(act, target), &[]).await;
        assert_eq!(answer.status, status, "{act} {target}");
    }
    // What is asked twice has to be asked alike.
    let twice = format!("{}&keyward_target=gate", about("sendState", "pump-1"));
    assert_eq!(gateway.forward(&token, &twice, &[]).await.status, 403);
    let headers = [
        ("x-keyward-action", "getState"),
        ("x-keyward-target", "gate"),
    ];
    assert_eq!(gateway.forward(&token, "", &headers).await.status, 200);
    assert_eq!(
        gateway
            .forward(&token, &about("getState", "gate"), &headers)
            .await
            .status,
        200
    );
    assert_eq!(
        gateway
            .forward(&token, &about("getState", "pump-1"), &headers)
            .await
            .status,
        403
    );
    assert_eq!(
        gateway
            .forward(&token, "?keyward_action=getState", &[])
            .await
            .status,
        403
    );

    let body = |target: &str| {
        json!({ "token": token, "action": "getState", "deviceId": target }).to_string()
    };
    for (target, allowed) in [("gate", true), ("stranger", false)] {
        let request = Request::post("/authorize")
            .body(body(target).into())
            .expect("a request");
        let answer = gateway.ask(gateway.api.brokers(), request).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "allowed": allowed }))
        );
    }
    let nowhere =
        json!({ "token": token, "action": "getState", "deviceId": "gate", "source": null });
    let request = Request::post("/authorize").body(nowhere.to_string().into());
    let answer = gateway.ask(gateway.api.brokers(), request.expect("a request"));
    assert_eq!(answer.await.status, 400);
}

#[tokio::test]
async fn a_token_can_be_asked_for_that_may_do_less() {
    let gateway = Gateway::new();
    let body = json!({
        "deviceId": "pump-1", "key": KEY, "secret": SECRET, "tokenTTL": 60,
        "requestedScopes": ["device.sendState", "device.sendState"],
    });
    let said = gateway.post("/auth/device", body.to_string()).await.json();
    let token = said["token"].as_str().expect("a token");
    let said = gateway.introspect(token).await;
    assert_eq!(said["scope"], "device.sendState");
    assert_eq!(
        said["exp"].as_i64().expect("a time") - said["iat"].as_i64().expect("a time"),
        60
    );
    let may = async |act: &str| {
        let query = format!("?keyward_action={act}&keyward_target=pump-1");
        gateway.forward(token, &query, &[]).await.status
    };
    assert_eq!(may("sendState").await, 200);
    assert_eq!(may("getState").await, 403);
}

#[tokio::test]
async fn the_token_endpoint_of_rfc_6749_says_what_it_should() {
    let gateway = Gateway::new();
    let basic = |user: &str, password: &str| {
        use base64ct::{Base64, Encoding};
        format!(
            "Basic {}",
            Base64::encode_string(format!("{user}:{password}").as_bytes())
        )
    };
    let right = basic(KEY, SECRET);
    let in_body = format!(
        "grant_type=client_credentials&device_id=pump-1&client_id={KEY}&client_secret={SECRET}"
    );
    let rows: Vec<(Option<&str>, &str, u16, &str)> = vec![
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1",
            200,
            "",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&scope=device.get",
            200,
            "",
        ),
        (None, &in_body, 200, ""),
        (Some(&right), &in_body, 400, "invalid_request"),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&client_id=&client_secret=",
            200,
            "",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=pump-1&scope=all.User",
            400,
            "invalid_scope",
        ),
        (
            Some(&right),
            "grant_type=password&device_id=pump-1",
            400,
            "unsupported_grant_type",
        ),
        (Some(&right), "device_id=pump-1", 400, "invalid_request"),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=a&device_id=b",
            400,
            "invalid_request",
        ),
        (
            Some(&right),
            "grant_type=client_credentials&device_id=stranger",
            401,
            "invalid_client",
        ),
        (
            Some(&right),
            "grant_type=client_credentials",
            401,
            "invalid_client",
        ),
        (
            None,
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
        (
            Some("Basic !"),
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
        (
            Some("Bearer x"),
            "grant_type=client_credentials&device_id=pump-1",
            401,
            "invalid_client",
        ),
    ];
    for (credentials, body, status, error) in rows {
        let mut request = Request::post("/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(credentials) = credentials {
            request = request.header("authorization", credentials);
        }
        let request = request.body(body.to_owned().into()).expect("a request");
        let answer = gateway.ask(gateway.api.devices(), request).await;
        assert_eq!(answer.status, status, "{body}");
        match error {
            "" => assert_eq!(answer.json()["token_type"], "Bearer"),
            error => assert_eq!(answer.json()["error"], error, "{body}"),
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn whoever_has_the_published_keys_can_verify_a_token() {
    let gateway = Gateway::new();
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        gateway.ask(gateway.api.devices(), request).await.json()
    };
    let token = gateway.token("pump-1").await;
    let keys = get("/.well-known/jwks.json").await;
    let [key] = keys["keys"].as_array().expect("keys").as_slice() else {
        panic!("one key");
    };
    use base64ct::{Base64UrlUnpadded, Encoding};
    let part = |text: &str| Base64UrlUnpadded::decode_vec(text).expect("base64");
    let point = [
        vec![4],
        part(key["x"].as_str().expect("x")),
        part(key["y"].as_str().expect("y")),
    ]
    .concat();
    let (signed, signature) = token.rsplit_once('.').expect("parts");
    let public =
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
    assert!(public.verify(signed.as_bytes(), &part(signature)).is_ok());
    let metadata = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth/token"));
}

#[tokio::test]
async fn a_gateway_that_knows_too_little_says_later() {
    let gateway = Gateway::new();
    let token = gateway.token("pump-1").await;
    gateway
        .hand
        .advance(std::time::Duration::from_secs(24 * 3600 + 1));
    let answer = gateway.auth("pump-1", KEY, SECRET).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    let form = format!(
        "grant_type=client_credentials&device_id=pump-1&client_id={KEY}&client_secret={SECRET}"
    );
    let answer = gateway.post("/oauth/token", form).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    // The token has ended meanwhile, but nobody knows more than that.
    let answer = gateway.forward(&token, "", &[]).await;
    assert_eq!(answer.status, 401);
}
