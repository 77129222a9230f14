//! Gateways and servers that come and go, and what they are told.

use serde_json::json;

use super::scene;
use crate::broker::{ISSUER_SEED, Settings};
use crate::mqtt::Version;
use crate::scene::{Scene, lives};
use crate::support::process::{Access, Folder, Launcher};
use crate::support::wait::found;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gateway_nobody_comes_in_and_what_changed_counts_when_there_is_one() {
    let mut scene = Scene::with(Version::V311, Settings::with("# no xkey")).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let valves = json!({ "deviceIds": ["valve-1", "valve-2"] });
    let valves = scene.key("valves", valves).await;
    let fans = scene.key("fans", json!({ "deviceIds": ["fan-1"] })).await;
    let mut pump = scene.session("pump-1", &pumps).await;
    let mut valve = scene.session("valve-1", &valves).await;
    let mut fan = scene.session("fan-1", &fans).await;
    scene.broker.kill_gateway();
    let connect = scene.connect("fan-1", &fans);
    scene.is_refused(&connect, "nobody is there to ask").await;
    lives(&mut valve, "valve-1").await;

    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    let narrower = json!({ "restrictions": { "deviceIds": ["valve-1"] } });
    scene.plant.change("valves", narrower).await;
    scene.broker.start_gateway().await;
    assert!(pump.is_closed().await && valve.is_closed().await);
    lives(&mut fan, "fan-1").await;

    // NATS itself goes, and comes back under another name.
    scene.broker.restart().await;
    assert!(fan.is_closed().await);
    let mut fan = scene.session("fan-1", &fans).await;
    scene.delete_key("fans").await;
    assert!(fan.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_the_work_and_do_not_cut_what_another_has_admitted() {
    let mut scene = scene().await;
    let valve = json!({ "tags": [{ "key": "kind", "value": "valve" }] });
    scene.device("valve-1", valve.clone(), json!({})).await;
    let valves = json!({ "deviceTags": [{ "key": "kind", "value": "valve" }] });
    let valves = scene.key("valves", valves).await;
    let others = scene.key("others", json!({ "deviceIds": ["other"] })).await;
    let mut valve_1 = scene.session("valve-1", &valves).await;
    let mut second = scene.broker.another_gateway(&[]).await;
    found("both have looked at it", async || {
        let log = second.log_text();
        log.contains("sessions of NATS were looked at sessions=1")
            .then_some(())
    })
    .await;
    scene.device("valve-2", valve, json!({})).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(scene.session("valve-2", &valves).await);
    }
    let mut other = scene.session("other", &others).await;
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("others", inactive).await;
    assert!(other.is_closed().await);
    lives(&mut valve_1, "valve-1").await;
    // Either of them is enough.
    scene.broker.kill_gateway();
    lives(&mut scene.session("valve-1", &valves).await, "valve-1").await;
    assert!(second.lives());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changes_loses_its_sessions_though_no_server_lists_any() {
    let login = "password: $NATS_SYSTEM_PASSWORD";
    let no_lists = r#"permissions: { publish: { deny: "$SYS.REQ.SERVER.*.CONNZ" } }"#;
    let settings = Settings {
        changes: vec![(login, format!("{login}, {no_lists}"))],
        ..Settings::default()
    };
    let mut scene = Scene::with(Version::V311, settings).await;
    let two = |id: &str| json!({ "deviceIds": [format!("{id}-1"), format!("{id}-2")] });
    let pumps = scene.key("pumps", two("pump")).await;
    let valves = scene.key("valves", two("valve")).await;
    let fans = scene.key("fans", two("fan")).await;
    let mut pump = scene.session("pump-1", &pumps).await;
    let mut valves = [
        scene.session("valve-1", &valves).await,
        scene.session("valve-2", &valves).await,
    ];
    let mut fan = scene.session("fan-1", &fans).await;
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    assert!(pump.is_closed().await);
    scene.restrict("valves", &["valve-1"]).await;
    for valve in &mut valves {
        assert!(valve.is_closed().await, "either had the other");
    }
    lives(&mut fan, "fan-1").await;
    scene.delete_key("fans").await;
    assert!(fan.is_closed().await);
    let log = scene.broker.gateway().log_text();
    assert!(!log.contains("all sessions of NATS are looked at"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_more_than_nats_can_carry_is_refused() {
    let scene = Scene::with(Version::V311, Settings::with("max_payload: 8192")).await;
    let many: Vec<String> = (0..100).map(|number| format!("pump-{number}")).collect();
    let many = scene.key("many", json!({ "deviceIds": many })).await;
    let few = scene.key("few", json!({ "deviceIds": ["pump-1"] })).await;
    scene.session("pump-1", &few).await;
    let connect = scene.connect("pump-1", &many);
    scene.refused(&connect).await;
    found("it is said why", async || {
        let output = scene.broker.output();
        output.contains("raise max_payload").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_flags_is_said_in_one_sentence() {
    let access = Access::at("http://127.0.0.1:9");
    let launcher = Launcher::new("nats-flags", &access);
    let folder = Folder::new("nats-flags");
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let login = file("login", "keyward:secret");
    let issuer = file("issuer", ISSUER_SEED);
    let nothing = file("nothing", "");
    let all = |namespace: &str, url: &str, login: &str, issuer: &str| {
        vec![
            namespace.to_owned(),
            format!("--nats-url={url}"),
            "--nats-account=DEVICES".to_owned(),
            format!("--nats-login={login}"),
            format!("--nats-system-login={login}"),
            format!("--nats-issuer={issuer}"),
        ]
    };
    let (one, url) = ("--namespace=plant", "nats://127.0.0.1:9");
    let rows = [
        (
            [
                all("--all-namespaces", url, &login, &issuer),
                vec!["--topic-root={namespace}/devices".to_owned()],
            ]
            .concat(),
            "needs exactly one --namespace",
        ),
        (
            all(one, "nats://a:b@127.0.0.1:9", &login, &issuer),
            "--nats-url must not hold user",
        ),
        (
            all(one, url, &nothing, &issuer),
            "has to hold USER:PASSWORD",
        ),
        (
            all(one, url, &login, &nothing),
            "has no line with a seed that begins with SA",
        ),
        (all(one, url, &login, "/nowhere"), "cannot be read"),
        (
            vec![one.to_owned(), format!("--nats-url={url}")],
            "--nats-login",
        ),
        (
            vec![one.to_owned(), "--nats-ca=ca.pem".to_owned()],
            "--nats-url",
        ),
        (
            [
                all(one, url, &login, &issuer),
                vec!["--nats-cert=client.pem".to_owned()],
            ]
            .concat(),
            "--nats-key",
        ),
    ];
    for (flags, said) in rows {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut process = launcher.start_gateway(&flags);
        found("it ends", async || (!process.lives()).then_some(())).await;
        let log = process.log_text();
        assert!(log.contains(said), "{said}: {log}");
    }
}
