//! The machine goes down with all that ran on it, and comes back.

use serde_json::json;

use crate::device;
use crate::inside::{Inside, PATIENCE};
use crate::mqtt::{Connect, Version};
use crate::node::Node;
use crate::support::gateway::send;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn everything_comes_back_after_a_restart_and_no_key_is_issued_twice() {
    let node = Node::start("restart");
    let before = node.inside(async |inside| {
        inside.install();
        for name in ["pumps", "valves", "lamps"] {
            inside
                .create(name, json!({ "restrictions": { "allDevices": true } }))
                .await;
            inside.issued(name, 1).await;
        }
        device::start(&inside).await;
        inside.has_printed("pump-1", &["rest 200", "told"]).await;
        inside.delivered().await
    });
    node.restart();
    let after = node.inside(async |inside| {
        is_back(&inside).await;
        inside.delivered().await
    });
    assert_eq!(before, after);
    let issued = |log: &str| log.lines().filter(|line| is_delivery(line)).count();
    assert_eq!(
        issued(&node.audit_log()),
        4,
        "three keys, and one after the restart"
    );
}

async fn is_back(inside: &Inside) {
    let gateway = inside.service("keyward-gateway", "devices").await;
    let issued = inside.issued("pumps", 1).await;
    let body = json!({ "deviceId": "plant.pump-2", "key": issued.key, "secret": issued.secret })
        .to_string();
    found_within(PATIENCE, "a gateway lets a device in", async || {
        let answer = send(gateway, "POST /auth/device", &[], &body).await.ok()?;
        (answer.0 == 200).then_some(())
    })
    .await;
    found_within(PATIENCE, "the device begins anew", async || {
        let status = inside.plant_pods().get("pump-1").await.ok()?.status?;
        let containers = status.container_statuses?;
        (containers[0].restart_count > 0).then_some(())
    })
    .await;
    // With the secret that it had.
    inside.has_printed("pump-1", &["rest 200", "told"]).await;
    // A gateway that has not caught up says that it cannot tell, and refuses nobody.
    let log = inside.log("pump-1").await;
    assert!(!log.contains("rest 401"), "a gateway was wrong: {log}");
    let broker = inside.service("keyward-mosquitto", "mqtt").await;
    Connect::new(Version::V311, "pump-2", &issued)
        .to(broker)
        .await
        .expect("it is admitted");
    // The controller works, and has looked at all keys before it comes to a new one.
    inside
        .create("new", json!({ "restrictions": { "allDevices": true } }))
        .await;
    inside.issued("new", 1).await;
    inside.kubectl(&["delete", "accesskey", "new", "-n", crate::inside::PLANT]);
}

/// A line of the audit log that says that the controller has created a Secret.
fn is_delivery(line: &str) -> bool {
    let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
    entry["verb"] == "create"
        && entry["objectRef"]["resource"] == "secrets"
        && entry["responseStatus"]["code"] == 201
        && entry["user"]["username"] == crate::support::cluster::CONTROLLER_USER
}
