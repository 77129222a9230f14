//! The API server takes what is shipped for brokers to the last field, and their Pods where Pod Security enforces
//! `restricted`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cluster::TestNamespace;
use crate::support::manifests::objects;
use crate::support::wait::found;
use http::Request;
use k8s_openapi::api::core::v1;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use kube::{Client, Error};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_what_is_shipped_for_brokers_where_pods_are_restricted() {
    let namespace = TestNamespace::unserved("pods").await;
    let admin = &namespace.admin;
    let namespaces: Api<v1::Namespace> = Api::all(admin.clone());
    let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let labels = Patch::Merge(json!({ "metadata": { "labels": restricted } }));
    let params = PatchParams::default();
    let labelled = namespaces.patch(&namespace.name, &params, &labels).await;
    labelled.expect("labelled");
    let unconfined = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "unconfined" },
        "spec": { "containers": [{ "name": "it", "image": "it" }] },
    });
    found("Pod Security is enforced", async || {
        let refused = dry_run(admin, &namespace.name, &unconfined).await.err()?;
        refused.message.contains("PodSecurity").then_some(())
    })
    .await;

    let files = files();
    assert!(!files.is_empty());
    for file in files {
        for mut object in objects(&file) {
            // They name another, for people to change.
            object["metadata"]["namespace"] = json!(namespace.name);
            taken(admin, &namespace, &file, &object).await;
            let Some(template) = object.pointer("/spec/template") else {
                continue;
            };
            let mut pod = template.clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!("of-the-template");
            let claimed = object.pointer("/spec/volumeClaimTemplates").is_some();
            if claimed {
                let data = json!({ "name": "data", "emptyDir": {} });
                let volumes = pod["spec"]["volumes"].as_array_mut().expect("volumes");
                volumes.push(data);
            }
            pod["spec"]["serviceAccountName"] = json!("default");
            taken(admin, &namespace, &file, &pod).await;
        }
    }
}

async fn taken(admin: &Client, namespace: &TestNamespace, file: &str, object: &Value) {
    let taken = dry_run(admin, &namespace.name, object).await;
    let kind = &object["kind"];
    taken.unwrap_or_else(|refused| panic!("{kind} of {file}: {}", refused.message));
}

/// Has the API server say whether it would take this, with nothing in it that it does not know.
async fn dry_run(admin: &Client, namespace: &str, object: &Value) -> Result<Value, Box<Status>> {
    let version = object["apiVersion"].as_str().expect("a version");
    let group = match version.contains('/') {
        true => "apis",
        false => "api",
    };
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    let path = format!(
        "/{group}/{version}/namespaces/{namespace}/{kind}s?dryRun=All&fieldValidation=Strict"
    );
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes());
    match admin.request(request.expect("a request")).await {
        Ok(created) => Ok(created),
        Err(Error::Api(refused)) => Err(refused),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// Of the brokers.
fn files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_folder = |folder: PathBuf| {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path())
    };
    let brokers = in_folder(root.join("deploy/brokers")).filter(|path| path.is_dir());
    let files = brokers.flat_map(in_folder);
    let manifests = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let relative = manifests.map(|path| {
        let path = path.strip_prefix(root).expect("below it");
        path.display().to_string()
    });
    relative.collect()
}
