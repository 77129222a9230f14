//! RabbitMQ, and the gateway that it asks.

use std::net::SocketAddr;
use std::ops::Deref;

use crate::node::{Broker as Node, LOGIN};
use crate::support::gateway::Gateway;
use crate::support::manifests::gateway_flags;
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
        self.gateway = Some(self.gateway_at(self.asks.port(), &[]).await);
    }

    /// A gateway that is ready, at this port, with these flags instead of those of the same name, and besides.
    pub async fn gateway_at(&self, port: u16, flags: &[String]) -> Gateway {
        let mut gateway = self.launch(&self.launcher, port, flags).await;
        gateway.process.is_ready().await;
        gateway
    }

    /// Starts one that RabbitMQ does not ask by itself, and that may know nothing yet.
    pub async fn another_gateway(&self, launcher: &Launcher, more: &[&str]) -> Gateway {
        let more: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
        self.launch(launcher, 0, &more).await
    }

    async fn launch(&self, launcher: &Launcher, port: u16, flags: &[String]) -> Gateway {
        let own = [
            format!("--namespace={}", self.settings.namespace),
            format!("--rabbitmq-url=http://{}", self.management),
            "--audit".to_owned(),
        ];
        let shipped = "deploy/brokers/rabbitmq/service.yaml";
        let shipped = gateway_flags(shipped, self.folder.path());
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let is_not_in = |flag: &String, others: &[String]| {
            !others.iter().any(|other| name(other) == name(flag))
        };
        let own = own.iter().filter(|own| is_not_in(own, flags));
        let own: Vec<String> = own.chain(flags).cloned().collect();
        let all = shipped.iter().filter(|flag| is_not_in(flag, &own));
        let all = all.chain(&own);
        let all: Vec<&str> = all.map(String::as_str).collect();
        Gateway::of(launcher.start_gateway_at([0, port, 0], &all)).await
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
