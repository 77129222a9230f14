//! NATS with real clients, by MQTT and by its own protocol: a device is who its key and secret say, sees and commands what
//! its key admits, and is gone once its key does not.

#![allow(clippy::unwrap_used)]

#[path = "nats/broker.rs"]
mod broker;
#[path = "nats/cluster.rs"]
mod cluster;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "nats/operation.rs"]
mod operation;
#[path = "nats/other_clients.rs"]
mod other_clients;
#[path = "nats/own_protocol.rs"]
mod own_protocol;
#[path = "nats/rotation.rs"]
mod rotation;
#[path = "brokers/scene.rs"]
mod scene;
mod support;
#[path = "nats/tls.rs"]
mod tls;

use broker::Settings;
use kube::api::DeleteParams;
use mqtt::{Connect, Message, Refused, Session, Version};
use scene::{Scene, arrives};
use serde_json::json;
use support::keys::some_secret;
use support::process::holds_no_secret;
use support::wait::found;

/// Sessions that were cut, for some reason.
const CUTS: &str = "keyward_decisions_total{asked=\"cut\"";

async fn scene() -> Scene {
    Scene::of(Version::V311).await
}

/// Who may connect does, and all others are refused alike.
async fn who_may_connect_does(scene: Scene) {
    let valve = json!({ "tags": [{ "key": "kind", "value": "valve" }] });
    scene.device("valve-1", valve, json!({})).await;
    scene
        .device("north-1", json!({}), json!({ "zone": "north" }))
        .await;
    scene
        .device("sensor-1", json!({ "class": "Peripheral" }), json!({}))
        .await;
    scene
        .device("broken-1", json!({ "disabled": true }), json!({}))
        .await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let valves = json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] });
    let valves = scene.key("valves", valves).await;
    let north = json!({ "deviceSelector": { "matchLabels": { "zone": "north" } } });
    let north = scene.key("north", north).await;
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
        ("an empty client ID", scene.connect("", &all)),
    ];
    for (what, connect) in refused {
        scene.is_refused(&connect, what).await;
    }
    // NATS does not even ask.
    let dotted = scene.connect("a.b", &all).to(scene.broker.at).await;
    assert_eq!(dotted.err(), Some(Refused::Code(2)));

    for (key, spec) in [
        ("pumps", json!({ "state": "Inactive" })),
        ("all", json!({ "expiresAt": "2026-01-01T00:00:00Z" })),
    ] {
        scene.plant.change(key, spec).await;
    }
    scene.refused(&scene.connect("pump-1", &pumps)).await;
    scene.refused(&scene.connect("any", &all)).await;
    let secrets = [pumps.secret, valves.secret, north.secret, all.secret];
    holds_no_secret(&scene.broker.output(), &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_connect_does_and_all_others_are_refused_alike() {
    who_may_connect_does(scene().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_where_requests_are_not_sealed() {
    who_may_connect_does(Scene::with(Version::V311, Settings::with("# no xkey")).await).await;
}

/// A session of a device that may subscribe to this: what a key gained counts for those who connect then.
async fn with_subscription(scene: &Scene, connect: &Connect, filter: &str) -> Session {
    found(&format!("{} may have {filter}", connect.id), async || {
        let mut session = connect.to(scene.broker.at).await.ok()?;
        let is_granted = session.subscribe(filter, 0).await == Some(true);
        is_granted.then_some(session)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_sees_and_commands_what_its_key_admits() {
    let scene = scene().await;
    scene
        .device("hub", json!({ "class": "Gateway" }), json!({}))
        .await;
    for (sensor, gateway) in [("sensor-1", "hub"), ("sensor-2", "other")] {
        let spec = json!({ "class": "Peripheral", "gateway": gateway });
        scene.device(sensor, spec, json!({})).await;
    }
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let hubs = scene.key("hubs", json!({ "deviceIds": ["hub"] })).await;
    let of_pumps =
        json!({ "filter": "AllowList", "publish": ["log/{device}"], "subscribe": ["news/+"] });
    let of_all = json!({ "filter": "AllowList", "subscribe": ["log/#", "news/#"] });
    for (key, topics) in [("pumps", of_pumps), ("all", of_all)] {
        scene.plant.change(key, json!({ "topics": topics })).await;
    }

    let watcher = scene.connect("watcher", &all);
    let mut watcher = with_subscription(&scene, &watcher, "log/#").await;
    // At least once, each filter would bring its messages when it likes.
    for filter in ["devices/+/state", "devices/+/command", "news/#"] {
        assert_eq!(watcher.subscribe(filter, 0).await, Some(true), "{filter}");
    }
    let pump = scene.connect("pump-1", &pumps);
    let mut pump = with_subscription(&scene, &pump, "news/+").await;
    let hub = scene.connect("hub", &hubs);
    let mut hub = with_subscription(&scene, &hub, "devices/sensor-1/state").await;
    let sends = [
        ("pump-1", "devices/pump-1/state", true),
        ("pump-1", "devices/pump-1/command", false),
        ("pump-1", "devices/pump-2/command", true),
        ("pump-1", "devices/pump-2/state", false),
        ("pump-1", "devices/pump-3/command", false),
        ("pump-1", "devices/watcher/command", false),
        ("pump-1", "devices/*/command", false),
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
    // A key that admits all commands all but its own device.
    for (topic, is_allowed) in [
        ("devices/anything/command", true),
        ("devices/commander/command", false),
        ("devices/anything/state", false),
    ] {
        let mut commander = scene.session("commander", &all).await;
        let message = Message::new(topic, "do it");
        let sender = (&mut commander, "commander");
        let has_arrived = arrives(sender, &mut watcher, &message).await;
        assert_eq!(has_arrived, is_allowed, "{topic}");
    }

    let subscriptions = [
        ("devices/pump-1/state", true),
        ("devices/pump-1/command", true),
        ("devices/pump-2/state", true),
        ("devices/pump-2/command", true),
        ("devices/pump-3/state", false),
        ("devices.pump-1.state", false),
        ("devices/pump-1/#", false),
        ("devices/#", false),
        ("#", false),
        ("+/pump-1/state", false),
        ("devices/+/state", false),
        ("devices/*/state", false),
        ("devices/>", false),
        ("devices/+/other", false),
        ("$SYS/#", false),
        ("$MQTT/sub/#", false),
        ("$MQTT/msgs/#", false),
        ("$share/all/devices/pump-3/state", false),
        ("news/today", true),
        ("news/+", true),
        ("news/#", false),
        ("log/pump-1", false),
    ];
    for (filter, is_allowed) in subscriptions {
        for qos in [0, 1] {
            let granted = pump.subscribe(filter, qos).await;
            assert_eq!(granted, Some(is_allowed), "{filter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_every_shape_are_what_the_key_says() {
    let scene = scene().await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let shapes = ["v1.2/x", "/lead", "trail/", "a//b", "deep/#", "end./x"];
    let topics = json!({ "filter": "AllowList", "publish": shapes, "subscribe": shapes });
    scene.plant.change("all", json!({ "topics": topics })).await;
    let writer = scene.connect("writer", &all);
    let mut writer = with_subscription(&scene, &writer, "v1.2/x").await;
    for topic in [
        "v1.2/x", "/lead", "trail/", "a//b", "deep", "deep/x/y", "end./x",
    ] {
        assert_eq!(writer.subscribe(topic, 0).await, Some(true), "{topic}");
        writer.publish(topic, "text", false).await;
        assert_eq!(writer.message().await, Message::new(topic, "text"));
    }
    for topic in [
        "v1/2/x", "lead", "trail", "a/b", "a///b", "deeper", "end/x", "end//x",
    ] {
        assert_eq!(writer.subscribe(topic, 0).await, Some(false), "{topic}");
    }

    // All, or all but some, is what NATS has no words for: the topics of devices remain.
    for (topics, filter) in [
        (
            json!({ "filter": "All", "publish": null, "subscribe": null }),
            "anything",
        ),
        (
            json!({ "filter": "DenyList", "publish": ["x"], "subscribe": [] }),
            "y",
        ),
    ] {
        scene.plant.change("all", json!({ "topics": topics })).await;
        assert!(writer.is_closed().await);
        writer = scene.session("writer", &all).await;
        assert_eq!(writer.subscribe(filter, 0).await, Some(false));
        assert_eq!(writer.subscribe("devices/+/state", 0).await, Some(true));
    }
}

async fn delete_key(scene: &Scene, name: &str) {
    let keys = &scene.plant.place.keys;
    keys.delete(name, &DeleteParams::default()).await.unwrap();
}

/// Whether a session is alive, and gets what it sends itself.
async fn lives(session: &mut Session, own: &str) {
    let state = format!("devices/{own}/state");
    assert_eq!(session.subscribe(&state, 1).await, Some(true), "{own}");
    assert_eq!(session.publish(&state, "on", false).await, Some(0), "{own}");
    assert_eq!(session.message().await, Message::new(&state, "on"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_ends_the_sessions_that_it_concerns_and_no_others() {
    let mut scene = scene().await;
    let valve = json!({ "tags": [{ "key": "kind", "value": "valve" }] });
    for name in ["valve-1", "valve-2"] {
        scene.device(name, valve.clone(), json!({})).await;
    }
    let valves = json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] });
    let valves = scene.key("valves", valves).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let others = scene.key("others", json!({ "allDevices": true })).await;
    let (mut valve_1, mut valve_2) = (
        scene.session("valve-1", &valves).await,
        scene.session("valve-2", &valves).await,
    );
    let mut pump_2 = scene.session("pump-2", &pumps).await;
    let mut other = scene.session("other", &others).await;

    // A device is added, and nobody has to go for that.
    scene.device("valve-3", valve, json!({})).await;
    let mut valve_3 = scene.session("valve-3", &valves).await;
    let sees = valve_3.subscribe("devices/valve-2/state", 1).await;
    assert_eq!(sees, Some(true));
    // A device loses its tag: who could see it comes back, and does not.
    scene
        .device("valve-1", json!({ "tags": [] }), json!({}))
        .await;
    assert!(valve_1.is_closed().await && valve_2.is_closed().await);
    scene.refused(&scene.connect("valve-1", &valves)).await;
    let mut valve_2 = scene.session("valve-2", &valves).await;
    let sees = valve_2.subscribe("devices/valve-1/state", 1).await;
    assert_eq!(sees, Some(false));
    assert!(valve_3.is_closed().await);
    // The others go on.
    lives(&mut pump_2, "pump-2").await;
    lives(&mut other, "other").await;

    // A key is narrowed, and one is widened.
    let wider = json!({ "restrictions": { "deviceIds": ["pump-1", "pump-2", "pump-3"] } });
    scene.plant.change("pumps", wider).await;
    let mut pump_3 = scene.session("pump-3", &pumps).await;
    lives(&mut pump_2, "pump-2").await;
    let narrower = json!({ "restrictions": { "deviceIds": ["pump-2", "pump-3"] } });
    scene.plant.change("pumps", narrower).await;
    assert!(pump_2.is_closed().await && pump_3.is_closed().await);
    lives(&mut valve_2, "valve-2").await;

    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("others", inactive).await;
    assert!(other.is_closed().await);
    scene.refused(&scene.connect("other", &others)).await;
    delete_key(&scene, "valves").await;
    assert!(valve_2.is_closed().await);
    // Each is counted once.
    let gateway = scene.broker.gateway();
    for (reason, many) in [("inactive", 1), ("unknown_key", 1), ("out_of_scope", 1)] {
        let metric = format!("{CUTS},answer=\"{reason}\"}}");
        gateway.counts(&metric, many).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_its_key_does() {
    let scene = scene().await;
    let pumps = scene.key("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let change = json!({ "expiresAt": ends.to_string() });
    scene.plant.change("pumps", change).await;
    let mut pump = scene.session("pump-1", &pumps).await;
    assert!(pump.is_closed().await);
    assert!(jiff::Timestamp::now() >= ends, "no earlier");
    let connect = scene.connect("pump-1", &pumps);
    scene.is_refused(&connect, "an expired key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_key_takes_a_session_over() {
    let scene = scene().await;
    let one = json!({ "deviceIds": ["pump-1", "pump-9"] });
    let one = scene.key("one", one).await;
    let two = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let two = scene.key("two", two).await;
    let mut first = scene.session("pump-1", &one).await;
    // Who is refused takes nothing over.
    let wrong = scene.connect("pump-1", &two.with(&some_secret()));
    scene.refused(&wrong).await;
    lives(&mut first, "pump-1").await;
    let mut second = scene.session("pump-1", &two).await;
    assert!(first.is_closed().await);
    // The first key's end is not the second's.
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("one", inactive.clone()).await;
    scene.refused(&scene.connect("pump-9", &one)).await;
    let sees = second.subscribe("devices/pump-2/state", 0).await;
    assert_eq!(sees, Some(true));
    scene.plant.change("two", inactive).await;
    assert!(second.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_sent_for_who_may_and_for_nobody_else() {
    let scene = scene().await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let mut watcher = scene.session("watcher", &all).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    let will = |id: &str, topic: &str| {
        let will = Message::new(topic, &format!("{id} is gone"));
        scene.connect(id, &pumps).with_will(will)
    };
    let own = will("pump-1", "devices/pump-1/state");
    let own = scene.admitted(&own).await;
    let others = will("pump-2", "devices/pump-1/state");
    let others = scene.admitted(&others).await;
    others.vanish();
    own.vanish();
    let state = "devices/pump-1/state";
    let gone = Message::new(state, "pump-1 is gone");
    assert_eq!(watcher.message().await, gone);

    // NATS sends that of a client which is cut, too.
    let cut = will("pump-2", "devices/pump-2/state");
    let mut cut = scene.admitted(&cut).await;
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    assert!(cut.is_closed().await);
    let gone = Message::new("devices/pump-2/state", "pump-2 is gone");
    assert_eq!(watcher.message().await, gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_retained_is_seen_by_who_may_see_it() {
    let scene = scene().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let valves = scene
        .key("valves", json!({ "deviceIds": ["valve-1"] }))
        .await;
    let mut pump = scene.session("pump-1", &pumps).await;
    let state = "devices/pump-1/state";
    assert_eq!(pump.publish(state, "kept", true).await, Some(0));
    let mut second = scene.session("pump-2", &pumps).await;
    assert_eq!(second.subscribe(state, 1).await, Some(true));
    assert_eq!(second.message().await, Message::new(state, "kept"));
    let mut valve = scene.session("valve-1", &valves).await;
    assert_eq!(valve.subscribe(state, 1).await, Some(false));
    // Nothing but its own has come.
    lives(&mut valve, "valve-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_gets_what_it_may_see_when_it_comes() {
    let scene = scene().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2", "pump-3"] });
    let pumps = scene.key("pumps", pumps).await;
    let own = scene.key("own", json!({ "deviceIds": ["pump-1"] })).await;
    let to_stay = scene.connect("pump-1", &pumps).staying();
    let mut away = scene.admitted(&to_stay).await;
    for filter in [
        "devices/pump-1/command",
        "devices/pump-2/state",
        "devices/pump-3/state",
    ] {
        assert_eq!(away.subscribe(filter, 1).await, Some(true));
    }
    away.vanish();
    let send = async |session: &mut Session, topic: &str, payload: &str| {
        assert_eq!(session.publish(topic, payload, false).await, Some(0));
    };
    let (two, three) = ("devices/pump-2/state", "devices/pump-3/state");
    let mut pump_2 = scene.session("pump-2", &pumps).await;
    let mut pump_3 = scene.session("pump-3", &pumps).await;
    send(&mut pump_3, three, "kept for nobody").await;
    send(&mut pump_2, two, "kept").await;
    // Its scope is narrowed before it comes, without subscribing again.
    let narrower = json!({ "restrictions": { "deviceIds": ["pump-1", "pump-2"] } });
    scene.plant.change("pumps", narrower).await;
    assert!(pump_2.is_closed().await && pump_3.is_closed().await);
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    assert_eq!(back.message().await, Message::new(two, "kept"));
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let mut pump_3 = scene.session("pump-3", &all).await;
    let mut pump_2 = scene.session("pump-2", &pumps).await;
    send(&mut pump_3, three, "live for nobody").await;
    send(&mut pump_2, two, "live").await;
    assert_eq!(back.message().await, Message::new(two, "live"));

    // Another key's session inherits what it may have.
    let mut heir = scene
        .connect("pump-1", &own)
        .staying()
        .to(scene.broker.at)
        .await
        .unwrap();
    assert!(heir.was_there && back.is_closed().await);
    send(&mut pump_2, two, "for nobody").await;
    let command = "devices/pump-1/command";
    send(&mut pump_2, command, "do it").await;
    assert_eq!(heir.message().await, Message::new(command, "do it"));
}
