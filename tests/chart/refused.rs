//! What is refused, and what people are told.

use serde_json::json;

use crate::support::helm::{CHART, rendered};

#[test]
fn values_that_do_not_fit_together_are_refused_in_a_sentence() {
    let rows = [
        (
            json!({ "namespaces": ["plant"], "allNamespaces": true }),
            "values: set namespaces or allNamespaces, not both",
        ),
        (
            json!({ "mosquitto": { "enabled": true } }),
            "values: set mosquitto.namespaces to those whose devices connect, or mosquitto.allNamespaces to true, and not both",
        ),
        (
            json!({ "mosquitto": { "enabled": true, "namespaces": ["plant"], "allNamespaces": true } }),
            "values: set mosquitto.namespaces to those whose devices connect, or mosquitto.allNamespaces to true, and not both",
        ),
        (
            json!({ "mosquitto": { "enabled": true, "namespaces": ["plant", "lab"] } }),
            "values: set mosquitto.topicRoot to something that holds {namespace}, such as {namespace}/devices",
        ),
        (
            json!({ "mosquitto": { "enabled": true, "allNamespaces": true } }),
            "values: set mosquitto.topicRoot to something that holds {namespace}, such as {namespace}/devices",
        ),
        (
            json!({ "gateway": { "minAvailable": 2 } }),
            "values: set gateway.minAvailable to less than gateway.replicas",
        ),
        (
            json!({ "gateway": { "minAvailable": "51%" } }),
            "values: set gateway.minAvailable to less than gateway.replicas",
        ),
    ];
    for (values, sentence) in rows {
        let refused = rendered(CHART, &values).expect_err("it is refused");
        assert!(refused.contains(sentence), "{values}: {refused}");
    }
}

#[test]
fn values_of_another_shape_are_refused_by_name() {
    let rows = [
        (json!({ "namespace": "plant" }), "namespace"),
        (json!({ "namespaces": "plant" }), "namespaces"),
        (json!({ "namespaces": ["Plant"] }), "namespaces"),
        (json!({ "allNamespaces": "yes" }), "allNamespaces"),
        (json!({ "image": { "digest": "latest" } }), "digest"),
        (json!({ "controller": { "replicas": -1 } }), "replicas"),
        (
            json!({ "controller": { "hashProfile": "fast" } }),
            "hashProfile",
        ),
        (json!({ "gateway": { "staleness": "never" } }), "staleness"),
        (
            json!({ "gateway": { "topicRoot": "devices" } }),
            "topicRoot",
        ),
        (json!({ "priorityClass": { "value": 1 } }), "priorityClass"),
        (json!({ "gateway": { "tls": { "secret": "tls" } } }), "tls"),
        (
            json!({ "gateway": { "service": { "type": "External" } } }),
            "type",
        ),
        (json!({ "mosquitto": { "enable": true } }), "mosquitto"),
        (
            json!({ "monitoring": { "podMonitors": "yes" } }),
            "podMonitors",
        ),
        (json!({ "policies": { "longest": true } }), "policies"),
        (
            json!({ "networkPolicy": { "apiServer": { "ports": [0] } } }),
            "ports",
        ),
    ];
    for (values, name) in rows {
        let refused = rendered(CHART, &values).expect_err(&format!("{values} is refused"));
        assert!(
            refused.contains("don't meet the specifications of the schema"),
            "{values}: {refused}"
        );
        assert!(refused.contains(name), "{values}: {refused}");
    }
}
