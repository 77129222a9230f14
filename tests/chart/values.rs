//! What each value does.

use serde_json::{Value, json};

use crate::support::helm::{CHART, everything, rendered};
use crate::support::manifests::{flags_of, text};

/// What the chart makes of some values.
struct Made(Vec<Value>);

impl Made {
    fn of(values: Value) -> Made {
        Made(rendered(CHART, &values).unwrap())
    }

    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let mut found = self
            .0
            .iter()
            .filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        let first = found.next();
        assert!(found.next().is_none(), "{kind}/{name} is there once");
        first
    }

    fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("no {kind}/{name}"))
    }

    /// The template of the Pods of a Deployment.
    fn template(&self, name: &str) -> &Value {
        &self.get("Deployment", name)["spec"]["template"]
    }

    fn pod(&self, name: &str) -> &Value {
        &self.template(name)["spec"]
    }

    fn container(&self, name: &str) -> &Value {
        &self.pod(name)["containers"][0]
    }

    /// The arguments of a Deployment's container, in one line.
    fn line(&self, name: &str) -> String {
        let arguments = self.container(name)["args"].as_array().unwrap().iter();
        arguments
            .map(|argument| argument.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    /// The namespaces in which the controller may deliver Secrets.
    fn served(&self) -> Vec<&str> {
        let bindings = self.of_kind("RoleBinding").into_iter();
        let served =
            bindings.filter(|binding| binding["roleRef"]["name"] == "keyward-controller-secrets");
        served
            .map(|binding| binding["metadata"]["namespace"].as_str().unwrap())
            .collect()
    }
}

const PARTS: [&str; 3] = ["keyward-controller", "keyward-gateway", "keyward-mosquitto"];

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
fn the_controller_does_as_it_is_told() {
    let made = Made::of(json!({ "controller": {
        "replicas": 2, "hashProfile": "owasp", "logLevel": "debug", "extraArgs": ["--workers", "8"],
        "resources": { "requests": { "cpu": "1" } },
    } }));
    assert_eq!(
        made.get("Deployment", "keyward-controller")["spec"]["replicas"],
        2
    );
    let line = made.line("keyward-controller");
    for flags in ["--hash-profile owasp", "--log-level debug", "--workers 8"] {
        assert!(line.contains(flags), "{line}");
    }
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
    let line = made.line("keyward-gateway");
    let flags = [
        "--topic-root {namespace}/things",
        "--staleness strict",
        "--require-registered-devices",
        "--audit",
        "--log-level warn",
        "--issuer https://devices.example.com",
        "--request-timeout 5s",
    ];
    for flags in flags {
        assert!(line.contains(flags), "{line}");
    }
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
    let line = made.line("keyward-gateway");
    let flags = [
        "--tls-cert /etc/keyward-tls/tls.crt --tls-key /etc/keyward-tls/tls.key",
        "--brokers-client-ca /etc/keyward-client-ca/ca.crt",
        "--issuer https://keyward-gateway.keyward-system.svc",
    ];
    for flags in flags {
        assert!(line.contains(flags), "{line}");
    }
    assert_eq!(
        made.get("Service", "keyward-gateway")["spec"]["ports"][0]["port"],
        443
    );
    mounted(
        &made,
        "keyward-gateway",
        &["/etc/keyward", "/etc/keyward-tls", "/etc/keyward-client-ca"],
    );
    let ca = &made.pod("keyward-gateway")["volumes"][2]["secret"];
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
fn mosquitto_serves_the_namespaces_that_it_may_read() {
    let made = Made::of(json!({ "mosquitto": {
        "enabled": true, "namespaces": ["plant"], "extraConfig": "max_keepalive 60\nplugin_opt_staleness strict\n",
    } }));
    let configuration = configuration_of(&made);
    let lines = [
        "per_listener_settings false",
        "listener 1883 0.0.0.0",
        "allow_anonymous false",
        "plugin /usr/lib/keyward/libkeyward_mosquitto.so",
        "plugin_opt_namespace plant",
        "plugin_opt_topic_root devices",
        "max_keepalive 60",
        "plugin_opt_staleness strict",
    ];
    for line in lines {
        assert!(
            configuration.lines().any(|it| it == line),
            "{line}: {configuration}"
        );
    }
    let binding = made.get("RoleBinding", "keyward-mosquitto");
    assert_eq!(binding["metadata"]["namespace"], "plant");
    assert_eq!(binding["roleRef"]["name"], "keyward-gateway");
    made.get("ClusterRole", "keyward-gateway");
    assert!(
        made.find("ClusterRoleBinding", "keyward-mosquitto")
            .is_none()
    );
    mounted(
        &made,
        "keyward-mosquitto",
        &["/etc/mosquitto", "/var/lib/mosquitto"],
    );

    let made = Made::of(json!({ "mosquitto": {
        "enabled": true, "allNamespaces": true, "topicRoot": "{namespace}/devices",
    }, "gateway": { "enabled": false } }));
    let binding = made.get("ClusterRoleBinding", "keyward-mosquitto");
    assert_eq!(binding["roleRef"]["name"], "keyward-gateway");
    made.get("ClusterRole", "keyward-gateway");
    assert!(
        configuration_of(&made)
            .contains("plugin_opt_all_namespaces true\nplugin_opt_topic_root {namespace}/devices")
    );
}

/// Line by line what is tested by `tests/brokers`, but for where it listens and logs.
#[test]
fn mosquitto_is_configured_as_is_shipped() {
    let shipped = text("deploy/brokers/mosquitto/mosquitto.conf");
    let made = Made::of(json!({ "mosquitto": { "enabled": true, "namespaces": ["plant"] } }));
    let configuration = configuration_of(&made);
    let settings = shipped
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in settings.filter(|line| !line.starts_with("listener ")) {
        assert!(
            configuration.lines().any(|it| it == line),
            "{line}: {configuration}"
        );
        count += 1;
    }
    assert!(count > 5);
}

#[test]
fn a_change_of_its_configuration_replaces_mosquitto() {
    let annotation = |extra: &str| {
        let made = Made::of(
            json!({ "mosquitto": { "enabled": true, "namespaces": ["plant"], "extraConfig": extra } }),
        );
        made.template("keyward-mosquitto")["metadata"]["annotations"]["keyward.dev/configuration"]
            .clone()
    };
    assert!(annotation("").is_string());
    assert_eq!(annotation(""), annotation(""));
    assert_ne!(annotation(""), annotation("max_keepalive 60"));
}

#[test]
fn mosquitto_serves_tls_and_keeps_its_sessions_on_demand() {
    let made = Made::of(json!({ "mosquitto": {
        "enabled": true, "namespaces": ["plant"], "tls": { "secretName": "tls" },
        "persistence": { "enabled": true, "size": "2Gi", "storageClassName": "fast" },
    } }));
    let configuration = configuration_of(&made);
    assert!(configuration.contains("listener 8883 0.0.0.0\ncertfile /etc/keyward-tls/tls.crt\nkeyfile /etc/keyward-tls/tls.key\n"));
    assert_eq!(
        made.get("Service", "keyward-mosquitto")["spec"]["ports"][0]["port"],
        8883
    );
    mounted(
        &made,
        "keyward-mosquitto",
        &["/etc/mosquitto", "/var/lib/mosquitto", "/etc/keyward-tls"],
    );
    let claim = made.get("PersistentVolumeClaim", "keyward-mosquitto");
    assert_eq!(claim["spec"]["storageClassName"], "fast");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "2Gi");
    assert_eq!(
        claim["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    let data = &made.pod("keyward-mosquitto")["volumes"][1];
    assert_eq!(
        data["persistentVolumeClaim"]["claimName"],
        "keyward-mosquitto"
    );
}

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
    let spread = &made.pod("keyward-gateway")["topologySpreadConstraints"][0];
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
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

fn configuration_of(made: &Made) -> String {
    let text = &made.get("ConfigMap", "keyward-mosquitto")["data"]["mosquitto.conf"];
    text.as_str().unwrap().to_owned()
}

/// What is mounted where, and that each of these volumes is there.
fn mounted(made: &Made, part: &str, paths: &[&str]) {
    let mounts = made.container(part)["volumeMounts"].as_array().unwrap();
    let volumes = made.pod(part)["volumes"].as_array().unwrap();
    let there: Vec<_> = mounts
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    assert_eq!(there, paths);
    for mount in mounts {
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{mount}"
        );
    }
}
