//! Real brokers with real clients: a device is who its key and secret say, sees and commands what its key admits, and is
//! gone once its key does not.

#![allow(clippy::unwrap_used)]

#[path = "brokers/broker.rs"]
mod broker;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "brokers/scene.rs"]
mod scene;
mod support;

use mqtt::{Connect, Message, Version};
use scene::{Scene, arrives};
use serde_json::json;
use support::keys::some_secret;
use support::process::holds_no_secret;

/// Every test with either version.
macro_rules! with_each_version {
    ($($test:ident,)*) => {
        with_each_version!(mqtt_311 V311: $($test,)*);
        with_each_version!(mqtt_5 V5: $($test,)*);
    };
    ($module:ident $version:ident: $($test:ident,)*) => {
        mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Version::$version).await;
            }
        )* }
    };
}

with_each_version! {
    who_may_connect_does_and_all_others_are_refused_alike,
    a_device_sees_and_commands_what_its_key_admits,
    wide_subscriptions_are_filtered_message_by_message,
    a_change_ends_the_sessions_that_it_concerns_and_no_others,
    a_second_key_takes_a_session_over,
    a_will_is_sent_for_who_may_and_for_nobody_else,
    who_was_away_gets_what_it_may_see_when_it_comes,
}

async fn who_may_connect_does_and_all_others_are_refused_alike(version: Version) {
    let scene = Scene::of(version).await;
    scene
        .device(
            "valve-1",
            json!({ "tags": [{ "key": "kind", "value": "valve" }] }),
            json!({}),
        )
        .await;
    scene
        .device("north-1", json!({}), json!({ "zone": "north" }))
        .await;
    scene
        .device("sensor-1", json!({ "class": "Peripheral" }), json!({}))
        .await;
    scene
        .device("broken-1", json!({ "disabled": true }), json!({}))
        .await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let valves = scene
        .key(
            "valves",
            json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] }),
        )
        .await;
    let north = scene
        .key(
            "north",
            json!({ "deviceSelector": { "matchLabels": { "zone": "north" } } }),
        )
        .await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    for (id, key) in [
        ("pump-1", &pumps),
        ("valve-1", &valves),
        ("north-1", &north),
        ("any", &all),
    ] {
        scene.session(id, key).await;
    }

    let nobody = Connect {
        login: None,
        ..scene.connect("pump-1", &pumps)
    };
    let no_secret = pumps.with("");
    let wrong = pumps.with(&some_secret());
    let refused = [
        ("nobody", nobody),
        ("no secret", scene.connect("pump-1", &no_secret)),
        ("a wrong secret", scene.connect("pump-1", &wrong)),
        (
            "another key's secret",
            scene.connect("pump-1", &pumps.with(&all.secret)),
        ),
        ("another device", scene.connect("pump-3", &pumps)),
        ("no tag", scene.connect("pump-1", &valves)),
        ("no label", scene.connect("pump-1", &north)),
        ("a peripheral", scene.connect("sensor-1", &all)),
        ("disabled", scene.connect("broken-1", &all)),
        ("#", scene.connect("#", &all)),
        ("a+b", scene.connect("a+b", &all)),
        ("a/b", scene.connect("a/b", &all)),
        ("$SYS", scene.connect("$SYS", &all)),
        ("a.b", scene.connect("a.b", &all)),
    ];
    for (what, connect) in refused {
        scene.is_refused(&connect, what).await;
    }
    assert!(
        scene.connect("", &all).to(scene.broker.at).await.is_err(),
        "an empty client ID"
    );

    for (key, spec) in [
        ("pumps", json!({ "state": "Inactive" })),
        ("all", json!({ "expiresAt": "2026-01-01T00:00:00Z" })),
    ] {
        scene.plant.change(key, spec).await;
    }
    scene.refused(&scene.connect("pump-1", &pumps)).await;
    scene.refused(&scene.connect("any", &all)).await;
    holds_no_secret(
        &scene.broker.output(),
        &[pumps.secret, valves.secret, north.secret, all.secret],
    );
}

async fn a_device_sees_and_commands_what_its_key_admits(version: Version) {
    let scene = Scene::of(version).await;
    scene
        .device("hub", json!({ "class": "Gateway" }), json!({}))
        .await;
    scene
        .device(
            "sensor-1",
            json!({ "class": "Peripheral", "gateway": "hub" }),
            json!({}),
        )
        .await;
    scene
        .device(
            "sensor-2",
            json!({ "class": "Peripheral", "gateway": "other" }),
            json!({}),
        )
        .await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let hubs = scene.key("hubs", json!({ "deviceIds": ["hub"] })).await;
    let topics =
        json!({ "filter": "AllowList", "publish": ["log/{device}"], "subscribe": ["news/+"] });
    scene
        .plant
        .change("pumps", json!({ "topics": topics }))
        .await;
    scene
        .plant
        .change("all", json!({ "topics": { "filter": "All" } }))
        .await;

    let mut watcher = scene.session("watcher", &all).await;
    for filter in ["devices/+/state", "devices/+/command", "log/#", "news/#"] {
        scene.granted(&mut watcher, filter).await;
    }
    let mut pump = scene.session("pump-1", &pumps).await;
    let mut hub = scene.session("hub", &hubs).await;
    scene.granted(&mut pump, "news/+").await;
    let sends = [
        ("pump-1", "devices/pump-1/state", true),
        ("pump-1", "devices/pump-1/command", false),
        ("pump-1", "devices/pump-2/command", true),
        ("pump-1", "devices/pump-2/state", false),
        ("pump-1", "devices/pump-3/command", false),
        ("pump-1", "devices/watcher/command", false),
        ("pump-1", "log/pump-1", true),
        ("pump-1", "log/pump-2", false),
        ("pump-1", "news/today", false),
        ("hub", "devices/sensor-1/state", true),
        ("hub", "devices/sensor-1/command", true),
        ("hub", "devices/sensor-2/state", false),
        ("hub", "devices/pump-1/command", false),
    ];
    for (number, (own, topic, is_allowed)) in sends.into_iter().enumerate() {
        let session = if own == "hub" { &mut hub } else { &mut pump };
        let message = Message::new(topic, &format!("message {number}"));
        assert_eq!(
            arrives((session, own), &mut watcher, &message).await,
            is_allowed,
            "{own} to {topic}"
        );
    }

    let subscriptions = [
        ("devices/pump-1/state", true),
        ("devices/pump-1/command", true),
        ("devices/pump-2/state", true),
        ("devices/pump-2/command", true),
        ("devices/pump-3/state", false),
        ("devices/pump-1/#", false),
        ("devices/#", false),
        ("#", false),
        ("+/pump-1/state", false),
        ("devices/+/other", false),
        ("$SYS/#", false),
        ("$share/all/devices/pump-2/state", true),
        ("$share/all/devices/pump-3/state", false),
        ("news/today", true),
        ("news/+", true),
        ("news/#", false),
        ("log/pump-1", false),
    ];
    for (filter, is_allowed) in subscriptions {
        assert_eq!(
            pump.subscribe(filter, 0).await,
            Some(is_allowed),
            "{filter}"
        );
    }
}

async fn wide_subscriptions_are_filtered_message_by_message(version: Version) {
    let scene = Scene::of(version).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let mut watcher = scene.session("pump-1", &pumps).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    let mut other = scene.session("other", &all).await;
    let mut second = scene.session("pump-2", &pumps).await;
    for number in 0..3 {
        let payload = format!("message {number}");
        other
            .publish("devices/other/state", &payload, number == 0)
            .await;
        second.throw("devices/pump-2/state", &payload).await;
        assert_eq!(
            watcher.message().await,
            Message::new("devices/pump-2/state", &payload)
        );
    }
    // A retained message is asked about when it is delivered.
    let mut late = scene.admitted(&scene.connect("pump-1", &pumps)).await;
    assert_eq!(late.subscribe("devices/+/state", 1).await, Some(true));
    second
        .publish("devices/pump-2/state", "the end", false)
        .await;
    assert_eq!(
        late.message().await,
        Message::new("devices/pump-2/state", "the end")
    );
}

async fn a_change_ends_the_sessions_that_it_concerns_and_no_others(version: Version) {
    let scene = Scene::of(version).await;
    let valve = json!({ "tags": [{ "key": "kind", "value": "valve" }] });
    scene.device("valve-1", valve.clone(), json!({})).await;
    scene.device("valve-2", valve, json!({})).await;
    let valves = scene
        .key(
            "valves",
            json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] }),
        )
        .await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let (mut valve_1, mut valve_2) = (
        scene.session("valve-1", &valves).await,
        scene.session("valve-2", &valves).await,
    );
    let (mut pump_1, mut pump_2) = (
        scene.session("pump-1", &pumps).await,
        scene.session("pump-2", &pumps).await,
    );
    assert_eq!(valve_2.subscribe("devices/+/state", 1).await, Some(true));

    // A device loses its tag while another watches it.
    scene
        .device("valve-1", json!({ "tags": [] }), json!({}))
        .await;
    assert!(valve_1.is_closed().await);
    scene.refused(&scene.connect("valve-1", &valves)).await;
    // A key is narrowed.
    scene
        .plant
        .change(
            "pumps",
            json!({ "restrictions": { "deviceIds": ["pump-2"] } }),
        )
        .await;
    assert!(pump_1.is_closed().await);
    scene.refused(&scene.connect("pump-1", &pumps)).await;
    // The others go on.
    assert!(
        valve_2
            .publish("devices/valve-2/state", "on", false)
            .await
            .is_some()
    );
    assert_eq!(
        valve_2.message().await,
        Message::new("devices/valve-2/state", "on")
    );
    assert!(
        pump_2
            .publish("devices/pump-2/state", "on", false)
            .await
            .is_some()
    );

    scene
        .plant
        .change("pumps", json!({ "state": "Inactive" }))
        .await;
    assert!(pump_2.is_closed().await);
    scene.refused(&scene.connect("pump-2", &pumps)).await;
    let deleted = scene
        .plant
        .place
        .keys
        .delete("valves", &kube::api::DeleteParams::default())
        .await;
    deleted.unwrap();
    assert!(valve_2.is_closed().await);

    let zone = json!({ "deviceSelector": { "matchLabels": { "zone": "north" } } });
    scene
        .device("north-1", json!({}), json!({ "zone": "north" }))
        .await;
    let north = scene.key("north", zone).await;
    let mut north_1 = scene.session("north-1", &north).await;
    scene.delete_device("north-1").await;
    assert!(north_1.is_closed().await);
    scene.refused(&scene.connect("valve-2", &valves)).await;
}

async fn a_second_key_takes_a_session_over(version: Version) {
    let scene = Scene::of(version).await;
    let one = scene
        .key("one", json!({ "deviceIds": ["pump-1", "pump-9"] }))
        .await;
    let two = scene
        .key("two", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let mut first = scene.session("pump-1", &one).await;
    // Who is refused takes nothing over.
    let wrong = scene.connect("pump-1", &two.with(&some_secret()));
    scene.refused(&wrong).await;
    assert!(
        first
            .publish("devices/pump-1/state", "still here", false)
            .await
            .is_some()
    );
    let mut second = scene.session("pump-1", &two).await;
    assert!(first.is_closed().await);
    // The first key's end is not the second's.
    scene
        .plant
        .change("one", json!({ "state": "Inactive" }))
        .await;
    scene.refused(&scene.connect("pump-9", &one)).await;
    assert_eq!(
        second.subscribe("devices/pump-2/state", 0).await,
        Some(true)
    );
    scene
        .plant
        .change("two", json!({ "state": "Inactive" }))
        .await;
    assert!(second.is_closed().await);
}

async fn a_will_is_sent_for_who_may_and_for_nobody_else(version: Version) {
    let scene = Scene::of(version).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = scene
        .key(
            "pumps",
            json!({ "deviceIds": ["pump-1", "pump-2", "pump-3"] }),
        )
        .await;
    let mut watcher = scene.session("watcher", &all).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    let will = |id: &str, topic: &str| {
        scene
            .connect(id, &pumps)
            .with_will(Message::new(topic, &format!("{id} is gone")))
    };
    let own = scene
        .admitted(&will("pump-1", "devices/pump-1/state"))
        .await;
    let others = scene
        .admitted(&will("pump-2", "devices/pump-1/state"))
        .await;
    let mut cut = scene
        .admitted(&will("pump-3", "devices/pump-3/state"))
        .await;
    others.vanish();
    own.vanish();
    assert_eq!(
        watcher.message().await,
        Message::new("devices/pump-1/state", "pump-1 is gone")
    );
    scene
        .plant
        .change(
            "pumps",
            json!({ "restrictions": { "deviceIds": ["pump-1"] } }),
        )
        .await;
    assert!(cut.is_closed().await);
    watcher
        .publish("devices/watcher/state", "the end", false)
        .await;
    assert_eq!(
        watcher.message().await,
        Message::new("devices/watcher/state", "the end")
    );
}

async fn who_was_away_gets_what_it_may_see_when_it_comes(version: Version) {
    let scene = Scene::of(version).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = scene
        .key(
            "pumps",
            json!({ "deviceIds": ["pump-1", "pump-2", "pump-3"] }),
        )
        .await;
    let to_stay = scene.connect("pump-1", &pumps).staying();
    let mut away = scene.admitted(&to_stay).await;
    assert_eq!(away.subscribe("devices/+/state", 1).await, Some(true));
    away.vanish();
    let (mut two, mut three) = (
        scene.session("pump-2", &pumps).await,
        scene.session("pump-3", &pumps).await,
    );
    let mut other = scene.session("other", &all).await;
    two.publish("devices/pump-2/state", "kept", false).await;
    three.publish("devices/pump-3/state", "kept", false).await;
    other
        .publish("devices/other/state", "kept for nobody", false)
        .await;
    // Its scope is narrowed before it comes, without subscribing again.
    scene
        .plant
        .change(
            "pumps",
            json!({ "restrictions": { "deviceIds": ["pump-1", "pump-2"] } }),
        )
        .await;
    assert!(three.is_closed().await);
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    assert_eq!(
        back.message().await,
        Message::new("devices/pump-2/state", "kept")
    );
    other.publish("devices/other/state", "live", false).await;
    two.publish("devices/pump-2/state", "live", false).await;
    assert_eq!(
        back.message().await,
        Message::new("devices/pump-2/state", "live")
    );
}
