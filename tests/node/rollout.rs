//! Gateways come and go while devices log in.

use kube::api::{DeleteParams, EvictParams};
use kube::{Error, ResourceExt};
use serde_json::json;

use crate::inside::{Inside, PATIENCE};
use crate::logins::Logins;
use crate::node::Node;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn no_login_fails_while_gateways_are_rolled_out_and_none_is_wrong_when_one_dies() {
    Node::start("rollout").inside(story);
}

async fn story(inside: Inside) {
    inside.install();
    inside
        .create("all", json!({ "restrictions": { "allDevices": true } }))
        .await;
    let issued = inside.issued("all", 1).await;
    let gateway = inside.service("keyward-gateway", "devices").await;
    Logins::are_right(gateway, &issued).await;
    let begin = async || {
        let logins = Logins::begin(gateway, &issued);
        logins.some_more().await;
        logins
    };

    let logins = begin().await;
    inside.roll_out_gateways().await;
    logins.some_more().await;
    let outcome = logins.end().await;
    outcome.print("gateways were rolled out");
    assert_eq!((outcome.wrong, outcome.unanswered), (0, 0), "{outcome:?}");

    // A node that is drained takes one, and waits with the other.
    let [one, other] = &inside.pods("gateway").await[..] else {
        panic!("two gateways");
    };
    let [one, other] = [one, other].map(ResourceExt::name_any);
    let (pods, params) = (inside.system_pods(), EvictParams::default());
    let logins = begin().await;
    // As soon as the budget has heard of both.
    found_within(PATIENCE, "one may go", async || {
        pods.evict(&one, &params).await.ok()
    })
    .await;
    let refused = pods.evict(&other, &params).await;
    assert!(
        matches!(&refused, Err(Error::Api(status)) if status.code == 429),
        "{refused:?}"
    );
    inside.is_gone(&one).await;
    inside.is_rolled_out("keyward-gateway").await;
    logins.some_more().await;
    let outcome = logins.end().await;
    outcome.print("a gateway was evicted");
    assert_eq!((outcome.wrong, outcome.unanswered), (0, 0), "{outcome:?}");

    let logins = begin().await;
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&other, &at_once).await.expect("it is killed");
    inside.is_gone(&other).await;
    inside.is_rolled_out("keyward-gateway").await;
    logins.some_more().await;
    let outcome = logins.end().await;
    outcome.print("a gateway was killed");
    assert_eq!(outcome.wrong, 0, "{outcome:?}");
}
