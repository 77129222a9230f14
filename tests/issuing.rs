//! Keys are issued on a real API server, as DESIGN.md section 3 says.

mod support;

use keyward::api::AccessKey;
use serde_json::json;
use support::cluster::{TestNamespace, apply, eventually, from_json};
use support::controller::TestController;

#[tokio::test]
async fn a_key_is_issued_once() {
    let namespace = TestNamespace::served("issue").await;
    let controller = TestController::start(&namespace.name).await;
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    let key: AccessKey = from_json(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "first" },
        "spec": { "restrictions": { "allDevices": true } },
    }));
    apply(&keys, &key).await;
    eventually("the key is ready", || async {
        let key = keys.get_status("first").await.unwrap();
        key.status.is_some_and(|s| {
            s.conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        })
    })
    .await;
    println!(
        "{}",
        serde_json::to_string_pretty(&keys.get("first").await.unwrap()).unwrap()
    );
    controller.resync(1).await;
    controller.stop().await;
}
