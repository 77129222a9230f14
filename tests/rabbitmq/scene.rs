//! A plant with keys and devices, a gateway, and RabbitMQ that asks it.

use keyward::api::Device;
use kube::Api;
use serde_json::{Value, json};

use crate::broker::{Broker, LOGIN};
use crate::mqtt::{Connect, Refused, Session, Version};
use crate::support::cluster::{apply, from_json};
use crate::support::gateway::{Gateway, Plant};
use crate::support::plant::Issued;
use crate::support::process::{Folder, free_port};
use crate::support::wait::found;

/// What RabbitMQ shows.
pub const CALLER: &str = "a-token-of-the-broker";

pub struct Scene {
    pub plant: Plant,
    pub broker: Broker,
    devices: Api<Device>,
    flags: Vec<String>,
    /// Where it asks.
    pub port: u16,
    folder: Folder,
}

impl Scene {
    /// With a gateway, which is there before RabbitMQ is.
    pub async fn new() -> (Scene, Gateway) {
        let plant = Plant::new("rabbitmq").await;
        let port = free_port();
        let asks = format!("http://127.0.0.1:{port}/caller/{CALLER}");
        let broker = Broker::start(&asks).await;
        let folder = Folder::new("rabbitmq");
        let flags = [
            format!("--namespace={}", plant.place.namespace.name),
            format!("--rabbitmq-url=http://{}", broker.management),
            format!(
                "--rabbitmq-credentials={}",
                folder.write("login", LOGIN).display()
            ),
            format!(
                "--caller-token-file={}",
                folder.write("callers", CALLER).display()
            ),
            "--ephemeral-signing-key".to_owned(),
            "--audit".to_owned(),
        ];
        let scene = Scene {
            devices: plant.place.namespace.api(&plant.place.namespace.admin),
            plant,
            broker,
            flags: flags.to_vec(),
            port,
            folder,
        };
        let gateway = scene.gateway().await;
        (scene, gateway)
    }

    /// A gateway where RabbitMQ asks.
    pub async fn gateway(&self) -> Gateway {
        self.gateway_at(self.port, &[]).await
    }

    /// A gateway at this port, with these flags instead of those of the same name, and besides.
    pub async fn gateway_at(&self, port: u16, flags: &[String]) -> Gateway {
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let is_given = |own: &&String| !flags.iter().any(|flag| name(flag) == name(own));
        let all = self.flags.iter().filter(is_given).chain(flags);
        let all: Vec<&str> = all.map(|flag| &**flag).collect();
        let launcher = &self.plant.launcher;
        let mut gateway = Gateway::of(launcher.start_gateway_at([0, port, 0], &all)).await;
        gateway.process.is_ready().await;
        gateway
    }

    /// Has the gateway log in to RabbitMQ by these, user and password.
    pub fn login(&self, login: &str) {
        self.folder.write("login", login);
    }

    /// A key with these restrictions.
    pub async fn key(&self, name: &str, restrictions: Value) -> Issued {
        self.plant.issue(name, restrictions).await
    }

    /// Merges this into the spec of a key.
    pub async fn change(&self, name: &str, spec: Value) {
        self.plant.change(name, spec).await;
    }

    /// Has it admit these devices instead.
    pub async fn restrict(&self, name: &str, devices: &[&str]) {
        let restrictions = json!({ "restrictions": { "deviceIds": devices } });
        self.change(name, restrictions).await;
    }

    /// A Device with this spec and these labels.
    pub async fn device(&self, name: &str, spec: Value, labels: Value) {
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
            "metadata": { "name": name, "labels": labels }, "spec": spec,
        });
        apply(&self.devices, &from_json::<Device>(device)).await;
    }

    /// Connects, once it is known that the device may.
    pub async fn admitted(&self, connect: &Connect) -> Session {
        let what = format!("{} is admitted", connect.id);
        found(&what, async || connect.to(self.broker.at).await.ok()).await
    }

    /// The session of a device that has this key.
    pub async fn session(&self, id: &str, issued: &Issued) -> Session {
        self.admitted(&connect(id, issued)).await
    }

    /// The same, of one of many.
    pub async fn session_of(&self, id: String, issued: &Issued) -> Session {
        self.session(&id, issued).await
    }

    /// Tries until it is known that the device may not connect.
    pub async fn refused(&self, connect: &Connect) {
        let what = format!("{} is refused", connect.id);
        // Who is admitted, and then is not any more, is told so otherwise.
        found(&what, async || {
            let refusal = connect.to(self.broker.at).await.err();
            refusal.filter(|refusal| *refusal == REFUSED)
        })
        .await;
    }

    /// The device may not connect, as is known.
    pub async fn is_refused(&self, connect: &Connect, what: &str) {
        let refusal = connect.to(self.broker.at).await.err();
        assert_eq!(refusal, Some(REFUSED), "{what}");
    }

    /// Whether a device may subscribe to this. Who may not is sent away.
    pub async fn may_subscribe(&self, id: &str, issued: &Issued, filter: &str) -> bool {
        let mut session = self.session(id, issued).await;
        session.subscribe(filter, 0).await == Some(true)
    }

    /// Subscribes until it is known that the device may.
    pub async fn until_granted(&self, id: &str, issued: &Issued, filter: &str) {
        found(filter, async || {
            let is_granted = self.may_subscribe(id, issued, filter).await;
            is_granted.then_some(())
        })
        .await;
    }

    /// Whether a device may send to this topic. Who may not is sent away.
    pub async fn may_send(&self, id: &str, issued: &Issued, topic: &str) -> bool {
        let mut session = self.session(id, issued).await;
        session.publish(topic, "something", false).await.is_some()
    }
}

/// All are refused alike: as if by a wrong password.
const REFUSED: Refused = Refused::Code(4);

/// What a device wants that has this key.
pub fn connect(id: &str, issued: &Issued) -> Connect {
    Connect::new(Version::V311, id, issued)
}
