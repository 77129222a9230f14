//! What is sent for who cannot any more.

use serde_json::json;

use crate::HABITS;
use crate::mqtt::Message;
use crate::scene::Scene;

pub async fn a_will_is_sent_for_who_may_and_for_nobody_else(scene: &Scene) {
    let tanks = json!({ "deviceIds": ["tank-1", "tank-2", "tank-3"] });
    let tanks = scene.key("tanks", tanks).await;
    let watchers = scene.key("watchers", json!({ "allDevices": true })).await;
    let mut watcher = scene.session("tank-4", &watchers).await;
    let states = [1, 2, 3, 4].map(|tank| format!("devices/tank-{tank}/state"));
    for state in &states {
        // At most once, since of several filters the order is the broker's otherwise.
        assert_eq!(watcher.subscribe(state, 0).await, Some(true));
    }
    let [one, _, three, four] = &states;
    let gone = |id: &str, topic: &str| Message::new(topic, &format!("{id} is gone"));
    let with_will = async |id: &str, topic: &str| {
        let connect = scene.connect(id, &tanks).with_will(gone(id, topic));
        scene.admitted(&connect).await
    };
    let own = with_will("tank-1", one).await;
    with_will("tank-2", one).await.vanish();
    own.vanish();
    assert_eq!(watcher.message().await, gone("tank-1", one));

    let mut cut = with_will("tank-3", three).await;
    scene.restrict("tanks", &["tank-1", "tank-2"]).await;
    assert!(cut.is_closed().await);
    scene.refused(&scene.connect("tank-3", &tanks)).await;
    if HABITS.sends_wills_of_the_cut {
        assert_eq!(watcher.message().await, gone("tank-3", three));
    }
    let end = Message::new(four, "the end");
    watcher.publish(&end.topic, &end.payload, false).await;
    assert_eq!(watcher.message().await, end);
}
