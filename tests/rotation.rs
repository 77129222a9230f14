//! A higher `rotation.revision` makes a new secret for the same key, on a real API server.

use std::time::Duration;

use crate::support::controller::{GRACE, TestController};
use crate::support::keys::{
    Ask, Place, accepting, entry, fits, key, owned_by, plaintext, secret_of, some_secret,
};
use crate::support::wire::{AFTER_AN_EDIT, IN_PLACE};
use jiff::{SignedDuration, Timestamp};
use keyward::api::{AccessKey, AccessKeyStatus, EffectiveState};
use kube::api::PostParams;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any backoff.
const MINUTES: Duration = Duration::from_secs(120);

/// Key `pump`, issued, whose overlap is one hour, on a clock that stands still.
async fn issued(purpose: &str) -> (Place, TestController) {
    let place = Place::served(purpose).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(pump()).await;
    place.ready("pump").await;
    controller.resync(1).await;
    controller.wire.forget();
    (place, controller)
}

fn pump() -> Ask {
    key("pump").overlap("1h")
}

#[tokio::test]
async fn the_secret_is_replaced_in_place_and_the_old_one_retires_after_the_overlap() {
    let (place, controller) = issued("in-place").await;
    let old = place.delivered("pump").await;
    let public = place.status("pump").await.key;
    let now = controller.now();
    place.apply(pump().revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    let new = place.delivered("pump").await;

    fits(&rotated, &new);
    assert_eq!(new.metadata.uid, old.metadata.uid);
    assert_ne!(plaintext(&new), plaintext(&old));
    let status = rotated.status.as_ref().unwrap();
    assert_eq!(status.key, public);
    assert_eq!(
        (status.revision, status.rotation_requested),
        (Some(2), Some(2))
    );
    assert_eq!(accepting(&rotated, &plaintext(&old)), [1]);
    let until = status.verifiers[0].valid_until.as_ref().unwrap().0;
    let hour = SignedDuration::from_hours(1);
    assert!(until >= now + hour, "an overlap is not cut short");
    assert!(until <= now + hour + SignedDuration::from_secs(1));
    assert_eq!(until.subsec_nanosecond(), 0);
    assert_eq!(status.unsettled, None);
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), IN_PLACE);
    // The new secret's, and the one that tells what the Secret holds.
    assert_eq!(controller.metrics.hashes.get(), 1 + 2);

    controller.wire.forget();
    controller.later(HOUR + Duration::from_secs(1)).await;
    let retired = place.until("pump", "has one verifier", |_, status| {
        status.verifiers.len() == 1
    });
    let retired = retired.await;
    fits(&retired, &new);
    assert!(accepting(&retired, &plaintext(&old)).is_empty());
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), ["update accesskeys/status"]);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_verifier_retires_by_itself_when_its_time_is_over() {
    let place = Place::served("by-itself").await;
    let _controller = TestController::start(&place).await;
    place.apply(key("pump").overlap("1s")).await;
    place.ready("pump").await;
    place.apply(key("pump").overlap("1s").revision(2)).await;
    place.issued("pump", 2).await;
    place
        .until("pump", "has one verifier", |_, status| {
            status.verifiers.len() == 1
        })
        .await;
}

#[tokio::test]
async fn a_secret_that_was_taken_away_is_created_anew() {
    let (place, controller) = issued("anew").await;
    let old = place.delivered("pump").await;
    place.delete_secret("pump").await;
    place.apply(pump().revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    let new = place.delivered("pump").await;
    fits(&rotated, &new);
    assert_ne!(new.metadata.uid, old.metadata.uid);
    assert_eq!(accepting(&rotated, &plaintext(&old)), [1]);
    controller.resync(1).await;
    let steps = [
        "get secrets (metadata)",
        "get accesskeys",
        "update accesskeys/status",
        "create secrets",
        "update accesskeys/status",
    ];
    assert_eq!(controller.wire.sent(), steps);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn without_an_overlap_the_old_secret_retires_with_the_confirm() {
    let (place, controller) = issued("at-once").await;
    let old = plaintext(&place.delivered("pump").await);
    place.apply(pump().overlap("0s").revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    assert!(accepting(&rotated, &old).is_empty());
    assert_eq!(rotated.status.unwrap().verifiers.len(), 1);
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), IN_PLACE);
}

#[tokio::test]
async fn a_revision_that_is_raised_twice_quickly_ends_with_one_secret_that_fits() {
    let (place, controller) = issued("twice").await;
    place.apply(pump().revision(2)).await;
    place.apply(pump().revision(3)).await;
    let rotated = place.ready("pump").await;
    fits(&rotated, &place.delivered("pump").await);
    let status = rotated.status.unwrap();
    assert_eq!(status.rotation_requested, Some(3));
    assert!(matches!(status.revision, Some(2 | 3)));
    let before = controller.wire.writes();
    controller.resync(1).await;
    controller.resync(1).await;
    assert_eq!(controller.wire.writes(), before);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_revision_raised_during_the_first_issue_waits_until_that_is_settled() {
    let place = Place::unserved("first-issue").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(pump()).await;
    place.stalled("pump", "NamespaceNotServed").await;
    let raised = place.apply(pump().revision(2)).await;
    let seen = |_: &AccessKey, status: &AccessKeyStatus| {
        raised.metadata.generation == Some(status.observed_generation)
    };
    place.until("pump", "is tried again", seen).await;
    controller.is_at_rest().await;
    place.namespace.serve().await;
    controller.later(MINUTES).await;
    // No request of the first issue may arrive after the second began: so it waits a grace.
    place.reconciling("pump", "AwaitingSweep").await;
    let first = place.key("pump").await;
    fits(&first, &place.delivered("pump").await);
    let status = first.status.unwrap();
    assert_eq!(
        (status.revision, status.rotation_requested),
        (Some(1), Some(1))
    );

    controller.later(GRACE).await;
    let second = place.issued("pump", 2).await;
    fits(&second, &place.delivered("pump").await);
    assert_eq!(second.status.unwrap().unsettled, None);
    place.keeps_its_secrets(&[&controller]).await;
}

/// What a person does to the Secret; the rotation then asks for a person, touches nothing, and goes on by itself once
/// the Secret is gone.
async fn rotation_stalls(purpose: &str, reason: &str, tampered: impl AsyncFnOnce(&Place)) {
    let (place, controller) = issued(purpose).await;
    let public = place.status("pump").await.key;
    tampered(&place).await;
    let before = place.delivered("pump").await;
    place.apply(pump().revision(2)).await;
    let told = place.stalled("pump", reason).await;
    assert!(told.message.contains("Secret pump"), "{}", told.message);
    // Or the answer to what was just seen would come too late, by the clock that is moved now.
    controller.is_at_rest().await;
    for _ in 0..3 {
        controller.later(MINUTES / 8).await;
        controller.is_at_rest().await;
    }
    place.stalled("pump", reason).await;
    let after = place.delivered("pump").await;
    assert_eq!(after, before, "it is left alone");
    let mut told = vec!["Issued", reason];
    // It is refused only when it is written.
    told.extend((reason == "SecretImmutable").then_some("RotationStarted"));
    place.told_once_each("pump", &told).await;

    place.delete_secret("pump").await;
    controller.later(MINUTES).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    assert_eq!(place.status("pump").await.key, public);
    place.keeps_its_secrets(&[&controller]).await;
}

/// Of a version that knew nothing of the Service Binding specification.
#[tokio::test]
async fn what_an_earlier_version_delivered_is_left_as_it_is_until_it_is_rotated() {
    let (place, controller) = issued("upgraded").await;
    controller.stop().await;
    let mut key = place.key("pump").await;
    key.status.as_mut().unwrap().binding = None;
    let params = PostParams::default();
    let written = place.keys.replace_status("pump", &params, &key).await;
    written.expect("the admin may");
    let without = json!({ "data": { "type": null, "provider": null } });
    let delivered = place.patch_secret("pump", without).await;
    let controller = TestController::on_still_clock(&place).await;
    controller.is_at_rest().await;
    assert_eq!(controller.wire.sent(), Vec::<String>::new());

    // Named by the first write that there is for another reason.
    place.apply(pump().inactive()).await;
    let inactive = place.until("pump", "is inactive", |_, status| {
        status.state == Some(EffectiveState::Inactive)
    });
    fits(&inactive.await, &delivered);
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), AFTER_AN_EDIT);
    let untouched = place.delivered("pump").await;
    assert_eq!(
        untouched.metadata.resource_version,
        delivered.metadata.resource_version
    );

    controller.wire.forget();
    place.apply(pump().inactive().revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    let replaced = place.delivered("pump").await;
    fits(&rotated, &replaced);
    assert_eq!(entry(&replaced, "type"), "keyward");
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), IN_PLACE);
}

#[tokio::test]
async fn an_edited_secret_is_not_replaced() {
    rotation_stalls("edited", "SecretModified", async |place| {
        let edit = json!({ "stringData": { "secret": some_secret() } });
        place.patch_secret("pump", edit).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_without_its_entries_is_not_replaced() {
    rotation_stalls("emptied", "SecretModified", async |place| {
        place.patch_secret("pump", json!({ "data": null })).await;
    })
    .await;
}

#[tokio::test]
async fn a_forged_secret_is_not_replaced() {
    rotation_stalls("forged", "SecretModified", async |place| {
        let key = place.key("pump").await;
        let public = key.status.unwrap().key.unwrap();
        place.delete_secret("pump").await;
        let owner = owned_by("pump", &key.metadata.uid.unwrap());
        let forged = secret_of("pump", owner, &public, &some_secret());
        place
            .create::<k8s_openapi::api::core::v1::Secret>(forged)
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_foreign_secret_is_not_replaced() {
    rotation_stalls("foreign", "SecretExists", async |place| {
        place.delete_secret("pump").await;
        let foreign = secret_of("pump", json!([]), "key", &some_secret());
        place
            .create::<k8s_openapi::api::core::v1::Secret>(foreign)
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_immutable_secret_is_not_replaced() {
    rotation_stalls("immutable", "SecretImmutable", async |place| {
        place
            .patch_secret("pump", json!({ "immutable": true }))
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_fifth_verifier_retires_the_oldest() {
    let (place, controller) = issued("five").await;
    let mut plaintexts = vec![plaintext(&place.delivered("pump").await)];
    for revision in 2..=6 {
        place
            .apply(key("pump").overlap("2160h").revision(revision))
            .await;
        let rotated = place.issued("pump", revision).await;
        plaintexts.push(plaintext(&place.delivered("pump").await));
        let newest: Vec<i32> = (1..=revision).collect();
        let newest = &newest[newest.len().saturating_sub(4)..];
        assert_eq!(revisions(&rotated), newest);
    }
    let key = place.key("pump").await;
    fits(&key, &place.delivered("pump").await);
    let accepted: Vec<Vec<i32>> = plaintexts
        .iter()
        .map(|secret| accepting(&key, secret))
        .collect();
    assert_eq!(
        accepted,
        [vec![], vec![], vec![3], vec![4], vec![5], vec![6]]
    );
    place.keeps_its_secrets(&[&controller]).await;
}

fn revisions(key: &AccessKey) -> Vec<i32> {
    let verifiers = key.status.iter().flat_map(|status| &status.verifiers);
    verifiers.map(|known| known.revision).collect()
}

#[tokio::test]
async fn labels_of_the_secret_change_with_the_next_publish_only() {
    let (place, controller) = issued("labels").await;
    let before = place.delivered("pump").await;
    let labels = json!({ "hall": "3" });
    place.apply(pump().labelled(labels.clone())).await;
    place.ready("pump").await;
    controller.resync(1).await;
    assert_eq!(place.delivered("pump").await, before);
    place.apply(pump().labelled(labels).revision(2)).await;
    place.issued("pump", 2).await;
    let after = place.delivered("pump").await.metadata.labels.unwrap();
    assert_eq!(after.get("hall").map(String::as_str), Some("3"));
}

#[tokio::test]
async fn an_overlap_that_is_shortened_later_does_not_cut_what_was_promised() {
    let (place, _controller) = issued("promised").await;
    place.apply(pump().revision(2)).await;
    let until = |status: &AccessKeyStatus| -> Option<Timestamp> {
        status.verifiers[0].valid_until.as_ref().map(|time| time.0)
    };
    let promised = until(&place.issued("pump", 2).await.status.unwrap());
    place.apply(pump().overlap("1m").revision(2)).await;
    let still = until(&place.ready("pump").await.status.unwrap());
    assert_eq!(still, promised);
}

#[tokio::test]
async fn a_crash_in_a_rotation_is_recovered_with_one_new_secret() {
    use crate::support::wire::Happens;
    let crashes = [
        ("update accesskeys/status", Happens::Unanswered),
        ("update secrets", Happens::Unsent),
        ("update secrets", Happens::Unanswered),
    ];
    futures::future::join_all(crashes.map(|(at, what)| async move {
        let (place, controller) = issued("crash").await;
        let old = plaintext(&place.delivered("pump").await);
        let crashed = controller.wire.trap(at, what);
        place.apply(pump().revision(2)).await;
        crashed.await;
        drop(controller);
        let another = TestController::on_still_clock(&place).await;
        another.resync(1).await;
        another.later(Duration::from_secs(2)).await;
        let rotated = place.issued("pump", 2).await;
        fits(&rotated, &place.delivered("pump").await);
        assert_eq!(revisions(&rotated), [1, 2], "{at}, {what:?}");
        assert_eq!(accepting(&rotated, &old), [1], "{at}, {what:?}");
        place.keeps_its_secrets(&[&another]).await;
    }))
    .await;
}

#[tokio::test]
async fn two_controllers_at_once_rotate_each_key_once() {
    let place = Place::served("two").await;
    let a = TestController::start(&place).await;
    let b = TestController::start(&place).await;
    let names: Vec<String> = (0..10).map(|number| format!("key-{number}")).collect();
    for name in &names {
        place.apply(key(name)).await;
    }
    for name in &names {
        place.ready(name).await;
    }
    // A sweep that the first issue may have left would put the rotation off for a grace.
    let settled = |_: &AccessKey, status: &AccessKeyStatus| status.unsettled.is_none();
    let mut rotated = Vec::new();
    for name in &names {
        if settled(&place.key(name).await, &place.status(name).await) {
            place.apply(key(name).revision(2)).await;
            rotated.push(name);
        }
    }
    for name in rotated {
        let key = place.issued(name, 2).await;
        fits(&key, &place.delivered(name).await);
        assert_eq!(revisions(&key), [1, 2], "{name}");
    }
    place.keeps_its_secrets(&[&a, &b]).await;
}

#[tokio::test]
async fn a_rotation_whose_secret_is_refused_is_told_by_its_field() {
    let (place, controller) = issued("refused").await;
    let before = place.delivered("pump").await;
    let refused = pump().with("/spec/secret/annotations", too_many_bytes());
    place.apply(refused.revision(2)).await;
    let told = place.stalled("pump", "InvalidSpec").await;
    assert!(
        told.message.contains("metadata.annotations"),
        "{}",
        told.message
    );
    assert_eq!(place.delivered("pump").await, before);
    place.apply(pump().revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

/// 2048 characters each, as the schema allows, but together more bytes than an object may have.
fn too_many_bytes() -> serde_json::Map<String, serde_json::Value> {
    let long = "\u{1F511}".repeat(2048);
    let name = |number| format!("example.com/a{number}");
    (0..40)
        .map(|number| (name(number), long.clone().into()))
        .collect()
}

#[tokio::test]
async fn a_rotation_that_was_refused_for_long_goes_on_once_the_cause_is_gone() {
    let (place, controller) = issued("refused-for-long").await;
    let refused = pump().with("/spec/secret/annotations", too_many_bytes());
    place.apply(refused.revision(2)).await;
    place.stalled("pump", "InvalidSpec").await;
    for _ in 0..12 {
        controller.later(GRACE).await;
        controller.is_at_rest().await;
    }
    place.apply(pump().revision(2)).await;
    place.issued("pump", 2).await;
}
