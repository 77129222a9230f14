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
            json!({ "gateway": { "topicRoot": "devices" } }),
            "values: set gateway.topicRoot to something that holds {namespace}, such as {namespace}/devices",
        ),
        (
            json!({ "gateway": { "topicRoot": "devices", "namespaces": ["plant", "lab"] } }),
            "values: set gateway.topicRoot to something that holds {namespace}, such as {namespace}/devices",
        ),
        (
            json!({ "gateway": { "minAvailable": 2 } }),
            "values: set gateway.minAvailable to less than gateway.replicas",
        ),
        (
            json!({ "gateway": { "minAvailable": "51%" } }),
            "values: set gateway.minAvailable to less than gateway.replicas",
        ),
        (
            json!({ "gateway": { "rabbitmq": { "url": "http://rabbitmq:15672" } } }),
            "values: set gateway.rabbitmq.secretName to a Secret with the entry login",
        ),
        (
            json!({ "gateway": { "namespaces": ["plant"], "nats": { "urls": ["nats://nats:4222"], "secretName": "nats" } } }),
            "values: set gateway.nats.account to the account of devices, and gateway.nats.secretName to a Secret",
        ),
        (
            json!({ "gateway": { "nats": { "urls": ["nats://nats:4222"], "account": "DEVICES", "secretName": "nats" } } }),
            "values: set gateway.namespaces to the one whose devices connect to NATS",
        ),
        (
            json!({
                "gateway": { "rabbitmq": { "url": "http://rabbitmq:15672", "secretName": "rabbitmq" } },
                "networkPolicy": { "enabled": true },
            }),
            "values: set networkPolicy.gatewayEgress to where the broker is, and DNS",
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
        (json!({ "gateway": { "topicRoot": "" } }), "topicRoot"),
        (
            json!({ "gateway": { "rabbitmq": { "url": "http://keyward:secret@rabbitmq:15672" } } }),
            "url",
        ),
        (
            json!({ "gateway": { "nats": { "urls": ["nats:4222"] } } }),
            "urls",
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
