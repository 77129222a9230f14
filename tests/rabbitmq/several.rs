//! Several gateways at one RabbitMQ: they are asked in turn, and each ends what any of them has admitted.

use futures::future::join_all;
use serde_json::json;

use crate::https;
use crate::mqtt::Session;
use crate::scene::Scene;
use crate::support::gateway::Gateway;
use crate::support::process::{Folder, free_port};
use crate::support::splitter::Splitter;

/// Nobody listens where RabbitMQ asks.
pub async fn several_gateways_share_the_work(scene: &Scene) {
    let folder = Folder::new("several");
    https::write(scene, &folder);
    let mut one = scene.broker.gateway_at(free_port(), &[]).await;
    let secure = https::flags(scene, &folder);
    let mut two = scene.broker.gateway_at(free_port(), &secure).await;
    let _splitter = Splitter::start(scene.broker.asks.port(), vec![one.brokers, two.brokers]).await;

    let ids = ["twin-1", "twin-2", "twin-3", "twin-4", "twin-5", "twin-6"];
    let twins = scene.key("twins", json!({ "deviceIds": ids })).await;
    let connecting = ids.map(|id| scene.session(id, &twins));
    let mut sessions = join_all(connecting).await;
    for gateway in [&mut one, &mut two] {
        let asked = r#"keyward_decisions_total{asked="authenticate",answer="allow"}"#;
        gateway.process.counts_at_least(asked, 1).await;
    }
    let mut last = sessions.split_off(4);
    scene.restrict("twins", &ids[..4]).await;
    for session in &mut last {
        assert!(session.is_closed().await);
    }
    scene.refused(&scene.connect("twin-6", &twins)).await;
    go_on(&ids, &mut sessions).await;
    let [by_one, by_two] = [cuts(&mut one).await, cuts(&mut two).await];
    // Both may have asked for it at once.
    assert!(by_one <= 2 && by_two <= 2, "{by_one} and {by_two}");
    assert!(by_one + by_two >= 2, "{by_one} and {by_two}");

    // A session is not one gateway's.
    one.process.kill();
    let new = {
        let rotation = json!({ "rotation": { "revision": 2, "overlap": "0s" } });
        scene.change("twins", rotation).await;
        scene.plant.delivered("twins", 2).await
    };
    for session in &mut sessions {
        assert!(session.is_closed().await);
    }
    let mut back = vec![scene.session("twin-1", &new).await];
    scene
        .is_refused(&scene.connect("twin-2", &twins), "by the old secret")
        .await;
    go_on(&ids, &mut back).await;
    assert_eq!(cuts(&mut two).await, by_two + 4);
    scene.change("twins", json!({ "state": "Inactive" })).await;
    assert!(back[0].is_closed().await);
}

/// These sessions are not cut.
async fn go_on(ids: &[&str], sessions: &mut [Session]) {
    for (id, session) in ids.iter().zip(sessions) {
        let topic = format!("devices/{id}/state");
        let sent = session.publish(&topic, "still here", false).await;
        assert!(sent.is_some(), "{id} goes on");
    }
}

/// How many sessions a gateway has ended.
async fn cuts(gateway: &mut Gateway) -> u64 {
    let (_, metrics) = gateway.process.get("/metrics").await;
    let lines = metrics.lines();
    let cuts = lines.filter(|line| line.starts_with(r#"keyward_decisions_total{asked="cut""#));
    let values = cuts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}
