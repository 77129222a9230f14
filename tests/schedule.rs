//! `rotation.every` makes a new secret by itself, on a real API server: once each time it is due, and never one that was
//! taken away.

use std::time::Duration;

use crate::support::controller::TestController;
use crate::support::keys::{Ask, Place, accepting, fits, key, plaintext};
use crate::support::wire::{AFTER_AN_EDIT, IN_PLACE};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, AccessKeyStatus};
use kube::api::PostParams;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const EVERY: SignedDuration = SignedDuration::from_hours(10);

const SKIPPED: [&str; 3] = [
    "get secrets (metadata)",
    "get accesskeys",
    "update accesskeys/status",
];

fn pump() -> Ask {
    every("10h")
}

fn every(every: &str) -> Ask {
    key("pump")
        .overlap("1h")
        .with("/spec/rotation/every", every)
}

/// Key `pump`, issued, on a clock that stands still.
async fn scheduled(purpose: &str) -> (Place, TestController) {
    let place = Place::served(purpose).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(pump()).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    (place, controller)
}

async fn next(place: &Place) -> Timestamp {
    let next = place.status("pump").await.next_rotation;
    next.expect("a next rotation").0
}

/// How long until the next rotation is due, by a controller's clock.
async fn until_due(place: &Place, controller: &TestController) -> Duration {
    let left = next(place).await.duration_since(controller.now());
    Duration::try_from(left).expect("it is not due")
}

async fn comes_due(place: &Place, controller: &TestController) {
    let left = until_due(place, controller).await;
    controller.wire.forget();
    controller.later(left).await;
}

/// However often the key is looked at, that was all since `forget`.
async fn has_sent(controller: &TestController, requests: &[&str]) {
    controller.resync(1).await;
    controller.is_at_rest().await;
    assert_eq!(controller.wire.sent(), requests);
    controller.wire.forget();
}

fn is_drawn_after(next: Timestamp, from: Timestamp) {
    let drawn = next.duration_since(from);
    let latest = EVERY + EVERY / 10 + SignedDuration::from_secs(1);
    assert!(EVERY <= drawn && drawn <= latest, "{drawn:?}");
    assert_eq!(next.subsec_nanosecond(), 0);
}

#[tokio::test]
async fn what_is_due_is_issued_with_three_writes_and_told_once() {
    let (place, controller) = scheduled("due").await;
    let straight = [
        "update accesskeys/status",
        "create secrets",
        "update accesskeys/status",
    ];
    has_sent(&controller, &straight).await;
    is_drawn_after(next(&place).await, controller.now());
    let old = place.delivered("pump").await;

    let left = until_due(&place, &controller).await;
    controller.later(left - MINUTE).await;
    has_sent(&controller, &[]).await;
    comes_due(&place, &controller).await;
    let rotated = place.issued("pump", 2).await;
    let new = place.delivered("pump").await;
    fits(&rotated, &new);
    assert_ne!(plaintext(&new), plaintext(&old));
    assert_eq!(new.metadata.uid, old.metadata.uid);
    assert_eq!(accepting(&rotated, &plaintext(&old)), [1]);
    assert_eq!(rotated.status.unwrap().rotation_requested, Some(1));
    is_drawn_after(next(&place).await, controller.now());
    has_sent(&controller, &IN_PLACE).await;

    controller.later(HOUR + Duration::from_secs(1)).await;
    has_sent(&controller, &["update accesskeys/status"]).await;
    let retired = place.key("pump").await;
    assert!(accepting(&retired, &plaintext(&old)).is_empty());
    let told = [("Issued", 2), ("RotationStarted", 1), ("Retired", 1)];
    place.told("pump", &told).await;
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_secret_that_was_taken_away_is_skipped_each_time_and_told() {
    let (place, controller) = scheduled("taken").await;
    let taken = plaintext(&place.delivered("pump").await);
    place.delete_secret("pump").await;
    for _ in 0..2 {
        comes_due(&place, &controller).await;
        has_sent(&controller, &SKIPPED).await;
        is_drawn_after(next(&place).await, controller.now());
    }
    assert_eq!(place.secret("pump").await, None);
    let key = place.ready("pump").await;
    assert_eq!(accepting(&key, &taken), [1], "it stays valid");
    place
        .told(
            "pump",
            &[("Issued", 1), ("Consumed", 1), ("RotationSkipped", 2)],
        )
        .await;

    place.apply(pump().revision(2)).await;
    let issued = place.issued("pump", 2).await;
    fits(&issued, &place.delivered("pump").await);
    is_drawn_after(next(&place).await, controller.now());
}

#[tokio::test]
async fn a_schedule_is_added_changed_and_removed_with_one_write_each() {
    let place = Place::served("changed").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").overlap("1h")).await;
    place.ready("pump").await;
    assert_eq!(place.status("pump").await.next_rotation, None);
    controller.is_at_rest().await;
    let now = controller.now();
    let one = ["update accesskeys/status"];

    controller.wire.forget();
    place.apply(pump()).await;
    place.ready("pump").await;
    has_sent(&controller, &one).await;
    let first = next(&place).await;
    is_drawn_after(first, now - SignedDuration::from_secs(1));

    // What does not concern the schedule leaves it.
    place.apply(pump().described("in hall 3")).await;
    place.ready("pump").await;
    has_sent(&controller, &AFTER_AN_EDIT).await;
    assert_eq!(next(&place).await, first);

    place.apply(every("100h")).await;
    place.ready("pump").await;
    has_sent(&controller, &one).await;
    assert!(next(&place).await.duration_since(now) > EVERY * 9);

    place.apply(every("10h")).await;
    place.ready("pump").await;
    has_sent(&controller, &one).await;
    assert_eq!(next(&place).await, first, "it is drawn the same");

    place.apply(key("pump").overlap("1h")).await;
    place.ready("pump").await;
    has_sent(&controller, &one).await;
    assert_eq!(place.status("pump").await.next_rotation, None);
    controller.later(1000 * HOUR).await;
    has_sent(&controller, &[]).await;
    place.told("pump", &[("Issued", 1)]).await;
}

/// Else each change of many keys at once would have all of them rotate at once.
#[tokio::test]
async fn a_schedule_that_is_added_late_is_drawn_from_its_first_tenth() {
    let place = Place::served("late").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").overlap("1h")).await;
    place.ready("pump").await;
    controller.later(500 * HOUR).await;
    place.apply(pump()).await;
    let begun = place.until("pump", "has a schedule", |_, status| {
        status.next_rotation.is_some()
    });
    begun.await;
    let drawn = next(&place).await.duration_since(controller.now());
    let tenth = EVERY / 10 + SignedDuration::from_secs(1);
    assert!(SignedDuration::ZERO <= drawn && drawn <= tenth, "{drawn:?}");
}

#[tokio::test]
async fn what_was_missed_is_issued_once() {
    let (place, controller) = scheduled("missed").await;
    drop(controller);
    let another = TestController::on_still_clock(&place).await;
    another.wire.forget();
    another.later(1000 * HOUR).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    has_sent(&another, &IN_PLACE).await;
    is_drawn_after(next(&place).await, another.now());
}

/// The shortest schedule is an hour: so the status says that the first secret is nearly as old.
#[tokio::test]
async fn by_itself_a_key_rotates_when_it_is_due() {
    let place = Place::served("by-itself").await;
    let controller = TestController::start(&place).await;
    place.apply(every("1h")).await;
    let mut key = place.ready("pump").await;
    let soon = Timestamp::now() + SignedDuration::from_secs(3);
    let status = key.status.as_mut().expect("a status");
    status.verifiers[0].issued_at = Time(soon - SignedDuration::from_hours(1));
    status.next_rotation = Some(Time(soon));
    let params = PostParams::default();
    let aged = place.keys.replace_status("pump", &params, &key);
    aged.await.expect("the admin may");
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_clock_that_is_turned_back_issues_nothing_again() {
    let (place, controller) = scheduled("back").await;
    for revision in [2, 3] {
        comes_due(&place, &controller).await;
        place.issued("pump", revision).await;
    }
    controller.is_at_rest().await;
    drop(controller);

    // By two intervals, which would keep the key from rotating for as long.
    let back = TestController::on_still_clock(&place).await;
    back.is_at_rest().await;
    is_drawn_after(next(&place).await, back.now());
    has_sent(&back, &["update accesskeys/status"]).await;
    // And by less than one.
    back.later(2 * HOUR).await;
    drop(back);
    let again = TestController::on_still_clock(&place).await;
    has_sent(&again, &[]).await;
    assert_eq!(place.status("pump").await.revision, Some(3));

    comes_due(&place, &again).await;
    place.issued("pump", 4).await;
}

#[tokio::test]
async fn two_controllers_whose_clocks_differ_rotate_once() {
    let (place, ahead) = scheduled("clocks").await;
    let behind = TestController::on_still_clock(&place).await;
    let left = until_due(&place, &ahead).await;
    behind.later(left - 2 * MINUTE).await;
    behind.is_at_rest().await;
    behind.wire.forget();

    comes_due(&place, &ahead).await;
    place.issued("pump", 2).await;
    has_sent(&ahead, &IN_PLACE).await;
    has_sent(&behind, &[]).await;
    behind.later(4 * MINUTE).await;
    has_sent(&behind, &[]).await;
    has_sent(&ahead, &[]).await;
    place
        .told("pump", &[("Issued", 2), ("RotationStarted", 1)])
        .await;
    place.keeps_its_secrets(&[&ahead, &behind]).await;
}

#[tokio::test]
async fn two_controllers_at_once_rotate_each_key_once() {
    let place = Place::served("two").await;
    let a = TestController::on_still_clock(&place).await;
    let b = TestController::on_still_clock(&place).await;
    let names: Vec<String> = (0..3).map(|number| format!("key-{number}")).collect();
    for name in &names {
        let ask = key(name).overlap("1h").with("/spec/rotation/every", "10h");
        place.apply(ask).await;
    }
    for name in &names {
        place.ready(name).await;
    }
    tokio::join!(a.later(11 * HOUR), b.later(11 * HOUR));
    // Longer than another process may take for an issue that it opened, and than a sweep waits.
    for _ in 0..2 {
        tokio::join!(a.later(6 * MINUTE), b.later(6 * MINUTE));
    }
    for name in &names {
        let rotated = place.issued(name, 2).await;
        fits(&rotated, &place.delivered(name).await);
    }
    tokio::join!(a.later(2 * HOUR), b.later(2 * HOUR));
    a.is_at_rest().await;
    for name in &names {
        assert_eq!(place.status(name).await.revision, Some(2), "{name}");
    }
    place.keeps_its_secrets(&[&a, &b]).await;
}

#[tokio::test]
async fn a_revision_and_a_schedule_that_are_due_at_once_are_one_issue() {
    let (place, controller) = scheduled("both").await;
    place.apply(pump().suspended()).await;
    let seen = |key: &AccessKey, status: &AccessKeyStatus| {
        key.metadata.generation == Some(status.observed_generation)
    };
    place.until("pump", "is suspended", seen).await;
    controller.is_at_rest().await;
    comes_due(&place, &controller).await;
    has_sent(&controller, &[]).await;

    place.apply(pump().revision(2)).await;
    let issued = place.issued("pump", 2).await;
    fits(&issued, &place.delivered("pump").await);
    has_sent(&controller, &IN_PLACE).await;
    is_drawn_after(next(&place).await, controller.now());
    assert_eq!(place.status("pump").await.revision, Some(2));
}

#[tokio::test]
async fn a_revision_under_way_is_finished_and_clears_the_time_that_was_due() {
    let (place, controller) = scheduled("under-way").await;
    let immutable = json!({ "immutable": true });
    place.patch_secret("pump", immutable).await;
    place.apply(pump().revision(2)).await;
    place.stalled("pump", "SecretImmutable").await;
    assert_eq!(place.status("pump").await.next_rotation, None);
    for _ in 0..20 {
        controller.later(HOUR).await;
        controller.is_at_rest().await;
    }
    let status = place.status("pump").await;
    assert_eq!((status.revision, status.next_rotation), (Some(1), None));

    place.delete_secret("pump").await;
    controller.later(2 * MINUTE).await;
    let issued = place.issued("pump", 2).await;
    fits(&issued, &place.delivered("pump").await);
    is_drawn_after(next(&place).await, controller.now());
    controller.resync(1).await;
    controller.is_at_rest().await;
    assert_eq!(place.status("pump").await.revision, Some(2));
}

#[tokio::test]
async fn a_key_that_is_inactive_keeps_its_secret_until_it_is_active_again() {
    let (place, controller) = scheduled("inactive").await;
    let kept = place.delivered("pump").await;
    place.apply(pump().inactive()).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    comes_due(&place, &controller).await;
    has_sent(&controller, &[]).await;
    assert_eq!(place.delivered("pump").await, kept);

    place.apply(pump()).await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    assert_eq!(accepting(&rotated, &plaintext(&kept)), [1]);
}

#[tokio::test]
async fn a_key_that_has_expired_keeps_its_secret_until_it_is_extended() {
    let (place, controller) = scheduled("expired").await;
    let kept = place.delivered("pump").await;
    let end = next(&place).await - SignedDuration::from_hours(1);
    let limited = |end: Timestamp| pump().with("/spec/expiresAt", end.to_string());
    place.apply(limited(end)).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    comes_due(&place, &controller).await;
    has_sent(&controller, &["update accesskeys/status"]).await;
    assert_eq!(place.delivered("pump").await, kept);

    place
        .apply(limited(end + SignedDuration::from_hours(100)))
        .await;
    let rotated = place.issued("pump", 2).await;
    assert_eq!(accepting(&rotated, &plaintext(&kept)), [1]);
}

/// Key `pump`, whose Secret is being deleted, and is not yet gone.
async fn with_a_secret_that_is_going(purpose: &str) -> (Place, TestController) {
    let (place, controller) = scheduled(purpose).await;
    let hold = json!({ "metadata": { "finalizers": ["example.com/waits"] } });
    place.patch_secret("pump", hold).await;
    place.delete_secret("pump").await;
    place.secret_is_being_deleted("pump").await;
    (place, controller)
}

async fn is_let_go(place: &Place, controller: &TestController) {
    let free = json!({ "metadata": { "finalizers": null } });
    place.patch_secret("pump", free).await;
    controller.later(2 * MINUTE).await;
}

#[tokio::test]
async fn a_schedule_waits_for_a_secret_that_is_being_deleted_and_is_skipped() {
    let (place, controller) = with_a_secret_that_is_going("going").await;
    let going = plaintext(&place.delivered("pump").await);
    comes_due(&place, &controller).await;
    place.reconciling("pump", "SecretExists").await;
    assert_eq!(plaintext(&place.delivered("pump").await), going);
    is_let_go(&place, &controller).await;
    let key = place.ready("pump").await;
    assert_eq!(accepting(&key, &going), [1]);
    assert_eq!(place.secret("pump").await, None);
    place
        .told(
            "pump",
            &[("Issued", 1), ("Consumed", 1), ("RotationSkipped", 1)],
        )
        .await;
}

#[tokio::test]
async fn a_revision_waits_for_a_secret_that_is_being_deleted_and_makes_another() {
    let (place, controller) = with_a_secret_that_is_going("anew").await;
    let going = place.delivered("pump").await;
    place.apply(pump().revision(2)).await;
    place.reconciling("pump", "SecretExists").await;
    is_let_go(&place, &controller).await;
    let rotated = place.issued("pump", 2).await;
    let new = place.delivered("pump").await;
    fits(&rotated, &new);
    assert_ne!(new.metadata.uid, going.metadata.uid);
    assert_eq!(accepting(&rotated, &plaintext(&going)), [1]);
    place.keeps_its_secrets(&[&controller]).await;
}

/// With the longest overlap that there may be.
#[tokio::test]
async fn at_most_four_secrets_are_accepted_and_each_for_all_of_its_overlap() {
    let place = Place::served("four").await;
    let controller = TestController::on_still_clock(&place).await;
    let ask = every("10h").overlap("30h");
    place.apply(ask).await;
    place.ready("pump").await;
    let mut known: Vec<(i32, Option<Timestamp>)> = Vec::new();
    let mut plaintexts = vec![plaintext(&place.delivered("pump").await)];
    for revision in 2..=7 {
        comes_due(&place, &controller).await;
        let rotated = place.issued("pump", revision).await;
        fits(&rotated, &place.delivered("pump").await);
        plaintexts.push(plaintext(&place.delivered("pump").await));
        let now_known = ends(&rotated);
        assert!(now_known.len() <= 4, "{now_known:?}");
        for (old, end) in &known {
            let still = now_known.iter().find(|(still, _)| still == old);
            match (end, still) {
                (Some(end), Some((_, still))) => assert_eq!(*still, Some(*end), "{old}"),
                (Some(end), None) => assert!(*end <= controller.now(), "{old} was cut short"),
                (None, Some((_, still))) => assert!(still.is_some(), "{old} was replaced"),
                (None, None) => panic!("{old} was not kept"),
            }
        }
        known = now_known;
    }
    let key = place.key("pump").await;
    let newest = plaintexts.last().expect("a secret");
    assert_eq!(accepting(&key, newest), [7]);
    assert!(accepting(&key, &plaintexts[0]).is_empty());
    place.keeps_its_secrets(&[&controller]).await;
}

/// The revisions that are accepted, and until when.
fn ends(key: &AccessKey) -> Vec<(i32, Option<Timestamp>)> {
    let verifiers = key.status.iter().flat_map(|status| &status.verifiers);
    verifiers
        .map(|known| {
            (
                known.revision,
                known.valid_until.as_ref().map(|until| until.0),
            )
        })
        .collect()
}

#[tokio::test]
async fn two_revisions_with_overlaps_of_their_own_keep_them() {
    let place = Place::served("own-overlap").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").overlap("48h")).await;
    place.ready("pump").await;
    place.apply(key("pump").overlap("48h").revision(2)).await;
    let second = ends(&place.issued("pump", 2).await);
    place.apply(key("pump").overlap("1h").revision(3)).await;
    let third = ends(&place.issued("pump", 3).await);
    assert_eq!(third[0], second[0], "it keeps what it was promised");
    let end = third[1].1.expect("an end");
    assert!(end <= controller.now() + SignedDuration::from_hours(1) + SignedDuration::from_secs(1));
    // For a secret that got into wrong hands.
    place.apply(key("pump").overlap("0s").revision(4)).await;
    assert_eq!(ends(&place.issued("pump", 4).await), [(4, None)]);
}
