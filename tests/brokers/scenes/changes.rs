//! Who has to go, and when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::HABITS;
use crate::mqtt::Session;
use crate::scene::{Scene, lives};
use crate::support::gateway::PATIENCE;

/// What becomes of a session.
#[derive(Clone, Copy)]
enum Then {
    Ends,
    /// Unless the broker asks again when it delivers what the session has subscribed to.
    EndsUnfiltered,
    /// If the broker keeps to what the session might do when it began, which was more.
    EndsIfNarrowed,
    GoesOn,
}
use Then::{Ends, EndsIfNarrowed, EndsUnfiltered, GoesOn};

async fn then(rows: Vec<(&str, &mut Session, Then)>) {
    for (id, session, then) in rows {
        let ends = match then {
            Ends => true,
            EndsUnfiltered => !HABITS.filters_messages,
            EndsIfNarrowed => HABITS.asks_once,
            GoesOn => false,
        };
        match ends {
            true => assert!(session.is_closed().await, "{id}"),
            false => lives(session, id).await,
        }
    }
}

pub async fn a_change_ends_the_sessions_that_it_concerns_and_no_others(scene: &Scene) {
    let lamp = json!({ "tags": [{ "key": "kind", "value": "lamp" }] });
    for name in ["lamp-1", "lamp-2"] {
        scene.device(name, lamp.clone(), json!({})).await;
    }
    let zone = json!({ "zone": "south" });
    scene.device("south-1", json!({}), zone.clone()).await;
    let lamps = json!({ "deviceTags": [{ "key": "kind", "value": "lamp" }] });
    let lamps = scene.key("lamps", lamps).await;
    let south = json!({ "deviceSelector": { "matchLabels": zone } });
    let south = scene.key("south", south).await;
    let bells = json!({ "deviceIds": ["bell-1", "bell-2", "bell-3"] });
    let bells = scene.key("bells", bells).await;
    let others = scene.key("others", json!({ "allDevices": true })).await;
    let mut lamp_1 = scene.session("lamp-1", &lamps).await;
    let mut lamp_2 = scene.session("lamp-2", &lamps).await;
    let mut bell_1 = scene.session("bell-1", &bells).await;
    let mut bell_2 = scene.session("bell-2", &bells).await;
    let mut bell_3 = scene.session("bell-3", &bells).await;
    let mut south_1 = scene.session("south-1", &south).await;
    let mut other = scene.session("other", &others).await;
    let (lamp_state, bell_state) = ("devices/lamp-1/state", "devices/bell-1/state");
    for (session, filter, qos) in [
        (&mut lamp_2, lamp_state, 1),
        (&mut bell_3, bell_state, 0),
        (&mut other, "devices/+/state", 0),
    ] {
        assert_eq!(session.subscribe(filter, qos).await, Some(true));
    }

    // A device is added, and nobody has to go for that.
    scene.device("lamp-3", lamp, json!({})).await;
    let mut lamp_3 = scene.session("lamp-3", &lamps).await;
    then(vec![
        ("lamp-1", &mut lamp_1, GoesOn),
        ("lamp-2", &mut lamp_2, GoesOn),
    ])
    .await;

    // A device loses its tag while another watches it.
    let without = json!({ "tags": [] });
    scene.device("lamp-1", without, json!({})).await;
    then(vec![
        ("lamp-1", &mut lamp_1, Ends),
        ("lamp-2", &mut lamp_2, EndsUnfiltered),
        ("lamp-3", &mut lamp_3, EndsIfNarrowed),
        ("bell-1", &mut bell_1, GoesOn),
        ("other", &mut other, GoesOn),
    ])
    .await;
    scene.refused(&scene.connect("lamp-1", &lamps)).await;
    let mut lamp_2 = scene.session("lamp-2", &lamps).await;
    assert_ne!(lamp_2.subscribe(lamp_state, 1).await, Some(true));

    // A key is widened, and one is narrowed.
    let ids = ["bell-1", "bell-2", "bell-3", "bell-4"];
    scene.restrict("bells", &ids).await;
    let mut bell_4 = scene.session("bell-4", &bells).await;
    then(vec![
        ("bell-1", &mut bell_1, GoesOn),
        ("bell-2", &mut bell_2, GoesOn),
        ("bell-3", &mut bell_3, GoesOn),
    ])
    .await;
    scene.restrict("bells", &ids[1..]).await;
    then(vec![
        ("bell-1", &mut bell_1, Ends),
        ("bell-2", &mut bell_2, EndsIfNarrowed),
        ("bell-3", &mut bell_3, EndsUnfiltered),
        ("bell-4", &mut bell_4, EndsIfNarrowed),
        ("other", &mut other, GoesOn),
        ("south-1", &mut south_1, GoesOn),
    ])
    .await;
    scene.refused(&scene.connect("bell-1", &bells)).await;

    // Keys and devices come to an end.
    let mut bell_2 = scene.session("bell-2", &bells).await;
    let mut lamp_2 = scene.session("lamp-2", &lamps).await;
    scene.change("bells", json!({ "state": "Inactive" })).await;
    goes_on_until_it_is_cut(&mut bell_2, "devices/bell-2/state").await;
    scene.refused(&scene.connect("bell-2", &bells)).await;
    scene.delete_key("lamps").await;
    then(vec![("lamp-2", &mut lamp_2, Ends)]).await;
    scene.refused(&scene.connect("lamp-2", &lamps)).await;
    scene.delete_device("south-1").await;
    then(vec![
        ("south-1", &mut south_1, Ends),
        ("other", &mut other, GoesOn),
    ])
    .await;
    scene.refused(&scene.connect("south-1", &south)).await;
}

/// Sends to this topic until it is cut: what a broker remembers of a busy session does not save it.
pub async fn goes_on_until_it_is_cut(session: &mut Session, topic: &str) {
    let sends = async {
        while session.publish(topic, "on", false).await.is_some() {
            // It never pauses for so long that RabbitMQ would forget what it may.
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = timeout(PATIENCE, sends).await;
    ended.expect("a busy session is cut");
}

pub async fn a_session_ends_when_its_key_does(scene: &Scene) {
    let soon = json!({ "deviceIds": ["soon-1", "soon-2"] });
    let soon = scene.key("soon", soon).await;
    let mut soon_1 = scene.session("soon-1", &soon).await;
    let ends = Timestamp::now() + SignedDuration::from_secs(4);
    let expiry = json!({ "expiresAt": ends.to_string() });
    scene.change("soon", expiry).await;
    let mut soon_2 = scene.session("soon-2", &soon).await;
    assert!(soon_1.is_closed().await && soon_2.is_closed().await);
    assert!(Timestamp::now() >= ends, "no earlier");
    let connect = scene.connect("soon-1", &soon);
    scene.is_refused(&connect, "an expired key").await;
}

pub async fn a_session_ends_with_its_secret(scene: &Scene) {
    let meters = json!({ "deviceIds": ["meter-1", "meter-2"] });
    let first = scene.key("meters", meters).await;
    let mut old = scene.session("meter-1", &first).await;
    let rotation = json!({ "rotation": { "revision": 2, "overlap": "6s" } });
    scene.change("meters", rotation).await;
    let second = scene.plant.delivered("meters", 2).await;
    scene.session("meter-2", &first).await;
    assert!(old.is_closed().await, "at the end of the overlap");
    scene.refused(&scene.connect("meter-1", &first)).await;
    // Who has the newer secret comes back, and stays when nothing is rotated.
    let mut new = scene.session("meter-1", &second).await;
    lives(&mut new, "meter-1").await;
    let rotation = json!({ "rotation": { "revision": 3, "overlap": "0s" } });
    scene.change("meters", rotation).await;
    assert!(new.is_closed().await, "without an overlap");
    scene.refused(&scene.connect("meter-1", &second)).await;
}
