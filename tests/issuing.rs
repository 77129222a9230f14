//! Keys are issued on a real API server, once each.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::controller::{GRACE, TestController};
use crate::support::keys::{
    Place, accepting, condition, entry, fits, holds, key, now, owned_by, plaintext, secret_of,
};
use crate::support::wire::{AFTER_AN_EDIT, Happens};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, AccessKeyStatus, Attempt, EffectiveState, Unsettled};
use keyward::key::{Check, Secret};
use keyward::verifier::{HashProfile, Verifier};
use kube::api::PostParams;
use serde_json::json;

const STRAIGHT: [&str; 3] = [
    "update accesskeys/status",
    "create secrets",
    "update accesskeys/status",
];

#[tokio::test]
async fn a_key_is_issued_with_three_writes_and_no_read() {
    let place = Place::served("first").await;
    let controller = TestController::start(&place).await;
    let ask = key("first")
        .labelled(json!({ "app": "pump" }))
        .with(
            "/spec/secret/annotations",
            json!({ "example.com/for": "pumps" }),
        )
        .with(
            "/spec/secret/keys",
            json!({ "key": "username", "secret": "password" }),
        );
    place.apply(ask).await;
    let key = place.ready("first").await;
    let secret = place.delivered("first").await;

    fits(&key, &secret);
    assert_eq!(secret.type_.as_deref(), Some("keyward.dev/access-key"));
    let entries: Vec<&String> = secret.data.iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(entries, ["password", "provider", "type", "username"]);
    assert_eq!(
        (entry(&secret, "type"), entry(&secret, "provider")),
        ("keyward".into(), "keyward".into())
    );
    let meta = serde_json::to_value(&secret.metadata).unwrap();
    assert_eq!(
        meta["labels"],
        json!({ "app": "pump", "app.kubernetes.io/managed-by": "keyward" })
    );
    assert_eq!(meta["annotations"], json!({ "example.com/for": "pumps" }));
    let owners = json!([{
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "name": "first",
        "uid": key.metadata.uid, "controller": true,
    }]);
    let mut found = meta["ownerReferences"].clone();
    found[0]
        .as_object_mut()
        .unwrap()
        .remove("blockOwnerDeletion");
    assert_eq!(found, owners);

    let status = key.status.as_ref().unwrap();
    assert_eq!(status.uid, key.metadata.uid);
    assert_eq!(
        (status.revision, status.rotation_requested),
        (Some(1), Some(1))
    );
    assert_eq!(status.state, Some(EffectiveState::Active));
    assert_eq!(
        (status.verifiers.len(), status.verifiers[0].revision),
        (1, 1)
    );
    assert_eq!(status.verifiers[0].valid_until, None);
    assert_eq!((&status.issuance, &status.unsettled), (&None, &None));
    assert!(holds(status, "Ready") && holds(status, "Active"));
    assert_eq!(condition(status, "Reconciling"), None);
    assert_eq!(condition(status, "Stalled"), None);
    let generation = key.metadata.generation;
    assert!(
        status
            .conditions
            .iter()
            .all(|c| c.observed_generation == generation)
    );

    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), STRAIGHT);
    assert_eq!(controller.metrics.hashes.get(), 1);
    place.told_once_each("first", &["Issued"]).await;
    place.keeps_its_secrets(&[&controller]).await;
    controller.stop().await;
}

#[tokio::test]
async fn fifty_keys_at_once_are_fifty_different_keys() {
    let place = Place::served("fifty").await;
    let controller = TestController::start(&place).await;
    let names = names(50);
    join_all(names.iter().map(|name| place.apply(key(name)))).await;
    let mut different = HashSet::new();
    for name in &names {
        let key = place.ready(name).await;
        let secret = place.delivered(name).await;
        fits(&key, &secret);
        different.insert((entry(&secret, "key"), plaintext(&secret)));
    }
    assert_eq!(different.len(), 50);
    let publics: HashSet<&String> = different.iter().map(|(key, _)| key).collect();
    assert_eq!(publics.len(), 50);
    assert_eq!(controller.wire.sent().len(), 150);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_secret_that_its_user_took_away_is_never_made_again() {
    let place = Place::served("consumed").await;
    let controller = TestController::start(&place).await;
    place.apply(key("once")).await;
    let issued = place.ready("once").await;
    place.delete_secret("once").await;
    controller.wire.forget();
    for _ in 0..3 {
        controller.resync(1).await;
    }
    let another = TestController::start(&place).await;
    another.resync(1).await;

    assert_eq!(place.secret("once").await, None);
    assert_eq!(place.status("once").await, issued.status.unwrap());
    let nothing: [&str; 0] = [];
    assert_eq!(controller.wire.sent(), nothing);
    assert_eq!(another.wire.sent(), nothing);
    place.keeps_its_secrets(&[&controller, &another]).await;
}

#[tokio::test]
async fn what_is_issued_costs_nothing_in_resyncs_and_restarts() {
    let place = Place::served("idle").await;
    let controller = TestController::start(&place).await;
    let names = names(20);
    join_all(names.iter().map(|name| place.apply(key(name)))).await;
    for name in &names {
        place.ready(name).await;
    }
    controller.resync(20).await;
    controller.wire.forget();
    let hashes = controller.metrics.hashes.get();
    for _ in 0..10 {
        controller.resync(20).await;
    }
    let nothing: [&str; 0] = [];
    assert_eq!(controller.wire.sent(), nothing);
    assert_eq!(controller.metrics.hashes.get(), hashes);
    controller.stop().await;

    let restarted = TestController::start(&place).await;
    restarted.resync(20).await;
    restarted.resync(20).await;
    assert_eq!(restarted.wire.sent(), nothing);
    assert_eq!(restarted.metrics.hashes.get(), 0);
    for name in &names {
        assert_eq!(place.events(name).await.len(), 1, "{name}");
    }
    place.keeps_its_secrets(&[&restarted]).await;
}

#[tokio::test]
async fn a_key_goes_inactive_and_active_again_with_one_write_each() {
    let place = Place::served("state").await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump")).await;
    let before = place.ready("pump").await.status.unwrap();
    let rows = [
        (key("pump").inactive(), EffectiveState::Inactive),
        (key("pump"), EffectiveState::Active),
    ];
    for (ask, state) in rows {
        controller.wire.forget();
        place.apply(ask).await;
        let after = place.ready("pump").await.status.unwrap();
        assert_eq!(after.state, Some(state));
        assert_eq!(holds(&after, "Active"), state == EffectiveState::Active);
        assert!(condition(&after, "Active").is_some());
        assert_eq!(
            (&after.verifiers, &after.key),
            (&before.verifiers, &before.key)
        );
        controller.resync(1).await;
        assert_eq!(controller.wire.sent(), AFTER_AN_EDIT);
    }
    fits(&place.key("pump").await, &place.delivered("pump").await);
    assert_eq!(controller.metrics.hashes.get(), 1);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_key_that_is_inactive_from_the_start_is_issued_and_ready() {
    let place = Place::served("inactive").await;
    let _controller = TestController::start(&place).await;
    place.apply(key("pump").inactive()).await;
    let key = place.ready("pump").await;
    fits(&key, &place.delivered("pump").await);
    assert_eq!(key.status.unwrap().state, Some(EffectiveState::Inactive));
}

#[tokio::test]
async fn an_edit_that_asks_for_nothing_is_acknowledged_with_one_write() {
    let place = Place::served("edit").await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump")).await;
    let before = place.ready("pump").await;
    controller.wire.forget();
    place
        .apply(key("pump").described("the pumps of hall 3"))
        .await;
    let after = place.ready("pump").await;
    assert!(after.metadata.generation > before.metadata.generation);
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), AFTER_AN_EDIT);
}

#[tokio::test]
async fn a_suspended_key_waits_and_is_issued_once_it_is_resumed() {
    let place = Place::served("suspended").await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump").suspended()).await;
    let seen = |key: &AccessKey, status: &AccessKeyStatus| {
        key.metadata.generation == Some(status.observed_generation)
    };
    let waiting = place.until("pump", "is seen", seen).await.status.unwrap();
    assert_eq!(condition(&waiting, "Ready").unwrap().reason, "Suspended");
    assert!(!holds(&waiting, "Ready") && !holds(&waiting, "Stalled"));
    assert_eq!((waiting.key, waiting.issuance), (None, None));
    controller.resync(1).await;
    assert_eq!(place.secret("pump").await, None);

    place.apply(key("pump")).await;
    let key_ = place.ready("pump").await;
    fits(&key_, &place.delivered("pump").await);

    // Once issued, suspend stamps the generation and holds back a rotation, nothing else.
    controller.resync(1).await;
    controller.wire.forget();
    place.apply(key("pump").suspended()).await;
    assert_eq!(
        place.ready("pump").await.status.unwrap().verifiers,
        key_.status.unwrap().verifiers
    );
    place.apply(key("pump").suspended().revision(2)).await;
    let held = place.until("pump", "is seen", seen).await.status.unwrap();
    assert_eq!((held.revision, held.issuance), (Some(1), None));
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), ["update accesskeys/status"; 2]);
    place.apply(key("pump").revision(2)).await;
    place.issued("pump", 2).await;
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn an_issue_under_way_is_finished_before_a_key_is_suspended() {
    let place = Place::served("midway").await;
    let controller = TestController::start(&place).await;
    let crash = controller.wire.trap("create secrets", Happens::Unsent);
    place.apply(key("pump")).await;
    crash.await;
    drop(controller);
    place.apply(key("pump").suspended()).await;
    let _another = TestController::start(&place).await;
    let key = place.ready("pump").await;
    fits(&key, &place.delivered("pump").await);
}

#[tokio::test]
async fn the_secret_goes_with_its_key() {
    let place = Place::served("deleted").await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    place.delivered("pump").await;
    place.delete_key("pump").await;
    place.secret_is_gone("pump").await;
    place.is_gone("pump").await;
    assert_eq!(controller.wire.writes(), 3);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn nothing_is_written_to_a_key_that_waits_for_its_end() {
    let place = Place::served("finalizer").await;
    let controller = TestController::start(&place).await;
    let finalizers = json!(["example.com/waits"]);
    place
        .apply(key("pump").with("/metadata/finalizers", finalizers))
        .await;
    place.ready("pump").await;
    place.delete_key("pump").await;
    let edit = json!({ "spec": { "state": "Inactive", "rotation": { "revision": 2 } } });
    let ending = place.patch_key("pump", edit).await;
    controller.wire.forget();
    controller.resync(1).await;
    controller.resync(1).await;
    let nothing: [&str; 0] = [];
    assert_eq!(controller.wire.sent(), nothing);
    assert_eq!(place.key("pump").await, ending);
    place
        .patch_key("pump", json!({ "metadata": { "finalizers": null } }))
        .await;
    place.secret_is_gone("pump").await;
}

#[tokio::test]
async fn a_key_that_is_deleted_while_it_is_issued_leaves_no_secret() {
    let place = Place::served("overtaken").await;
    let controller = TestController::start(&place).await;
    let held_up = controller.wire.trap("create secrets", Happens::Unsent);
    place.apply(key("pump")).await;
    held_up.await;
    place.delete_key("pump").await;
    place.is_gone("pump").await;
    drop(controller);
    let another = TestController::start(&place).await;
    place.apply(key("other")).await;
    place.ready("other").await;
    assert_eq!(place.secret("pump").await, None);
    assert_eq!(another.wire.sent(), STRAIGHT);
}

#[tokio::test]
async fn a_key_made_again_waits_for_the_old_secret_to_go_and_is_another_key() {
    let place = Place::served("again").await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump")).await;
    let first = place.ready("pump").await.status.unwrap();
    let old = plaintext(&place.delivered("pump").await);
    let hold = json!({ "metadata": { "finalizers": ["example.com/waits"] } });
    place.patch_secret("pump", hold).await;
    place.delete_key("pump").await;
    place.is_gone("pump").await;
    place.secret_is_being_deleted("pump").await;
    place.apply(key("pump")).await;

    let waiting = place.reconciling("pump", "SecretExists").await;
    assert!(
        waiting.message.contains("Secret pump"),
        "{}",
        waiting.message
    );
    assert_eq!(plaintext(&place.delivered("pump").await), old);
    place
        .patch_secret("pump", json!({ "metadata": { "finalizers": null } }))
        .await;
    let second = place.ready("pump").await;
    fits(&second, &place.delivered("pump").await);
    assert_ne!(second.status.as_ref().unwrap().key, first.key);
    assert!(accepting(&second, &old).is_empty());
    let warnings = place.events("pump").await;
    assert!(
        warnings.iter().all(|(type_, ..)| type_ == "Normal"),
        "{warnings:?}"
    );
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn two_controllers_at_once_issue_each_key_once() {
    let place = Place::served("two").await;
    let controllers = [
        TestController::start(&place).await,
        TestController::start(&place).await,
    ];
    let names = names(30);
    join_all(names.iter().map(|name| place.apply(key(name)))).await;
    for name in &names {
        let key = place.ready(name).await;
        fits(&key, &place.delivered(name).await);
        let status = key.status.unwrap();
        assert_eq!(
            (status.revision, status.verifiers.len()),
            (Some(1), 1),
            "{name}"
        );
    }
    let [a, b] = &controllers;
    let issued = a.metrics.keys_issued.get() + b.metrics.keys_issued.get();
    assert_eq!(issued, 30);
    place.keeps_its_secrets(&[a, b]).await;
}

#[tokio::test]
async fn a_crash_between_any_two_steps_is_recovered_with_one_accepted_secret() {
    let crashes = [
        (0, "update accesskeys/status", Happens::Unsent),
        (0, "update accesskeys/status", Happens::Unanswered),
        (0, "create secrets", Happens::Unsent),
        (0, "create secrets", Happens::Unanswered),
        (1, "update accesskeys/status", Happens::Unsent),
        (1, "update accesskeys/status", Happens::Unanswered),
    ];
    join_all(crashes.map(|(after, at, what)| crash(after, at, what))).await;
}

/// The controller ends at this request (after the publish, if `published`), and another one takes over.
async fn crash(published: u32, at: &'static str, what: Happens) {
    let case = format!("{at}, {what:?}, {published}");
    let place = Place::served("crash").await;
    let controller = TestController::start(&place).await;
    let crashed = if published == 0 {
        controller.wire.trap(at, what)
    } else {
        controller.wire.trap_after("create secrets", at, what)
    };
    place.apply(key("pump")).await;
    crashed.await;
    drop(controller);
    let left = plaintext_of(&place).await;

    let another = TestController::on_still_clock(&place).await;
    another.resync(1).await;
    another.later(Duration::from_secs(2)).await;
    let key = place.ready("pump").await;
    let secret = place.delivered("pump").await;
    fits(&key, &secret);
    let verifiers = key.status.iter().flat_map(|status| &status.verifiers);
    assert_eq!(verifiers.count(), 1, "{case}");
    if let Some(left) = left {
        assert_eq!(plaintext(&secret), left, "{case}: what was delivered stays");
    }
    // Nothing of the crash can still arrive once the grace is over; then the mark goes, and nothing else changes.
    another.resync(1).await;
    another.later(GRACE).await;
    let settled = place.until("pump", "is settled", |_, status| status.unsettled.is_none());
    let settled = settled.await;
    fits(&settled, &secret);
    let now = place.delivered("pump").await;
    assert_eq!(
        now.metadata.resource_version, secret.metadata.resource_version,
        "{case}"
    );
    another.resync(1).await;
    another.wire.forget();
    another.resync(1).await;
    assert_eq!(another.wire.sent(), Vec::<String>::new(), "{case}");
    place.keeps_its_secrets(&[&another]).await;
}

async fn plaintext_of(place: &Place) -> Option<String> {
    place.secret("pump").await.as_ref().map(plaintext)
}

#[tokio::test]
async fn a_publish_whose_answer_is_lost_is_found_and_confirmed() {
    let place = Place::served("lost").await;
    let controller = TestController::on_still_clock(&place).await;
    let lost = controller.wire.trap("create secrets", Happens::AnswerLost);
    place.apply(key("pump")).await;
    lost.await;
    let published = plaintext(&place.delivered("pump").await);
    controller.wire.forget();
    // The failed run ends a moment after the answer is lost.
    crate::support::cluster::eventually("the controller waits for its next try", || async {
        controller.metrics.backoff_objects.get() == 1
    })
    .await;
    controller.later(Duration::from_secs(2)).await;
    let key = place.ready("pump").await;
    let secret = place.delivered("pump").await;
    fits(&key, &secret);
    assert_eq!(plaintext(&secret), published);
    let found = [
        "get secrets (metadata)",
        "get secrets",
        "get accesskeys",
        "update accesskeys/status",
    ];
    assert_eq!(controller.wire.sent(), found);
    // One hash: bytes that this process holds are known without another.
    assert_eq!(controller.metrics.hashes.get(), 1);

    controller.resync(1).await;
    controller.wire.forget();
    controller.later(GRACE).await;
    place
        .until("pump", "is settled", |_, status| status.unsettled.is_none())
        .await;
    assert_eq!(controller.wire.writes(), 1);
    place.keeps_its_secrets(&[&controller]).await;
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key-{number}")).collect()
}

#[tokio::test]
async fn nothing_is_done_on_a_cache_that_is_older_than_the_own_writes() {
    let place = Place::served("stale").await;
    let controller = TestController::on_still_clock(&place).await;
    // The cache shows the key as it was before its commit, until the watch is released.
    controller.wire.hold_watches_at("update accesskeys/status");
    place.apply(key("pump")).await;
    let issued = place.ready("pump").await;
    for _ in 0..3 {
        controller.resync(1).await;
    }
    assert_eq!(controller.wire.sent(), STRAIGHT);
    assert_eq!(controller.metrics.hashes.get(), 1);

    // When that lasts, the key is read live.
    controller.wire.forget();
    controller.later(Duration::from_secs(5)).await;
    controller.is_at_rest().await;
    assert_eq!(controller.wire.sent(), ["get accesskeys"]);
    controller.wire.release_watches();
    controller.is_at_rest().await;
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), ["get accesskeys"]);
    assert_eq!(place.key("pump").await, issued);
}

#[tokio::test]
async fn a_secret_that_was_given_up_and_still_arrives_is_swept() {
    let place = Place::served("swept").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    let issued = place.ready("pump").await;
    place.delete_secret("pump").await;
    // As if an earlier attempt's request had been given up, and were carried out only now.
    let late = Secret::generate().unwrap();
    let public = issued.status.as_ref().unwrap().key.clone().unwrap();
    let attempt = Attempt {
        verifier: Verifier::of(&late, HashProfile::Fleet)
            .unwrap()
            .as_str()
            .to_owned(),
        check: Check::of(&public, &late).as_str().to_owned(),
        at: Time(now()),
    };
    let mut marked = place.key("pump").await;
    marked.status.as_mut().unwrap().unsettled = Some(Unsettled {
        attempts: vec![attempt],
    });
    let params = PostParams::default();
    place
        .keys
        .replace_status("pump", &params, &marked)
        .await
        .unwrap();
    let owner = owned_by("pump", issued.metadata.uid.as_deref().unwrap());
    place
        .create::<KubeSecret>(secret_of("pump", owner, &public, late.expose()))
        .await;
    controller.resync(1).await;
    controller.is_at_rest().await;
    place.delivered("pump").await;

    controller.wire.forget();
    controller.later(GRACE).await;
    place.secret_is_gone("pump").await;
    assert_eq!(controller.wire.count("delete secrets"), 1);
    // The sweep is done once it finds nothing more.
    controller.later(Duration::from_secs(60)).await;
    let swept = place
        .until("pump", "is settled", |_, status| status.unsettled.is_none())
        .await;
    let verifiers = |key: &AccessKey| key.status.as_ref().unwrap().verifiers.clone();
    assert_eq!(verifiers(&swept), verifiers(&issued));
    place.keeps_its_secrets(&[&controller]).await;
}
