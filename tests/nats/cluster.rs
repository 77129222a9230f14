//! Three servers that are one NATS. Sessions are wherever they like, and gateways are connected to some of the servers.

use serde_json::json;

use super::CUTS;
use crate::broker::{Server, Settings};
use crate::mqtt::{Session, Version};
use crate::scene::{Scene, lives};
use crate::support::plant::Issued;
use crate::support::process::{Process, free_port};
use crate::support::wait::found;

/// Devices that were asked about, and are admitted.
const ADMITTED: &str = "keyward_decisions_total{asked=\"authenticate\",answer=\"allow\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_admitted_and_cut_wherever_they_are() {
    let routes = [free_port(), free_port(), free_port()];
    let one = Server::start(member(1, routes)).await;
    let mut two = Server::start(member(2, routes)).await;
    let mut scene = Scene::with(Version::V311, member(0, routes)).await;
    let pumps = scene.key("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    let valves = json!({ "deviceIds": ["valve-1", "valve-2"] });
    let valves = scene.key("valves", valves).await;
    let fans = scene.key("fans", json!({ "deviceIds": ["fan-1"] })).await;
    let lamps = scene.key("lamps", json!({ "allDevices": true })).await;
    let mut lamp = session_at(&one, &scene, "lamp-1", &lamps).await;

    // Gateways at two of the servers, and one of them is asked.
    let mut second = gateway_at(&one, &scene).await;
    let before = admitted(&mut scene, &mut second).await;
    let mut pump = session_at(&two, &scene, "pump-1", &pumps).await;
    found("it is asked about", async || {
        (admitted(&mut scene, &mut second).await > before).then_some(())
    })
    .await;
    assert_eq!(admitted(&mut scene, &mut second).await, before + 1);
    second.kill();

    // At a server without a gateway.
    inactive(&scene, "pumps").await;
    assert!(pump.is_closed().await);
    lives(&mut lamp, "lamp-1").await;

    // At one that does not answer for a while.
    let mut valve = session_at(&two, &scene, "valve-1", &valves).await;
    two.pause();
    inactive(&scene, "valves").await;
    found("it is seen that it does not answer", async || {
        let log = scene.broker.output();
        log.contains("cannot be asked: it does not answer")
            .then_some(())
    })
    .await;
    two.resume();
    assert!(valve.is_closed().await);
    lives(&mut lamp, "lamp-1").await;

    // At one that was started again.
    two.restart().await;
    let mut fan = session_at(&two, &scene, "fan-1", &fans).await;
    inactive(&scene, "fans").await;
    assert!(fan.is_closed().await);
    let cuts = format!("{CUTS},answer=\"inactive\"}}");
    scene.broker.gateway().counts(&cuts, 3).await;

    // The gateway's own is gone: it goes to another.
    scene.broker.end().await;
    let mut lamp_2 = session_at(&two, &scene, "lamp-2", &lamps).await;
    inactive(&scene, "lamps").await;
    assert!(lamp.is_closed().await && lamp_2.is_closed().await);
}

fn member(number: usize, routes: [u16; 3]) -> Settings {
    let name = format!("server_name: nats-{number}");
    let others = routes.map(|port| format!("\"nats-route://127.0.0.1:{port}\""));
    let more = format!(
        "cluster {{ name: it, listen: \"127.0.0.1:{}\", routes: [{}] }}",
        routes[number],
        others.join(", ")
    );
    Settings {
        namespace: format!("nats-{}", routes[0]),
        changes: vec![("server_name: nats", name)],
        ..Settings::with(&more)
    }
}

async fn session_at(server: &Server, scene: &Scene, id: &str, issued: &Issued) -> Session {
    let connect = scene.connect(id, issued);
    // Servers have to find each other first.
    for _ in 0..5 {
        if let Ok(session) = connect.to(server.at).await {
            return session;
        }
    }
    found(id, async || connect.to(server.at).await.ok()).await
}

/// One more gateway, which is connected to this server.
async fn gateway_at(server: &Server, scene: &Scene) -> Process {
    let is_url = |flag: &String| flag.starts_with("--nats-url");
    let mut flags = scene.broker.flags();
    flags.retain(|flag| !is_url(flag));
    flags.push(format!("--nats-url=nats://{}", server.core));
    let gateway = scene.broker.launch(&flags);
    found("NATS may ask it", async || {
        let log = gateway.log_text();
        log.contains("NATS may ask who may connect").then_some(())
    })
    .await;
    gateway
}

async fn admitted(scene: &mut Scene, second: &mut Process) -> u64 {
    scene.broker.gateway().metric(ADMITTED).await + second.metric(ADMITTED).await
}

async fn inactive(scene: &Scene, key: &str) {
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change(key, inactive).await;
}
