//! The client sends nothing twice: the protocol decides itself what a failure means.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::server::{Reply, Server};

/// Each with a body that no Status is.
fn failures() -> Vec<Reply> {
    let codes = [408, 425, 429, 500, 502, 503, 504];
    let mut replies: Vec<Reply> = codes.map(|code| Reply::Answer(code, "later".into())).into();
    replies.push(Reply::Truncated(200, "{}".into()));
    replies.push(Reply::Redirect("/elsewhere"));
    replies.push(Reply::Reset);
    replies
}

async fn send(client: Client, method: &str) -> bool {
    let objects: Api<ConfigMap> = Api::namespaced(client, "plant");
    let object = json!({ "metadata": { "name": "a", "resourceVersion": "1" } });
    let object = serde_json::from_value(object).expect("an object");
    let params = PostParams::default();
    match method {
        "POST" => objects.create(&params, &object).await.is_ok(),
        "PUT" => objects.replace("a", &params, &object).await.is_ok(),
        "DELETE" => objects.delete("a", &DeleteParams::default()).await.is_ok(),
        _ => objects.get("a").await.is_ok(),
    }
}

const METHODS: [&str; 4] = ["POST", "PUT", "DELETE", "GET"];

#[tokio::test]
async fn a_request_that_failed_is_not_sent_again() {
    for method in METHODS {
        for failure in failures() {
            let server = Server::start(std::slice::from_ref(&failure)).await;
            assert!(!send(server.client(), method).await, "{method} {failure:?}");
            assert_eq!(server.received().len(), 1, "{method} {failure:?}");
            assert_eq!(server.received()[0].method, method);
        }
    }
}

/// A connection that was used before may have been closed in the meantime, so HTTP libraries like to try
/// another one.
#[tokio::test]
async fn nor_is_it_on_a_connection_that_breaks_after_it_was_used() {
    for method in METHODS {
        for failure in failures() {
            let good = Reply::Answer(200, json!({ "metadata": { "name": "a" } }).to_string());
            let server = Server::start(&[good, failure.clone()]).await;
            let client = server.client();
            assert!(send(client.clone(), "GET").await);
            assert!(!send(client, method).await, "{method} {failure:?}");
            assert_eq!(server.received().len(), 2, "{method} {failure:?}");
        }
    }
}

/// So the two tests above can fail.
#[tokio::test]
async fn kube_would_send_it_again_by_default() {
    for code in [429, 503, 504] {
        let failure = Reply::Answer(code, "later".into());
        let done = Reply::Answer(201, json!({ "metadata": { "name": "a" } }).to_string());
        let server = Server::start(&[failure, done]).await;
        assert!(send(server.default_client(), "POST").await, "{code}");
        assert_eq!(server.received().len(), 2, "{code}");
    }
}
