//! The HTTP contract of mosquitto-go-auth, with a broker that speaks it: amqtt.

#![allow(clippy::unwrap_used)]

#[path = "brokers/mqtt.rs"]
mod mqtt;
mod support;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use mqtt::{Connect, Message, Refused, Session, Version};
use serde_json::json;
use support::gateway::{Gateway, Plant};
use support::keys::some_secret;
use support::plant::Issued;
use support::process::{Folder, free_port, holds_no_secret};
use support::wait::found;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqtt_asks_the_gateway_who_may_connect_and_what_they_may_do() {
    let scene = Scene::set().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.plant.issue("pumps", pumps).await;
    let all = scene
        .plant
        .issue("all", json!({ "allDevices": true }))
        .await;
    for (id, key) in [("pump-1", &pumps), ("other", &all)] {
        scene.session(id, key).await;
    }
    let refused = [
        ("a wrong secret", "pump-1", pumps.with(&some_secret())),
        ("another device", "pump-3", pumps.with(&pumps.secret)),
        ("no device ID", "a/b", all.with(&all.secret)),
    ];
    for (what, id, issued) in refused {
        let refusal = scene.connect(id, &issued).to(scene.broker.at).await.err();
        assert!(
            matches!(refusal, Some(Refused::Code(_))),
            "{what}: {refusal:?}"
        );
    }

    // Only now: amqtt ends a session for whoever comes with its client ID, even if it then refuses them.
    let mut pump_1 = scene.session("pump-1", &pumps).await;
    let mut pump_2 = scene.session("pump-2", &pumps).await;
    let mut other = scene.session("other", &all).await;
    let filters = [
        ("devices/pump-2/state", true),
        ("devices/+/state", true),
        ("devices/pump-3/state", false),
        ("#", false),
    ];
    for (filter, is_granted) in filters {
        assert_eq!(
            pump_1.subscribe(filter, 0).await,
            Some(is_granted),
            "{filter}"
        );
    }
    // Each delivery is asked about, and each message that is sent.
    other.publish("devices/other/state", "unseen", false).await;
    pump_2
        .publish("devices/other/command", "unsent", false)
        .await;
    pump_2.publish("devices/pump-2/state", "seen", false).await;
    assert_eq!(
        pump_1.message().await,
        Message::new("devices/pump-2/state", "seen")
    );
    holds_no_secret(&scene.broker.output(), &[pumps.secret, all.secret]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_switched_off_or_cannot_be_asked_about_does_nothing() {
    let scene = Scene::set().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.plant.issue("pumps", pumps).await;
    let all = scene
        .plant
        .issue("all", json!({ "allDevices": true }))
        .await;
    let mut watcher = scene.session("watcher", &all).await;
    assert_eq!(watcher.subscribe("devices/+/state", 0).await, Some(true));
    let mut pump = scene.session("pump-1", &pumps).await;

    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    let connect = scene.connect("pump-2", &pumps);
    found("pump-2 is refused", async || {
        connect.to(scene.broker.at).await.err()
    })
    .await;
    // Its session goes on, and does nothing.
    pump.publish("devices/pump-1/state", "too late", false)
        .await;
    watcher
        .publish("devices/watcher/state", "seen", false)
        .await;
    assert_eq!(
        watcher.message().await,
        Message::new("devices/watcher/state", "seen")
    );

    let Scene {
        gateway, broker, ..
    } = scene;
    gateway.process.kill();
    let own = Connect::new(Version::V311, "other", &all);
    assert!(own.to(broker.at).await.is_err(), "nobody can say who it is");
}

struct Scene {
    plant: Plant,
    gateway: Gateway,
    broker: Broker,
}

impl Scene {
    async fn set() -> Scene {
        let plant = Plant::new("amqtt").await;
        let gateway = plant.gateway(&[]).await;
        Scene {
            broker: Broker::start(gateway.brokers).await,
            gateway,
            plant,
        }
    }

    fn connect(&self, id: &str, issued: &Issued) -> Connect {
        Connect::new(Version::V311, id, issued)
    }

    /// The session of a device, once the gateway knows that it may have one.
    async fn session(&self, id: &str, issued: &Issued) -> Session {
        let connect = self.connect(id, issued);
        let what = format!("{id} is admitted");
        found(&what, async || connect.to(self.broker.at).await.ok()).await
    }
}

/// amqtt, until this goes out of scope.
struct Broker {
    at: SocketAddr,
    child: Child,
    folder: Folder,
}

impl Broker {
    /// As it is shipped, with ports of its own.
    async fn start(gateway: SocketAddr) -> Broker {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let shipped = fs::read_to_string("deploy/brokers/amqtt/broker.py").unwrap();
        let own = shipped
            .replace("127.0.0.1:1883", &at.to_string())
            .replace("8082", &gateway.port().to_string());
        let folder = Folder::new("amqtt");
        let file = folder.write("broker.py", &own);
        let output = File::create(folder.path().join("output")).unwrap();
        let child = Command::new(format!("{}/python", pinned()))
            .arg(file)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut broker = Broker { at, child, folder };
        found("amqtt listens", async || {
            let ended = broker.child.try_wait().unwrap();
            assert!(ended.is_none(), "amqtt has ended:\n{}", broker.output());
            TcpStream::connect(at).await.ok()
        })
        .await;
        broker
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where it is installed.
fn pinned() -> String {
    let mut pinned = Command::new("deploy/local/pinned");
    let said = pinned.arg("amqtt").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}
