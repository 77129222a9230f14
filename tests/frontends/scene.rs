//! A client's way: front end, gateway, and what is guarded.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use base64ct::{Base64, Encoding};
use serde_json::json;

use super::client::{Answer, Request, get, post};
use super::front_end::{FrontEnd, Kind, Wiring};
use super::guarded::{Arrived, Guarded};
use crate::support::plant::{Issued, Plant};
use crate::support::process::{Access, Folder, Launcher, Process};
use crate::support::wait::found;

/// All of them, for one test.
pub struct Scene {
    pub front_end: FrontEnd,
    pub guarded: Guarded,
    gateway: Option<Process>,
    devices: SocketAddr,
    pub wiring: Wiring,
    flags: Vec<String>,
    pub launcher: Launcher,
    pub plant: Plant,
    _folder: Folder,
}

impl Scene {
    pub async fn of(kind: Kind) -> Scene {
        let plant = Plant::new().await;
        let (guarded, folder) = (Guarded::start().await, Folder::new("front-end-gateway"));
        let wiring = Wiring {
            gateway: address_for_gateway(),
            guarded: guarded.address,
            caller: format!("front-end-of-{}", plant.namespace),
        };
        let flags = vec![
            format!("--namespace={}", plant.namespace),
            file_flag(
                "caller-token-file",
                &folder.write("callers", &wiring.caller),
            ),
            file_flag("signing-key", &signing_key(&folder)),
            "--issuer=http://gateway".to_owned(),
            "--trusted-proxy=127.0.0.1".to_owned(),
        ];
        let purpose = format!("front-end-{}", plant.namespace);
        let launcher = Launcher::new(&purpose, &Access::admin().as_gateway().await);
        let mut gateway = start(&launcher, &wiring, &flags);
        gateway.is_ready().await;
        Scene {
            front_end: FrontEnd::start(kind, &wiring).await,
            guarded,
            devices: gateway.address("devices").await,
            gateway: Some(gateway),
            wiring,
            flags,
            launcher,
            plant,
            _folder: folder,
        }
    }

    /// A key for two devices.
    pub async fn pumps(&self) -> Issued {
        let restrictions = json!({ "deviceIds": ["pump-1", "pump-2"] });
        let pumps = self.plant.issue("pumps", restrictions).await;
        found("the gateway knows the key", async || {
            (self.auth("pump-1", &pumps).await.status == 200).then_some(())
        })
        .await;
        pumps
    }

    /// What a device gets for key and secret.
    pub async fn auth(&self, device: &str, issued: &Issued) -> Answer {
        let asked = json!({ "deviceId": device, "key": issued.key, "secret": issued.secret });
        post("/auth/device", &asked.to_string())
            .send(self.devices)
            .await
    }

    pub async fn token(&self, device: &str, issued: &Issued) -> String {
        self.auth(device, issued).await.token("token")
    }

    pub async fn oauth_token(&self, device: &str, issued: &Issued) -> String {
        let asked = format!("grant_type=client_credentials&device_id={device}");
        let request = post("/oauth/token", &asked).with("Authorization", &basic(issued));
        request.send(self.devices).await.token("access_token")
    }

    /// What the service is told of a device.
    pub fn identity(&self, device: &str, issued: &Issued) -> Vec<(String, String)> {
        let headers = [
            ("x-keyward-class", "Standalone"),
            ("x-keyward-device", device),
            ("x-keyward-key", &issued.key),
            ("x-keyward-namespace", &self.plant.namespace),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        headers.map(owned).to_vec()
    }

    /// Waits until the gateway itself says this of a token.
    pub async fn gateway_says(&self, token: &str, status: u16) {
        let request = get("/forward-auth").with("X-Keyward-Caller", &self.wiring.caller);
        let request = request.bearing(token);
        found(&format!("the gateway says {status}"), async || {
            let answer = request.send(self.wiring.gateway).await;
            (answer.status == status).then_some(())
        })
        .await;
    }

    pub async fn send(&self, request: &Request) -> Answer {
        request.send(self.front_end.address).await
    }

    /// Gives what the service got.
    pub async fn is_let_through(&self, request: &Request) -> Arrived {
        let answer = self.send(request).await;
        assert_eq!(
            answer.status,
            200,
            "{request:?}\n{}",
            self.front_end.output()
        );
        answer.arrived()
    }

    pub async fn is_refused(&self, request: &Request, status: u16, what: &str) -> Answer {
        let before = self.guarded.asked();
        let answer = self.send(request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(self.guarded.asked(), before, "{what}");
        answer
    }

    /// It is the front end's fault, or the gateway's, and not the client's.
    pub async fn is_not_let_through(&self, request: &Request, what: &str) {
        let before = self.guarded.asked();
        let answer = self.send(request).await;
        assert!((500..600).contains(&answer.status), "{what}: {answer:?}");
        assert_eq!(self.guarded.asked(), before, "{what}");
    }

    pub async fn until_let_through(&self, request: &Request) {
        found("the request is let through", async || {
            (self.send(request).await.status == 200).then_some(())
        })
        .await;
    }

    pub fn gateway(&mut self) -> &mut Process {
        self.gateway.as_mut().expect("it runs")
    }

    pub fn kill_gateway(&mut self) {
        self.gateway.take().expect("it runs").kill();
    }

    /// In the place of the gateway that was killed: one that goes another way, or the same again.
    pub async fn start_gateway(&mut self, launcher: Option<&Launcher>) {
        let launcher = launcher.unwrap_or(&self.launcher);
        let mut gateway = start(launcher, &self.wiring, &self.flags);
        self.devices = gateway.address("devices").await;
        self.gateway = Some(gateway);
    }
}

fn start(launcher: &Launcher, wiring: &Wiring, flags: &[String]) -> Process {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    launcher.start_gateway_at([0, wiring.gateway.port(), 0], &flags)
}

/// One that nobody else is given while no gateway listens there, and by which nobody connects to
/// itself: below those that the system gives away.
fn address_for_gateway() -> SocketAddr {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(20_000 + std::process::id() % 700 * 16).expect("a port");
    loop {
        let port = own + NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn file_flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// One that several gateways may sign with.
fn signing_key(folder: &Folder) -> PathBuf {
    let path = folder.path().join("signing.pem");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-out"])
        .arg(&path);
    let made = openssl.output().expect("openssl starts");
    assert!(made.status.success(), "{made:?}");
    path
}

/// As HTTP Basic has it.
pub fn basic(issued: &Issued) -> String {
    let own = format!("{}:{}", issued.key, issued.secret);
    format!("Basic {}", Base64::encode_string(own.as_bytes()))
}
