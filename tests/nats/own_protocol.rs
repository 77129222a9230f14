//! Clients that speak NATS's own protocol.

use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::timeout;

use super::{CUTS, scene};
use crate::mqtt::Message;
use crate::scene::Scene;
use crate::support::gateway::PATIENCE;
use crate::support::keys::some_secret;
use crate::support::plant::Issued;
use crate::support::process::holds_no_secret;
use crate::support::wait::found;

/// A client of NATS's own protocol, as the device and key say; none if it is refused.
async fn core(scene: &Scene, id: &str, issued: &Issued) -> Option<async_nats::Client> {
    let options = scene.broker.core_options(&issued.key, &issued.secret);
    let options = options
        .name(id)
        .custom_inbox_prefix(format!("_INBOX_{id}.{}", issued.key));
    options.connect(scene.broker.core.to_string()).await.ok()
}

async fn next(messages: &mut async_nats::Subscriber) -> (String, String) {
    let message = timeout(PATIENCE, messages.next()).await;
    let message = message.expect("in time").expect("a message");
    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
    (message.subject.to_string(), payload)
}

/// What the client has said before, NATS has heard: it hears what it says now.
async fn has_said_all(
    client: &async_nats::Client,
    messages: &mut async_nats::Subscriber,
    subject: &str,
) {
    client
        .publish(subject.to_owned(), "heard".into())
        .await
        .unwrap();
    let heard = (subject.to_owned(), "heard".to_owned());
    while next(messages).await != heard {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_may_speak_natss_own_protocol() {
    let mut scene = scene().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let topics =
        json!({ "filter": "AllowList", "publish": ["service/time"], "subscribe": ["news"] });
    let topics = json!({ "topics": topics });
    scene.plant.change("pumps", topics).await;
    scene.until_granted("pump-2", &pumps, "news").await;
    let connect = async |id: &str| found(id, async || core(&scene, id, &pumps).await).await;
    let (pump_1, pump_2) = (connect("pump-1").await, connect("pump-2").await);
    for id in ["", "pump-3", "pump-1.x", "*", ">"] {
        assert!(core(&scene, id, &pumps).await.is_none(), "{id}");
    }
    let wrong = pumps.with(&some_secret());
    assert!(core(&scene, "pump-1", &wrong).await.is_none());

    // What each may do.
    let backend = scene.broker.backend().await;
    let mut all = backend.subscribe(">").await.unwrap();
    has_said_all(&backend, &mut all, "hello").await;
    let sends = [
        ("devices.pump-1.state", true),
        ("devices.pump-1.command", false),
        ("devices.pump-2.command", true),
        ("devices.pump-2.state", false),
        ("devices.pump-3.command", false),
        ("$MQTT.msgs.devices.pump-1.state", false),
        ("$JS.API.INFO", false),
        ("service.time", true),
        ("anything", false),
    ];
    for (subject, is_allowed) in sends {
        pump_1.publish(subject, subject.into()).await.unwrap();
        pump_1
            .publish("devices.pump-1.state", "end".into())
            .await
            .unwrap();
        let mut has_arrived = false;
        loop {
            let (at, payload) = next(&mut all).await;
            match &*payload {
                "end" => break,
                _ => has_arrived |= at == subject,
            }
        }
        assert_eq!(has_arrived, is_allowed, "{subject}");
    }

    // What each sees, while MQTT clients get messages at least once.
    let mut sensor = scene.session("pump-1", &pumps).await;
    let command = "devices/pump-1/command";
    assert_eq!(sensor.subscribe(command, 1).await, Some(true));
    let own_inbox = format!("_INBOX_pump-1.{}.>", pumps.key);
    let mut seen = Vec::new();
    for (subject, is_allowed) in [
        ("devices.pump-2.state", true),
        ("devices.pump-2.command", true),
        ("devices.pump-3.state", false),
        ("devices.*.state", false),
        ("devices.>", false),
        ("$MQTT.>", false),
        ("$MQTT.sub.>", false),
        ("$MQTT.deliver.pubrel.>", false),
        ("_INBOX.>", false),
        (&own_inbox, false),
        (">", false),
    ] {
        let messages = pump_2.subscribe(subject.to_owned()).await.unwrap();
        seen.push((subject.to_owned(), is_allowed, messages));
    }
    let (own, _, messages) = &mut seen[0];
    has_said_all(&pump_2, messages, own).await;
    for subject in [
        "devices.pump-3.state",
        "devices.pump-2.state",
        "devices.pump-2.command",
    ] {
        backend.publish(subject, subject.into()).await.unwrap();
    }
    let mut service = backend.subscribe("service.time").await.unwrap();
    has_said_all(&backend, &mut all, "service").await;
    let answers = async {
        let asked = timeout(PATIENCE, service.next())
            .await
            .expect("service")
            .unwrap();
        backend
            .publish(asked.reply.unwrap(), "noon".into())
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(pump_1.request("service.time", "".into()), answers);
    assert_eq!(answer.unwrap().payload, "noon");
    let mut two = scene.session("pump-2", &pumps).await;
    two.publish(command, "do it", false).await;
    assert_eq!(sensor.message().await, Message::new(command, "do it"));
    // All that was sent before this was sent before.
    backend
        .publish("devices.pump-2.state", "end".into())
        .await
        .unwrap();
    let (_, _, own) = &mut seen[0];
    while next(own).await.1 != "end" {}
    for (subject, is_allowed, messages) in &mut seen {
        let has_seen = messages.next().now_or_never().flatten().is_some();
        assert!(!has_seen || *is_allowed, "{subject}");
    }

    // And is gone once its key does not let it.
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    assert!(sensor.is_closed().await);
    found("both are gone", async || {
        let connected = async_nats::connection::State::Connected;
        let are_gone = [&pump_1, &pump_2]
            .iter()
            .all(|client| client.connection_state() != connected);
        are_gone.then_some(())
    })
    .await;
    assert!(core(&scene, "pump-1", &pumps).await.is_none());
    let gateway = scene.broker.gateway();
    gateway
        .counts(&format!("{CUTS},answer=\"inactive\"}}"), 4)
        .await;
    holds_no_secret(&scene.broker.output(), &[pumps.secret]);
}
