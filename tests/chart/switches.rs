//! What is switched on piece by piece: monitoring, admission policies, NetworkPolicies.

use serde_json::json;

use super::made::{Made, PARTS};

#[test]
fn monitoring_is_chosen_piece_by_piece() {
    let labels = json!({ "release": "prometheus" });
    let kinds = ["PodMonitor", "PrometheusRule", "ConfigMap"];
    for (name, kind) in [
        ("podMonitors", kinds[0]),
        ("rules", kinds[1]),
        ("dashboard", kinds[2]),
    ] {
        let made = Made::of(json!({ "monitoring": { name: true, "labels": labels } }));
        for other in kinds {
            assert_eq!(
                made.of_kind(other).is_empty(),
                other != kind,
                "{name}: {other}"
            );
        }
        for object in made.of_kind(kind) {
            assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
        }
    }
    let made = Made::of(json!({
        "monitoring": { "podMonitors": true }, "mosquitto": { "enabled": true, "namespaces": ["plant"] },
    }));
    for part in PARTS {
        let chosen = &made.get("PodMonitor", part)["spec"]["selector"]["matchLabels"];
        let labels = &made.template(part)["metadata"]["labels"];
        for (label, value) in chosen.as_object().unwrap() {
            assert_eq!(labels[label], *value, "{part}");
        }
        let port = &made.get("PodMonitor", part)["spec"]["podMetricsEndpoints"][0]["port"];
        let ports = made.container(part)["ports"].as_array().unwrap();
        assert!(ports.iter().any(|one| one["name"] == *port));
    }
}

#[test]
fn policies_are_chosen_one_by_one() {
    let rows = [
        ("status", "keyward-status"),
        ("deleteOnlyInactive", "keyward-delete-only-inactive"),
        ("frozenRestrictions", "keyward-frozen-restrictions"),
        ("longestLife", "keyward-longest-life"),
    ];
    for (value, name) in rows {
        let made = Made::of(json!({ "policies": { value: true } }));
        assert_eq!(
            made.of_kind("ValidatingAdmissionPolicy").len(),
            2,
            "this and the controller's own"
        );
        made.get("ValidatingAdmissionPolicy", name);
        assert_eq!(
            made.get("ValidatingAdmissionPolicyBinding", name)["spec"]["policyName"],
            *name
        );
    }
}

#[test]
fn networks_are_closed_but_for_what_is_needed() {
    let made = Made::of(json!({
        "networkPolicy": {
            "enabled": true,
            "apiServer": { "cidrs": ["10.0.0.1/32"], "ports": [6443] },
            "metricsFrom": [{ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }],
            "gatewayEgress": [{ "ports": [{ "port": 15672 }] }],
        },
        "mosquitto": { "enabled": true, "namespaces": ["plant"] },
    }));
    let api_server = json!({
        "to": [{ "ipBlock": { "cidr": "10.0.0.1/32" } }], "ports": [{ "port": 6443, "protocol": "TCP" }],
    });
    let scraped = json!({
        "ports": [{ "port": "admin" }], "from": [{ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }],
    });
    let rows = [
        (json!([scraped]), json!([api_server])),
        (
            json!([{ "ports": [{ "port": "devices" }, { "port": "brokers" }] }, scraped]),
            json!([api_server, { "ports": [{ "port": 15672 }] }]),
        ),
        (
            json!([{ "ports": [{ "port": "mqtt" }] }, scraped]),
            json!([api_server]),
        ),
    ];
    for (part, (ingress, egress)) in PARTS.iter().zip(rows) {
        let spec = &made.get("NetworkPolicy", part)["spec"];
        assert_eq!(
            spec["podSelector"]["matchLabels"],
            made.get("Deployment", part)["spec"]["selector"]["matchLabels"]
        );
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["ingress"], ingress, "{part}");
        assert_eq!(spec["egress"], egress, "{part}");
        let ports = made.container(part)["ports"].as_array().unwrap();
        for port in ingress
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|rule| rule["ports"].as_array().unwrap())
        {
            assert!(
                ports.iter().any(|one| one["name"] == port["port"]),
                "{part}: {port}"
            );
        }
    }
}
