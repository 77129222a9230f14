//! The optional admission policies of `deploy/policies`, each as it is shipped, on a real API server: what it lets
//! through, and what it refuses.

use crate::support::cluster::{
    TestNamespace, admin_config, apply, controller, eventually, from_json,
};
use crate::support::manifests;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Namespace;
use keyward::api::AccessKey;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// A namespace in which one policy holds, and nowhere else.
struct Ruled {
    namespace: TestNamespace,
    keys: Api<AccessKey>,
}

impl Ruled {
    /// By the file of this name. `is_refused` says when it has taken effect.
    async fn by(file: &'static str) -> Ruled {
        let namespace = TestNamespace::unserved(file).await;
        let keys = namespace.api(&namespace.admin);
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(namespace.admin.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(namespace.admin.clone());
        for mut object in manifests::objects(&format!("deploy/policies/{file}.yaml")) {
            object["metadata"]["name"] = json!(namespace.name);
            if object["kind"] == "ValidatingAdmissionPolicy" {
                apply(&policies, &from_json(object)).await;
            } else {
                object["spec"]["policyName"] = json!(namespace.name);
                let here = json!({ "kubernetes.io/metadata.name": namespace.name });
                object["spec"]["matchResources"] =
                    json!({ "namespaceSelector": { "matchLabels": here } });
                apply(&bindings, &from_json(object)).await;
            }
        }
        Ruled { namespace, keys }
    }

    async fn create(&self, name: &str, spec: Value) -> kube::Result<AccessKey> {
        let key = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": name }, "spec": spec,
        }));
        self.keys.create(&PostParams::default(), &key).await
    }

    async fn change(&self, name: &str, change: Value) -> kube::Result<AccessKey> {
        let params = PatchParams::default();
        self.keys.patch(name, &params, &Patch::Merge(change)).await
    }

    async fn delete(&self, name: &str) -> kube::Result<()> {
        let deleted = self.keys.delete(name, &DeleteParams::default()).await;
        deleted.map(|_| ())
    }
}

/// Whether it was refused by the policy, which says this.
fn is_refused<T>(answer: kube::Result<T>, words: &str) -> bool {
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => {
            assert!(
                status.message.contains(words),
                "{words:?} is not in: {}",
                status.message
            );
            true
        }
        Err(error) => panic!("not by the policy: {error}"),
        Ok(_) => false,
    }
}

fn all_devices() -> Value {
    json!({ "restrictions": { "allDevices": true } })
}

/// As a cluster administrator who says that he is in this group, too.
async fn in_group(group: &str) -> Client {
    let mut config = admin_config().await;
    config.auth_info.impersonate = Some("backup".to_owned());
    config.auth_info.impersonate_groups = Some(vec![group.to_owned(), "system:masters".to_owned()]);
    Client::try_from(config).expect("a client")
}

#[tokio::test]
async fn only_the_controller_writes_a_status_and_who_restores() {
    let ruled = Ruled::by("status").await;
    ruled.create("key", all_devices()).await.expect("created");
    let status = json!({ "status": { "observedGeneration": 7 } });
    let write = async |client: &Client| {
        let keys: Api<AccessKey> = ruled.namespace.api(client);
        let params = PatchParams::default();
        keys.patch_status("key", &params, &Patch::Merge(&status))
            .await
    };
    let said = "only the Keyward controller writes the status";
    let refused = || async { is_refused(write(&ruled.namespace.admin).await, said) };
    eventually("the policy takes effect", refused).await;

    let restorer = in_group("keyward:restorers").await;
    let restored = write(&restorer).await.expect("a backup tool restores");
    assert_eq!(restored.status.expect("a status").observed_generation, 7);
    let another = in_group("keyward:others").await;
    assert!(is_refused(write(&another).await, said));
    // With what it reads, as it does it.
    let keys: Api<AccessKey> = ruled.namespace.api(&controller().await);
    let mut key = keys.get("key").await.expect("read");
    key.status.as_mut().expect("a status").observed_generation = 8;
    let written = keys
        .replace_status("key", &PostParams::default(), &key)
        .await;
    written.expect("the controller writes");
    let described = json!({ "spec": { "description": "no status" } });
    ruled
        .change("key", described)
        .await
        .expect("a spec is its owner's");
}

#[tokio::test]
async fn only_an_inactive_key_is_deleted() {
    let ruled = Ruled::by("delete-only-inactive").await;
    let said = "AccessKey key is Active: set spec.state to Inactive";
    let refused = || async {
        // As long as it has no effect, it deletes.
        ruled.create("key", all_devices()).await.ok();
        is_refused(ruled.delete("key").await, said)
    };
    eventually("the policy takes effect", refused).await;
    let inactive = json!({ "spec": { "state": "Inactive" } });
    ruled.change("key", inactive).await.expect("changed");
    ruled.delete("key").await.expect("an inactive key goes");

    // It stands in nobody's way who deletes the whole namespace.
    ruled
        .create("another", all_devices())
        .await
        .expect("created");
    assert!(is_refused(
        ruled.delete("another").await,
        "AccessKey another is Active"
    ));
    let namespaces: Api<Namespace> = Api::all(ruled.namespace.admin.clone());
    let name = ruled.namespace.name.clone();
    namespaces
        .delete(&name, &DeleteParams::default())
        .await
        .expect("deleted");
    let gone = || async { ruled.keys.get_opt("another").await.expect("read").is_none() };
    eventually("it goes with its namespace", gone).await;
}

#[tokio::test]
async fn restrictions_stay_as_they_were_created() {
    let ruled = Ruled::by("frozen-restrictions").await;
    let ids = |ids: Value| json!({ "spec": { "restrictions": { "deviceIds": ids } } });
    ruled.create("probe", all_devices()).await.expect("created");
    let narrower = ids(json!(["pump-1"]));
    let refused = || async {
        let all = json!({ "spec": { "restrictions": { "allDevices": true, "deviceIds": null } } });
        let narrow =
            json!({ "spec": { "restrictions": { "allDevices": null, "deviceIds": ["pump-1"] } } });
        let answers = [
            ruled.change("probe", narrow).await,
            ruled.change("probe", all).await,
        ];
        let words = "the restrictions of AccessKey probe cannot be changed";
        answers.into_iter().any(|answer| is_refused(answer, words))
    };
    eventually("the policy takes effect", refused).await;
    let same = ids(json!(["pump-1", "pump-2"]));
    let created = same["spec"].clone();
    ruled.create("key", created).await.expect("created");
    ruled
        .change("key", same)
        .await
        .expect("what it was is let through");
    let said = "the restrictions of AccessKey key cannot be changed";
    assert!(is_refused(ruled.change("key", narrower).await, said));
    let wider = ids(json!(["pump-1", "pump-2", "pump-3"]));
    assert!(is_refused(ruled.change("key", wider).await, said));
    let other = json!({ "spec": { "restrictions": { "deviceTags": [{ "key": "site" }] } } });
    assert!(is_refused(ruled.change("key", other).await, said));
    let rest = json!({ "spec": { "state": "Inactive", "description": "off", "rotation": { "revision": 2 } } });
    ruled
        .change("key", rest)
        .await
        .expect("all else may change");
}

#[tokio::test]
async fn where_a_namespace_says_so_every_key_ends_in_time() {
    let ruled = Ruled::by("longest-life").await;
    ruled
        .create("before", all_devices())
        .await
        .expect("created");
    let namespaces: Api<Namespace> = Api::all(ruled.namespace.admin.clone());
    let annotated = json!({ "metadata": { "annotations": { "keyward.dev/longest-life": "24h" } } });
    let name = ruled.namespace.name.clone();
    let (params, annotated) = (PatchParams::default(), Patch::Merge(annotated));
    let annotated = namespaces.patch(&name, &params, &annotated).await;
    annotated.expect("the admin may");
    let until = |hours: i64| {
        let end = Timestamp::now() + SignedDuration::from_hours(hours);
        json!({ "restrictions": { "allDevices": true }, "expiresAt": end })
    };
    let said = "set spec.expiresAt to at most 24h after its creation";
    let refused = || async {
        ruled.delete("endless").await.ok();
        is_refused(ruled.create("endless", all_devices()).await, said)
    };
    eventually("the policy takes effect", refused).await;
    assert!(is_refused(ruled.create("late", until(25)).await, said));
    ruled.create("key", until(23)).await.expect("created");

    // Nor by a change.
    let extended = json!({ "spec": { "expiresAt": until(25)["expiresAt"] } });
    assert!(is_refused(ruled.change("key", extended).await, said));
    let endless = json!({ "spec": { "expiresAt": null } });
    assert!(is_refused(ruled.change("key", endless).await, said));
    let inactive = json!({ "spec": { "state": "Inactive" } });
    ruled
        .change("key", inactive.clone())
        .await
        .expect("all else may change");

    // What was there before stays as it is, or gets an end.
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } });
    ruled
        .change("before", labelled)
        .await
        .expect("its spec is as it was");
    assert!(is_refused(ruled.change("before", inactive).await, said));
    let ended = json!({ "spec": { "state": "Inactive", "expiresAt": until(23)["expiresAt"] } });
    ruled
        .change("before", ended)
        .await
        .expect("it has an end now");
}
