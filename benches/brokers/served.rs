//! Each of the brokers that decide by Keyward, and the gateway that it asks.

use std::any::Any;
use std::fs;
use std::net::SocketAddr;

use futures::future::LocalBoxFuture;

use super::fleet::Fleet;
use super::measure::{Core, stay_anywhere, stay_on};
use super::rivals::with_plugin;
use super::support::process::{Access, Folder, Launcher, free_port};
use super::support::wait::found;
use super::{nats, rabbitmq};

/// One of them, until this goes out of scope.
pub struct Served {
    /// Where devices connect.
    pub at: SocketAddr,
    /// The number of its process.
    broker: u32,
    /// And that of the gateway; mosquitto has a plugin.
    gateway: Option<u32>,
    _lives: Box<dyn Any>,
}

/// Starts one, and waits until it lets the chief in.
pub type Start = for<'a> fn(&'a Fleet) -> LocalBoxFuture<'a, Served>;

/// All of them.
pub const ALL: [(&str, Start); 3] = [
    ("mosquitto", |fleet| Box::pin(mosquitto(fleet))),
    ("rabbitmq", |fleet| Box::pin(rabbitmq(fleet))),
    ("nats", |fleet| Box::pin(nats(fleet))),
];

impl Served {
    /// The resident memory of the broker, and of the gateway, in MiB.
    pub fn memory(&self) -> (f64, Option<f64>) {
        (memory(self.broker), self.gateway.map(memory))
    }

    async fn lets_in(self, fleet: &Fleet) -> Served {
        found("the broker knows the keys", async || {
            fleet.chief().to(self.at).await.ok()
        })
        .await;
        self
    }
}

async fn mosquitto(fleet: &Fleet) -> Served {
    let broker = with_plugin(fleet).await;
    Served {
        at: broker.at,
        broker: broker.child().id(),
        gateway: None,
        _lives: Box::new(broker),
    }
}

async fn rabbitmq(fleet: &Fleet) -> Served {
    let access = Access::admin().as_gateway().await;
    let launcher = Launcher::new("rabbitmq", &access).logging("info");
    let (port, folder) = (free_port(), Folder::new("rabbitmq-login"));
    let login = folder.write("login", rabbitmq::LOGIN);
    let asks = format!("http://127.0.0.1:{port}");
    stay_on_the_last();
    let broker = rabbitmq::Broker::start(&asks).await;
    let flags = [
        format!("--namespace={}", fleet.plant.namespace),
        "--ephemeral-signing-key".to_owned(),
        format!("--rabbitmq-url=http://{}", broker.management),
        format!("--rabbitmq-credentials={}", login.display()),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let mut gateway = launcher.start_gateway_at([0, port, 0], &flags);
    stay_on_the_first();
    gateway.is_ready().await;
    let served = Served {
        at: broker.at,
        broker: broker.id(),
        gateway: Some(gateway.id()),
        _lives: Box::new((broker, gateway, launcher, folder)),
    };
    served.lets_in(fleet).await
}

async fn nats(fleet: &Fleet) -> Served {
    let settings = nats::Settings {
        namespace: fleet.plant.namespace.clone(),
        is_quiet: true,
        ..nats::Settings::default()
    };
    let access = Access::admin().as_gateway().await;
    stay_on_the_last();
    let mut broker = nats::Broker::with(settings, access).await;
    stay_on_the_first();
    let served = Served {
        at: broker.at,
        broker: broker.id(),
        gateway: Some(broker.gateway().id()),
        _lives: Box::new(broker),
    };
    served.lets_in(fleet).await
}

/// What is started now runs where brokers do.
fn stay_on_the_last() {
    stay_anywhere();
    stay_on(Core::Last);
}

fn stay_on_the_first() {
    stay_anywhere();
    stay_on(Core::First);
}

fn memory(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let value: f64 = value.expect("a number of KiB").parse().expect("a number");
    value / 1024.0
}
