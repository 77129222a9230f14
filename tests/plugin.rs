//! What mosquitto and the plugin in it do besides deciding: they are configured, read their configuration again, restart and
//! end; and what the broker does that nobody would expect.

#![allow(clippy::unwrap_used)]

#[path = "brokers/broker.rs"]
mod broker;
#[path = "brokers/door.rs"]
mod door;
#[path = "brokers/habits.rs"]
mod habits;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "brokers/scene.rs"]
mod scene;
mod support;

use std::process::{Command, Output};

use broker::{Settings, refusal};
use door::Door;
use mqtt::{Message, Refused, Version};
use scene::Scene;
use serde_json::json;
use support::certificates::Authority;
use support::fault::Fault;
use support::keys::some_secret;
use support::plant::Issued;
use support::process::{Access, holds_no_secret};
use support::wait::found;

const HABITS: habits::Habits = habits::MOSQUITTO;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_and_a_restart_lose_nobody_and_let_nobody_in_by_mqtt_311() {
    a_reload_and_a_restart_lose_nobody_and_let_nobody_in(Version::V311).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_and_a_restart_lose_nobody_and_let_nobody_in_by_mqtt_5() {
    a_reload_and_a_restart_lose_nobody_and_let_nobody_in(Version::V5).await;
}

async fn a_reload_and_a_restart_lose_nobody_and_let_nobody_in(version: Version) {
    let mut scene = Scene::of(version).await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let to_stay = scene.connect("pump-1", &pumps).staying();
    let mut one = scene.admitted(&to_stay).await;
    assert_eq!(one.subscribe("devices/pump-2/state", 1).await, Some(true));
    let mut two = scene.session("pump-2", &pumps).await;
    scene.broker.reload();
    found("the broker has reloaded", async || {
        scene
            .broker
            .output()
            .contains("Reloading config")
            .then_some(())
    })
    .await;
    assert!(
        two.publish("devices/pump-2/state", "reloaded", false)
            .await
            .is_some()
    );
    assert_eq!(
        one.message().await,
        Message::new("devices/pump-2/state", "reloaded")
    );

    // The broker has read that the message has arrived.
    one.publish("devices/pump-1/state", "read", false).await;

    scene.broker.restart().await;
    let mut two = scene.session("pump-2", &pumps).await;
    two.publish("devices/pump-2/state", "restarted", false)
        .await;
    // Sessions that were restored have shown no secret here.
    scene.broker.reload();
    let mut three = scene.session("pump-2", &pumps).await;
    three.publish("devices/pump-2/state", "again", false).await;
    let mut back = scene.admitted(&to_stay).await;
    assert!(back.was_there);
    assert_eq!(
        back.message().await,
        Message::new("devices/pump-2/state", "restarted")
    );
    assert_eq!(
        back.message().await,
        Message::new("devices/pump-2/state", "again")
    );
    assert_eq!(scene.broker.end().await, Some(0));
    holds_no_secret(&scene.broker.output(), &[pumps.secret]);
}

/// All that is not safe by construction, and mosquitto's own memory, under valgrind, from the start to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_used_as_it_may_be() {
    let suppressions = concat!(
        "--suppressions=",
        env!("CARGO_MANIFEST_DIR"),
        "/plugins/mosquitto/valgrind.supp"
    );
    let valgrind = [
        "valgrind",
        "--error-exitcode=99",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--num-callers=30",
        suppressions,
    ];
    let settings = Settings {
        under: valgrind.map(str::to_owned).to_vec(),
        ..Settings::default()
    };
    let mut scene = Scene::with(Version::V5, settings).await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let will = Message::new("devices/pump-1/state", "gone");
    let one = scene.connect("pump-1", &pumps).staying().with_will(will);
    let mut one = scene.admitted(&one).await;
    let mut two = scene.session("pump-2", &pumps).await;
    assert_eq!(
        one.subscribe("$share/all/devices/pump-2/state", 1).await,
        Some(true)
    );
    assert_eq!(two.subscribe("devices/+/state", 0).await, Some(true));
    assert!(
        two.publish("devices/pump-2/state", "on", true)
            .await
            .is_some()
    );
    let wrong = scene.connect("pump-1", &pumps.with(&some_secret()));
    scene.refused(&wrong).await;
    scene.broker.reload();
    one.vanish();
    assert_eq!(two.message().await.payload, "on");
    assert_eq!(two.message().await.payload, "gone");
    scene
        .plant
        .change("pumps", json!({ "state": "Inactive" }))
        .await;
    assert!(two.is_closed().await);
    let code = scene.broker.end().await;
    assert_eq!(code, Some(0), "{}", scene.broker.output());
}

/// Or nobody could be cut.
#[tokio::test]
async fn where_the_broker_does_not_tick_nobody_is_admitted() {
    let settings = Settings {
        changes: vec![(
            "per_listener_settings false",
            "per_listener_settings true".to_owned(),
        )],
        ..Settings::default()
    };
    let scene = Scene::with(Version::V311, settings).await;
    let pumps = scene.key("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    let connect = scene.connect("pump-1", &pumps);
    // By now another broker knows the key.
    let ticking = Settings {
        namespace: scene.plant.place.namespace.name.clone(),
        ..Settings::default()
    };
    let ticking = broker::Broker::start(ticking).await;
    found("pump-1 is admitted elsewhere", async || {
        connect.to(ticking.at).await.ok()
    })
    .await;
    for _ in 0..3 {
        let refused = connect.to(scene.broker.at).await.err();
        assert_eq!(refused, Some(Refused::Closed));
    }
}

/// Without an API server, or with one that says nothing to the point, nobody is let in at first. Later those go on who are known; what was missed is caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_may_be_away() {
    let door = Door::default();
    let scene = Scene::behind(Version::V311, &door).await;
    let one = scene.key("one", json!({ "deviceIds": ["pump-1"] })).await;
    let two = scene.key("two", json!({ "deviceIds": ["pump-2"] })).await;
    for fault in [
        Fault::Reset,
        Fault::Refuse(403),
        Fault::Page(502),
        Fault::Truncate,
        Fault::Corrupt,
    ] {
        door.spoil(fault).await;
        let refused = scene.connect("pump-1", &one).to(scene.broker.at).await;
        assert_eq!(refused.err(), Some(Refused::Closed), "{fault}");
    }
    door.open();
    let mut pump_1 = scene.session("pump-1", &one).await;
    let mut pump_2 = scene.session("pump-2", &two).await;

    door.close();
    let three = scene.key("three", json!({ "deviceIds": ["pump-3"] })).await;
    scene
        .plant
        .change("two", json!({ "state": "Inactive" }))
        .await;
    scene
        .is_refused(&scene.connect("pump-3", &three), "an unknown key")
        .await;
    let known = scene.connect("pump-1", &one).to(scene.broker.at).await;
    assert!(known.is_ok(), "a known key works");
    assert!(pump_1.is_closed().await, "it has come anew");
    let own = pump_2.publish("devices/pump-2/state", "on", false).await;
    assert_eq!(own, Some(0), "a session goes on");

    door.open();
    assert!(pump_2.is_closed().await);
    scene.session("pump-3", &three).await;
    scene.refused(&scene.connect("pump-2", &two)).await;
}

/// The broker takes the name in a certificate for the user name, and asks nobody for a secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_only_a_certificate_may_do_nothing() {
    let folder = support::process::Folder::new("certificates");
    let tls_port = support::process::free_port();
    let authority = Authority::named("plant");
    folder.write("ca.pem", &authority.pem());
    authority.server().write(&folder, "server");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let more = format!(
        "listener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
         use_identity_as_username true",
        at("ca.pem"),
        at("server.pem"),
        at("server.key"),
    );
    let settings = Settings {
        more,
        ..Settings::default()
    };
    let scene = Scene::with(Version::V311, settings).await;
    let all = scene.key("all", json!({ "allDevices": true })).await;
    let mut watcher = scene.session("watcher", &all).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    authority.client_named(&all.key).write(&folder, "client");
    let tls = [
        "--cafile".to_owned(),
        at("ca.pem"),
        "--cert".to_owned(),
        at("client.pem"),
        "--key".to_owned(),
        at("client.key"),
    ];
    let port = tls_port.to_string();
    let mut publish = Command::new("mosquitto_pub");
    publish
        .args(["-h", "127.0.0.1", "-p", &port, "-i", "pump-1"])
        .args(["-t", "devices/pump-1/state", "-m", "by certificate"])
        .args(tls);
    let sent = publish.output().expect("mosquitto_pub is on the PATH");
    assert!(sent.status.success(), "{sent:?}");
    watcher
        .publish("devices/watcher/state", "the end", false)
        .await;
    assert_eq!(watcher.message().await.payload, "the end");
}

/// Clients of another kind: mosquitto's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_own_clients_are_served() {
    let scene = Scene::of(Version::V5).await;
    let pumps = scene
        .key("pumps", json!({ "deviceIds": ["pump-1", "pump-2"] }))
        .await;
    let mut watcher = scene.session("pump-2", &pumps).await;
    assert_eq!(watcher.subscribe("devices/+/state", 1).await, Some(true));
    for version in ["mqttv311", "mqttv5"] {
        let ask = |program: &str, issued: &Issued, more: &[&str]| {
            client(&scene, version, program, issued, more)
        };
        let own = ["-t", "devices/pump-1/state", "-q", "1", "-m", version];
        let sent = ask("mosquitto_pub", &pumps, &own);
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(watcher.message().await.payload, version);
        let wrong = ask("mosquitto_pub", &pumps.with(&some_secret()), &own);
        assert!(!wrong.status.success());
        let said = String::from_utf8(wrong.stderr).unwrap();
        assert!(said.to_lowercase().contains("not authori"), "{said}");

        watcher
            .publish("devices/pump-1/command", version, false)
            .await;
        let kept = Message::new("devices/pump-2/state", version);
        watcher.publish(&kept.topic, &kept.payload, true).await;
        assert_eq!(watcher.message().await, kept);
        let heard = ask(
            "mosquitto_sub",
            &pumps,
            &["-t", "devices/+/state", "-C", "1", "-W", "20"],
        );
        assert_eq!(String::from_utf8(heard.stdout).unwrap().trim(), version);
        let outside = ask(
            "mosquitto_sub",
            &pumps,
            &["-t", "devices/pump-3/state", "-W", "20"],
        );
        let said = String::from_utf8(outside.stderr).unwrap();
        assert!(said.contains("denied"), "{said}");
    }
}

fn client(scene: &Scene, version: &str, program: &str, issued: &Issued, more: &[&str]) -> Output {
    let at = scene.broker.at;
    let mut command = Command::new(program);
    command
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()])
        .args(["-V", version, "-i", "pump-1"])
        .args(["-u", &issued.key, "-P", &issued.secret])
        .args(more);
    let output = command.output();
    output.expect("mosquitto's clients are on the PATH: `make test` installs them")
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_is_said_in_one_sentence() {
    let access = Access::admin().as_gateway().await;
    let rows = [
        (
            "plugin_opt_namespaces x",
            "there is no plugin_opt_namespaces: there are namespace, ",
        ),
        (
            "plugin_opt_topic_root a/+",
            "plugin_opt_topic_root cannot be \"a/+\": ",
        ),
        (
            "plugin_opt_staleness lax",
            "plugin_opt_staleness cannot be \"lax\": it is best-effort or strict",
        ),
        (
            "plugin_opt_all_namespaces true",
            "set one of plugin_opt_namespace and plugin_opt_all_namespaces, not both",
        ),
        ("plugin_opt_log_level loud", "\"loud\" is no level"),
        (
            "plugin_opt_audit maybe",
            "plugin_opt_audit cannot be \"maybe\": ",
        ),
    ];
    for (line, said) in rows {
        let settings = Settings {
            namespace: "plant".to_owned(),
            more: line.to_owned(),
            ..Settings::default()
        };
        let output = refusal(&settings, &access);
        let of_keyward: Vec<&str> = output
            .lines()
            .filter(|line| line.contains("keyward:"))
            .collect();
        assert!(
            matches!(of_keyward[..], [one] if one.contains(said)),
            "{line}: {output}"
        );
    }
}
