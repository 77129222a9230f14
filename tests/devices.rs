//! What the controller says of Devices that claim one ID, on a real API server and as its own
//! ServiceAccount.

use std::{future::pending, time::Duration};

use crate::support::{
    cluster::{TestNamespace, apply, controller_config, eventually, from_json},
    wait::found,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use keyward::{
    api::Device,
    clock::Clock,
    controller::{self, devices},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_device_without_a_rival_is_never_written_to() {
    let fleet = Fleet::new().await;
    let by_name = fleet.create("pump-1", None).await;
    let by_id = fleet.create("p2", Some("Pump_2")).await;
    let _desk = Desk::start(&[&fleet]);
    fleet.is_settled().await;
    fleet.is_as_it_was(&by_name).await;
    fleet.is_as_it_was(&by_id).await;

    let tagged = fleet
        .change(
            "pump-1",
            json!({ "spec": { "tags": [{ "key": "site", "value": "north" }] } }),
        )
        .await;
    fleet.is_settled().await;
    fleet.is_as_it_was(&tagged).await;
    assert_eq!(tagged.status, None);
}

#[tokio::test]
async fn of_two_devices_with_one_id_the_older_counts_until_it_is_deleted() {
    let fleet = Fleet::new().await;
    let _desk = Desk::start(&[&fleet]);
    // By name alone it would lose.
    let winner = fleet.create("z-first", Some("pump")).await;
    fleet.create_younger_than(&winner, "pump", None).await;
    let told = fleet.lost_to("pump", "z-first").await;
    fleet.is_settled().await;
    fleet.is_as_it_was(&winner).await;
    fleet.is_as_it_was(&told).await;

    fleet.delete("z-first").await;
    let promoted = fleet.settled("pump").await;
    fleet.is_settled().await;
    fleet.is_as_it_was(&promoted).await;

    // That it had a conflict once is no reason to follow it.
    let changed = fleet
        .change("pump", json!({ "spec": { "disabled": true } }))
        .await;
    fleet.is_settled().await;
    fleet.is_as_it_was(&changed).await;
}

#[tokio::test]
async fn of_three_devices_the_oldest_counts_and_the_next_one_follows() {
    let fleet = Fleet::new().await;
    let _desk = Desk::start(&[&fleet]);
    let first = fleet.create("third-by-name", Some("valve")).await;
    let second = fleet
        .create_younger_than(&first, "second-by-name", Some("valve"))
        .await;
    fleet
        .create_younger_than(&second, "first-by-name", Some("valve"))
        .await;
    fleet.lost_to("second-by-name", "third-by-name").await;
    fleet.lost_to("first-by-name", "third-by-name").await;

    fleet.delete("third-by-name").await;
    fleet.settled("second-by-name").await;
    fleet.lost_to("first-by-name", "second-by-name").await;
    fleet.is_settled().await;
    fleet.lost_to("first-by-name", "second-by-name").await;
}

#[tokio::test]
async fn devices_of_different_namespaces_never_conflict() {
    let (here, there) = (Fleet::new().await, Fleet::new().await);
    let _desk = Desk::start(&[&here, &there]);
    let mine = here.create("pump", None).await;
    let theirs = there.create("other", Some("pump")).await;
    let both = there.create_younger_than(&theirs, "pump", None).await;
    there.lost_to("pump", "other").await;
    for fleet in [&here, &there] {
        fleet.is_settled().await;
    }
    here.is_as_it_was(&mine).await;
    there.is_as_it_was(&theirs).await;

    here.delete("pump").await;
    here.is_settled().await;
    let told = there.lost_to("pump", "other").await;
    assert_eq!(told.metadata.uid, both.metadata.uid);
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let fleet = Fleet::new().await;
    let desk = Desk::start(&[&fleet]);
    fleet.create("alone", None).await;
    for id in ["pump", "valve"] {
        let winner = fleet.create(&format!("z-{id}"), Some(id)).await;
        fleet.create_younger_than(&winner, id, None).await;
        fleet.lost_to(id, &format!("z-{id}")).await;
    }
    fleet.delete("z-valve").await;
    fleet.settled("valve").await;
    fleet.is_settled().await;
    desk.stop().await;

    let before = fleet.devices.list(&Default::default()).await.unwrap().items;
    let _desk = Desk::start(&[&fleet]);
    fleet.is_settled().await;
    assert!(before.len() >= 4);
    for device in &before {
        fleet.is_as_it_was(device).await;
    }
}

/// What happened while no controller ran is made good for.
#[tokio::test]
async fn a_conflict_that_ended_while_nobody_looked_is_said_to_be_over() {
    let fleet = Fleet::new().await;
    let desk = Desk::start(&[&fleet]);
    let winner = fleet.create("z-pump", Some("pump")).await;
    fleet.create_younger_than(&winner, "pump", None).await;
    fleet.lost_to("pump", "z-pump").await;
    desk.stop().await;
    fleet.delete("z-pump").await;

    let _desk = Desk::start(&[&fleet]);
    let promoted = fleet.settled("pump").await;
    fleet.is_settled().await;
    fleet.is_as_it_was(&promoted).await;
}

#[tokio::test]
async fn tools_that_read_kstatus_see_a_conflict_and_its_end() {
    let fleet = Fleet::new().await;
    let _desk = Desk::start(&[&fleet]);
    let winner = fleet.create("z-pump", Some("pump")).await;
    assert_eq!(kstatus(&winner), "Current");
    fleet.create_younger_than(&winner, "pump", None).await;
    let told = fleet.lost_to("pump", "z-pump").await;
    assert_eq!(kstatus(&told), "InProgress");

    // Its status follows its spec, as long as it has something to say.
    let changed = fleet
        .change("pump", json!({ "spec": { "disabled": true } }))
        .await;
    assert_ne!(changed.metadata.generation, told.metadata.generation);
    eventually("the status is about the new spec", || async {
        let status = fleet.get("pump").await.status.unwrap();
        status.observed_generation == changed.metadata.generation
    })
    .await;
    let told = fleet.lost_to("pump", "z-pump").await;
    assert_eq!(kstatus(&told), "InProgress");

    fleet.delete("z-pump").await;
    assert_eq!(kstatus(&fleet.settled("pump").await), "Current");
    let changed = fleet
        .change("pump", json!({ "spec": { "disabled": false } }))
        .await;
    assert_eq!(kstatus(&changed), "Current");
}

/// What kstatus computes from conditions and generations.
fn kstatus(device: &Device) -> &'static str {
    let status = device.status.clone().unwrap_or_default();
    let holds = |type_: &str, value: &str| {
        let is_it = |c: &Condition| c.type_ == type_ && c.status == value;
        status.conditions.iter().any(is_it)
    };
    let outdated = status
        .observed_generation
        .is_some_and(|seen| Some(seen) != device.metadata.generation);
    if outdated || holds("Reconciling", "True") {
        "InProgress"
    } else if holds("Stalled", "True") {
        "Failed"
    } else if holds("Ready", "False") || holds("Ready", "Unknown") {
        "InProgress"
    } else {
        "Current"
    }
}

/// The controller's part for Devices.
struct Desk {
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Desk {
    fn start(fleets: &[&Fleet]) -> Self {
        let namespaces = fleets
            .iter()
            .map(|fleet| fleet.namespace.name.clone())
            .collect();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async {
            let client = controller::client(controller_config().await).expect("a client");
            let shutdown = async {
                if stopped.await.is_err() {
                    pending().await
                }
            };
            let limit = Duration::from_secs(10);
            devices::run(client, namespaces, limit, Clock::system(), shutdown).await;
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("it ends");
    }
}

/// The Devices of one test's namespace.
struct Fleet {
    namespace: TestNamespace,
    devices: Api<Device>,
}

impl Fleet {
    async fn new() -> Self {
        let namespace = TestNamespace::unserved("devices").await;
        let devices = namespace.api(&namespace.admin);
        Self { namespace, devices }
    }

    async fn get(&self, name: &str) -> Device {
        self.devices.get(name).await.expect("the Device exists")
    }

    async fn create(&self, name: &str, id: Option<&str>) -> Device {
        let spec = id.map_or(json!({}), |id| json!({ "deviceId": id }));
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1",
            "kind": "Device",
            "metadata": { "name": name },
            "spec": spec,
        });
        apply(&self.devices, &from_json(device)).await
    }

    /// Creation times are whole seconds, and within one the name decides.
    async fn create_younger_than(&self, older: &Device, name: &str, id: Option<&str>) -> Device {
        let created = |device: &Device| {
            let time = device.metadata.creation_timestamp.as_ref();
            time.expect("every object has it").0.as_second()
        };
        eventually("the next second begins", || async {
            Timestamp::now().as_second() > created(older)
        })
        .await;
        let device = self.create(name, id).await;
        assert!(created(&device) > created(older), "clocks differ");
        device
    }

    async fn change(&self, name: &str, change: Value) -> Device {
        let (params, change) = (PatchParams::default(), Patch::Merge(change));
        let changed = self.devices.patch(name, &params, &change);
        changed.await.expect("patched")
    }

    async fn delete(&self, name: &str) {
        let params = DeleteParams::default();
        self.devices.delete(name, &params).await.expect("deleted");
    }

    /// Waits until a Device is told that another counts.
    async fn lost_to(&self, name: &str, winner: &str) -> Device {
        let told = |ready: &Condition| {
            ready.status == "False"
                && ready.reason == "DuplicateDeviceId"
                && ready.message.contains(&format!("Device {winner} has"))
        };
        self.until(name, &format!("{name} lost to {winner}"), told)
            .await
    }

    /// Waits until a Device is told that its conflict is over.
    async fn settled(&self, name: &str) -> Device {
        let told = |ready: &Condition| ready.status == "True" && ready.reason == "UniqueDeviceId";
        self.until(name, &format!("{name} counts again"), told)
            .await
    }

    async fn until(&self, name: &str, what: &str, told: impl Fn(&Condition) -> bool) -> Device {
        let ready = |device: &Device| {
            let status = device.status.clone().unwrap_or_default();
            let mut conditions = status.conditions.into_iter();
            conditions.find(|condition| condition.type_ == "Ready")
        };
        found(what, async || {
            let device = self.get(name).await;
            let holds = ready(&device).is_some_and(|condition| told(&condition));
            holds.then_some(device)
        })
        .await
    }

    /// Has the controller work off all that it knows: it writes in the order in which it learns.
    /// Twice, since the first pair may have been in its first list.
    async fn is_settled(&self) {
        for _ in 0..2 {
            let id = format!("marker-{}", Timestamp::now().as_nanosecond());
            for name in ["a", "b"] {
                self.create(&format!("{id}-{name}"), Some(&id)).await;
            }
            let (a, b) = (format!("{id}-a"), format!("{id}-b"));
            self.lost_to(&b, &a).await;
        }
    }

    async fn is_as_it_was(&self, before: &Device) {
        let name = before.metadata.name.as_deref().expect("a name");
        assert_eq!(self.get(name).await, *before, "{name} was written to");
    }
}
