//! The values of controller and gateway.

use serde_json::json;

use super::made::{Made, PARTS, mounted, told};
use crate::support::helm::everything;
use crate::support::manifests::flags_of;

#[test]
fn the_controller_does_as_it_is_told() {
    let made = Made::of(json!({ "controller": {
        "replicas": 2, "hashProfile": "owasp", "logLevel": "debug", "extraArgs": ["--workers", "8"],
        "resources": { "requests": { "cpu": "1" } },
    } }));
    assert_eq!(
        made.get("Deployment", "keyward-controller")["spec"]["replicas"],
        2
    );
    told(
        &made,
        "keyward-controller",
        &["--hash-profile owasp", "--log-level debug", "--workers 8"],
    );
    let requests = &made.container("keyward-controller")["resources"]["requests"];
    assert_eq!(*requests, json!({ "cpu": "1", "memory": "64Mi" }));
}

#[test]
fn the_gateway_does_as_it_is_told() {
    let made = Made::of(json!({ "gateway": {
        "replicas": 5, "minAvailable": 3, "topicRoot": "{namespace}/things", "staleness": "strict",
        "requireRegisteredDevices": true, "audit": true, "logLevel": "warn", "secretName": "signing",
        "issuer": "https://devices.example.com", "extraArgs": ["--request-timeout", "5s"],
    } }));
    assert_eq!(
        made.get("Deployment", "keyward-gateway")["spec"]["replicas"],
        5
    );
    assert_eq!(
        made.get("PodDisruptionBudget", "keyward-gateway")["spec"]["minAvailable"],
        3
    );
    told(
        &made,
        "keyward-gateway",
        &[
            "--topic-root {namespace}/things",
            "--staleness strict",
            "--require-registered-devices",
            "--audit",
            "--log-level warn",
            "--issuer https://devices.example.com",
            "--request-timeout 5s",
        ],
    );
    assert_eq!(
        made.pod("keyward-gateway")["volumes"][0]["secret"]["secretName"],
        "signing"
    );
}

#[test]
fn without_a_gateway_there_is_nothing_of_it() {
    let made =
        Made::of(json!({ "gateway": { "enabled": false }, "networkPolicy": { "enabled": true } }));
    let of_gateway = made
        .0
        .iter()
        .filter(|it| it.to_string().contains("keyward-gateway"));
    assert_eq!(of_gateway.count(), 0);
    made.get("Deployment", "keyward-controller");
}

#[test]
fn the_gateway_serves_tls_with_what_is_mounted() {
    let plain = Made::of(json!({}));
    assert!(!plain.line("keyward-gateway").contains("--tls"));
    assert_eq!(
        plain.get("Service", "keyward-gateway")["spec"]["ports"][0]["port"],
        80
    );

    let made = Made::of(
        json!({ "gateway": { "tls": { "secretName": "tls", "clientCaSecretName": "ca" } } }),
    );
    told(
        &made,
        "keyward-gateway",
        &[
            "--tls-cert /etc/keyward-tls/tls.crt --tls-key /etc/keyward-tls/tls.key",
            "--brokers-client-ca /etc/keyward-client-ca/ca.crt",
            "--issuer https://keyward-gateway.keyward-system.svc",
        ],
    );
    assert_eq!(
        made.get("Service", "keyward-gateway")["spec"]["ports"][0]["port"],
        443
    );
    mounted(
        &made,
        "keyward-gateway",
        &["/etc/keyward", "/etc/keyward-client-ca", "/etc/keyward-tls"],
    );
    let ca = &made.pod("keyward-gateway")["volumes"][1]["secret"];
    assert_eq!(
        ca["items"],
        json!([{ "key": "ca.crt", "path": "ca.crt" }]),
        "not its key"
    );
}

#[test]
fn services_are_of_the_type_that_is_asked_for() {
    let service = json!({ "type": "LoadBalancer", "annotations": { "pool": "devices" } });
    let made = Made::of(json!({
        "gateway": { "service": service },
        "mosquitto": { "enabled": true, "namespaces": ["plant"], "service": service },
    }));
    for part in &PARTS[1..] {
        let service = made.get("Service", part);
        assert_eq!(service["spec"]["type"], "LoadBalancer");
        assert_eq!(
            service["metadata"]["annotations"],
            json!({ "pool": "devices" })
        );
    }
}

#[test]
fn the_flags_are_flags_that_there_are() {
    let made = Made::of(everything());
    for part in &PARTS[..2] {
        let line = made.line(part);
        let mut words = line.split(' ');
        let known = flags_of(words.next().unwrap());
        let flags: Vec<_> = words.filter(|word| word.starts_with("--")).collect();
        assert!(flags.len() > 4, "{line}");
        for flag in flags {
            assert!(known.iter().any(|known| known == flag), "{part}: {flag}");
        }
    }
}
