//! NATS with real clients, by MQTT and by its own protocol: a device is who its key and secret say, sees and commands what
//! its key admits, and is gone once its key does not.

#![allow(clippy::unwrap_used)]

#[path = "nats/broker.rs"]
mod broker;
#[path = "nats/cluster.rs"]
mod cluster;
#[path = "brokers/door.rs"]
mod door;
#[path = "nats/failures.rs"]
mod failures;
#[path = "brokers/habits.rs"]
mod habits;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "nats/operation.rs"]
mod operation;
#[path = "nats/other_clients.rs"]
mod other_clients;
#[path = "nats/own_protocol.rs"]
mod own_protocol;
#[path = "nats/rotation.rs"]
mod rotation;
#[path = "brokers/scene.rs"]
mod scene;
#[path = "brokers/scenes/mod.rs"]
mod scenes;
mod support;
#[path = "nats/tls.rs"]
mod tls;

use broker::Settings;
use mqtt::{Message, Version};
use scene::Scene;
use scenes::{all_scenes, tests};
use serde_json::json;

const HABITS: habits::Habits = habits::NATS;

/// Sessions that were cut, for some reason.
const CUTS: &str = "keyward_decisions_total{asked=\"cut\"";

async fn scene() -> Scene {
    Scene::of(Version::V311).await
}

all_scenes!(tests! mqtt_311 V311);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_where_requests_are_not_sealed() {
    let scene = Scene::with(Version::V311, Settings::with("# no xkey")).await;
    scenes::who_may_connect_does_and_all_others_are_refused_alike(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_every_shape_are_what_the_key_says() {
    let scene = scene().await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let shapes = ["v1.2/x", "/lead", "trail/", "a//b", "deep/#", "end./x"];
    let topics = json!({ "filter": "AllowList", "publish": shapes, "subscribe": shapes });
    scene.plant.change("all", json!({ "topics": topics })).await;
    let writer = scene.connect("writer", &all);
    let mut writer = scene.with_subscription(&writer, "v1.2/x").await;
    for topic in [
        "v1.2/x", "/lead", "trail/", "a//b", "deep", "deep/x/y", "end./x",
    ] {
        assert_eq!(writer.subscribe(topic, 0).await, Some(true), "{topic}");
        writer.publish(topic, "text", false).await;
        assert_eq!(writer.message().await, Message::new(topic, "text"));
    }
    for topic in [
        "v1/2/x", "lead", "trail", "a/b", "a///b", "deeper", "end/x", "end//x",
    ] {
        assert_eq!(writer.subscribe(topic, 0).await, Some(false), "{topic}");
    }

    // All, or all but some, is what NATS has no words for: the topics of devices remain.
    for (topics, filter) in [
        (
            json!({ "filter": "All", "publish": null, "subscribe": null }),
            "anything",
        ),
        (
            json!({ "filter": "DenyList", "publish": ["x"], "subscribe": [] }),
            "y",
        ),
    ] {
        scene.plant.change("all", json!({ "topics": topics })).await;
        assert!(writer.is_closed().await);
        writer = scene.session("writer", &all).await;
        assert_eq!(writer.subscribe(filter, 0).await, Some(false));
        assert_eq!(writer.subscribe("devices/+/state", 0).await, Some(true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cut_is_counted_once() {
    let mut scene = scene().await;
    let mut sessions = Vec::new();
    for (name, devices) in [
        ("inactive", ["pump-1", "pump-2"]),
        ("deleted", ["valve-1", "valve-2"]),
        ("narrowed", ["fan-1", "fan-2"]),
    ] {
        let key = scene.key(name, json!({ "deviceIds": devices })).await;
        sessions.push(scene.session(devices[0], &key).await);
    }
    let inactive = json!({ "state": "Inactive" });
    scene.change("inactive", inactive).await;
    scene.delete_key("deleted").await;
    scene.restrict("narrowed", &["fan-2"]).await;
    for session in &mut sessions {
        assert!(session.is_closed().await);
    }
    for reason in ["inactive", "unknown_key", "out_of_scope"] {
        let metric = format!("{CUTS},answer=\"{reason}\"}}");
        scene.broker.gateway().counts(&metric, 1).await;
    }
}
