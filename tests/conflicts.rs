//! What stands in the way of issuing is told to people and left alone, and issuing goes on by itself once it is gone.

use std::time::Duration;

use crate::support::cluster::eventually;
use crate::support::controller::{GRACE, TestController};
use crate::support::keys::{Place, entry, fits, key, owned_by, plaintext, secret_of, some_secret};
use crate::support::policy::Policy;
use k8s_openapi::api::core::v1::Secret;
use keyward::api::AccessKey;
use serde_json::{Value, json};

/// Longer than any backoff, and than plaintext is held.
const MINUTES: Duration = Duration::from_secs(120);

/// An AccessKey that waits to be resumed, by its name and uid, and another one that was issued: what somebody may
/// know who puts a Secret in the way.
struct Known<'a> {
    name: &'a str,
    uid: &'a str,
    other: &'a AccessKey,
    other_secret: &'a Secret,
}

impl Known<'_> {
    fn other_public(&self) -> String {
        entry(self.other_secret, "key")
    }

    fn other_owner(&self) -> Value {
        owned_by("other", self.other.metadata.uid.as_deref().expect("a uid"))
    }
}

type InTheWay = fn(&Known<'_>) -> Value;

const IN_THE_WAY: [(&str, InTheWay); 7] = [
    ("bare", |known| {
        let data = json!({ "password": "hunter2" });
        json!({ "metadata": { "name": known.name }, "stringData": data })
    }),
    ("our-labels", |known| {
        let labels = json!({ "app.kubernetes.io/managed-by": "keyward" });
        json!({ "metadata": { "name": known.name, "labels": labels }, "stringData": { "key": "k" } })
    }),
    ("our-type", |known| {
        secret_of(known.name, json!([]), "key", &some_secret())
    }),
    ("forged-owner", |known| {
        let owner = owned_by(known.name, known.uid);
        json!({ "metadata": { "name": known.name, "ownerReferences": owner }, "stringData": { "a": "b" } })
    }),
    ("forged", |known| {
        let owner = owned_by(known.name, known.uid);
        secret_of(known.name, owner, &known.other_public(), &some_secret())
    }),
    ("forged-other-bytes", |known| {
        let owner = owned_by(known.name, known.uid);
        secret_of(
            known.name,
            owner,
            &known.other_public(),
            &plaintext(known.other_secret),
        )
    }),
    ("of-another-key", |known| {
        secret_of(
            known.name,
            known.other_owner(),
            &known.other_public(),
            &plaintext(known.other_secret),
        )
    }),
];

#[tokio::test]
async fn a_foreign_secret_is_left_alone_whatever_it_looks_like() {
    let place = Place::served("foreign").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("other")).await;
    let other = place.ready("other").await;
    let other_secret = place.delivered("other").await;
    let mut foreign = Vec::new();
    for (name, in_the_way) in IN_THE_WAY {
        let uid = place
            .apply(key(name).suspended())
            .await
            .metadata
            .uid
            .unwrap();
        let (other, other_secret) = (&other, &other_secret);
        let known = Known {
            name,
            uid: &uid,
            other,
            other_secret,
        };
        foreign.push(place.create::<Secret>(in_the_way(&known)).await);
        place.apply(key(name)).await;
    }
    for (name, _) in IN_THE_WAY {
        let told = place.stalled(name, "SecretExists").await;
        assert!(
            told.message.contains(&format!("Secret {name} ")),
            "{}",
            told.message
        );
    }
    for _ in 0..3 {
        controller.later(MINUTES / 8).await;
        controller.is_at_rest().await;
    }
    // One hash for each secret that was made. Bytes that match no check are not hashed.
    assert_eq!(controller.metrics.hashes.get(), 1 + foreign.len() as u64);
    for secret in &foreign {
        let name = secret.metadata.name.as_deref().unwrap();
        place.stalled(name, "SecretExists").await;
        assert_eq!(place.delivered(name).await, *secret, "{name}");
        let warned = [("Warning".to_owned(), "SecretExists".to_owned(), 1)];
        eventually("the Event arrives", || async {
            !place.events(name).await.is_empty()
        })
        .await;
        assert_eq!(place.events(name).await, warned, "{name}");
    }
    assert_eq!(place.delivered("other").await, other_secret);

    for (name, _) in IN_THE_WAY {
        place.delete_secret(name).await;
    }
    controller.later(MINUTES).await;
    for (name, _) in IN_THE_WAY {
        fits(&place.ready(name).await, &place.delivered(name).await);
    }
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn issuing_goes_on_by_itself_when_a_foreign_secret_is_gone() {
    let place = Place::served("by-itself").await;
    let controller = TestController::start(&place).await;
    place
        .create::<Secret>(secret_of("pump", json!([]), "key", "none"))
        .await;
    place.apply(key("pump")).await;
    place.stalled("pump", "SecretExists").await;
    place.delete_secret("pump").await;
    fits(&place.ready("pump").await, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_one_key_does_not_hold_up_another() {
    let place = Place::served("others").await;
    let _controller = TestController::on_still_clock(&place).await;
    for number in 0..20 {
        let name = format!("stuck-{number}");
        place
            .create::<Secret>(secret_of(&name, json!([]), "key", "none"))
            .await;
        place.apply(key(&name)).await;
    }
    for number in 0..20 {
        place.apply(key(&format!("free-{number}"))).await;
    }
    for number in 0..20 {
        place.ready(&format!("free-{number}")).await;
        place
            .stalled(&format!("stuck-{number}"), "SecretExists")
            .await;
    }
}

#[tokio::test]
async fn of_two_keys_that_name_one_secret_the_first_has_it() {
    let place = Place::served("shared").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("first").delivered_in("shared")).await;
    let first = place.ready("first").await;
    place.apply(key("second").delivered_in("shared")).await;
    place.stalled("second", "SecretExists").await;
    fits(&first, &place.delivered("shared").await);
    place.delete_secret("shared").await;
    controller.later(MINUTES).await;
    let second = place.ready("second").await;
    fits(&second, &place.delivered("shared").await);
    assert_eq!(place.key("first").await.status, first.status);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn the_same_alarm_again_within_minutes_is_counted_in_its_event() {
    let place = Place::served("series").await;
    let controller = TestController::on_still_clock(&place).await;
    place
        .create::<Secret>(secret_of("pump", json!([]), "key", "none"))
        .await;
    place.apply(key("pump")).await;
    place.stalled("pump", "SecretExists").await;
    place.delete_secret("pump").await;
    controller.later(MINUTES).await;
    place.ready("pump").await;
    controller.is_at_rest().await;

    place.delete_secret("pump").await;
    place
        .create::<Secret>(secret_of("pump", json!([]), "key", "none"))
        .await;
    place.apply(key("pump").revision(2)).await;
    // The first issue took more than one try, so a request of it may still arrive for a grace.
    place.reconciling("pump", "AwaitingSweep").await;
    controller.later(GRACE).await;
    place.stalled("pump", "SecretExists").await;
    let again = ("Warning".to_owned(), "SecretExists".to_owned(), 2);
    eventually("the Event counts twice", || async {
        place.events("pump").await.contains(&again)
    })
    .await;
    assert_eq!(controller.wire.count("patch events"), 1);
}

#[tokio::test]
async fn a_namespace_that_is_not_served_is_told_which_file_to_apply() {
    let place = Place::unserved("unserved").await;
    let served = Place::served("served").await;
    let controller = TestController::on_still_clock_for(&[&place, &served]).await;
    place.apply(key("pump")).await;
    served.apply(key("pump")).await;
    let told = place.stalled("pump", "NamespaceNotServed").await;
    let command = format!("kubectl apply -n {} -f deploy/namespace.yaml", place.name());
    assert!(told.message.contains(&command), "{}", told.message);
    served.ready("pump").await;

    place.namespace.serve().await;
    controller.later(MINUTES).await;
    fits(&place.ready("pump").await, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_quota_is_waited_for_and_attempts_stay_bounded() {
    let place = Place::served("quota").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("other")).await;
    place.ready("other").await;
    place.limit_secrets_to(1).await;
    place.apply(key("pump")).await;
    let told = place.reconciling("pump", "QuotaExceeded").await;
    assert!(told.message.contains("ResourceQuota"), "{}", told.message);
    let mut most = 0;
    for _ in 0..12 {
        controller.later(Duration::from_secs(61)).await;
        controller.is_at_rest().await;
        let status = place.status("pump").await;
        assert!(!crate::support::keys::holds(&status, "Stalled"));
        most = most.max(status.issuance.unwrap().attempts.len());
    }
    assert!((2..=8).contains(&most), "{most} attempts");

    place.limit_secrets_to(9).await;
    eventually("the key is issued", || async {
        controller.later(MINUTES).await;
        controller.is_at_rest().await;
        place.status("pump").await.revision == Some(1)
    })
    .await;
    fits(&place.key("pump").await, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_secret_that_the_api_server_refuses_is_told_by_its_field() {
    let place = Place::served("refused").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").too_large()).await;
    place.apply(key("other")).await;
    let told = place.stalled("pump", "InvalidSpec").await;
    assert!(
        told.message.contains("metadata.annotations"),
        "{}",
        told.message
    );
    place.ready("other").await;

    place.apply(key("pump")).await;
    fits(&place.ready("pump").await, &place.delivered("pump").await);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn what_failed_is_not_tried_before_its_time_whatever_happens() {
    let place = Place::unserved("backoff").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.stalled("pump", "NamespaceNotServed").await;
    controller.is_at_rest().await;
    let before = controller.wire.sent();
    for _ in 0..20 {
        controller.later(Duration::ZERO).await;
        controller.is_at_rest().await;
    }
    assert_eq!(controller.wire.sent(), before);
    // Its owner's edit is tried at once.
    place.apply(key("pump").described("again")).await;
    eventually("it is tried", || async {
        controller.wire.sent().len() > before.len()
    })
    .await;
}

#[tokio::test]
async fn a_refusal_that_lasts_is_told_once_however_often_it_is_tried_and_by_whom() {
    let place = Place::served("refusal").await;
    let _policy = Policy::against_secrets_in(&place).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.stalled("pump", "AdmissionRefused").await;
    controller.wire.forget();
    controller.later(MINUTES).await;
    controller.is_at_rest().await;
    let tried = [
        "get secrets (metadata)",
        "get accesskeys",
        "update accesskeys/status",
        "create secrets",
    ];
    assert_eq!(controller.wire.sent(), tried);
    controller.stop().await;
    let another = TestController::on_still_clock(&place).await;
    for _ in 0..2 {
        another.later(MINUTES).await;
        another.is_at_rest().await;
    }
    place.stalled("pump", "AdmissionRefused").await;
    place.told("pump", &[("AdmissionRefused", 1)]).await;
    place.keeps_its_secrets(&[&another]).await;
}

#[tokio::test]
async fn an_admission_policy_of_the_cluster_that_refuses_the_secret_is_told() {
    let place = Place::served("policy").await;
    let policy = Policy::against_secrets_in(&place).await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    let told = place.stalled("pump", "AdmissionRefused").await;
    assert!(
        told.message.contains("admission policy"),
        "{}",
        told.message
    );
    policy.delete().await;
    eventually("the key is issued", || async {
        controller.later(MINUTES).await;
        controller.is_at_rest().await;
        place.status("pump").await.revision == Some(1)
    })
    .await;
    place.keeps_its_secrets(&[&controller]).await;
}
