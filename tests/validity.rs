//! When a key's time begins and ends, on a real API server: gateways judge by the clock, and the controller says so in
//! the status, once.

use std::time::Duration;

use crate::support::controller::TestController;
use crate::support::gateway::{Gateway, Plant};
use crate::support::keys::{Ask, Place, condition, holds, key, plaintext};
use crate::support::plant::Issued;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, AccessKeyStatus, EffectiveState};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);

/// On a clock that stands still, a key whose time begins in one hour, and is over ten hours later.
async fn limited(purpose: &str) -> (Place, TestController, Ask) {
    let place = Place::served(purpose).await;
    let controller = TestController::on_still_clock(&place).await;
    let ask = key("pump")
        .with("/spec/notBefore", hours_after(&controller, 1))
        .with("/spec/expiresAt", hours_after(&controller, 11));
    place.apply(ask.clone()).await;
    place.ready("pump").await;
    (place, controller, ask)
}

fn hours_after(controller: &TestController, hours: i64) -> String {
    // Without fractions, as people write it.
    let now = controller.now().as_second();
    let now = Timestamp::from_second(now).expect("a time");
    (now + SignedDuration::from_hours(hours)).to_string()
}

/// Waits until the status says so, and that its conditions do as well.
async fn is(place: &Place, state: EffectiveState, reason: &str) -> AccessKey {
    let what = format!("is {state:?}, {reason}");
    let said = |_: &AccessKey, status: &AccessKeyStatus| {
        let active = condition(status, "Active");
        status.state == Some(state) && active.is_some_and(|active| active.reason == reason)
    };
    let key = place.until("pump", &what, said).await;
    let status = key.status.as_ref().expect("a status");
    assert!(holds(status, "Ready"), "it was issued all the same");
    assert_eq!(holds(status, "Active"), state == EffectiveState::Active);
    assert!(condition(status, "Stalled").is_none(), "nobody has to act");
    assert!(
        condition(status, "Reconciling").is_none(),
        "nothing is under way"
    );
    key
}

/// Nothing more is written, however often the key is looked at; so far, as many writes as these.
async fn has_written(controller: &TestController, writes: usize) {
    controller.resync(1).await;
    controller.is_at_rest().await;
    let sent = controller.wire.count("update accesskeys/status");
    assert_eq!((sent, controller.wire.writes()), (writes, writes));
    controller.wire.forget();
}

#[tokio::test]
async fn each_turn_of_a_key_is_one_write_and_one_event() {
    let (place, controller, ask) = limited("turns").await;
    let key = is(&place, EffectiveState::NotYetValid, "NotYetValid").await;
    let begin = hours_after(&controller, 1);
    let status = key.status.expect("a status");
    let active = condition(&status, "Active").expect("a condition");
    assert_eq!(
        active.message,
        format!("The key may be used from {begin} on.")
    );
    let delivered = plaintext(&place.delivered("pump").await);
    controller.is_at_rest().await;
    controller.wire.forget();

    controller.later(HOUR).await;
    is(&place, EffectiveState::Active, "Active").await;
    has_written(&controller, 1).await;

    controller.later(9 * HOUR).await;
    is(&place, EffectiveState::Active, "ExpiringSoon").await;
    has_written(&controller, 1).await;

    controller.later(HOUR).await;
    let key = is(&place, EffectiveState::Expired, "Expired").await;
    has_written(&controller, 1).await;
    let status = key.status.expect("a status");
    let message = &condition(&status, "Active").expect("a condition").message;
    assert!(
        message.contains("set a later expiresAt to extend it"),
        "{message}"
    );

    // It is extended: nothing is issued, and its secret is the same.
    let ask = ask.with("/spec/expiresAt", hours_after(&controller, 100));
    place.apply(ask.clone()).await;
    is(&place, EffectiveState::Active, "Active").await;
    has_written(&controller, 1).await;
    assert_eq!(plaintext(&place.delivered("pump").await), delivered);

    // Whoever switches it off is told nothing of its time.
    place.apply(ask.clone().inactive()).await;
    is(&place, EffectiveState::Inactive, "Inactive").await;
    has_written(&controller, 1).await;
    controller.later(200 * HOUR).await;
    has_written(&controller, 0).await;
    place.apply(ask).await;
    is(&place, EffectiveState::Expired, "Expired").await;
    has_written(&controller, 1).await;

    let once = [("Issued", 1), ("ExpiringSoon", 1), ("Deactivated", 1)];
    let twice = [("Activated", 2), ("Expired", 2)];
    place.told("pump", &[&once[..], &twice].concat()).await;
    let counted = "keyward_api_requests_total{step=\"write the status\"} 6\n";
    assert!(controller.metrics_text().contains(counted));
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_turn_that_was_missed_is_told_once() {
    let (place, controller, _) = limited("missed").await;
    is(&place, EffectiveState::NotYetValid, "NotYetValid").await;
    controller.is_at_rest().await;
    drop(controller);
    let another = TestController::on_still_clock(&place).await;
    another.wire.forget();
    another.later(100 * HOUR).await;
    is(&place, EffectiveState::Expired, "Expired").await;
    has_written(&another, 1).await;
    place.told("pump", &[("Issued", 1), ("Expired", 1)]).await;
}

/// Else each would take back what the other says, and say it again, until their clocks agree.
#[tokio::test]
async fn two_controllers_whose_clocks_differ_write_a_turn_once() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (place, ahead, _) = limited("clocks").await;
    is(&place, EffectiveState::NotYetValid, "NotYetValid").await;
    let behind = TestController::on_still_clock(&place).await;
    behind.later(HOUR - 2 * MINUTE).await;
    behind.is_at_rest().await;
    ahead.is_at_rest().await;
    ahead.wire.forget();
    behind.wire.forget();

    ahead.later(HOUR).await;
    is(&place, EffectiveState::Active, "Active").await;
    has_written(&ahead, 1).await;
    has_written(&behind, 0).await;
    behind.later(3 * MINUTE).await;
    has_written(&behind, 0).await;
    has_written(&ahead, 0).await;
    place.told("pump", &[("Issued", 1), ("Activated", 1)]).await;
}

#[tokio::test]
async fn by_itself_a_key_begins_and_ends_in_time() {
    let plant = Plant::new("in-time").await;
    let gateway = plant.gateway(&[]).await;
    let all = json!({ "allDevices": true });
    let pump = plant.issue("pump", all).await;
    assert_eq!(gateway.status("pump-1", &pump).await, 200);

    let mut limits = None;
    // On a machine that is slow it may have begun and ended before anybody is asked.
    for window in [3, 10, 30] {
        let (begin, end) = limits.insert(window_of(window));
        let change = json!({ "notBefore": begin, "expiresAt": end });
        plant.change("pump", change).await;
        gateway.until("pump-1", &pump, 401).await;
        if admitted_from_begin_to_end(&gateway, &pump, *begin, *end).await > 0 {
            break;
        }
        limits = None;
    }
    let (begin, end) = limits.expect("it was admitted in its time");
    assert_eq!(gateway.status("pump-1", &pump).await, 401);
    let expired =
        |_: &AccessKey, status: &AccessKeyStatus| status.state == Some(EffectiveState::Expired);
    let key = plant.place.until("pump", "has expired", expired).await;
    let times = (key.spec.not_before, key.spec.expires_at);
    assert_eq!(times, (Some(Time(begin)), Some(Time(end))));

    // Extended, it is what it was.
    plant.change("pump", json!({ "expiresAt": null })).await;
    gateway.until("pump-1", &pump, 200).await;
}

/// So many seconds long, and as many from now.
fn window_of(seconds: i64) -> (Timestamp, Timestamp) {
    let from_now = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
    (from_now(seconds), from_now(2 * seconds))
}

/// Asks until the end. So often it was admitted, never out of its time; nor was it refused in its time.
async fn admitted_from_begin_to_end(
    gateway: &Gateway,
    pump: &Issued,
    begin: Timestamp,
    end: Timestamp,
) -> u32 {
    let mut admitted = 0;
    while Timestamp::now() < end {
        let asked = Timestamp::now();
        let status = gateway.status("pump-1", pump).await;
        let answered = Timestamp::now();
        match status {
            200 => {
                admitted += 1;
                assert!(
                    begin <= answered && asked < end,
                    "it was admitted out of its time"
                );
            }
            401 => assert!(
                asked < begin || end <= answered,
                "it was refused in its time"
            ),
            other => panic!("{other}"),
        }
    }
    admitted
}
