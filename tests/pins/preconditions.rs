//! What is replaced or deleted is exactly what was seen, and what is asked for holds no plaintext.

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::clock::Clock;
use keyward::controller::delivery;
use keyward::controller::hasher::Hasher;
use keyward::controller::ledger::{Uid, Version};
use keyward::controller::run::{self, Ending, Kept, Tools};
use keyward::controller::step::Timing;
use keyward::metrics::Metrics;
use keyward::verifier::HashProfile;
use kube::Api;
use serde_json::{Value, json};
use std::time::Duration;

use super::server::{Received, Reply, Server};
use super::{access_key, new_secret, secret_metadata, that_secret};

const SECRETS: &str = "/api/v1/namespaces/plant/secrets";

#[tokio::test]
async fn a_delete_names_uid_and_version() {
    let server = answering(json!({ "kind": "Status", "status": "Success" })).await;
    let secrets: Api<KubeSecret> = Api::namespaced(server.client(), "plant");
    let (uid, version) = that_secret();
    let deleted = delivery::delete(&secrets, "pump", &uid, version).await;
    deleted.expect("it is deleted");
    let sent = only(&server);
    assert_eq!(
        (&*sent.method, path(&sent)),
        ("DELETE", &*format!("{SECRETS}/pump"))
    );
    let exactly = json!({ "uid": "uid-of-the-secret", "resourceVersion": "9" });
    assert_eq!(sent.body["preconditions"], exactly);
}

#[tokio::test]
async fn a_replacement_names_uid_and_version() {
    let server = answering(secret_metadata()).await;
    publish(&server, Some(&that_secret())).await;
    let sent = only(&server);
    assert_eq!(
        (&*sent.method, path(&sent)),
        ("PUT", &*format!("{SECRETS}/pump"))
    );
    assert_eq!(sent.body["metadata"]["uid"], "uid-of-the-secret");
    assert_eq!(sent.body["metadata"]["resourceVersion"], "9");
    answer_is_asked_for_without_data(&sent);
}

/// A create with a version would be refused; one with a generated name would never be.
#[tokio::test]
async fn a_create_names_the_secret_and_its_owner() {
    let server = answering(secret_metadata()).await;
    publish(&server, None).await;
    let sent = only(&server);
    assert_eq!((&*sent.method, path(&sent)), ("POST", SECRETS));
    let metadata = &sent.body["metadata"];
    assert_eq!(metadata["name"], "pump");
    for absent in ["uid", "resourceVersion", "generateName"] {
        assert_eq!(metadata[absent], Value::Null, "{absent}");
    }
    assert_eq!(metadata["ownerReferences"][0]["uid"], "uid-of-the-key");
    answer_is_asked_for_without_data(&sent);
}

#[tokio::test]
async fn the_first_look_at_a_secret_does_not_ask_for_its_data() {
    let server = answering(secret_metadata()).await;
    let secrets: Api<KubeSecret> = Api::namespaced(server.client(), "plant");
    let begun = Clock::system().now().monotonic;
    let found = delivery::read_metadata(&secrets, &access_key(), begun).await;
    assert!(found.expect("an answer").is_some());
    answer_is_asked_for_without_data(&only(&server));
}

#[tokio::test]
async fn a_status_is_written_over_the_version_that_was_read() {
    let server = Server::start(&[Reply::Answer(500, "no".into())]).await;
    let (metrics, _) = Metrics::new();
    let tools = Tools {
        client: server.client(),
        request_timeout: Duration::from_secs(10),
        timing: Timing::with_grace(Duration::from_secs(300)),
        clock: Clock::system(),
        hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
        metrics,
    };
    let ended = run::run(&tools, access_key(), Kept::default(), None).await;
    assert!(
        matches!(ended.ending, Ending::Failed(..)),
        "{:?}",
        ended.ending
    );
    let sent = only(&server);
    let target = "/apis/keyward.dev/v1alpha1/namespaces/plant/accesskeys/pump/status";
    assert_eq!((&*sent.method, path(&sent)), ("PUT", target));
    assert_eq!(sent.body["metadata"]["uid"], "uid-of-the-key");
    assert_eq!(sent.body["metadata"]["resourceVersion"], "7");
}

async fn answering(body: Value) -> Server {
    Server::start(&[Reply::Answer(200, body.to_string())]).await
}

async fn publish(server: &Server, over: Option<&(Uid, Version)>) {
    let (client, key, secret) = (server.client(), access_key(), new_secret());
    let published = delivery::publish(&client, &key, "kwk_", &secret, over);
    published.await.expect("it is published");
}

fn only(server: &Server) -> Received {
    let received = server.received();
    assert_eq!(received.len(), 1, "{received:?}");
    received[0].clone()
}

fn path(received: &Received) -> &str {
    received.target.split('?').next().unwrap_or_default()
}

fn answer_is_asked_for_without_data(sent: &Received) {
    let accept = sent
        .headers
        .get("accept")
        .map(String::as_str)
        .unwrap_or_default();
    assert!(
        accept
            .split(',')
            .all(|kind| kind.contains("as=PartialObjectMetadata;")),
        "{accept}"
    );
}
