//! The HTTP contract of mosquitto-go-auth, with a broker that speaks it: amqtt.

#[path = "amqtt/broker.rs"]
mod broker;
#[path = "brokers/door.rs"]
mod door;
#[path = "brokers/failures.rs"]
mod failures;
#[path = "brokers/habits.rs"]
mod habits;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "brokers/scene.rs"]
mod scene;
mod support;

use mqtt::{Message, Refused, Version};
use scene::Scene;
use serde_json::json;
use support::keys::some_secret;
use support::process::holds_no_secret;

const HABITS: habits::Habits = habits::AMQTT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqtt_asks_the_gateway_who_may_connect_and_what_they_may_do() {
    let scene = Scene::of(Version::V311).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
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
async fn who_is_switched_off_does_nothing() {
    let scene = Scene::of(Version::V311).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let mut watcher = scene.session("watcher", &all).await;
    assert_eq!(watcher.subscribe("devices/+/state", 0).await, Some(true));
    let mut pump = scene.session("pump-1", &pumps).await;

    let inactive = json!({ "state": "Inactive" });
    scene.change("pumps", inactive).await;
    scene.refused(&scene.connect("pump-2", &pumps)).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_while_it_cannot_be_known_who_they_are() {
    let mut scene = Scene::of(Version::V311).await;
    failures::nobody_comes_in_while_it_cannot_be_known_who_they_are(&mut scene).await;
}
