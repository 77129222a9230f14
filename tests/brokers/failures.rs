//! What a broker that asks over HTTP lives through: gateways that are killed, that know nothing yet or have not heard of
//! anything for too long, and answers that are malformed or late. Nobody comes in who should not, and all is well again
//! once the reason is gone.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::HABITS;
use crate::door::{Door, STALENESS};
use crate::mqtt::Connect;
use crate::scene::Scene;
use crate::support::process::Launcher;
use crate::support::relay::{Answers, Relay, Side};
use crate::support::wait::found;

/// What no gateway says.
const MALFORMED: [(&str, &str); 5] = [
    ("nothing", ""),
    ("no HTTP", "allow\r\n"),
    ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
    (
        "an error with a yes",
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nallow",
    ),
    (
        "somewhere else",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    ),
];

pub async fn nobody_comes_in_while_it_cannot_be_known_who_they_are(scene: &mut Scene) {
    let safe = scene.key("safe", json!({ "deviceIds": ["safe-1"] })).await;
    let connect = scene.connect("safe-1", &safe);
    scene.admitted(&connect).await;
    scene.broker.kill_gateway();
    stays_out(scene, &connect, "no gateway").await;

    let door = Door::default();
    let proxy = door.proxy().await;
    let strict = ["--staleness=strict"];
    let launcher = Launcher::new("strict", &proxy.access());
    let mut gateway = scene.broker.another_gateway(&launcher, &strict).await;
    let from = Answers::From(gateway.brokers);
    let relay = Relay::at(scene.broker.asks, Side::Listening, from).await;
    stays_out(scene, &connect, "a gateway that knows nothing").await;
    door.open();
    gateway.process.is_ready().await;
    scene.admitted(&connect).await;

    door.close();
    for (what, answer) in MALFORMED {
        relay.answers(Answers::Always(answer));
        stays_out(scene, &connect, what).await;
    }
    relay.answers(from);
    scene.admitted(&connect).await;
    relay.answers(Answers::Held(gateway.brokers));
    {
        let mut coming = Box::pin(connect.to(scene.broker.at));
        let patience = sleep(Duration::from_secs(3));
        tokio::select! {
            session = &mut coming => assert!(session.is_err(), "no answer"),
            () = patience => {}
        }
    }
    relay.answers(from);
    scene.admitted(&connect).await;

    who_is_admitted_late_does_nothing(scene, &relay).await;

    relay.answers(from);
    gateway.within(STALENESS, "safe-1", &safe, 503).await;
    stays_out(scene, &connect, "a gateway that has not heard of anything").await;
    door.open();
    gateway.within(STALENESS, "safe-1", &safe, 200).await;
    scene.admitted(&connect).await;
}

/// The answer was right when it was given.
async fn who_is_admitted_late_does_nothing(scene: &mut Scene, relay: &Relay) {
    let tardy = scene
        .key("tardy", json!({ "deviceIds": ["tardy-1"] }))
        .await;
    let connect = scene.connect("tardy-1", &tardy);
    let launcher = &scene.plant.launcher;
    let mut gateway = scene.broker.another_gateway(launcher, &[]).await;
    gateway.process.is_ready().await;
    relay.answers(Answers::Held(gateway.brokers));
    let at = scene.broker.at;
    let comes = || {
        let connect = connect.clone();
        tokio::spawn(async move { connect.to(at).await })
    };
    let mut coming = comes();
    found("it is decided", async || {
        if coming.is_finished() {
            // It was asked for on a connection that the broker had kept, and that has just ended.
            coming = comes();
        }
        gateway.process.output().contains(&tardy.key).then_some(())
    })
    .await;
    scene.change("tardy", json!({ "state": "Inactive" })).await;
    gateway.until("tardy-1", &tardy, 401).await;
    relay.answers(Answers::From(gateway.brokers));
    if let Ok(mut session) = coming.await.expect("a task") {
        match HABITS.cuts {
            true => assert!(session.is_closed().await),
            false => {
                let state = "devices/tardy-1/state";
                assert_ne!(session.subscribe(state, 0).await, Some(true));
            }
        }
    }
    stays_out(scene, &connect, "an inactive key").await;
}

/// A device does not come in, however often it tries.
async fn stays_out(scene: &Scene, connect: &Connect, why: &str) {
    for _ in 0..3 {
        let session = connect.to(scene.broker.at).await;
        assert!(session.is_err(), "{why}");
    }
}
