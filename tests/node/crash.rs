//! The controller's Pod dies while it has much to do.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::inside::{Inside, PATIENCE};
use crate::node::Node;
use crate::support::keys::holds;
use crate::support::wait::found_within;

const KEYS: usize = 200;

#[test]
#[ignore = "takes a node"]
fn keys_are_issued_once_though_the_controller_is_killed_again_and_again() {
    Node::start("crash").inside(story);
}

async fn story(inside: Inside) {
    inside.install();
    let names: Vec<String> = (0..KEYS).map(|number| format!("key-{number}")).collect();
    let all = json!({ "restrictions": { "allDevices": true } });
    let applying = stream::iter(&names).for_each_concurrent(8, async |name| {
        inside.create(name, all.clone()).await;
    });
    let killing = async {
        for ready in [10, 60, 120] {
            found_within(PATIENCE, "it works", async || {
                (ready_keys(&inside).await >= ready).then_some(())
            })
            .await;
            kill_the_controller(&inside).await;
        }
    };
    tokio::join!(applying, killing);
    let mut keys = BTreeSet::new();
    for name in &names {
        keys.insert(inside.issued(name, 1).await.key);
    }
    assert_eq!(keys.len(), KEYS, "each has a key of its own");
    let secrets = inside.secrets().list(&ListParams::default()).await;
    let secrets = secrets.expect("listed").into_iter();
    let named = BTreeSet::from_iter(secrets.map(|secret| secret.name_any()));
    assert_eq!(
        named,
        BTreeSet::from_iter(names),
        "and nothing else is left"
    );
}

async fn ready_keys(inside: &Inside) -> usize {
    let keys = inside.keys().list(&ListParams::default()).await;
    let keys = keys.expect("listed").into_iter();
    let ready = keys.filter(|key| key.status.as_ref().is_some_and(|it| holds(it, "Ready")));
    ready.count()
}

/// Without a word of warning.
async fn kill_the_controller(inside: &Inside) {
    for pod in inside.pods("controller").await {
        let at_once = DeleteParams::default().grace_period(0);
        let killed = inside.system_pods().delete(&pod.name_any(), &at_once).await;
        killed.expect("deleted");
    }
}
