//! RabbitMQ with real clients: a device is who its key and secret say, sees and commands what its key admits, and is gone
//! once its key does not. It takes long to start, so one serves all of this.

#[path = "rabbitmq/served.rs"]
mod broker;
#[path = "rabbitmq/clients.rs"]
mod clients;
#[path = "brokers/door.rs"]
mod door;
#[path = "brokers/failures.rs"]
mod failures;
#[path = "brokers/habits.rs"]
mod habits;
#[path = "rabbitmq/https.rs"]
mod https;
#[path = "rabbitmq/logins.rs"]
mod logins;
// RabbitMQ 3.10 speaks MQTT 3.1.1 only.
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "rabbitmq/broker.rs"]
mod node;
#[path = "brokers/scene.rs"]
mod scene;
#[path = "brokers/scenes/mod.rs"]
mod scenes;
#[path = "rabbitmq/several.rs"]
mod several;
mod support;

use base64ct::{Base64, Encoding};
use futures::future::join_all;
use futures::{StreamExt, stream};
use mqtt::Version;
use node::LOGIN;
use scene::Scene;
use scenes::{all_scenes, goes_on_until_it_is_cut};
use serde_json::json;
use support::plant::Issued;
use support::process::holds_no_secret;
use support::wait::found;
use tokio::join;
use tokio::time::Instant;

const HABITS: habits::Habits = habits::RABBITMQ;

/// The first alone, and the others at once.
macro_rules! play {
    ($scene:ident [$first:ident, $($other:ident,)*]) => {
        scenes::$first(&$scene).await;
        join!($(scenes::$other(&$scene),)* of_rabbitmq(&$scene))
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_decides_by_keyward() {
    let mut scene = Scene::of(Version::V311).await;
    let (key, secret) = LOGIN.split_once(':').expect("a login");
    let (key, secret) = (key.to_owned(), secret.to_owned());
    let _operator = scene.session("operator", &Issued { key, secret }).await;
    all_scenes!(play! scene);
    a_key_with_many_sessions_ends_for_all_of_them(&scene).await;
    rabbitmqs_own_users_are_left_alone(&scene).await;
    a_gateway_and_a_broker_that_were_away_catch_up(&mut scene).await;
    failures::nobody_comes_in_while_it_cannot_be_known_who_they_are(&mut scene).await;
    several::several_gateways_share_the_work(&scene).await;
}

async fn of_rabbitmq(scene: &Scene) {
    join!(
        what_is_no_key_admits_nobody(scene),
        a_busy_session_is_cut(scene),
        clients::mosquittos_own_clients_are_served(scene),
        logins::a_login_that_vanishes_does_not_let_a_session_go_on(scene),
        https::the_management_api_is_asked_by_https_if_each_knows_the_other(scene),
    );
}

async fn what_is_no_key_admits_nobody(scene: &Scene) {
    let all = scene.key("any-device", json!({ "allDevices": true })).await;
    scene.session("any-1", &all).await;
    for (what, key, secret) in [
        ("a virtual host", format!("/:{}", all.key), &*all.secret),
        ("a colon", format!("{}:", all.key), &all.secret),
        ("guest", "guest".to_owned(), "guest"),
    ] {
        let secret = secret.to_owned();
        let connect = scene.connect("any-1", &Issued { key, secret });
        scene.is_refused(&connect, what).await;
    }
    let operator = format!("{}:{}", all.key, all.secret);
    let answer = scene.broker.ask("GET /api/whoami", &operator).await;
    let (status, _) = answer.expect("an answer");
    assert_eq!(status, 401, "a device is no operator");
}

/// RabbitMQ remembers what a busy session may do.
async fn a_busy_session_is_cut(scene: &Scene) {
    let horns = json!({ "deviceIds": ["horn-1", "horn-2"] });
    let horns = scene.key("horns", horns).await;
    let mut horn_1 = scene.session("horn-1", &horns).await;
    let command = "devices/horn-2/command";
    horn_1.publish(command, "on", false).await.expect("sent");
    scene.restrict("horns", &["horn-1"]).await;
    goes_on_until_it_is_cut(&mut horn_1, command).await;
}

async fn a_key_with_many_sessions_ends_for_all_of_them(scene: &Scene) {
    let many = scene.key("many", json!({ "allDevices": true })).await;
    let connecting = (0..200).map(|number| {
        let many = &many;
        async move { scene.session(&format!("many-{number}"), many).await }
    });
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

async fn a_gateway_and_a_broker_that_were_away_catch_up(scene: &mut Scene) {
    let ids = json!({ "deviceIds": ["late-1", "late-2"] });
    let late = scene.key("late", ids).await;
    let mut first = scene.session("late-1", &late).await;
    let mut second = scene.session("late-2", &late).await;

    scene.broker.kill_gateway();
    let connect = scene.connect("late-1", &late);
    scene.is_refused(&connect, "without a gateway").await;
    assert_eq!(first.subscribe("devices/late-1/command", 1).await, None);
    scene.restrict("late", &["late-1"]).await;
    scene.broker.start_gateway().await;
    assert!(second.is_closed().await, "what has changed meanwhile");
    scene.refused(&scene.connect("late-2", &late)).await;
    let mut first = scene.session("late-1", &late).await;

    // As if RabbitMQ were away.
    scene.broker.login("keyward:wrong");
    scene.change("late", json!({ "state": "Inactive" })).await;
    let gateway = scene.broker.gateway();
    found("the gateway has noticed", async || {
        let log = gateway.process.log_text();
        log.contains("sessions at RabbitMQ are not cut")
            .then_some(())
    })
    .await;
    let unseen = json!({ "deviceIds": ["unseen-1"] });
    let unseen = scene.key("unseen", unseen).await;
    scene.broker.gateway().until("unseen-1", &unseen, 200).await;
    let connect = scene.connect("unseen-1", &unseen);
    scene
        .is_refused(&connect, "who may inherit something")
        .await;
    scene.broker.login(LOGIN);
    scene.session("unseen-1", &unseen).await;
    assert!(first.is_closed().await, "once it is back");

    let cuts = r#"keyward_decisions_total{asked="cut",answer="inactive"}"#;
    let gateway = scene.broker.gateway();
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
