//! A plant with keys and devices, and a broker that decides by them.
#![allow(dead_code)]

use keyward::api::Device;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::HABITS;
use crate::broker::{Broker, Settings};
use crate::door::Door;
use crate::mqtt::{Connect, Message, Refused, Session, Version};
use crate::support::cluster::{apply, from_json};
use crate::support::gateway::Plant;
use crate::support::plant::Issued;
use crate::support::process::Access;
use crate::support::proxy::Proxy;
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

    /// Of a broker that sees the API server through this.
    pub async fn behind(version: Version, door: &Door) -> Scene {
        let proxy = door.proxy().await;
        let access = proxy.access();
        Scene::set(version, Settings::default(), access, Some(proxy)).await
    }

    async fn set(
        version: Version,
        mut settings: Settings,
        access: Access,
        proxy: Option<Proxy>,
    ) -> Scene {
        let plant = Plant::new("brokers").await;
        let namespace = &plant.place.namespace;
        settings.namespace = namespace.name.clone();
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

    /// Merges this into the spec of a key.
    pub async fn change(&self, name: &str, spec: Value) {
        self.plant.change(name, spec).await;
    }

    /// Has a key admit these devices instead.
    pub async fn restrict(&self, name: &str, devices: &[&str]) {
        let restrictions = json!({ "restrictions": { "deviceIds": devices } });
        self.change(name, restrictions).await;
    }

    pub async fn delete_key(&self, name: &str) {
        let keys = &self.plant.place.keys;
        let deleted = keys.delete(name, &DeleteParams::default()).await;
        deleted.expect("deleted");
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

    /// The session of a device that may subscribe to this. What a key gained may count for those only who connect then.
    pub async fn with_subscription(&self, connect: &Connect, filter: &str) -> Session {
        found(&format!("{} may have {filter}", connect.id), async || {
            let mut session = connect.to(self.broker.at).await.ok()?;
            let is_granted = session.subscribe(filter, 0).await == Some(true);
            is_granted.then_some(session)
        })
        .await
    }

    /// Waits until the broker knows that a device may subscribe to this.
    pub async fn until_granted(&self, id: &str, issued: &Issued, filter: &str) {
        self.with_subscription(&self.connect(id, issued), filter)
            .await;
    }

    /// Tries until the broker knows that the device may not connect.
    pub async fn refused(&self, connect: &Connect) {
        let what = format!("{} is refused", connect.id);
        // Who is admitted, and then is not any more, may be told so otherwise.
        found(&what, async || {
            let refusal = connect.to(self.broker.at).await.err();
            refusal.filter(|refusal| *refusal == HABITS.refusal(self.version))
        })
        .await;
    }

    /// The device may not connect, as the broker knows. All are refused alike.
    pub async fn is_refused(&self, connect: &Connect, what: &str) {
        let refusal = found(what, async || match connect.to(self.broker.at).await {
            Ok(_) => panic!("{what} is admitted"),
            Err(Refused::Closed) if HABITS.puts_off => None,
            Err(refusal) => Some(refusal),
        })
        .await;
        assert_eq!(refusal, HABITS.refusal(self.version), "{what}");
    }
}

/// Whether a session is alive, and gets what it sends itself.
pub async fn lives(session: &mut Session, own: &str) {
    let state = Message::new(&format!("devices/{own}/state"), "on");
    let granted = session.subscribe(&state.topic, 1).await;
    assert_eq!(granted, Some(true), "{own}");
    let sent = session.publish(&state.topic, &state.payload, false).await;
    assert_eq!(sent, Some(0), "{own}");
    while session.message().await != state {}
}
