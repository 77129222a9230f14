//! The API server is there, and refuses: rights are taken away, a quota is used up, the namespace goes away.

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use keyward::api::AccessKey;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use super::fleet::{Fleet, MANIFESTS, PATIENCE};
use crate::support::cluster::{apply, eventually, from_json};
use crate::support::history::{Seen, is_done};
use crate::support::instance::Instance;
use crate::support::manifests;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_taken_away_and_given_back() {
    let instance = Instance::with("rights", &MANIFESTS).await;
    let mut fleet = Fleet::on(&instance, "rights").await;
    let mut controller = fleet.controller().await;
    fleet.issue(16).await;
    fleet.consume(2).await;

    // Those on Secrets, in the namespace.
    let bindings: Api<RoleBinding> = Api::namespaced(fleet.admin.clone(), &fleet.namespace);
    let taken = bindings
        .delete("keyward-controller-secrets", &DeleteParams::default())
        .await;
    taken.expect("the admin may");
    let may_not = || async { !fleet.controller_may("create", "", "secrets", "").await };
    eventually("the rights are gone", may_not).await;
    fleet.ask(8, 4).await;
    let words = "kubectl apply -n rights -f deploy/namespace.yaml";
    let told = |seen: &Seen| told(seen, "Stalled", "NamespaceNotServed", words) == 12;
    fleet.history.until("they say so", PATIENCE, told).await;
    fleet.serve().await;
    fleet.is_whole().await;

    // Those on AccessKeys, in the whole cluster. It cannot say so in a status then, but in its log.
    let bindings: Api<ClusterRoleBinding> = Api::all(fleet.admin.clone());
    let taken = bindings
        .delete("keyward-controller", &DeleteParams::default())
        .await;
    taken.expect("the admin may");
    let may_write = || fleet.controller_may("update", "keyward.dev", "accesskeys", "status");
    let may_not = || async { !may_write().await };
    eventually("the rights are gone", may_not).await;
    fleet.ask(4, 4).await;
    let words = "the controller's ServiceAccount may not do this in the namespace";
    let fails = || async {
        controller.log_text().contains(&format!(
            "could not commit to a new secret, trying again: {words}"
        ))
    };
    eventually("it says so", fails).await;
    // One that starts then cannot know any AccessKey.
    let mut second = fleet.start();
    let fails = || async {
        second
            .log_text()
            .contains(&format!("cannot watch AccessKeys, trying again: {words}"))
    };
    eventually("another one says so", fails).await;
    assert_eq!(second.get("/readyz").await.0, 503);
    let binding = manifests::object(
        "deploy/install.yaml",
        "ClusterRoleBinding",
        "keyward-controller",
    );
    apply::<ClusterRoleBinding>(&bindings, &from_json(binding)).await;
    second.is_ready().await;
    fleet.is_whole().await;
    assert!(controller.lives() && second.lives());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_used_up_through_restarts() {
    restart_within_a_quota("quota", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn a_quota_is_used_up_through_ten_restarts() {
    restart_within_a_quota("quota-often", 10).await;
}

async fn restart_within_a_quota(purpose: &'static str, restarts: usize) {
    const WAITING: usize = 8;
    let mut fleet = Fleet::shared(purpose).await;
    let first = fleet.controller().await;
    fleet.issue(12).await;
    fleet.consume(2).await;
    allow_secrets(&fleet, 10).await;
    // A rotation needs no further Secret.
    fleet.ask(WAITING, 4).await;
    let told = |seen: &Seen| {
        told(
            seen,
            "Reconciling",
            "QuotaExceeded",
            "raise it, or delete Secrets",
        ) == WAITING
    };
    fleet.history.until("they say so", PATIENCE, told).await;
    let rotated = |seen: &Seen| seen.keys.values().filter(|key| is_done(key)).count() == 12;
    fleet
        .history
        .until("the others are done", PATIENCE, rotated)
        .await;
    first.kill();
    for _ in 0..restarts {
        let begun = fleet.history.seen().statuses;
        let mut process = fleet.controller().await;
        // Each makes its own attempts at all of them, as far as it may.
        let tried = |seen: &Seen| {
            let attempts = seen
                .keys
                .values()
                .filter_map(|key| key.status.as_ref()?.issuance.as_ref());
            seen.statuses >= begun + WAITING as u64
                || attempts
                    .filter(|issuance| issuance.attempts.len() == 8)
                    .count()
                    == WAITING
        };
        fleet.history.until("it tries", PATIENCE, tried).await;
        assert!(process.lives());
        process.kill();
    }
    let most = fleet.history.seen().most_attempts;
    println!(
        "measured: {restarts} restarts: {most} attempts at most, {}",
        fleet.history.seen().summary()
    );
    assert!((2..=8).contains(&most), "{most} attempts");
    assert_eq!(fleet.history.seen().secrets.len(), 10);
    assert_eq!(fleet.history.issues(), 12 + 4);

    allow_secrets(&fleet, 100).await;
    let last = fleet.controller().await;
    fleet.is_whole().await;
    drop(last);
    assert_eq!(fleet.history.issues(), 12 + 4 + WAITING);
}

async fn allow_secrets(fleet: &Fleet, count: usize) {
    let quotas: Api<ResourceQuota> = Api::namespaced(fleet.admin.clone(), &fleet.namespace);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "few-secrets" },
        "spec": { "hard": { "secrets": count.to_string() } },
    });
    apply(&quotas, &from_json::<ResourceQuota>(quota)).await;
    let in_effect = || async {
        let quota = quotas.get("few-secrets").await.expect("the admin may");
        let hard = quota.status.and_then(|status| status.hard);
        hard.unwrap_or_default()
            .get("secrets")
            .is_some_and(|hard| hard.0 == count.to_string())
    };
    eventually("the quota is in effect", in_effect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_away_while_keys_are_issued_in_it() {
    let mut fleet = Fleet::shared("terminating").await;
    let mut controller = fleet.controller().await;
    for _ in 0..2 {
        fleet.issue(8).await;
        fleet.is_at_work(24, 4).await;
        let namespaces: Api<Namespace> = Api::all(fleet.admin.clone());
        let name = fleet.namespace.clone();
        let deleted = namespaces.delete(&name, &DeleteParams::default()).await;
        deleted.expect("the admin may");
        while namespaces
            .get_opt(&name)
            .await
            .expect("the admin may")
            .is_some()
        {
            sleep(std::time::Duration::from_millis(50)).await;
        }
        let nothing = |seen: &Seen| seen.keys.is_empty() && seen.secrets.is_empty();
        fleet.history.until("all is gone", PATIENCE, nothing).await;
        assert!(controller.lives());

        // Another namespace of this name is served as any other.
        let namespace: Namespace = from_json(json!({ "metadata": { "name": name } }));
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        made.expect("the admin may");
        fleet.serve().await;
        fleet.begin_anew();
    }
    fleet.issue(8).await;
    fleet.is_whole().await;
}

/// How many keys say this.
fn told(seen: &Seen, type_: &str, reason: &str, words: &str) -> usize {
    let says = |condition: &Condition| {
        condition.type_ == type_
            && condition.status == "True"
            && condition.reason == reason
            && condition.message.contains(words)
    };
    let says = |key: &&AccessKey| {
        let conditions = key.status.iter().flat_map(|status| &status.conditions);
        conditions.clone().any(says)
    };
    seen.keys.values().filter(says).count()
}
