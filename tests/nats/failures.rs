//! What NATS lives through: gateways that know nothing yet or have not heard of anything for too long, and answers that
//! are malformed, late, or were given to somebody else. Nobody comes in who should not, and all is well again once the
//! reason is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use serde_json::json;
use tokio::sync::watch;

use super::scene;
use crate::broker::Settings;
use crate::door::{Door, STALENESS};
use crate::mqtt::{Connect, Version};
use crate::scene::{Scene, lives};
use crate::support::gateway::Gateway;
use crate::support::process::Launcher;
use crate::support::relay::{Answers, Relay, Side};
use crate::support::wait::found;

const ASKED: &str = "$SYS.REQ.USER.AUTH";

/// A device does not come in.
async fn stays_out(scene: &Scene, connect: &Connect, why: &str) {
    let session = connect.to(scene.broker.at).await;
    assert!(session.is_err(), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_know_admits_nobody() {
    let mut scene = scene().await;
    let pumps = scene.key("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    let connect = scene.connect("pump-1", &pumps);
    let mut session = scene.admitted(&connect).await;
    scene.broker.kill_gateway();
    let door = Door::default();
    let proxy = door.proxy().await;
    let launcher = Launcher::new("nats-strict", &proxy.access());
    let flags = scene.broker.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let strict = [&flags[..], &["--staleness=strict"]].concat();
    let gateway = Gateway::of(launcher.start_gateway(&strict)).await;
    stays_out(&scene, &connect, "it knows nothing").await;
    lives(&mut session, "pump-1").await;
    door.open();
    scene.admitted(&connect).await;

    door.close();
    gateway.within(STALENESS, "pump-1", &pumps, 503).await;
    stays_out(&scene, &connect, "it has not heard of anything").await;
    door.open();
    gateway.within(STALENESS, "pump-1", &pumps, 200).await;
    let mut session = scene.admitted(&connect).await;
    let inactive = json!({ "state": "Inactive" });
    scene.change("pumps", inactive).await;
    assert!(session.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_of_the_gateway_admits_nobody() {
    let mut scene = Scene::with(Version::V311, Settings::with("# no xkey")).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let options = scene.broker.core_options("keyward", "for-the-callout");
    let callout = options.connect(scene.broker.core.to_string()).await;
    let callout = callout.expect("a connection");

    // What the gateway answers, to be said again.
    let mut said = callout.subscribe(">").await.expect("a subscription");
    callout.flush().await.expect("flushed");
    scene.session("pump-2", &pumps).await;
    let old = found("an answer", async || {
        let message = said.next().await?;
        (message.subject.as_str() != ASKED).then_some(message.payload)
    })
    .await;
    scene.broker.kill_gateway();
    drop(said);

    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJuYXRzIjp7fX0.";
    let answers: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("a word", b"allow".to_vec()),
        ("bytes", vec![0xff; 512]),
        ("a token without a signature", unsigned.into()),
        ("an answer to somebody else", old.to_vec()),
    ];
    let asked = callout.subscribe(ASKED).await.expect("a subscription");
    callout.flush().await.expect("flushed");
    let (answer, said) = watch::channel(Vec::new());
    let many = Arc::new(AtomicUsize::new(0));
    let answering = tokio::spawn(answer_all(callout, asked, said, Arc::clone(&many)));
    let connect = scene.connect("pump-1", &pumps);
    for (what, text) in answers {
        answer.send_replace(text);
        let before = many.load(Ordering::SeqCst);
        found(what, async || {
            stays_out(&scene, &connect, what).await;
            (many.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
    }
    answering.abort();
    scene.broker.start_gateway().await;
    scene.admitted(&connect).await;
}

/// Says the same to all who ask, and counts them.
async fn answer_all(
    callout: async_nats::Client,
    mut asked: async_nats::Subscriber,
    said: watch::Receiver<Vec<u8>>,
    many: Arc<AtomicUsize>,
) {
    while let Some(asked) = asked.next().await {
        let reply = asked.reply.expect("an inbox");
        let answer = said.borrow().clone();
        callout.publish(reply, answer.into()).await.expect("said");
        many.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_late_admit_nobody_for_longer_than_they_may_be_there() {
    let mut scene = scene().await;
    let pumps = scene.key("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    let tardy = scene
        .key("tardy", json!({ "deviceIds": ["tardy-1"] }))
        .await;
    scene.broker.kill_gateway();
    let core = scene.broker.core;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::at(nowhere, Side::Connecting, Answers::From(core)).await;
    scene.broker.core = relay.address;
    scene.broker.start_gateway().await;
    scene.broker.core = core;
    let connect = scene.connect("pump-1", &pumps);
    scene.admitted(&connect).await;

    relay.answers(Answers::Held(core));
    stays_out(&scene, &connect, "no answer in time").await;
    relay.answers(Answers::From(core));
    scene.admitted(&connect).await;

    // It was right when it was given.
    relay.answers(Answers::Held(core));
    let late = scene.connect("tardy-1", &tardy);
    let at = scene.broker.at;
    let coming = tokio::spawn(async move { late.to(at).await });
    found("it is decided", async || {
        let decided = scene.broker.gateway().output();
        decided.contains(&tardy.key).then_some(())
    })
    .await;
    let inactive = json!({ "state": "Inactive" });
    scene.change("tardy", inactive).await;
    relay.answers(Answers::From(core));
    // NATS waits for 5 s, which may have passed.
    if let Ok(mut session) = coming.await.expect("a task") {
        assert!(session.is_closed().await);
    }
    scene.refused(&scene.connect("tardy-1", &tardy)).await;
}
