//! Secrets that are replaced: a session ends with the one that it was admitted by, and with no other.

use jiff::Timestamp;
use serde_json::json;

use super::{CUTS, scene};
use crate::scene::{Scene, lives};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_secret() {
    let mut scene = scene().await;
    let ids = json!({ "deviceIds": ["pump-1", "pump-2", "pump-3"] });
    let first = scene.key("pumps", ids).await;
    let mut before = scene.session("pump-1", &first).await;
    let rotation = json!({ "rotation": { "revision": 2, "overlap": "6s" } });
    scene.plant.change("pumps", rotation).await;
    let second = scene.plant.delivered("pumps", 2).await;
    let ends = end_of_the_first(&scene).await;
    // Both are good for a while.
    let mut meanwhile = scene.session("pump-2", &first).await;
    let mut after = scene.session("pump-3", &second).await;
    lives(&mut after, "pump-3").await;

    assert!(before.is_closed().await && meanwhile.is_closed().await);
    assert!(Timestamp::now() >= ends, "no earlier");
    let connect = scene.connect("pump-1", &first);
    scene.is_refused(&connect, "a secret that has ended").await;
    lives(&mut after, "pump-3").await;
    // NATS itself ends the one that was admitted when the end was known, if it is quicker.
    let cut = format!("{CUTS},answer=\"bad_secret\"}}");
    scene.broker.gateway().counts_at_least(&cut, 1).await;

    // Without an overlap it is over at once.
    let rotation = json!({ "rotation": { "revision": 3, "overlap": "0s" } });
    scene.plant.change("pumps", rotation).await;
    assert!(after.is_closed().await);
    let third = scene.plant.delivered("pumps", 3).await;
    lives(&mut scene.session("pump-3", &third).await, "pump-3").await;
}

async fn end_of_the_first(scene: &Scene) -> Timestamp {
    let key = scene.plant.place.keys.get("pumps").await.unwrap();
    let verifiers = key.status.unwrap().verifiers;
    let first = verifiers.iter().find(|verifier| verifier.revision == 1);
    first.unwrap().valid_until.as_ref().unwrap().0
}
