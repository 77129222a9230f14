//! amqtt as a process of its own, started with what `deploy/brokers` has for it, and the gateway that it asks.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::process::{Access, Folder, Launcher, free_port};
use crate::support::wait::found;

/// amqtt and a gateway, until this goes out of scope.
pub struct Broker {
    /// Where it listens.
    pub at: SocketAddr,
    /// Where it asks.
    pub asks: SocketAddr,
    child: Child,
    gateway: Option<Gateway>,
    launcher: Launcher,
    settings: Settings,
    folder: Folder,
}

/// What a test has otherwise than what is shipped.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespace that is served.
    pub namespace: String,
}

impl Broker {
    /// Starts both, the gateway on this way to the API server, and waits until clients may be admitted.
    pub async fn with(settings: Settings, access: Access) -> Broker {
        let [at, asks] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let folder = Folder::new("amqtt");
        let mut broker = Broker {
            at,
            asks,
            child: spawn(&folder, at, asks),
            gateway: None,
            launcher: Launcher::new(&settings.namespace, &access),
            settings,
            folder,
        };
        broker.start_gateway().await;
        broker.listens().await;
        broker
    }

    /// Starts a gateway where amqtt asks, and waits until it is ready.
    pub async fn start_gateway(&mut self) {
        let mut gateway = self.gateway_at(&self.launcher, self.asks.port(), &[]).await;
        gateway.process.is_ready().await;
        self.gateway = Some(gateway);
    }

    /// Starts one that amqtt does not ask by itself, and that may know nothing yet.
    pub async fn another_gateway(&self, launcher: &Launcher, more: &[&str]) -> Gateway {
        self.gateway_at(launcher, 0, more).await
    }

    async fn gateway_at(&self, launcher: &Launcher, port: u16, more: &[&str]) -> Gateway {
        let namespace = format!("--namespace={}", self.settings.namespace);
        let own = [&*namespace, "--ephemeral-signing-key", "--audit"];
        let flags = [&own, more].concat();
        Gateway::of(launcher.start_gateway_at([0, port, 0], &flags)).await
    }

    /// Kills the gateway.
    pub fn kill_gateway(&mut self) {
        self.gateway.take().expect("a gateway").process.kill();
    }

    async fn listens(&mut self) {
        found("amqtt listens", async || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "amqtt has ended:\n{}", self.output());
            TcpStream::connect(self.at).await.ok()
        })
        .await;
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).expect("its output")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What is shipped, with ports of its own.
fn spawn(folder: &Folder, at: SocketAddr, asks: SocketAddr) -> Child {
    let mut text = fs::read_to_string("deploy/brokers/amqtt/broker.py").expect("a program");
    for (old, new) in [
        ("127.0.0.1:1883", at.to_string()),
        ("8082", asks.port().to_string()),
    ] {
        assert!(text.contains(old), "{old} is to be replaced");
        text = text.replace(old, &new);
    }
    let file = folder.write("broker.py", &text);
    let output = File::create(folder.path().join("output")).expect("a file");
    Command::new(format!("{}/python", pinned()))
        .arg(file)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output)
        .spawn()
        .expect("amqtt is there: `make test` installs it")
}

/// Where it is installed.
fn pinned() -> String {
    let mut pinned = Command::new("deploy/local/pinned");
    let said = pinned.arg("amqtt").output().expect("a program");
    assert!(said.status.success(), "{said:?}");
    let folder = String::from_utf8(said.stdout).expect("a path");
    folder.trim_end().to_owned()
}
