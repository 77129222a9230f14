//! RabbitMQ with real clients: a device is who its key and secret say, sees and commands what its key admits, and is gone
//! once its key does not. It takes long to start, so one serves all of this, which has devices of its own each.

#[path = "rabbitmq/broker.rs"]
mod broker;
#[path = "rabbitmq/clients.rs"]
mod clients;
#[path = "rabbitmq/https.rs"]
mod https;
#[path = "rabbitmq/logins.rs"]
mod logins;
// RabbitMQ 3.10 speaks MQTT 3.1.1 only.
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "rabbitmq/scene.rs"]
mod scene;
#[path = "rabbitmq/several.rs"]
mod several;
mod support;

use std::time::Duration;

use base64ct::{Base64, Encoding};
use broker::LOGIN;
use futures::future::join_all;
use futures::{StreamExt, stream};
use mqtt::{Connect, Message};
use scene::{Scene, connect};
use serde_json::json;
use support::gateway::{Gateway, PATIENCE};
use support::keys::some_secret;
use support::plant::Issued;
use support::process::holds_no_secret;
use support::wait::found;
use tokio::join;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_decides_by_keyward() {
    let (scene, gateway) = Scene::new().await;
    let (key, secret) = LOGIN.split_once(':').expect("a login");
    let (key, secret) = (key.to_owned(), secret.to_owned());
    let _operator = scene.session("operator", &Issued { key, secret }).await;
    join!(
        who_may_connect_does_and_all_others_are_refused_alike(&scene),
        a_device_sees_and_commands_what_its_key_admits(&scene),
        what_amqp_takes_for_something_else_is_what_amqp_takes_it_for(&scene),
        a_change_ends_the_sessions_that_it_concerns_and_no_others(&scene),
        a_session_ends_with_its_secret(&scene),
        a_second_key_takes_a_session_over(&scene),
        a_will_is_sent_for_who_may_and_for_nobody_else(&scene),
        nobody_inherits_what_it_may_not_have(&scene),
        clients::mosquittos_own_clients_are_served(&scene),
        logins::a_login_that_vanishes_does_not_let_a_session_go_on(&scene, &gateway),
        https::the_management_api_is_asked_by_https_if_each_knows_the_other(&scene),
    );
    a_key_with_many_sessions_ends_for_all_of_them(&scene).await;
    rabbitmqs_own_users_are_left_alone(&scene).await;
    a_gateway_and_a_broker_that_were_away_catch_up(&scene, gateway).await;
    several::several_gateways_share_the_work(&scene).await;
}

async fn who_may_connect_does_and_all_others_are_refused_alike(scene: &Scene) {
    let valve = json!({ "tags": [{ "key": "kind", "value": "valve" }] });
    scene.device("valve-1", valve, json!({})).await;
    let zone = json!({ "zone": "north" });
    scene.device("north-1", json!({}), zone.clone()).await;
    let peripheral = json!({ "class": "Peripheral" });
    scene.device("sensor-1", peripheral, json!({})).await;
    let disabled = json!({ "disabled": true });
    scene.device("broken-1", disabled, json!({})).await;
    let ids = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", ids).await;
    let tags = json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] });
    let valves = scene.key("valves", tags).await;
    let labels = json!({ "deviceSelector": { "matchLabels": zone } });
    let north = scene.key("north", labels).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    for (id, key) in [
        ("pump-1", &pumps),
        ("valve-1", &valves),
        ("north-1", &north),
        ("any", &all),
    ] {
        scene.session(id, key).await;
    }

    let named = |name: String| Issued {
        key: name,
        secret: all.secret.clone(),
    };
    let nobody = Connect {
        login: None,
        ..connect("pump-1", &pumps)
    };
    scene.is_refused(&nobody, "nobody").await;
    let refused = [
        ("no secret", "pump-1", pumps.with("")),
        ("a wrong secret", "pump-1", pumps.with(&some_secret())),
        ("another key's secret", "pump-1", pumps.with(&all.secret)),
        ("another device", "pump-3", pumps.with(&pumps.secret)),
        ("no tag", "pump-1", valves.with(&valves.secret)),
        ("no label", "pump-1", north.with(&north.secret)),
        ("a peripheral", "sensor-1", all.with(&all.secret)),
        ("disabled", "broken-1", all.with(&all.secret)),
        ("a virtual host", "any", named(format!("/:{}", all.key))),
        ("a colon", "any", named(format!("{}:", all.key))),
        ("guest", "any", named("guest".to_owned()).with("guest")),
        ("#", "#", all.with(&all.secret)),
        ("a+b", "a+b", all.with(&all.secret)),
        ("a/b", "a/b", all.with(&all.secret)),
        ("a.b", "a.b", all.with(&all.secret)),
        ("an empty client ID", "", all.with(&all.secret)),
    ];
    for (what, id, issued) in &refused {
        scene.is_refused(&connect(id, issued), what).await;
    }

    let operator = format!("{}:{}", all.key, all.secret);
    let (status, _) = scene
        .broker
        .ask("GET /api/whoami", &operator)
        .await
        .expect("an answer");
    assert_eq!(status, 401, "a device is no operator");

    scene.change("pumps", json!({ "state": "Inactive" })).await;
    let ended = json!({ "expiresAt": "2026-01-01T00:00:00Z" });
    scene.change("all", ended).await;
    scene.refused(&connect("pump-1", &pumps)).await;
    scene.refused(&connect("any", &all)).await;
    let secrets = [pumps.secret, valves.secret, north.secret, all.secret];
    holds_no_secret(&scene.broker.output(), &secrets);
}

async fn a_device_sees_and_commands_what_its_key_admits(scene: &Scene) {
    let hub = json!({ "class": "Gateway" });
    scene.device("hub", hub, json!({})).await;
    let own = json!({ "class": "Peripheral", "gateway": "hub" });
    scene.device("probe-1", own, json!({})).await;
    let others = json!({ "class": "Peripheral", "gateway": "other" });
    scene.device("probe-2", others, json!({})).await;
    let fleet = scene.key("fleet", json!({ "allDevices": true })).await;
    let two = json!({ "deviceIds": ["fan-1", "fan-2"] });
    let fans = scene.key("fans", two).await;
    let hubs = scene.key("hubs", json!({ "deviceIds": ["hub"] })).await;
    let topics = json!({
        "filter": "AllowList", "publish": ["log/{device}"], "subscribe": ["news/+"],
    });
    scene.change("fans", json!({ "topics": topics })).await;
    scene.until_granted("fan-1", &fans, "news/+").await;

    let subscriptions = [
        ("devices/fan-1/state", true),
        ("devices/fan-1/command", true),
        ("devices/fan-2/state", true),
        ("devices/fan-2/command", true),
        ("devices/fan-3/state", false),
        ("devices/+/state", false),
        ("devices/fan-1/#", false),
        ("devices/#", false),
        ("#", false),
        ("+/fan-1/state", false),
        ("$SYS/#", false),
        ("$share/all/devices/fan-3/state", false),
        ("news/today", true),
        ("news/+", true),
        ("news/#", false),
        ("log/fan-1", false),
    ];
    for (filter, is_allowed) in subscriptions {
        let may = scene.may_subscribe("fan-1", &fans, filter).await;
        assert_eq!(may, is_allowed, "{filter}");
    }
    let sends = [
        ("fan-1", "devices/fan-1/state", true),
        ("fan-1", "devices/fan-1/command", false),
        ("fan-1", "devices/fan-2/command", true),
        ("fan-1", "devices/fan-2/state", false),
        ("fan-1", "devices/fan-3/command", false),
        ("fan-1", "devices/watcher/command", false),
        ("fan-1", "log/fan-1", true),
        ("fan-1", "log/fan-2", false),
        ("fan-1", "news/today", false),
        ("hub", "devices/probe-1/state", true),
        ("hub", "devices/probe-1/command", true),
        ("hub", "devices/probe-2/state", false),
    ];
    for (id, topic, is_allowed) in sends {
        let key = if id == "hub" { &hubs } else { &fans };
        let may = scene.may_send(id, key, topic).await;
        assert_eq!(may, is_allowed, "{id} to {topic}");
    }

    // Whoever's key admits all sees all, and is seen by nobody else.
    let mut watcher = scene.session("watcher", &fleet).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    let mut fan = scene.session("fan-2", &fans).await;
    assert_eq!(fan.subscribe("devices/fan-2/command", 0).await, Some(true));
    let own = Message::new("devices/fan-2/state", "at least once");
    fan.publish(&own.topic, &own.payload, true).await;
    arrives(&mut watcher, &own).await;
    fan.throw("devices/fan-2/state", "at most once").await;
    arrives(
        &mut watcher,
        &Message::new("devices/fan-2/state", "at most once"),
    )
    .await;
    watcher.publish("devices/fan-2/command", "go", false).await;
    assert_eq!(
        fan.message().await,
        Message::new("devices/fan-2/command", "go")
    );

    // What is retained is there for who subscribes later.
    let mut late = scene.session("fan-1", &fans).await;
    assert_eq!(late.subscribe("devices/fan-2/state", 1).await, Some(true));
    assert_eq!(late.message().await, own);
}

/// The next message of this device.
async fn arrives(watcher: &mut mqtt::Session, message: &Message) {
    loop {
        let next = watcher.message().await;
        if next.topic == message.topic && next.payload != "something" {
            return assert_eq!(next, *message);
        }
    }
}

async fn what_amqp_takes_for_something_else_is_what_amqp_takes_it_for(scene: &Scene) {
    let ids = json!({ "deviceIds": ["dot-1", "dot-2"] });
    let dots = scene.key("dots", ids).await;
    let topics = json!({ "filter": "AllowList", "publish": ["a/b/c"], "subscribe": ["a/b/c"] });
    scene.change("dots", json!({ "topics": topics })).await;
    scene.until_granted("dot-1", &dots, "a/b/c").await;
    let rows = [
        // A dot ends a level, and a star is any.
        ("a.b.c", true, true),
        ("devices.dot-1.state", true, true),
        ("devices.dot-3.command", false, false),
        ("devices/dot-1.x/state", false, false),
        ("devices/*/state", false, false),
        ("devices/*/command", false, false),
        ("a/*/c", false, false),
        ("*", false, false),
    ];
    for (topic, may_send, may_subscribe) in rows {
        let may = scene.may_subscribe("dot-1", &dots, topic).await;
        assert_eq!(may, may_subscribe, "from {topic}");
        let may = scene.may_send("dot-1", &dots, topic).await;
        assert_eq!(may, may_send, "to {topic}");
    }
}

async fn a_change_ends_the_sessions_that_it_concerns_and_no_others(scene: &Scene) {
    let lamp = json!({ "tags": [{ "key": "kind", "value": "lamp" }] });
    scene.device("lamp-1", lamp.clone(), json!({})).await;
    scene.device("lamp-2", lamp, json!({})).await;
    let tags = json!({ "deviceTags": [{ "key": "kind", "value": "lamp" }] });
    let lamps = scene.key("lamps", tags).await;
    let ids = json!({ "deviceIds": ["bell-1", "bell-2", "bell-3"] });
    let bells = scene.key("bells", ids).await;
    let mut lamp_1 = scene.session("lamp-1", &lamps).await;
    let mut lamp_2 = scene.session("lamp-2", &lamps).await;
    let mut bell_1 = scene.session("bell-1", &bells).await;
    let mut bell_2 = scene.session("bell-2", &bells).await;
    let mut bell_3 = scene.session("bell-3", &bells).await;
    for filter in ["devices/lamp-1/state", "devices/lamp-2/state"] {
        assert_eq!(lamp_2.subscribe(filter, 1).await, Some(true));
    }
    let filter = "devices/bell-2/state";
    assert_eq!(bell_2.subscribe(filter, 1).await, Some(true));
    assert_eq!(
        bell_3.subscribe("devices/bell-1/state", 0).await,
        Some(true)
    );

    // A device loses its tag. It goes, and so does who watches it, who then may not.
    scene
        .device("lamp-1", json!({ "tags": [] }), json!({}))
        .await;
    assert!(lamp_1.is_closed().await);
    assert!(lamp_2.is_closed().await);
    scene.refused(&connect("lamp-1", &lamps)).await;
    assert!(
        !scene
            .may_subscribe("lamp-2", &lamps, "devices/lamp-1/state")
            .await
    );
    // A key is narrowed.
    scene.restrict("bells", &["bell-2", "bell-3"]).await;
    assert!(bell_1.is_closed().await);
    assert!(bell_3.is_closed().await);
    scene.refused(&connect("bell-1", &bells)).await;
    // The others go on.
    bell_2.publish("devices/bell-2/state", "on", false).await;
    assert_eq!(
        bell_2.message().await,
        Message::new("devices/bell-2/state", "on")
    );

    // RabbitMQ remembers what a busy session may do.
    let ids = json!({ "deviceIds": ["horn-1", "horn-2"] });
    let horns = scene.key("horns", ids).await;
    let mut horn_1 = scene.session("horn-1", &horns).await;
    let command = "devices/horn-2/command";
    horn_1.publish(command, "on", false).await.expect("sent");
    scene.restrict("horns", &["horn-1"]).await;
    goes_on_until_it_is_cut(&mut horn_1, command).await;
    scene.change("bells", json!({ "state": "Inactive" })).await;
    goes_on_until_it_is_cut(&mut bell_2, "devices/bell-2/state").await;
    scene.refused(&connect("bell-2", &bells)).await;

    let mut lamp_2 = scene.session("lamp-2", &lamps).await;
    let params = kube::api::DeleteParams::default();
    let deleted = scene.plant.place.keys.delete("lamps", &params).await;
    deleted.expect("deleted");
    assert!(lamp_2.is_closed().await);
    scene.refused(&connect("lamp-2", &lamps)).await;

    // By the clock.
    let soon = scene.key("soon", json!({ "deviceIds": ["soon-1"] })).await;
    let mut soon_1 = scene.session("soon-1", &soon).await;
    let end = jiff::Timestamp::now() + Duration::from_secs(2);
    scene.change("soon", json!({ "expiresAt": end })).await;
    assert!(soon_1.is_closed().await);
    assert!(jiff::Timestamp::now() >= end);
}

async fn goes_on_until_it_is_cut(session: &mut mqtt::Session, topic: &str) {
    let sends = async {
        while session.publish(topic, "on", false).await.is_some() {
            // It never pauses for so long that RabbitMQ would forget what it may.
            sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = timeout(PATIENCE, sends).await;
    ended.expect("a busy session is cut");
}

async fn a_session_ends_with_its_secret(scene: &Scene) {
    let ids = json!({ "deviceIds": ["meter-1", "meter-2"] });
    let first = scene.key("meters", ids).await;
    let mut old = scene.session("meter-1", &first).await;
    let rotation = json!({ "rotation": { "revision": 2, "overlap": "4s" } });
    scene.change("meters", rotation).await;
    let second = scene.plant.delivered("meters", 2).await;
    scene.session("meter-2", &first).await;
    assert!(old.is_closed().await, "at the end of the overlap");
    scene.refused(&connect("meter-1", &first)).await;
    // Who has the newer secret comes back, and stays when nothing is rotated.
    let mut new = scene.session("meter-1", &second).await;
    let rotation = json!({ "rotation": { "revision": 3, "overlap": "0s" } });
    new.publish("devices/meter-1/state", "on", false)
        .await
        .expect("connected");
    scene.change("meters", rotation).await;
    assert!(new.is_closed().await, "without an overlap");
    scene.refused(&connect("meter-1", &second)).await;
}

async fn a_second_key_takes_a_session_over(scene: &Scene) {
    let ids = json!({ "deviceIds": ["door-1", "door-9"] });
    let one = scene.key("one", ids).await;
    let ids = json!({ "deviceIds": ["door-1", "door-2"] });
    let two = scene.key("two", ids).await;
    let mut first = scene.session("door-1", &one).await;
    // Who is refused takes nothing over.
    let wrong = connect("door-1", &two.with(&some_secret()));
    scene.is_refused(&wrong, "a wrong secret").await;
    let answer = first
        .publish("devices/door-1/state", "still here", false)
        .await;
    assert!(answer.is_some());
    let mut second = scene.session("door-1", &two).await;
    assert!(first.is_closed().await);
    // The first key's end is not the second's.
    scene.change("one", json!({ "state": "Inactive" })).await;
    scene.refused(&connect("door-9", &one)).await;
    assert_eq!(
        second.subscribe("devices/door-2/state", 0).await,
        Some(true)
    );
    scene.change("two", json!({ "state": "Inactive" })).await;
    assert!(second.is_closed().await);
}

async fn a_will_is_sent_for_who_may_and_for_nobody_else(scene: &Scene) {
    let ids = json!({ "deviceIds": ["tank-1", "tank-2", "tank-3"] });
    let tanks = scene.key("tanks", ids).await;
    let ids = json!({ "deviceIds": ["tank-1", "tank-2", "tank-3", "tank-4"] });
    let watchers = scene.key("watchers", ids).await;
    let mut watcher = scene.session("tank-4", &watchers).await;
    for filter in [
        "devices/tank-1/state",
        "devices/tank-3/state",
        "devices/tank-4/state",
    ] {
        assert_eq!(watcher.subscribe(filter, 1).await, Some(true));
    }
    let will = |id: &str, topic: &str| {
        let gone = Message::new(topic, &format!("{id} is gone"));
        connect(id, &tanks).with_will(gone)
    };
    let own = will("tank-1", "devices/tank-1/state");
    let own = scene.admitted(&own).await;
    let others = will("tank-2", "devices/tank-1/state");
    let others = scene.admitted(&others).await;
    others.vanish();
    own.vanish();
    let gone = Message::new("devices/tank-1/state", "tank-1 is gone");
    assert_eq!(watcher.message().await, gone);
    // Nor for who is cut.
    let cut = will("tank-3", "devices/tank-3/state");
    let mut cut = scene.admitted(&cut).await;
    scene.restrict("tanks", &["tank-1", "tank-2"]).await;
    assert!(cut.is_closed().await);
    scene.refused(&connect("tank-3", &tanks)).await;
    let end = Message::new("devices/tank-4/state", "the end");
    watcher.publish(&end.topic, &end.payload, false).await;
    assert_eq!(watcher.message().await, end);
}

async fn nobody_inherits_what_it_may_not_have(scene: &Scene) {
    let ids = json!({ "deviceIds": ["gate-1", "gate-2", "gate-3"] });
    let wide = scene.key("wide", ids).await;
    let narrow = scene
        .key("narrow", json!({ "deviceIds": ["gate-1"] }))
        .await;
    let mut sender = scene.session("gate-3", &wide).await;
    let to_stay = connect("gate-1", &wide).staying();
    let mut away = scene.admitted(&to_stay).await;
    assert_eq!(away.subscribe("devices/gate-3/state", 1).await, Some(true));
    away.vanish();
    let kept = Message::new("devices/gate-3/state", "kept");
    sender.publish(&kept.topic, &kept.payload, false).await;
    // It comes back, without subscribing again, and has all that it may have.
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    assert_eq!(back.message().await, kept);
    back.vanish();
    sender.publish(&kept.topic, "for the wide key", false).await;

    // Another key of the same device does not get what the first had subscribed to.
    let other = connect("gate-1", &narrow).staying();
    let mut heir = scene.admitted(&other).await;
    assert!(!heir.was_there);
    sender.publish(&kept.topic, "for nobody", false).await;
    hears_first(&mut heir, "gate-1", "as the heir").await;
    heir.vanish();

    // Nor does the first, when it is narrowed while it is away.
    let mut away = scene.admitted(&to_stay).await;
    assert_eq!(away.subscribe("devices/gate-3/state", 1).await, Some(true));
    away.vanish();
    sender
        .publish(&kept.topic, "for nobody any more", false)
        .await;
    scene.restrict("wide", &["gate-1", "gate-3"]).await;
    scene.refused(&connect("gate-2", &wide)).await;
    scene.restrict("wide", &["gate-1"]).await;
    assert!(sender.is_closed().await);
    let mut back = scene.admitted(&to_stay).await;
    hears_first(&mut back, "gate-1", "as narrowed").await;
}

/// What comes first is what the session sends itself.
async fn hears_first(session: &mut mqtt::Session, id: &str, payload: &str) {
    let own = Message::new(&format!("devices/{id}/state"), payload);
    assert_eq!(session.subscribe(&own.topic, 1).await, Some(true));
    session.publish(&own.topic, &own.payload, false).await;
    assert_eq!(session.message().await, own);
}

async fn a_key_with_many_sessions_ends_for_all_of_them(scene: &Scene) {
    let many = scene.key("many", json!({ "allDevices": true })).await;
    let connecting = (0..200).map(|number| scene.session_of(format!("many-{number}"), &many));
    let connecting = stream::iter(connecting).buffer_unordered(8);
    let mut sessions: Vec<_> = connecting.collect().await;
    scene.change("many", json!({ "state": "Inactive" })).await;
    let begin = Instant::now();
    let closing = sessions.iter_mut().map(async |session| {
        assert!(session.is_closed().await);
        begin.elapsed()
    });
    let mut took = join_all(closing).await;
    took.sort();
    println!(
        "measured: of 200 sessions at RabbitMQ whose key becomes inactive, half are cut within {:?}, 198 within {:?}",
        took[99], took[197]
    );
}

/// One has been connected since before all this.
async fn rabbitmqs_own_users_are_left_alone(scene: &Scene) {
    let connections = "GET /api/connections?disable_stats=true&columns=user";
    let (_, users) = scene.broker.ask(connections, LOGIN).await.expect("a list");
    assert!(users.contains(r#""user":"keyward""#), "{users}");
}

async fn a_gateway_and_a_broker_that_were_away_catch_up(scene: &Scene, gateway: Gateway) {
    let ids = json!({ "deviceIds": ["late-1", "late-2"] });
    let late = scene.key("late", ids).await;
    let mut first = scene.session("late-1", &late).await;
    let mut second = scene.session("late-2", &late).await;

    gateway.process.kill();
    scene
        .is_refused(&connect("late-1", &late), "without a gateway")
        .await;
    assert_eq!(first.subscribe("devices/late-1/command", 1).await, None);
    scene.restrict("late", &["late-1"]).await;
    let mut gateway = scene.gateway().await;
    assert!(second.is_closed().await, "what has changed meanwhile");
    scene.refused(&connect("late-2", &late)).await;
    let mut first = scene.session("late-1", &late).await;

    // As if RabbitMQ were away.
    scene.login("keyward:wrong");
    scene.change("late", json!({ "state": "Inactive" })).await;
    found("the gateway has noticed", async || {
        let log = gateway.process.log_text();
        log.contains("sessions at RabbitMQ are not cut")
            .then_some(())
    })
    .await;
    let others = scene
        .key("others", json!({ "deviceIds": ["other-1"] }))
        .await;
    gateway.until("other-1", &others, 200).await;
    let unseen = connect("other-1", &others);
    scene.is_refused(&unseen, "who may inherit something").await;
    scene.login(LOGIN);
    scene.session("other-1", &others).await;
    assert!(first.is_closed().await, "once it is back");

    let cuts = r#"keyward_decisions_total{asked="cut",answer="inactive"}"#;
    gateway.process.counts(cuts, 1).await;
    let audit = gateway.process.output();
    let lines = audit
        .lines()
        .filter(|line| line.contains(r#""asked":"cut""#));
    let of_it = lines.filter(|line| line.contains(&late.key) && line.contains("inactive"));
    assert_eq!(of_it.count(), 1, "{audit}");
    let log = gateway.process.log_text();
    let encoded = Base64::encode_string(LOGIN.as_bytes());
    for login in [LOGIN, &*encoded] {
        assert!(!log.contains(login), "a password stands in the log");
    }
    holds_no_secret(&log, &[late.secret]);
}
