//! mosquitto with real clients: a device is who its key and secret say, sees and commands what its key admits, and is gone
//! once its key does not.

#[path = "brokers/broker.rs"]
mod broker;
#[path = "brokers/door.rs"]
mod door;
#[path = "brokers/habits.rs"]
mod habits;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "brokers/scene.rs"]
mod scene;
#[path = "brokers/scenes/mod.rs"]
mod scenes;
mod support;

use mqtt::{Message, Version};
use scene::Scene;
use scenes::{all_scenes, tests};
use serde_json::json;

const HABITS: habits::Habits = habits::MOSQUITTO;

all_scenes!(tests! mqtt_311 V311);
all_scenes!(tests! mqtt_5 V5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_subscriptions_are_filtered_message_by_message_by_mqtt_311() {
    wide_subscriptions_are_filtered_message_by_message(Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_subscriptions_are_filtered_message_by_message_by_mqtt_5() {
    wide_subscriptions_are_filtered_message_by_message(Version::V5).await;
}

async fn wide_subscriptions_are_filtered_message_by_message(version: Version) {
    let scene = Scene::of(version).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let topics = json!({ "topics": { "filter": "All" } });
    scene.change("all", topics).await;
    scene.until_granted("other", &all, "log/#").await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2", "pump-3", "pump-4"] });
    let pumps = scene.key("pumps", pumps).await;
    let mut watcher = scene.session("pump-1", &pumps).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    let mut other = scene.session("other", &all).await;
    let [mut two, mut three] = [
        scene.session("pump-2", &pumps).await,
        scene.session("pump-3", &pumps).await,
    ];
    let of_two = |payload: &str| Message::new("devices/pump-2/state", payload);
    for number in 0..3 {
        let payload = format!("message {number}");
        let is_first = number == 0;
        other
            .publish("devices/other/state", &payload, is_first)
            .await;
        two.throw("devices/pump-2/state", &payload).await;
        assert_eq!(watcher.message().await, of_two(&payload));
    }
    // A retained message is asked about when it is delivered.
    let mut late = scene.session("pump-1", &pumps).await;
    assert_eq!(late.subscribe("devices/+/state", 1).await, Some(true));
    two.publish("devices/pump-2/state", "the end", false).await;
    assert_eq!(late.message().await, of_two("the end"));

    // And so is what was kept for who is away, and has lost a right meanwhile.
    let to_stay = scene.connect("pump-4", &pumps).staying();
    let mut away = scene.admitted(&to_stay).await;
    assert_eq!(away.subscribe("devices/+/state", 1).await, Some(true));
    away.vanish();
    other.publish("devices/other/state", "kept", false).await;
    three.publish("devices/pump-3/state", "kept", false).await;
    two.publish("devices/pump-2/state", "kept", false).await;
    scene
        .restrict("pumps", &["pump-1", "pump-2", "pump-4"])
        .await;
    assert!(three.is_closed().await);
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    assert_eq!(back.message().await, of_two("kept"));
    other.publish("devices/other/state", "live", false).await;
    two.publish("devices/pump-2/state", "live", false).await;
    assert_eq!(back.message().await, of_two("live"));
}
