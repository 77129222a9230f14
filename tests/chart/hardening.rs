//! What keeps Keyward from harm, and others from harm by it, whatever else is asked for.

use serde_json::{Value, json};

use super::made::{Made, PARTS};
use crate::support::helm::everything;

#[test]
fn all_containers_are_confined_and_bounded() {
    let made = Made::of(everything());
    for part in PARTS {
        let pod = made.pod(part);
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{part}");
        assert_eq!(security["runAsUser"], 65532, "{part}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        for host in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert!(pod.get(host).is_none(), "{part}: {host}");
        }
        for container in pod["containers"].as_array().unwrap() {
            let confined = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            });
            assert_eq!(container["securityContext"], confined, "{part}");
            for bound in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                let bound = container["resources"].pointer(bound);
                assert!(bound.is_some_and(Value::is_string), "{part}: {bound:?}");
            }
        }
        for volume in pod["volumes"].as_array().unwrap_or(&Vec::new()) {
            let kinds = ["configMap", "secret", "persistentVolumeClaim"];
            assert!(
                kinds.iter().any(|kind| volume.get(kind).is_some()),
                "{part}: {volume}"
            );
        }
    }
    let made = Made::of(json!({ "mosquitto": { "enabled": true, "namespaces": ["plant"] } }));
    let data = &made.pod("keyward-mosquitto")["volumes"][1];
    assert_eq!(
        *data,
        json!({ "name": "data", "emptyDir": { "sizeLimit": "1Gi" } })
    );
}

/// Upgrades would fail at a class of another value: it cannot be changed.
#[test]
fn the_class_of_priority_stays_as_it_is() {
    let made = Made::of(json!({}));
    let class = made.get("PriorityClass", "keyward");
    assert_eq!(class["value"], 1_000_000);
    assert_eq!(class["globalDefault"], false);
    assert!(class.get("preemptionPolicy").is_none());
}

#[test]
fn all_pods_have_a_priority_unless_it_is_switched_off() {
    let mosquitto = json!({ "enabled": true, "namespaces": ["plant"] });
    let made = Made::of(json!({ "mosquitto": mosquitto }));
    for part in PARTS {
        assert_eq!(made.pod(part)["priorityClassName"], "keyward", "{part}");
    }
    // Nor is a class named that may not be there.
    let made = Made::of(json!({
        "priorityClass": { "create": false }, "mosquitto": mosquitto,
        "gateway": { "priorityClassName": "urgent" },
    }));
    assert!(made.of_kind("PriorityClass").is_empty());
    assert_eq!(made.pod("keyward-gateway")["priorityClassName"], "urgent");
    for part in ["keyward-controller", "keyward-mosquitto"] {
        assert!(made.pod(part).get("priorityClassName").is_none(), "{part}");
    }
}

#[test]
fn nodes_can_be_drained() {
    let budget = |gateway: Value| {
        let made = Made::of(json!({ "gateway": gateway }));
        let budget = made.find("PodDisruptionBudget", "keyward-gateway")?;
        Some(budget["spec"].clone())
    };
    for replicas in [0, 1] {
        assert_eq!(budget(json!({ "replicas": replicas })), None, "{replicas}");
    }
    for stay in [json!(1), json!("50%")] {
        let spec = budget(json!({ "replicas": 2, "minAvailable": stay })).unwrap();
        assert_eq!(spec["minAvailable"], stay);
        assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    }
    let made = Made::of(everything());
    assert_eq!(made.of_kind("PodDisruptionBudget").len(), 1);
}

#[test]
fn gateways_are_spread_over_zones_and_nodes() {
    let made = Made::of(json!({}));
    let constraints = &made.pod("keyward-gateway")["topologySpreadConstraints"];
    let labels = &made.get("Deployment", "keyward-gateway")["spec"]["selector"]["matchLabels"];
    let over = |key: &str| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "matchLabelKeys": ["pod-template-hash"], "labelSelector": { "matchLabels": labels },
        })
    };
    let zones_and_nodes = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"];
    assert_eq!(*constraints, json!(zones_and_nodes.map(over)));
}

#[test]
fn pods_have_time_to_end() {
    let made = Made::of(everything());
    for (part, seconds) in PARTS.into_iter().zip([30, 40, 60]) {
        assert_eq!(
            made.pod(part)["terminationGracePeriodSeconds"],
            seconds,
            "{part}"
        );
    }
}
