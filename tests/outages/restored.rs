//! etcd is put back to what it held some time ago, under a controller that knows better.

use std::collections::BTreeMap;

use keyward::api::AccessKey;

use super::fleet::{Fleet, MANIFESTS};
use crate::support::history::is_done;
use crate::support::instance::Instance;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_go_back_in_time_are_taken_as_they_are() {
    go_back("restored", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn objects_that_go_back_in_time_again_and_again_are_taken_as_they_are() {
    go_back("restored-often", 6).await;
}

async fn go_back(purpose: &str, rounds: usize) {
    let instance = Instance::with(purpose, &MANIFESTS).await;
    let mut fleet = Fleet::on(&instance, purpose).await;
    let mut controller = fleet.controller().await;
    fleet.issue(16).await;
    fleet.consume(4).await;
    for round in 0..rounds {
        // Some keys are issued then, some are not begun, and some are under way.
        fleet.is_at_work(40, 6).await;
        instance.servers("kill", &["kube-apiserver"]).await;
        instance.servers("stop", &["etcd"]).await;
        let copy = instance.beside(&format!("etcd-{round}"));
        let copy = copy.to_str().expect("text");
        instance.servers("save", &[copy]).await;
        let (phases, then) = (fleet.phases(), fleet.history.seen().keys.clone());
        instance.servers("start", &[]).await;

        // What happens now is undone.
        fleet.is_done().await;
        fleet.ask(8, 6).await;
        fleet.is_done().await;
        fleet.consume(2).await;
        fleet.is_whole().await;
        // Nor does it help to have just written it.
        fleet.is_at_work(8, 16).await;
        for server in ["kube-apiserver", "kube-controller-manager", "etcd"] {
            instance.kill(server).await;
        }
        instance.servers("restore", &[copy]).await;
        instance.servers("start", &[]).await;
        fleet.goes_back_to(phases);
        fleet.is_whole().await;
        is_still_accepted(&then, &fleet.history.seen().keys);
        // What its owners change now is older than what the controller wrote before.
        fleet.ask(4, 24).await;
        fleet.is_whole().await;
        assert!(controller.lives());
    }
    println!(
        "measured: after {rounds} restores: {}",
        fleet.history.seen().summary()
    );
}

/// What was accepted, and was to stay, still is.
fn is_still_accepted(then: &BTreeMap<String, AccessKey>, now: &BTreeMap<String, AccessKey>) {
    let mut accepted = 0;
    for (name, then) in then.iter().filter(|(_, then)| is_done(then)) {
        let now = &now[name];
        let (before, after) = (then.status.as_ref(), now.status.as_ref());
        assert_eq!(before.map(|s| &s.key), after.map(|s| &s.key), "{name}");
        if now.spec.rotation == then.spec.rotation {
            accepted += 1;
            let verifiers = before.map(|status| &status.verifiers);
            assert_eq!(verifiers, after.map(|s| &s.verifiers), "{name}");
        }
    }
    assert!(accepted >= 4, "{accepted} keys were issued before");
}
