//! A plant with keys and devices, and a broker that decides by them.
#![allow(dead_code)]

use std::time::Duration;

use keyward::api::Device;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::broker::{Broker, Settings};
use crate::mqtt::{Connect, Message, Refused, Session, Version};
use crate::support::cluster::{self, apply, from_json};
use crate::support::gateway::{PATIENCE, Plant};
use crate::support::plant::Issued;
use crate::support::process::Access;
use crate::support::proxy::{Proxy, Rules};
use crate::support::wait::found;

pub struct Scene {
    pub plant: Plant,
    pub broker: Broker,
    pub version: Version,
    pub devices: Api<Device>,
    _proxy: Option<Proxy>,
}

impl Scene {
    pub async fn of(version: Version) -> Scene {
        Scene::with(version, Settings::default()).await
    }

    /// Of a broker that is configured otherwise than what is shipped; it serves this scene's namespace.
    pub async fn with(version: Version, settings: Settings) -> Scene {
        let access = Access::admin().as_gateway().await;
        Scene::set(version, settings, access, None).await
    }

    /// Of a broker between which and the API server these rules hold.
    pub async fn behind(version: Version, rules: impl Rules) -> Scene {
        let client = cluster::service_account(cluster::SYSTEM, cluster::GATEWAY).await;
        let proxy = Proxy::start(client, rules).await;
        let access = proxy.access();
        Scene::set(version, Settings::default(), access, Some(proxy)).await
    }

    async fn set(
        version: Version,
        settings: Settings,
        access: Access,
        proxy: Option<Proxy>,
    ) -> Scene {
        let plant = Plant::new("brokers").await;
        let namespace = &plant.place.namespace;
        let settings = Settings {
            namespace: namespace.name.clone(),
            ..settings
        };
        Scene {
            broker: Broker::with(settings, access).await,
            devices: namespace.api(&namespace.admin),
            plant,
            version,
            _proxy: proxy,
        }
    }

    /// A key with these restrictions.
    pub async fn key(&self, name: &str, restrictions: Value) -> Issued {
        self.plant.issue(name, restrictions).await
    }

    /// A Device with this spec and these labels.
    pub async fn device(&self, name: &str, spec: Value, labels: Value) {
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
            "metadata": { "name": name, "labels": labels }, "spec": spec,
        });
        apply(&self.devices, &from_json::<Device>(device)).await;
    }

    pub async fn delete_device(&self, name: &str) {
        let deleted = self.devices.delete(name, &DeleteParams::default()).await;
        deleted.expect("deleted");
    }

    /// What a device wants that has this key.
    pub fn connect(&self, id: &str, issued: &Issued) -> Connect {
        Connect::new(self.version, id, issued)
    }

    /// Connects, once the broker knows that the device may.
    pub async fn admitted(&self, connect: &Connect) -> Session {
        let what = format!("{} is admitted", connect.id);
        found(&what, async || connect.to(self.broker.at).await.ok()).await
    }

    /// The session of a device that has this key.
    pub async fn session(&self, id: &str, issued: &Issued) -> Session {
        self.admitted(&self.connect(id, issued)).await
    }

    /// Subscribes, once the broker knows that the session may.
    pub async fn granted(&self, session: &mut Session, filter: &str) {
        let begin = Instant::now();
        while session.subscribe(filter, 1).await != Some(true) {
            assert!(begin.elapsed() < PATIENCE, "{filter} is granted");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tries until the broker knows that the device may not connect.
    pub async fn refused(&self, connect: &Connect) {
        let what = format!("{} is refused", connect.id);
        let refusal = found(&what, async || self.refusal(connect).await).await;
        self.is_the_refusal(refusal, &connect.id);
    }

    /// The device may not connect, as the broker knows.
    pub async fn is_refused(&self, connect: &Connect, what: &str) {
        let refusal = found(what, async || match connect.to(self.broker.at).await {
            Ok(_) => panic!("{what} is admitted"),
            Err(refusal) => said(refusal),
        })
        .await;
        self.is_the_refusal(refusal, what);
    }

    async fn refusal(&self, connect: &Connect) -> Option<Refused> {
        connect.to(self.broker.at).await.err().and_then(said)
    }

    /// All are refused alike.
    fn is_the_refusal(&self, refusal: Refused, what: &str) {
        let code = match self.version {
            Version::V311 => 5,
            Version::V5 => 0x87,
        };
        assert_eq!(refusal, Refused::Code(code), "{what}");
    }
}

/// Sends a message that it may or may not send, and then its own state; what arrives at `watcher` before that?
pub async fn arrives(
    sender: (&mut Session, &str),
    watcher: &mut Session,
    message: &Message,
) -> bool {
    let (session, own) = sender;
    session
        .publish(&message.topic, &message.payload, false)
        .await;
    let end = Message::new(
        &format!("devices/{own}/state"),
        &format!("end of {}", message.payload),
    );
    session.publish(&end.topic, &end.payload, false).await;
    let mut has_arrived = false;
    loop {
        let arrived = watcher.message().await;
        if arrived == end {
            return has_arrived;
        }
        assert_eq!(arrived, *message, "nobody has sent anything else");
        assert!(
            !std::mem::replace(&mut has_arrived, true),
            "it arrives once"
        );
    }
}

/// A connection that is closed without a word is one that the client has to try again.
fn said(refusal: Refused) -> Option<Refused> {
    (refusal != Refused::Closed).then_some(refusal)
}
