//! What the broker keeps for who comes later.

use serde_json::json;

use crate::HABITS;
use crate::mqtt::{Message, Session};
use crate::scene::{Scene, lives};

pub async fn what_was_retained_is_seen_by_who_may_see_it(scene: &Scene) {
    let bins = json!({ "deviceIds": ["bin-1", "bin-2"] });
    let bins = scene.key("bins", bins).await;
    let outside = scene
        .key("outside", json!({ "deviceIds": ["bin-9"] }))
        .await;
    let kept = Message::new("devices/bin-1/state", "kept");
    let mut bin_1 = scene.session("bin-1", &bins).await;
    send(&mut bin_1, &kept, true).await;
    let mut bin_2 = scene.session("bin-2", &bins).await;
    assert_eq!(bin_2.subscribe(&kept.topic, 1).await, Some(true));
    assert_eq!(bin_2.message().await, kept);
    let mut bin_9 = scene.session("bin-9", &outside).await;
    assert_ne!(bin_9.subscribe(&kept.topic, 1).await, Some(true));
    if HABITS.sends_away {
        bin_9 = scene.session("bin-9", &outside).await;
    }
    // Nothing but its own comes.
    lives(&mut bin_9, "bin-9").await;
}

pub async fn who_was_away_gets_what_it_may_see_when_it_comes(scene: &Scene) {
    let gates = json!({ "deviceIds": ["gate-1", "gate-2", "gate-3"] });
    let gates = scene.key("gates", gates).await;
    let narrow = scene.key("gate", json!({ "deviceIds": ["gate-1"] })).await;
    let all = scene.key("staff", json!({ "allDevices": true })).await;
    let [state, others, command] = [
        "devices/gate-2/state",
        "devices/gate-3/state",
        "devices/gate-1/command",
    ];
    let mut gate_2 = scene.session("gate-2", &all).await;
    let mut gate_3 = scene.session("gate-3", &all).await;
    let to_stay = scene.connect("gate-1", &gates).staying();
    let mut away = scene.admitted(&to_stay).await;
    for filter in [state, others, command] {
        assert_eq!(away.subscribe(filter, 1).await, Some(true));
    }
    away.vanish();

    // It comes back, without subscribing again, and has all that it may have.
    let kept = [Message::new(state, "kept"), Message::new(others, "kept")];
    send(&mut gate_2, &kept[0], false).await;
    send(&mut gate_3, &kept[1], false).await;
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    let mut came = [back.message().await, back.message().await];
    came.sort();
    assert_eq!(came, kept);
    // The broker has read that they have arrived.
    lives(&mut back, "gate-1").await;
    back.vanish();

    // Its scope is narrowed before it comes, without subscribing again.
    let kept = Message::new(state, "kept for less");
    send(&mut gate_3, &Message::new(others, "for nobody"), false).await;
    send(&mut gate_2, &kept, false).await;
    let mut third = scene.session("gate-3", &gates).await;
    scene.restrict("gates", &["gate-1", "gate-2"]).await;
    assert!(third.is_closed().await);
    let mut gate_3 = scene.session("gate-3", &all).await;
    let mut back = scene.admitted(&to_stay).await;
    assert_eq!(back.was_there, HABITS.keeps_what_remains);
    match back.was_there {
        true => assert_eq!(back.message().await, kept),
        false => assert_eq!(back.subscribe(state, 1).await, Some(true)),
    }
    let live = Message::new(state, "live");
    send(&mut gate_3, &Message::new(others, "for nobody"), false).await;
    send(&mut gate_2, &live, false).await;
    assert_eq!(back.message().await, live);

    // Another key's session does not get what the first had subscribed to.
    let heir = scene.connect("gate-1", &narrow).staying();
    let mut heir = scene.admitted(&heir).await;
    assert!(back.is_closed().await);
    assert_eq!(heir.was_there, HABITS.keeps_what_remains);
    if !heir.was_there {
        assert_eq!(heir.subscribe(command, 1).await, Some(true));
    }
    let own = Message::new(command, "do it");
    send(&mut gate_2, &Message::new(state, "for nobody"), false).await;
    send(&mut gate_2, &own, false).await;
    assert_eq!(heir.message().await, own);
}

async fn send(session: &mut Session, message: &Message, retain: bool) {
    let answer = session.publish(&message.topic, &message.payload, retain);
    assert_eq!(answer.await, Some(0), "{message:?}");
}
