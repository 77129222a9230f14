//! The real gateway, fed by the real API server, asked over HTTP: what the API server says holds at
//! once, and nothing holds before it has said everything.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use keyward::api::AccessKey;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::cluster::from_json;
use support::controller::TestController;
use support::keys::Place;
use support::process::{Access, Launcher, Process, holds_no_secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace with a controller and a gateway of its own.
struct Plant {
    place: Place,
    _controller: TestController,
    launcher: Launcher,
}

impl Plant {
    async fn new(purpose: &'static str) -> Plant {
        let place = Place::served(purpose).await;
        let controller = TestController::start(&place).await;
        Plant {
            launcher: Launcher::new(purpose, &Access::admin().as_gateway().await),
            _controller: controller,
            place,
        }
    }

    /// A gateway that is ready.
    async fn gateway(&self, flags: &[&str]) -> Gateway {
        let mut gateway = self.start(flags).await;
        gateway.process.is_ready().await;
        gateway
    }

    async fn start(&self, flags: &[&str]) -> Gateway {
        let flag = format!("--namespace={}", self.place.namespace.name);
        let own = [&*flag, "--ephemeral-signing-key", "--audit"];
        let mut process = self.launcher.start_gateway(&[&own, flags].concat());
        Gateway {
            devices: process.address("devices").await,
            brokers: process.address("brokers").await,
            process,
        }
    }

    /// Makes a key, and waits until it is issued.
    async fn issue(&self, name: &str, restrictions: Value) -> Delivered {
        let key: AccessKey = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": name },
            "spec": { "restrictions": restrictions },
        }));
        self.place
            .keys
            .create(&PostParams::default(), &key)
            .await
            .unwrap();
        self.delivered(name, 1).await
    }

    /// What the Secret holds once this revision is delivered.
    async fn delivered(&self, name: &str, revision: i32) -> Delivered {
        let begin = Instant::now();
        loop {
            let key = self.place.keys.get(name).await.unwrap();
            let status = key.status.unwrap_or_default();
            if status.revision == Some(revision) && status.issuance.is_none() {
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{name} is not issued: {status:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
        let data = self.place.secrets.get(name).await.unwrap().data.unwrap();
        let entry = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
        Delivered {
            key: entry("key"),
            secret: entry("secret"),
        }
    }

    async fn change(&self, name: &str, spec: Value) {
        let (params, patch) = (
            PatchParams::default(),
            Patch::Merge(json!({ "spec": spec })),
        );
        self.place.keys.patch(name, &params, &patch).await.unwrap();
    }
}

struct Delivered {
    key: String,
    secret: String,
}

struct Gateway {
    process: Process,
    devices: SocketAddr,
    brokers: SocketAddr,
}

impl Gateway {
    /// The status, and the body.
    async fn auth(&self, device: &str, delivered: &Delivered) -> (u16, Value) {
        let body = json!({ "deviceId": device, "key": delivered.key, "secret": delivered.secret });
        let answer = send(self.devices, "POST /auth/device", &[], &body.to_string()).await;
        let answer = answer.unwrap();
        (answer.0, serde_json::from_str(&answer.1).unwrap())
    }

    async fn status(&self, device: &str, delivered: &Delivered) -> u16 {
        self.auth(device, delivered).await.0
    }

    async fn forward(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        send(self.brokers, "GET /forward-auth", &headers, "")
            .await
            .unwrap()
            .0
    }

    /// Waits until a device gets this status.
    async fn until(&self, device: &str, delivered: &Delivered, status: u16) {
        let begin = Instant::now();
        while self.status(device, delivered).await != status {
            assert!(
                begin.elapsed() < PATIENCE,
                "not {status}:\n{}",
                self.process.log_text()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn send(
    to: SocketAddr,
    what: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(to).await?;
    let mut request = format!("{what} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap();
    Ok((code.parse().unwrap(), body.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_a_key_holds_at_every_gateway() {
    let plant = Plant::new("gateway").await;
    let restrictions = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pump = plant.issue("pump", restrictions).await;
    let gateways = [plant.gateway(&[]).await, plant.gateway(&[]).await];
    for gateway in &gateways {
        let (status, said) = gateway.auth("pump-1", &pump).await;
        assert_eq!(status, 200, "{said}");
        assert_eq!(said["applicationId"], plant.place.namespace.name);
        assert_eq!(gateway.status("valve", &pump).await, 401);
    }
    let token = gateways[0].auth("pump-2", &pump).await.1["token"].clone();
    let token = token.as_str().unwrap();
    assert_eq!(gateways[0].forward(token).await, 200);

    plant.change("pump", json!({ "state": "Inactive" })).await;
    for gateway in &gateways {
        gateway.until("pump-1", &pump, 401).await;
    }
    assert_eq!(
        gateways[0].forward(token).await,
        401,
        "with the key its tokens end"
    );
    plant.change("pump", json!({ "state": "Active" })).await;
    for gateway in &gateways {
        gateway.until("pump-1", &pump, 200).await;
    }
    assert_eq!(gateways[0].forward(token).await, 200);

    plant
        .change(
            "pump",
            json!({ "restrictions": { "deviceIds": ["pump-1"] } }),
        )
        .await;
    for gateway in &gateways {
        gateway.until("pump-2", &pump, 401).await;
        assert_eq!(gateway.status("pump-1", &pump).await, 200);
    }
    assert_eq!(gateways[0].forward(token).await, 401);

    plant
        .change(
            "pump",
            json!({ "rotation": { "revision": 2, "overlap": "0s" } }),
        )
        .await;
    let rotated = plant.delivered("pump", 2).await;
    for gateway in &gateways {
        gateway.until("pump-1", &rotated, 200).await;
        gateway.until("pump-1", &pump, 401).await;
    }
    plant
        .place
        .keys
        .delete("pump", &DeleteParams::default())
        .await
        .unwrap();
    for gateway in &gateways {
        gateway.until("pump-1", &rotated, 401).await;
    }
    for gateway in gateways {
        let ended = gateway.process.end(PATIENCE).await;
        assert!(ended.success());
    }
    holds_no_secret(&plant.launcher.log(), &[pump.secret, rotated.secret]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_before_all_is_listed() {
    let plant = Plant::new("gateway-start").await;
    let pump = plant.issue("pump", json!({ "allDevices": true })).await;
    let gateway = plant.start(&[]).await;
    // From the moment that it listens.
    let asked = join_all((0..200).map(|_| gateway.status("pump-1", &pump))).await;
    let mut statuses = asked.clone();
    statuses.sort_unstable();
    statuses.dedup();
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    gateway.until("pump-1", &pump, 200).await;
    // Without the API server there is no first list.
    let nowhere = Launcher::new("gateway-nowhere", &Access::at("http://127.0.0.1:9"));
    let flag = format!("--namespace={}", plant.place.namespace.name);
    let mut alone = nowhere.start_gateway(&[&flag, "--ephemeral-signing-key"]);
    let alone = Gateway {
        devices: alone.address("devices").await,
        brokers: alone.address("brokers").await,
        process: alone,
    };
    for status in join_all((0..200).map(|_| alone.status("pump-1", &pump))).await {
        assert_eq!(status, 503);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_is_a_line_of_the_audit_and_no_line_holds_a_secret() {
    let plant = Plant::new("gateway-audit").await;
    let pump = plant
        .issue("pump", json!({ "deviceIds": ["pump-1"] }))
        .await;
    let mut gateway = plant.gateway(&[]).await;
    let before = gateway.process.output().lines().count();
    assert_eq!(before, 0);
    // The secret in the wrong places, too.
    let swapped = Delivered {
        key: pump.secret.clone(),
        secret: pump.key.clone(),
    };
    for _ in 0..10 {
        assert_eq!(gateway.status("pump-1", &pump).await, 200);
        assert_eq!(gateway.status("pump-2", &pump).await, 401);
        assert_eq!(gateway.status("pump-1", &swapped).await, 401);
        assert_eq!(gateway.status(&pump.secret, &pump).await, 401);
    }
    let output = gateway.process.output();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 40);
    let of = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    let allowed = lines
        .iter()
        .filter(|line| line["answer"] == "allow")
        .count();
    assert_eq!((allowed, of("out_of_scope"), of("malformed")), (10, 20, 10));
    holds_no_secret(&output, std::slice::from_ref(&pump.secret));
    let allow = "keyward_decisions_total{asked=\"authenticate\",answer=\"allow\"}";
    assert_eq!(gateway.process.metric(allow).await, 10);
    assert_eq!(gateway.process.metric("keyward_gateway_keys").await, 1);
    assert_eq!(
        gateway.process.metric("keyward_gateway_hashes_total").await,
        1
    );
}
