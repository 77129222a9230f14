//! The install without Helm, and a namespace that nobody has said anything of.

use serde_json::json;

use crate::inside::{Inside, PATIENCE, PLANT};
use crate::node::Node;
use crate::support::keys::condition;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn the_manifests_install_keyward_which_names_the_file_that_a_namespace_lacks() {
    Node::start("manifests").inside(story);
}

async fn story(inside: Inside) {
    inside.kubectl(&[
        "apply",
        "--server-side",
        "-f",
        "crds/",
        "-f",
        "deploy/install.yaml",
    ]);
    inside.give_gateways_their_secret();
    for part in ["controller", "gateway"] {
        inside.is_rolled_out(&format!("keyward-{part}")).await;
    }
    inside.kubectl(&["create", "namespace", PLANT]);
    inside
        .create("pumps", json!({ "restrictions": { "allDevices": true } }))
        .await;
    let stalled = found_within(PATIENCE, "it says what is missing", async || {
        let status = inside.keys().get("pumps").await.ok()?.status?;
        condition(&status, "Stalled")
            .filter(|it| it.status == "True")
            .cloned()
    })
    .await;
    assert_eq!(stalled.reason, "NamespaceNotServed");
    assert!(
        stalled.message.contains("deploy/namespace.yaml"),
        "{}",
        stalled.message
    );
    inside.kubectl(&["apply", "-n", PLANT, "-f", "deploy/namespace.yaml"]);
    inside.issued("pumps", 1).await;

    // Its removal takes no key with it.
    let before = inside.delivered().await;
    inside.kubectl(&["delete", "-f", "deploy/install.yaml"]);
    assert_eq!(inside.delivered().await, before);
}
