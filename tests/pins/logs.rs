//! No body of an answer is logged at any level, whatever is wrong with it: it may be a Secret.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::clock::Clock;
use keyward::controller::delivery;
use keyward::telemetry::is_within_limits;
use kube::Api;
use kube::api::WatchParams;
use serde_json::json;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::server::{Reply, Server};
use super::{access_key, new_secret, that_secret};

const CANARY: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";

/// Answers that hold a secret and cannot be read.
fn unreadable() -> Vec<Reply> {
    let object = json!({
        "metadata": { "name": 7, "annotations": { "note": CANARY } }, "data": { "secret": CANARY },
    });
    let event = json!({ "type": "ADDED", "object": object });
    let status = json!({ "kind": "Status", "message": CANARY, "reason": CANARY, "code": 418 });
    vec![
        Reply::Answer(200, object.to_string()),
        Reply::Answer(200, CANARY.to_owned()),
        Reply::Answer(200, format!("{event}\n")),
        Reply::Answer(403, CANARY.to_owned()),
        Reply::Answer(500, status.to_string()),
        Reply::Truncated(200, object.to_string()),
        Reply::Truncated(500, CANARY.to_owned()),
    ]
}

#[tokio::test]
async fn no_answer_is_logged_that_cannot_be_read() {
    let (ours, all) = (Buffer::default(), Buffer::default());
    let within_limits = lines(&ours).with_filter(filter_fn(is_within_limits));
    let layers = vec![within_limits.boxed(), lines(&all).boxed()];
    let subscriber = tracing_subscriber::registry().with(layers);
    let _listens = tracing::subscriber::set_default(subscriber);

    for reply in unreadable() {
        use_everything(&reply).await;
    }
    tracing::trace!("of ours");
    assert!(ours.text().contains("of ours"), "the rest is logged");
    assert!(!ours.text().contains(CANARY), "{}", ours.text());
    // So this test can fail.
    assert!(all.text().contains(CANARY), "kube logs what it cannot read");
}

fn lines(buffer: &Buffer) -> impl Layer<Registry> + Send + Sync + 'static {
    let buffer = buffer.clone();
    fmt::layer()
        .with_ansi(false)
        .with_writer(move || buffer.clone())
}

/// Every way in which the controller reads an answer.
async fn use_everything(reply: &Reply) {
    let server = Server::start(std::slice::from_ref(reply)).await;
    let (client, over, key) = (server.client(), that_secret(), access_key());
    let secrets: Api<KubeSecret> = Api::namespaced(client.clone(), "plant");
    let begun = Clock::system().now().monotonic;
    let mut failures = vec![
        delivery::read_metadata(&secrets, &key, begun)
            .await
            .map(drop),
        delivery::read(&secrets, &key, begun).await.map(drop),
        delivery::delete(&secrets, "pump", &over.0, over.1).await,
    ];
    for over in [None, Some(&over)] {
        let published = delivery::publish(&client, &key, "kwk_", &new_secret(), over).await;
        failures.push(published.map(drop));
    }
    for failure in failures.into_iter().filter_map(Result::err) {
        let text = format!("{failure} {failure:?}");
        assert!(!text.contains(CANARY), "{text}");
    }
    secrets.list(&Default::default()).await.ok();
    if let Ok(events) = secrets.watch(&WatchParams::default(), "0").await {
        events.boxed().try_collect::<Vec<_>>().await.ok();
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic").clone();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
