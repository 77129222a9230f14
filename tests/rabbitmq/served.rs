//! RabbitMQ, and the gateway that it asks.

use std::net::SocketAddr;
use std::ops::Deref;

use crate::node::{Broker as Node, LOGIN};
use crate::support::gateway::Gateway;
use crate::support::process::{Access, Folder, Launcher, free_port};

/// By which RabbitMQ says who it is.
pub const CALLER: &str = "a-token-of-the-broker";

/// Both, until this goes out of scope.
pub struct Broker {
    node: Node,
    /// Where it asks.
    pub asks: SocketAddr,
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
        let asks = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut broker = Broker {
            node: Node::start(&format!("http://{asks}/caller/{CALLER}")).await,
            asks,
            gateway: None,
            launcher: Launcher::new(&settings.namespace, &access),
            settings,
            folder: Folder::new("served"),
        };
        broker.login(LOGIN);
        broker.folder.write("callers", CALLER);
        broker.start_gateway().await;
        broker
    }

    /// Starts a gateway where RabbitMQ asks, and waits until it is ready.
    pub async fn start_gateway(&mut self) {
        let port = self.asks.port();
        let mut gateway = self.gateway_at(&self.launcher, port, &[]).await;
        gateway.process.is_ready().await;
        self.gateway = Some(gateway);
    }

    /// Starts one that RabbitMQ does not ask by itself, and that may know nothing yet.
    pub async fn another_gateway(&self, launcher: &Launcher, more: &[&str]) -> Gateway {
        self.gateway_at(launcher, 0, more).await
    }

    async fn gateway_at(&self, launcher: &Launcher, port: u16, more: &[&str]) -> Gateway {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let flags = [
            format!("--namespace={}", self.settings.namespace),
            format!("--rabbitmq-url=http://{}", self.management),
            format!("--rabbitmq-credentials={}", file("login")),
            format!("--caller-token-file={}", file("callers")),
            "--ephemeral-signing-key".to_owned(),
            "--audit".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let flags = [&flags, more].concat();
        Gateway::of(launcher.start_gateway_at([0, port, 0], &flags)).await
    }

    /// The gateway.
    pub fn gateway(&mut self) -> &mut Gateway {
        self.gateway.as_mut().expect("a gateway")
    }

    /// Kills the gateway.
    pub fn kill_gateway(&mut self) {
        self.gateway.take().expect("a gateway").process.kill();
    }

    /// Has gateways log in to RabbitMQ by these, user and password.
    pub fn login(&self, login: &str) {
        self.folder.write("login", login);
    }
}

impl Deref for Broker {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}
