//! Helm, which renders the charts.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::process::output_of;
use super::tools::go_tool;

/// The chart of everything but the definitions.
pub const CHART: &str = "deploy/chart";
/// The chart of the definitions.
pub const DEFINITIONS: &str = "deploy/chart-crds";

static HELM: LazyLock<PathBuf> = LazyLock::new(|| go_tool("helm"));

/// What Helm prints; or what it complains about.
pub fn helm(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut helm = Command::new(&*HELM);
    helm.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = output_of(&mut helm, input);
    let [said, complaints] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    match output.status.success() {
        true => Ok(said),
        false => Err(complaints),
    }
}

/// The objects that a chart makes of these values in namespace keyward-system; or what Helm complains about.
pub fn rendered(chart: &str, values: &Value) -> Result<Vec<Value>, String> {
    let arguments = "template keyward --namespace keyward-system --kube-version 1.33 --values -";
    let mut arguments: Vec<&str> = arguments.split(' ').collect();
    arguments.insert(2, chart);
    let text = helm(&arguments, &values.to_string())?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    Ok(objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect())
}

/// All that the chart has, at once.
pub fn everything() -> Value {
    json!({
        "createNamespace": true,
        "commonLabels": { "team": "iot" },
        "imagePullSecrets": [{ "name": "registry" }],
        "namespaces": ["plant", "lab"],
        "controller": {
            "hashProfile": "owasp",
            "podLabels": { "zone": "a" },
            "podAnnotations": { "note": "b" },
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "edge", "operator": "Exists" }],
            "affinity": { "nodeAffinity": {} },
        },
        "gateway": {
            "namespaces": ["plant"],
            "requireRegisteredDevices": true,
            "audit": true,
            "rabbitmq": {
                "url": "https://rabbitmq:15671",
                "secretName": "rabbitmq",
                "tls": { "caSecretName": "rabbitmq-ca", "secretName": "rabbitmq-tls" },
            },
            "nats": {
                "urls": ["tls://nats:4222"],
                "account": "DEVICES",
                "secretName": "nats",
                "tls": { "caSecretName": "nats-ca", "secretName": "nats-tls" },
            },
            "tls": { "secretName": "gateway-tls", "clientCaSecretName": "callers-ca" },
            "service": { "type": "LoadBalancer", "annotations": { "pool": "devices" } },
        },
        "mosquitto": {
            "enabled": true,
            "namespaces": ["plant", "lab"],
            "topicRoot": "{namespace}/devices",
            "tls": { "secretName": "mosquitto-tls" },
            "persistence": { "enabled": true, "storageClassName": "fast" },
            "service": { "type": "NodePort" },
        },
        "monitoring": { "podMonitors": true, "rules": true, "dashboard": true, "labels": { "release": "prometheus" } },
        "policies": { "status": true, "deleteOnlyInactive": true, "frozenRestrictions": true, "longestLife": true },
        "networkPolicy": {
            "enabled": true,
            "metricsFrom": [{ "namespaceSelector": {} }],
            "gatewayEgress": [{ "ports": [{ "port": 15672, "protocol": "TCP" }] }],
        },
    })
}
