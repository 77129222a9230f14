//! One version of the charts after the other, and none in the end.

use kube::api::ListParams;
use serde_json::json;

use crate::inside::{Inside, PATIENCE, PLANT, SYSTEM};
use crate::logins::Logins;
use crate::node::Node;
use crate::support::helm::{CHART, DEFINITIONS};
use crate::support::plant::Issued;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn an_upgrade_a_rollback_and_an_uninstall_leave_keys_and_secrets_until_the_definitions_go() {
    Node::start("releases").inside(story);
}

const WAIT: [&str; 3] = ["--wait", "--timeout", "3m"];

async fn story(inside: Inside) {
    let previous = |chart: &str| format!("tests/node/previous/{chart}-0.1.0.tgz");
    for namespace in [SYSTEM, PLANT] {
        inside.kubectl(&["create", "namespace", namespace]);
        inside.restrict_pods(namespace);
    }
    inside.give_gateways_their_secret();
    inside.helm(&["install", "keyward-crds", &previous("keyward-crds")]);
    let chosen = ["-n", SYSTEM, "--set", "namespaces={plant}"];
    let install = ["install", "keyward", &previous("keyward")];
    inside.helm(&[&install[..], &chosen, &WAIT].concat());
    inside
        .create("pumps", json!({ "restrictions": { "allDevices": true } }))
        .await;
    let issued = inside.issued("pumps", 1).await;
    let before = inside.delivered().await;
    let gateway = inside.service("keyward-gateway", "devices").await;
    Logins::are_right(gateway, &issued).await;

    inside.helm(&["upgrade", "keyward-crds", DEFINITIONS]);
    inside.helm(&[&["upgrade", "keyward", CHART][..], &chosen, &WAIT].concat());
    works(&inside, &issued).await;
    assert_eq!(inside.delivered().await, before, "after the upgrade");
    inside
        .create(
            "made-later",
            json!({ "restrictions": { "allDevices": true } }),
        )
        .await;
    inside.issued("made-later", 1).await;
    let before = inside.delivered().await;

    inside.helm(&[&["rollback", "keyward", "1", "-n", SYSTEM][..], &WAIT].concat());
    works(&inside, &issued).await;
    assert_eq!(inside.delivered().await, before, "after the rollback");

    inside.helm(&[&["uninstall", "keyward", "-n", SYSTEM][..], &WAIT].concat());
    inside.helm(&["uninstall", "keyward-crds"]);
    found_within(PATIENCE, "the Pods end", async || {
        let pods = inside
            .system_pods()
            .list(&ListParams::default())
            .await
            .ok()?;
        pods.items.is_empty().then_some(())
    })
    .await;
    assert_eq!(inside.delivered().await, before, "after the uninstall");

    // The garbage collector learns of a new kind up to a minute late, and would not know then whose they were.
    inside.kubectl(&["delete", "accesskey", "made-later", "-n", PLANT]);
    found_within(PATIENCE, "the Secret goes with its key", async || {
        let left = inside.secrets().get_opt("made-later").await.ok()?;
        left.is_none().then_some(())
    })
    .await;
    inside.kubectl(&[
        "delete",
        "crd",
        "accesskeys.keyward.dev",
        "devices.keyward.dev",
    ]);
    found_within(PATIENCE, "the Secrets go with their keys", async || {
        let left = inside.secrets().list(&ListParams::default()).await.ok()?;
        left.items.is_empty().then_some(())
    })
    .await;
}

/// Devices are let in with what they have.
async fn works(inside: &Inside, issued: &Issued) {
    let logins = Logins::begin(inside.service("keyward-gateway", "devices").await, issued);
    logins.some_more().await;
    assert_eq!(logins.end().await.wrong, 0);
}
