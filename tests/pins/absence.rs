//! An object is absent, or in the way, if a Status says so of that object. kube believes less.

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::clock::Clock;
use keyward::controller::delivery;
use keyward::controller::failure::Failure;
use kube::Api;
use serde_json::{Value, json};

use super::server::{Reply, Server};
use super::{access_key, new_secret, that_secret};

fn status(code: u16, reason: &str, details: Value) -> Reply {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": "no", "details": details,
    });
    Reply::Answer(code, status.to_string())
}

fn about_the_secret(code: u16, reason: &str) -> Reply {
    status(code, reason, json!({ "name": "pump", "kind": "secrets" }))
}

/// What has the code of an absence or of a conflict, and is none.
fn impostors(code: u16, reason: &str) -> Vec<Reply> {
    vec![
        Reply::Answer(code, "<html>no such page</html>".into()),
        Reply::Answer(code, "404 page not found\n".into()),
        Reply::Answer(code, String::new()),
        Reply::Answer(code, "{}".into()),
        Reply::Answer(code, json!({ "reason": reason }).to_string()),
        status(code, reason, Value::Null),
        status(code, "", json!({ "name": "pump", "kind": "secrets" })),
        status(
            code,
            reason,
            json!({ "name": "plant", "kind": "namespaces" }),
        ),
        status(code, reason, json!({ "name": "valve", "kind": "secrets" })),
    ]
}

#[tokio::test]
async fn a_secret_is_absent_if_a_status_names_it() {
    let begun = Clock::system().now().monotonic;
    let read = async |reply: &Reply| {
        let server = Server::start(std::slice::from_ref(reply)).await;
        let secrets: Api<KubeSecret> = Api::namespaced(server.client(), "plant");
        let key = access_key();
        let metadata = delivery::read_metadata(&secrets, &key, begun).await;
        let whole = delivery::read(&secrets, &key, begun).await;
        [
            metadata.map(|found| found.is_none()),
            whole.map(|found| found.is_none()),
        ]
    };
    for absent in read(&about_the_secret(404, "NotFound")).await {
        assert!(absent.expect("an answer"));
    }
    for impostor in impostors(404, "NotFound") {
        for answer in read(&impostor).await {
            let failed = matches!(answer, Err(Failure::Refused { .. }));
            assert!(failed, "{answer:?} {impostor:?}");
        }
    }
}

#[tokio::test]
async fn a_write_meets_a_conflict_if_a_status_names_its_object() {
    let write = async |reply: &Reply| {
        let server = Server::start(std::slice::from_ref(reply)).await;
        let (client, over) = (server.client(), that_secret());
        let secrets: Api<KubeSecret> = Api::namespaced(client.clone(), "plant");
        let publish = async |over| {
            delivery::publish(&client, &access_key(), "kwk_", &new_secret(), over).await
        };
        [
            publish(None).await.map(drop),
            publish(Some(&over)).await.map(drop),
            delivery::delete(&secrets, "pump", &over.0, over.1).await,
        ]
    };
    for reason in ["AlreadyExists", "Conflict"] {
        for answer in write(&about_the_secret(409, reason)).await {
            assert!(matches!(answer, Err(Failure::Conflict)), "{answer:?}");
        }
        for impostor in impostors(409, reason) {
            for answer in write(&impostor).await {
                let failed = matches!(answer, Err(Failure::Refused { .. }));
                assert!(failed, "{answer:?} {impostor:?}");
            }
        }
    }
}

/// So the tests above can fail, and Keyward does not ask this of kube.
#[tokio::test]
async fn kube_takes_a_status_about_nothing_for_an_absence() {
    let server = Server::start(&[status(404, "NotFound", Value::Null)]).await;
    let secrets: Api<KubeSecret> = Api::namespaced(server.client(), "plant");
    let answer = secrets.get_opt("pump").await.expect("an answer");
    assert!(answer.is_none());
}
