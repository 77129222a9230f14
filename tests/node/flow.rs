//! The whole way: a key is applied, a device mounts its Secret and speaks, and is cut when the key is made inactive.

use serde_json::json;
use tokio::net::TcpStream;

use crate::device;
use crate::inside::{Inside, PATIENCE, PLANT};
use crate::mqtt::{Connect, Message, Version};
use crate::node::Node;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn a_device_speaks_with_its_mounted_secret_until_its_key_is_inactive() {
    Node::start("flow").inside(story);
}

async fn story(inside: Inside) {
    inside.install();
    inside.kubectl(&[
        "apply",
        "-n",
        PLANT,
        "-f",
        "deploy/examples/restricted-key.yaml",
    ]);
    let issued = inside.issued("pumps", 1).await;
    let broker = inside.service("keyward-mosquitto", "mqtt").await;
    found_within(PATIENCE, "the broker is reached", async || {
        TcpStream::connect(broker).await.ok()
    })
    .await;
    let other = Connect::new(Version::V311, "pump-2", &issued);
    let mut other = found_within(PATIENCE, "it is admitted", async || {
        other.to(broker).await.ok()
    })
    .await;
    assert_eq!(other.subscribe("devices/pump-1/state", 1).await, Some(true));

    device::start(&inside).await;
    let state = Message::new("devices/pump-1/state", "running");
    inside.has_printed("pump-1", &["rest 200", "told"]).await;
    assert_eq!(other.message().await, state);
    // What comes before it has subscribed is lost.
    found_within(PATIENCE, "a command arrives", async || {
        other.publish("devices/pump-1/command", "open", false).await;
        let log = inside.log("pump-1").await;
        log.contains("command open").then_some(())
    })
    .await;

    inside.change("pumps", json!({ "state": "Inactive" })).await;
    assert!(other.is_closed().await);
    let cut = ["session ended", "rest 401", "refused"];
    inside.has_printed("pump-1", &cut).await;
    let log = inside.log("pump-1").await;
    let (_, since) = log.split_once("session ended").expect("it was cut");
    assert!(!since.contains("told"), "it was let in again: {log}");

    inside.change("pumps", json!({ "state": "Active" })).await;
    // With the same secret.
    let back = ["session ended", "refused", "rest 200", "told"];
    inside.has_printed("pump-1", &back).await;
}
