//! The values that are about all of it: what is served, images, labels, and where Pods go.

use serde_json::json;

use super::made::{Made, PARTS};
use crate::support::helm::everything;

#[test]
fn without_values_nothing_may_write_secrets_and_nothing_is_there_but_controller_and_gateway() {
    let made = Made::of(json!({}));
    assert!(made.served().is_empty());
    assert!(
        made.find("ClusterRoleBinding", "keyward-controller-secrets")
            .is_none()
    );
    let names: Vec<_> = made
        .of_kind("Deployment")
        .iter()
        .map(|one| &one["metadata"]["name"])
        .collect();
    assert_eq!(names, ["keyward-controller", "keyward-gateway"]);
    for kind in [
        "Namespace",
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
        "ConfigMap",
        "Secret",
    ] {
        assert!(made.of_kind(kind).is_empty(), "{kind}");
    }
    let policies = made.of_kind("ValidatingAdmissionPolicy");
    assert_eq!(policies.len(), 1, "the controller's own");
}

#[test]
fn namespaces_are_served_and_no_others() {
    let made = Made::of(json!({ "namespaces": ["plant", "lab"] }));
    assert_eq!(made.served(), ["plant", "lab"]);
    assert!(
        made.find("ClusterRoleBinding", "keyward-controller-secrets")
            .is_none()
    );

    let made = Made::of(json!({ "allNamespaces": true }));
    assert!(made.served().is_empty());
    let binding = made.get("ClusterRoleBinding", "keyward-controller-secrets");
    let subject = json!([{ "kind": "ServiceAccount", "name": "keyward-controller", "namespace": "keyward-system" }]);
    assert_eq!(binding["subjects"], subject);
}

#[test]
fn the_namespace_is_made_on_demand_with_pods_restricted() {
    let made = Made::of(json!({ "createNamespace": true }));
    let labels = &made.get("Namespace", "keyward-system")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn images_are_chosen_by_tag_and_by_digest() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let rows = [
        (json!({}), "keyward:0.1.0".to_owned()),
        (json!({ "tag": "edge" }), "keyward:edge".to_owned()),
        (
            json!({ "repository": "registry.local/keyward" }),
            "registry.local/keyward:0.1.0".to_owned(),
        ),
        (
            json!({ "tag": "edge", "digest": digest }),
            format!("keyward@{digest}"),
        ),
    ];
    for (image, expected) in rows {
        let made =
            Made::of(json!({ "image": image, "imagePullSecrets": [{ "name": "registry" }] }));
        for part in &PARTS[..2] {
            assert_eq!(made.container(part)["image"], *expected);
            assert_eq!(
                made.pod(part)["imagePullSecrets"],
                json!([{ "name": "registry" }])
            );
        }
    }
    let made = Made::of(json!({ "image": { "pullPolicy": "Never" } }));
    assert_eq!(
        made.container("keyward-gateway")["imagePullPolicy"],
        "Never"
    );
}

#[test]
fn pods_go_where_they_are_sent() {
    let placement = json!({
        "podLabels": { "zone": "a" }, "podAnnotations": { "note": "b" }, "priorityClassName": "urgent",
        "nodeSelector": { "disk": "ssd" }, "tolerations": [{ "key": "edge", "operator": "Exists" }],
        "affinity": { "nodeAffinity": { "it": "is" } },
    });
    let mut mosquitto = placement.clone();
    mosquitto["enabled"] = json!(true);
    mosquitto["namespaces"] = json!(["plant"]);
    let made =
        Made::of(json!({ "controller": placement, "gateway": placement, "mosquitto": mosquitto }));
    for part in PARTS {
        let template = made.template(part);
        assert_eq!(template["metadata"]["labels"]["zone"], "a");
        assert_eq!(template["metadata"]["annotations"]["note"], "b");
        for field in [
            "priorityClassName",
            "nodeSelector",
            "tolerations",
            "affinity",
        ] {
            assert_eq!(template["spec"][field], placement[field], "{part}: {field}");
        }
    }
}

#[test]
fn everything_bears_the_labels_that_are_asked_for_and_names_no_namespace_but_its_own() {
    let made = Made::of(everything());
    for object in &made.0 {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["team"], "iot", "{object}");
        assert_eq!(labels["app.kubernetes.io/name"], "keyward", "{object}");
    }
    for part in PARTS {
        let pod = made.pod(part);
        assert_eq!(
            pod["automountServiceAccountToken"], true,
            "{part} asks the API server"
        );
        assert_eq!(
            made.get("ServiceAccount", part)["automountServiceAccountToken"],
            false
        );
    }
    // What is chosen by labels must not change with them: a Deployment's selector cannot.
    for deployment in made.of_kind("Deployment") {
        assert!(
            deployment["spec"]["selector"]["matchLabels"]
                .get("team")
                .is_none()
        );
    }
}
