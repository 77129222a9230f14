//! Gateways come and go while devices log in.

use kube::api::{DeleteParams, EvictParams};
use kube::{Error, ResourceExt};
use serde_json::json;

use crate::inside::{Inside, PATIENCE, SYSTEM};
use crate::logins::{Logins, Outcome};
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
    let begin = async || {
        let logins = Logins::begin(gateway, &issued);
        some_more(&logins).await;
        logins
    };
    // Both gateways have heard of the key by then.
    found_within(PATIENCE, "all logins are right", async || {
        let outcome = begin().await.end().await;
        (outcome.wrong == 0).then_some(())
    })
    .await;

    let logins = begin().await;
    inside.kubectl(&[
        "rollout",
        "restart",
        "deployment/keyward-gateway",
        "-n",
        SYSTEM,
    ]);
    inside.is_rolled_out("keyward-gateway").await;
    found_within(PATIENCE, "the old ones are gone", async || {
        let labels = [
            "get",
            "pods",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/component=gateway",
            "-o",
            "name",
        ];
        (inside.kubectl(&labels).lines().count() == 2).then_some(())
    })
    .await;
    some_more(&logins).await;
    let Outcome {
        right,
        wrong,
        unanswered,
    } = logins.end().await;
    println!(
        "measured: logins while gateways were rolled out: {right} right, {wrong} wrong, {unanswered} unanswered"
    );
    assert_eq!((wrong, unanswered), (0, 0), "of {right}");

    // A node that is drained takes one, and waits with the other.
    let [one, other] = &inside.pods("gateway").await[..] else {
        panic!("two gateways");
    };
    let [one, other] = [one, other].map(ResourceExt::name_any);
    let logins = begin().await;
    let evicted = inside
        .system_pods()
        .evict(&one, &EvictParams::default())
        .await;
    evicted.expect("one may go");
    let refused = inside
        .system_pods()
        .evict(&other, &EvictParams::default())
        .await;
    assert!(
        matches!(&refused, Err(Error::Api(status)) if status.code == 429),
        "{refused:?}"
    );
    inside.is_rolled_out("keyward-gateway").await;
    let Outcome {
        right,
        wrong,
        unanswered,
    } = logins.end().await;
    println!(
        "measured: logins while a gateway was evicted: {right} right, {wrong} wrong, {unanswered} unanswered"
    );
    assert_eq!((wrong, unanswered), (0, 0), "of {right}");

    let logins = begin().await;
    let at_once = DeleteParams::default().grace_period(0);
    let killed = inside.system_pods().delete(&other, &at_once).await;
    killed.expect("it is killed");
    inside.is_rolled_out("keyward-gateway").await;
    some_more(&logins).await;
    let Outcome {
        right,
        wrong,
        unanswered,
    } = logins.end().await;
    println!(
        "measured: logins while a gateway was killed: {right} right, {wrong} wrong, {unanswered} unanswered"
    );
    assert_eq!(wrong, 0, "of {right}");
}

async fn some_more(logins: &Logins) {
    let before = logins.right_so_far();
    found_within(PATIENCE, "devices log in", async || {
        (logins.right_so_far() > before + 100).then_some(())
    })
    .await;
}
