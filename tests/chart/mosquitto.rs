//! The values of mosquitto.

use serde_json::json;

use super::made::{Made, mounted};
use crate::support::manifests::text;

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

fn configuration_of(made: &Made) -> String {
    let text = &made.get("ConfigMap", "keyward-mosquitto")["data"]["mosquitto.conf"];
    text.as_str().unwrap().to_owned()
}
