//! One-time delivery, on a real API server: a Secret that was taken is noticed, and one that nobody took is withdrawn if
//! the spec asks for it. Either way the key stays valid, and the Secret stays away.

use std::time::Duration;

use crate::support::controller::TestController;
use crate::support::keys::{Ask, Place, accepting, holds, is_current, key, owned_by, plaintext};
use keyward::api::{AccessKey, AccessKeyStatus, Delivery};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
const STATUS: &str = "update accesskeys/status";
const LOOK: &str = "get secrets (metadata)";

/// On a clock that stands still, a key that was issued.
async fn issued(purpose: &str, ask: Ask) -> (Place, TestController, String) {
    let place = Place::served(purpose).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(ask).await;
    place.issued("pump", 1).await;
    let secret = plaintext(&place.delivered("pump").await);
    controller.is_at_rest().await;
    controller.wire.forget();
    (place, controller, secret)
}

fn delivery(key: &AccessKey) -> Delivery {
    let status = key.status.as_ref().expect("a status");
    status.secret.clone().expect("a delivery")
}

/// Waits until the status was written for the spec as it is now.
async fn seen(place: &Place) -> AccessKey {
    place
        .until(
            "pump",
            "is seen",
            |key: &AccessKey, status: &AccessKeyStatus| is_current(key, status),
        )
        .await
}

/// What was sent since the last time, however often the key is looked at.
async fn has_sent(controller: &TestController, requests: &[&str]) {
    controller.resync(1).await;
    controller.is_at_rest().await;
    assert_eq!(controller.wire.sent(), requests);
    controller.wire.forget();
}

fn is_valid(key: &AccessKey, secret: &str) {
    assert_eq!(accepting(key, secret), [1], "the key stays valid");
    assert!(holds(key.status.as_ref().expect("a status"), "Ready"));
}

#[tokio::test]
async fn a_secret_that_was_taken_is_noticed_when_the_spec_changes() {
    let (place, controller, secret) = issued("taken", key("pump")).await;
    place.apply(key("pump").described("still there")).await;
    let before = seen(&place).await;
    assert_eq!(delivery(&before).consumed_at, None);
    has_sent(&controller, &[LOOK, STATUS]).await;

    place.delete_secret("pump").await;
    has_sent(&controller, &[]).await;
    place.apply(key("pump").inactive()).await;
    let after = seen(&place).await;
    let consumed = delivery(&after);
    let at = consumed.consumed_at.clone().expect("it is noticed");
    assert_eq!(at.0.as_second(), controller.now().as_second());
    assert_eq!(consumed.uid, delivery(&before).uid);
    has_sent(&controller, &[LOOK, STATUS]).await;

    // From now on nobody looks.
    place.apply(key("pump")).await;
    is_valid(&seen(&place).await, &secret);
    has_sent(&controller, &[STATUS]).await;
    assert!(place.secret("pump").await.is_none());
    let once = ["Issued", "Consumed", "Deactivated", "Activated"];
    place.told_once_each("pump", &once).await;
}

#[tokio::test]
async fn a_secret_is_withdrawn_once_its_time_has_come() {
    let ask = key("pump").with("/spec/secret/deleteAfter", "2h");
    let (place, controller, secret) = issued("withdrawn", ask.clone()).await;
    controller.later(HOUR).await;
    has_sent(&controller, &[]).await;
    assert_eq!(plaintext(&place.delivered("pump").await), secret);

    controller.later(HOUR).await;
    place.secret_is_gone("pump").await;
    let gone = |_: &AccessKey, status: &AccessKeyStatus| {
        let delivered = status.secret.as_ref();
        delivered.is_some_and(|delivered| delivered.consumed_at.is_some())
    };
    let after = place.until("pump", "is consumed", gone).await;
    is_valid(&after, &secret);
    // Pods that were bound to it are not to be restarted without it.
    let binding = after.status.and_then(|status| status.binding);
    assert_eq!(binding.expect("a binding").name, "pump");
    let requests = [LOOK, "get accesskeys", "delete secrets", STATUS];
    has_sent(&controller, &requests).await;
    controller.later(1000 * HOUR).await;
    has_sent(&controller, &[]).await;

    // A higher revision makes it again, and its time begins anew.
    place.apply(ask.revision(2)).await;
    let rotated = place.issued("pump", 2).await;
    assert_eq!(delivery(&rotated).consumed_at, None);
    controller.is_at_rest().await;
    controller.later(2 * HOUR).await;
    place.secret_is_gone("pump").await;
    place
        .told(
            "pump",
            &[("Issued", 2), ("Consumed", 2), ("RotationStarted", 1)],
        )
        .await;
}

#[tokio::test]
async fn a_secret_that_somebody_made_instead_is_left_alone() {
    let ask = key("pump").with("/spec/secret/deleteAfter", "1h");
    let (place, controller, secret) = issued("instead", ask).await;
    let own = place.key("pump").await.metadata.uid.expect("a uid");
    place.delete_secret("pump").await;
    let other = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "keyward.dev/access-key",
        "metadata": { "name": "pump", "ownerReferences": owned_by("pump", &own) },
        "stringData": { "note": "mine" },
    });
    let other: k8s_openapi::api::core::v1::Secret = place.create(other).await;
    controller.later(HOUR).await;
    has_sent(&controller, &[LOOK, "get accesskeys", STATUS]).await;
    let after = place.key("pump").await;
    assert!(delivery(&after).consumed_at.is_some());
    is_valid(&after, &secret);
    let kept = place.secret("pump").await.expect("it is there");
    assert_eq!(kept.metadata.uid, other.metadata.uid);
    place.told_once_each("pump", &["Issued", "Consumed"]).await;
}

#[tokio::test]
async fn two_controllers_withdraw_a_secret_once() {
    let ask = key("pump").with("/spec/secret/deleteAfter", "1h");
    let (place, one, secret) = issued("both", ask).await;
    let other = TestController::on_still_clock(&place).await;
    for controller in [&one, &other] {
        controller.later(HOUR).await;
    }
    place.secret_is_gone("pump").await;
    for controller in [&one, &other] {
        controller.resync(1).await;
        controller.is_at_rest().await;
    }
    let writes = one.wire.count(STATUS) + other.wire.count(STATUS);
    assert!(writes <= 2, "{writes}: at most one of them in vain");
    is_valid(&place.key("pump").await, &secret);
    place.told_once_each("pump", &["Issued", "Consumed"]).await;
}
