//! A new secret reaches the device by its mount, in time.

use serde_json::json;

use crate::device;
use crate::inside::{Inside, PATIENCE};
use crate::mqtt::{Connect, Refused, Version};
use crate::node::Node;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn a_device_takes_up_the_new_secret_before_the_old_one_ends() {
    Node::start("rotation").inside(story);
}

async fn story(inside: Inside) {
    inside.install();
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    inside
        .create("pumps", json!({ "restrictions": pumps }))
        .await;
    let old = inside.issued("pumps", 1).await;
    device::start(&inside).await;
    inside.has_printed("pump-1", &["rest 200", "told"]).await;

    let rotation = json!({ "revision": 2, "overlap": "1m" });
    inside
        .change("pumps", json!({ "rotation": rotation }))
        .await;
    let new = inside.issued("pumps", 2).await;
    assert_ne!(old.secret, new.secret);
    inside
        .has_printed("pump-1", &["secret changed", "rest 200", "told"])
        .await;

    let broker = inside.service("keyward-mosquitto", "mqtt").await;
    let [old, new] = [old, new].map(|issued| Connect::new(Version::V311, "pump-2", &issued));
    // Until then it may come with either.
    let status = inside.keys().get("pumps").await.expect("read").status;
    assert_eq!(
        status.expect("a status").verifiers.len(),
        2,
        "both are accepted"
    );
    old.to(broker).await.expect("admitted").vanish();
    let refused = found_within(PATIENCE, "the old secret ends", async || {
        old.to(broker).await.err()
    });
    assert_eq!(refused.await, Refused::Code(5));
    let mut other = new.to(broker).await.expect("admitted");
    let log = inside.log("pump-1").await;
    assert_eq!(
        log.matches("session ended").count(),
        1,
        "it was not cut: {log}"
    );
    found_within(PATIENCE, "it still listens", async || {
        other
            .publish("devices/pump-1/command", "go on", false)
            .await;
        let log = inside.log("pump-1").await;
        log.contains("command go on").then_some(())
    })
    .await;
}
