//! Two keys of one device.

use serde_json::json;

use crate::scene::{Scene, lives};
use crate::support::keys::some_secret;

pub async fn a_second_key_takes_a_session_over(scene: &Scene) {
    let one = json!({ "deviceIds": ["door-1", "door-9"] });
    let one = scene.key("one", one).await;
    let two = json!({ "deviceIds": ["door-1", "door-2"] });
    let two = scene.key("two", two).await;
    let mut first = scene.session("door-1", &one).await;
    // Who is refused takes nothing over.
    let wrong = scene.connect("door-1", &two.with(&some_secret()));
    scene.is_refused(&wrong, "a wrong secret").await;
    lives(&mut first, "door-1").await;
    let mut second = scene.session("door-1", &two).await;
    assert!(first.is_closed().await);
    // The first key's end is not the second's.
    scene.change("one", json!({ "state": "Inactive" })).await;
    scene.refused(&scene.connect("door-9", &one)).await;
    let sees = second.subscribe("devices/door-2/state", 0).await;
    assert_eq!(sees, Some(true));
    scene.change("two", json!({ "state": "Inactive" })).await;
    assert!(second.is_closed().await);
}
