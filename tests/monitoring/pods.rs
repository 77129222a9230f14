//! The shipped PodMonitors find what the install runs.

use serde_json::Value;

use crate::support::manifests::object;

#[test]
fn prometheus_finds_the_pods_of_controller_and_gateway_and_the_port_that_serves_metrics() {
    for name in ["keyward-controller", "keyward-gateway"] {
        let monitor = object("deploy/monitoring/pod-monitors.yaml", "PodMonitor", name);
        let deployment = object("deploy/install.yaml", "Deployment", name);
        assert_eq!(
            monitor["metadata"]["namespace"],
            deployment["metadata"]["namespace"]
        );
        let wanted = monitor["spec"]["selector"]["matchLabels"]
            .as_object()
            .unwrap();
        let pod = &deployment["spec"]["template"];
        for (label, value) in wanted {
            assert_eq!(&pod["metadata"]["labels"][label], value, "{name}: {label}");
        }
        let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().unwrap();
        let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
        let has = |port: &Value| ports.iter().any(|has| has["name"] == *port);
        assert!(!endpoints.is_empty() && endpoints.iter().all(|endpoint| has(&endpoint["port"])));
        // Else `namespace` would be that of the Pod.
        assert!(
            endpoints
                .iter()
                .all(|endpoint| endpoint["honorLabels"] == true)
        );
    }
}
