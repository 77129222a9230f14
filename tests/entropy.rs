//! The operating system's random generator fails: nothing is written then, and nothing takes its place.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::canary;
use crate::support::cluster::eventually;
use crate::support::controller::TestController;
use crate::support::keys::{Place, fits, key};
use keyward::key::{EntropyError, Secret};
use keyward::metrics::{Outcome, OutcomeLabel};

static FAILS: AtomicBool = AtomicBool::new(false);

fn generator() -> Result<Secret, EntropyError> {
    if FAILS.load(Ordering::Relaxed) {
        return Err(EntropyError::because("no entropy"));
    }
    Secret::generate()
}

#[tokio::test]
async fn without_randomness_nothing_is_issued_until_there_is_some() {
    let place = Place::served("entropy").await;
    let controller = TestController::with_source(&place, generator).await;
    place.apply(key("rotated").overlap("0s")).await;
    place.issued("rotated", 1).await;
    let delivered = place.delivered("rotated").await;
    controller.is_at_rest().await;

    FAILS.store(true, Ordering::Relaxed);
    controller.wire.forget();
    let asked = [
        place.apply(key("new")).await,
        place.apply(key("rotated").overlap("0s").revision(2)).await,
    ];
    let failed = controller.metrics.reconciles.get_or_create(&OutcomeLabel {
        outcome: Outcome::Failed,
    });
    let failed = failed.clone();
    eventually("both keys are tried again and again", || async {
        failed.get() >= 6
    })
    .await;
    assert_eq!(controller.wire.writes(), 0);
    for (name, asked) in [("new", &asked[0]), ("rotated", &asked[1])] {
        let now = place.key(name).await;
        assert_eq!(
            now.metadata.resource_version,
            asked.metadata.resource_version
        );
    }
    assert_eq!(place.secret("new").await, None);
    assert_eq!(place.delivered("rotated").await, delivered);
    assert!(canary::logs_say(
        "could not commit to a new secret, trying again: the operating system's random generator failed: no entropy"
    ));

    FAILS.store(false, Ordering::Relaxed);
    for (name, revision) in [("new", 1), ("rotated", 2)] {
        let key = place.issued(name, revision).await;
        fits(&key, &place.delivered(name).await);
    }
    place.keeps_its_secrets(&[&controller]).await;
}
