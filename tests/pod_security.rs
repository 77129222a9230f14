//! The API server takes what is shipped to the last field, and its Pods where Pod Security enforces `restricted`.

use std::fs;
use std::path::{Path, PathBuf};

use http::Request;
use k8s_openapi::api::core::v1;
use kube::Error;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use serde_json::{Value, json};

use crate::support::cluster::TestNamespace;
use crate::support::helm::{CHART, everything, rendered};
use crate::support::manifests::objects;
use crate::support::wait::found;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_what_is_shipped_for_brokers_where_pods_are_restricted() {
    let namespace = restricted("pods").await;
    let files = files();
    assert!(!files.is_empty());
    for file in files {
        for object in objects(&file) {
            taken(&namespace, &file, object).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_all_that_the_chart_has_where_pods_are_restricted() {
    let namespace = restricted("chart").await;
    for values in [json!({}), everything()] {
        let objects = rendered(CHART, &values).expect("the chart takes it");
        // The operator's own kinds are not known here.
        let known = objects.into_iter().filter(|object| {
            let version = object["apiVersion"].as_str().expect("a version");
            !version.starts_with("monitoring.coreos.com/")
        });
        for object in known {
            taken(&namespace, "the chart", object).await;
        }
    }
}

/// A namespace where Pods are restricted.
async fn restricted(name: &str) -> TestNamespace {
    let namespace = TestNamespace::unserved(name).await;
    let namespaces: Api<v1::Namespace> = Api::all(namespace.admin.clone());
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
        let refused = dry_run(&namespace, &unconfined).await.err()?;
        refused.message.contains("PodSecurity").then_some(())
    })
    .await;
    namespace
}

/// Of this object, and of the Pods that it is a template of. The class of priority that they name is there: all that
/// is installed is.
async fn taken(namespace: &TestNamespace, of: &str, mut object: Value) {
    // Objects of the same name may be there, elsewhere and in the whole cluster.
    object["metadata"]["namespace"] = json!(namespace.name);
    object["metadata"]["name"] = json!(format!("{}-dry-run", namespace.name));
    let taken = dry_run(namespace, &object).await;
    let kind = &object["kind"];
    taken.unwrap_or_else(|refused| panic!("{kind} of {of}: {}", refused.message));
    let Some(template) = object.pointer("/spec/template") else {
        return;
    };
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("of-the-template");
    pod["spec"]["serviceAccountName"] = json!("default");
    let claimed = object.pointer("/spec/volumeClaimTemplates").is_some();
    if claimed {
        let data = json!({ "name": "data", "emptyDir": {} });
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("volumes");
        volumes.push(data);
    }
    let taken = dry_run(namespace, &pod).await;
    taken.unwrap_or_else(|refused| panic!("a Pod of {of}: {}", refused.message));
}

/// Has the API server say whether it would take this, with nothing in it that it does not know.
async fn dry_run(namespace: &TestNamespace, object: &Value) -> Result<Value, Box<Status>> {
    let version = object["apiVersion"].as_str().expect("a version");
    let group = match version.contains('/') {
        true => "apis",
        false => "api",
    };
    let kind = object["kind"].as_str().expect("a kind");
    let mut object = object.clone();
    let place = match CLUSTER_WIDE.contains(&kind) {
        true => String::new(),
        false => format!("namespaces/{}/", namespace.name),
    };
    if place.is_empty() {
        object["metadata"]["namespace"].take();
    }
    let lower = kind.to_lowercase();
    let resource = match (lower.strip_suffix('y'), lower.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{lower}es"),
        (None, false) => format!("{lower}s"),
    };
    let path = format!("/{group}/{version}/{place}{resource}?dryRun=All&fieldValidation=Strict");
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes());
    match namespace.admin.request(request.expect("a request")).await {
        Ok(created) => Ok(created),
        Err(Error::Api(refused)) => Err(refused),
        Err(error) => panic!("no answer: {error}"),
    }
}

const CLUSTER_WIDE: [&str; 6] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

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
