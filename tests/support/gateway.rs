//! Gateways as processes of their own, and what devices and brokers ask them over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use keyward::api::AccessKey;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::cluster::from_json;
use super::controller::TestController;
use super::keys::Place;
use super::plant::Issued;
use super::process::{Access, Launcher, Process};

/// For all that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace with a controller, and with gateways.
pub struct Plant {
    /// Its objects.
    pub place: Place,
    _controller: TestController,
    /// Starts gateways.
    pub launcher: Launcher,
}

impl Plant {
    /// A new one.
    pub async fn new(purpose: &'static str) -> Plant {
        let place = Place::served(purpose).await;
        let controller = TestController::start(&place).await;
        Plant {
            launcher: Launcher::new(purpose, &Access::admin().as_gateway().await),
            _controller: controller,
            place,
        }
    }

    /// A gateway that is ready.
    pub async fn gateway(&self, flags: &[&str]) -> Gateway {
        let mut gateway = self.start(flags).await;
        gateway.process.is_ready().await;
        gateway
    }

    /// A gateway that listens.
    pub async fn start(&self, flags: &[&str]) -> Gateway {
        let flag = format!("--namespace={}", self.place.namespace.name);
        let own = [&*flag, "--ephemeral-signing-key", "--audit"];
        Gateway::of(self.launcher.start_gateway(&[&own, flags].concat())).await
    }

    /// Makes a key, and waits until it is issued.
    pub async fn issue(&self, name: &str, restrictions: Value) -> Issued {
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
    pub async fn delivered(&self, name: &str, revision: i32) -> Issued {
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
        Issued {
            key: entry("key"),
            secret: entry("secret"),
        }
    }

    /// Merges this into its spec.
    pub async fn change(&self, name: &str, spec: Value) {
        let (params, patch) = (
            PatchParams::default(),
            Patch::Merge(json!({ "spec": spec })),
        );
        self.place.keys.patch(name, &params, &patch).await.unwrap();
    }
}

/// A gateway, and where it listens.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// For devices.
    pub devices: SocketAddr,
    /// For brokers.
    pub brokers: SocketAddr,
}

impl Gateway {
    /// Waits until the process listens.
    pub async fn of(mut process: Process) -> Gateway {
        Gateway {
            devices: process.address("devices").await,
            brokers: process.address("brokers").await,
            process,
        }
    }

    /// The status, and the body.
    pub async fn auth(&self, device: &str, issued: &Issued) -> (u16, Value) {
        let body = json!({ "deviceId": device, "key": issued.key, "secret": issued.secret });
        let answer = send(self.devices, "POST /auth/device", &[], &body.to_string()).await;
        let answer = answer.unwrap();
        (answer.0, serde_json::from_str(&answer.1).unwrap())
    }

    /// The status alone.
    pub async fn status(&self, device: &str, issued: &Issued) -> u16 {
        self.auth(device, issued).await.0
    }

    /// What `/forward-auth` says of a token.
    pub async fn forward(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        send(self.brokers, "GET /forward-auth", &headers, "")
            .await
            .unwrap()
            .0
    }

    /// Waits until a device gets this status.
    pub async fn until(&self, device: &str, issued: &Issued, status: u16) {
        self.within(PATIENCE, device, issued, status).await;
    }

    /// The same, with this patience.
    pub async fn within(&self, patience: Duration, device: &str, issued: &Issued, status: u16) {
        let begin = Instant::now();
        while self.status(device, issued).await != status {
            assert!(
                begin.elapsed() < patience,
                "not {status}:\n{}",
                self.process.log_text()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Sends one request on a connection of its own, and gives the status and the body.
pub async fn send(
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
    let parts = answer.split_once("\r\n\r\n");
    let (head, body) = parts.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let code = head.split(' ').nth(1).unwrap();
    Ok((code.parse().unwrap(), body.to_owned()))
}
