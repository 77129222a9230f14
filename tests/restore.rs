//! AccessKeys and Secrets that come back from a backup (rule 8).

use std::time::Duration;

use crate::support::controller::{GRACE, TestController};
use crate::support::keys::{Ask, Place, accepting, fits, holds, key, plaintext, some_secret};
use k8s_openapi::api::core::v1::Secret;
use keyward::api::{AccessKey, AccessKeyStatus};
use kube::api::PostParams;
use serde_json::{Value, json};

/// Key `pump` as it was before everything was lost.
struct Backup {
    key: AccessKey,
    secret: Secret,
}

/// Issues `pump` and takes it all away again.
async fn lost(purpose: &str) -> (Place, Backup) {
    let place = Place::served(purpose).await;
    let controller = TestController::start(&place).await;
    place.apply(key("pump")).await;
    let key = place.ready("pump").await;
    let secret = place.delivered("pump").await;
    controller.stop().await;
    place.delete_key("pump").await;
    place.is_gone("pump").await;
    place.secret_is_gone("pump").await;
    (place, Backup { key, secret })
}

impl Backup {
    fn public(&self) -> Option<&str> {
        self.key.status.as_ref()?.key.as_deref()
    }

    async fn restore_status(&self, place: &Place) {
        let mut key = place.key("pump").await;
        key.status.clone_from(&self.key.status);
        let params = PostParams::default();
        let written = place.keys.replace_status("pump", &params, &key);
        written.await.expect("the admin may");
    }

    /// With the owner that it had, which is gone. The version is one that the garbage collector cannot look up: so it
    /// does not take the Secret before the controller sees it.
    async fn restore_secret(&self, place: &Place, entries: Value) {
        let mut owners = json!(self.secret.metadata.owner_references);
        owners[0]["apiVersion"] = json!("keyward.dev/v0");
        let secret = json!({
            "type": "keyward.dev/access-key",
            "metadata": {
                "name": "pump",
                "ownerReferences": owners,
                "labels": { "velero.io/restore-name": "r" },
            },
            "stringData": entries,
        });
        place.create::<Secret>(secret).await;
    }
}

fn pump() -> Ask {
    key("pump").restored_by_a_backup_tool()
}

fn is_of(key: &AccessKey, status: &AccessKeyStatus) -> bool {
    status.uid == key.metadata.uid
}

#[tokio::test]
async fn a_restored_key_keeps_its_restored_secret() {
    let (place, backup) = lost("adopted").await;
    place.apply(pump()).await;
    backup.restore_status(&place).await;
    let entries = json!({ "key": backup.public(), "secret": plaintext(&backup.secret) });
    backup.restore_secret(&place, entries).await;
    let controller = TestController::on_still_clock(&place).await;
    let key = place
        .until("pump", "belongs to the new object", is_of)
        .await;
    let secret = place.delivered("pump").await;

    assert_ne!(key.metadata.uid, backup.key.metadata.uid);
    assert_eq!(secret.data, backup.secret.data);
    fits(&key, &secret);
    let before = backup.key.status.as_ref().unwrap();
    let after = key.status.as_ref().unwrap();
    assert_eq!(
        (&after.verifiers, &after.key),
        (&before.verifiers, &before.key)
    );
    assert!(holds(&place.ready("pump").await.status.unwrap(), "Ready"));
    assert_eq!(controller.metrics.keys_issued.get(), 0);
    controller.resync(1).await;
    let sent = controller.wire.sent();
    let adopting = [
        "get secrets (metadata)",
        "get secrets",
        "get accesskeys",
        "update secrets",
    ];
    assert_eq!(sent[..4], adopting);
    controller.wire.forget();
    controller.resync(1).await;
    assert_eq!(controller.wire.sent(), Vec::<String>::new());
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_restored_key_without_its_secret_counts_as_consumed() {
    let (place, backup) = lost("bare").await;
    place.apply(pump()).await;
    backup.restore_status(&place).await;
    let controller = TestController::on_still_clock(&place).await;
    let key = place
        .until("pump", "belongs to the new object", is_of)
        .await;
    assert_eq!(accepting(&key, &plaintext(&backup.secret)), [1]);
    controller.later(GRACE).await;
    controller.is_at_rest().await;
    assert_eq!(place.secret("pump").await, None);
    assert_eq!(controller.metrics.keys_issued.get(), 0);

    place.apply(pump().revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    assert_eq!(
        rotated.status.as_ref().unwrap().key.as_deref(),
        backup.public()
    );
    assert_eq!(accepting(&rotated, &plaintext(&backup.secret)), [1]);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_restored_secret_that_holds_something_else_is_left_alone() {
    let (place, backup) = lost("edited").await;
    place.apply(pump()).await;
    backup.restore_status(&place).await;
    let entries = json!({ "key": backup.public(), "secret": some_secret() });
    backup.restore_secret(&place, entries).await;
    let before = place.delivered("pump").await;
    let controller = TestController::on_still_clock(&place).await;
    place
        .until("pump", "belongs to the new object", is_of)
        .await;
    controller.resync(1).await;
    assert_eq!(place.delivered("pump").await, before);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_restored_key_without_status_waits_one_grace_and_is_then_another_key() {
    let (place, backup) = lost("waits").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(pump()).await;
    place.reconciling("pump", "AwaitingRestore").await;
    controller.later(GRACE - Duration::from_secs(1)).await;
    controller.is_at_rest().await;
    assert_eq!(place.status("pump").await.key, None);
    controller.later(Duration::from_secs(1)).await;
    let key = place.ready("pump").await;
    fits(&key, &place.delivered("pump").await);
    assert_ne!(key.status.as_ref().unwrap().key.as_deref(), backup.public());
    assert!(accepting(&key, &plaintext(&backup.secret)).is_empty());
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_status_that_comes_back_within_the_grace_is_kept() {
    let (place, backup) = lost("in-time").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(pump()).await;
    place.reconciling("pump", "AwaitingRestore").await;
    controller.later(GRACE / 2).await;
    backup.restore_status(&place).await;
    let key = place
        .until("pump", "belongs to the new object", is_of)
        .await;
    assert_eq!(key.status.as_ref().unwrap().key.as_deref(), backup.public());
    assert_eq!(accepting(&key, &plaintext(&backup.secret)), [1]);
    controller.later(GRACE).await;
    controller.is_at_rest().await;
    let later = place.ready("pump").await;
    assert_eq!(later.status.unwrap().key.as_deref(), backup.public());
    assert_eq!(controller.metrics.keys_issued.get(), 0);
    place.keeps_its_secrets(&[&controller]).await;
}

/// Takes something away from the status of an issued `pump`, as nobody but a mistake does.
async fn damaged(purpose: &str, damage: fn(&mut AccessKey)) -> (Place, TestController) {
    let place = Place::served(purpose).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    let mut key = place.key("pump").await;
    damage(&mut key);
    let params = PostParams::default();
    let written = place.keys.replace_status("pump", &params, &key);
    written.await.expect("the admin may");
    (place, controller)
}

#[tokio::test]
async fn a_status_that_lost_its_verifiers_asks_for_a_rotation() {
    let (place, controller) = damaged("verifiers", |key| {
        key.status
            .iter_mut()
            .for_each(|status| status.verifiers.clear());
    })
    .await;
    let public = place.status("pump").await.key;
    let told = place.stalled("pump", "VerifierLost").await;
    assert!(
        told.message.contains("rotation.revision"),
        "{}",
        told.message
    );
    let before = place.delivered("pump").await;
    place.apply(key("pump").revision(2)).await;
    // What the Secret holds cannot be told any more, so it is left alone.
    place.stalled("pump", "SecretExists").await;
    assert_eq!(place.delivered("pump").await, before);
    place.delete_secret("pump").await;
    controller.later(GRACE).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    assert_eq!(place.status("pump").await.key, public);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_status_that_is_lost_altogether_makes_another_key_and_leaves_the_secret_alone() {
    let (place, controller) =
        damaged("wiped", |key| key.status = Some(AccessKeyStatus::default())).await;
    place.stalled("pump", "SecretExists").await;
    let before = place.delivered("pump").await;
    place.delete_secret("pump").await;
    controller.later(GRACE).await;
    let again = place.ready("pump").await;
    fits(&again, &place.delivered("pump").await);
    assert!(accepting(&again, &plaintext(&before)).is_empty());
    place.keeps_its_secrets(&[&controller]).await;
}
