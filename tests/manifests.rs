//! The shipped manifests keep the promises that can be read off them, without a cluster.

mod support;

use keyward::api::{AccessKey, Device};
use serde_json::{Value, json};
use support::manifests::{examples, flags_of, object, objects};

const INSTALL: &str = "deploy/install.yaml";
const NAMESPACE: &str = "deploy/namespace.yaml";
const ALL_NAMESPACES: &str = "deploy/all-namespaces.yaml";
const CONTROLLER: &str = "system:serviceaccount:keyward-system:keyward-controller";

#[test]
fn the_install_holds_what_it_should_and_no_definitions_and_no_secrets() {
    let mut kinds: Vec<String> = objects(INSTALL)
        .iter()
        .map(|object| text(&object["kind"]))
        .collect();
    kinds.sort();
    let expected = [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterRoleBinding",
        "Deployment",
        "Deployment",
        "Namespace",
        "PodDisruptionBudget",
        "PriorityClass",
        "Service",
        "ServiceAccount",
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn everything_namespaced_in_the_install_is_in_its_own_namespace() {
    for object in objects(INSTALL) {
        if [
            "Deployment",
            "ServiceAccount",
            "Service",
            "PodDisruptionBudget",
        ]
        .contains(&text(&object["kind"]).as_str())
        {
            assert_eq!(
                object["metadata"]["namespace"], "keyward-system",
                "{object}"
            );
        }
    }
    let labels = &object(INSTALL, "Namespace", "keyward-system")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

/// Rights as (group, resource, verbs), one entry each.
#[test]
fn the_controller_has_exactly_these_rights() {
    let everywhere = [
        ("keyward.dev/accesskeys", &["get", "list", "watch"][..]),
        ("keyward.dev/accesskeys/status", &["update"]),
        ("keyward.dev/devices", &["list", "watch"]),
        ("keyward.dev/devices/status", &["patch"]),
    ];
    assert_eq!(rights("keyward-controller"), list(&everywhere));

    let served = [
        ("/secrets", &["create", "get", "update", "delete"][..]),
        ("events.k8s.io/events", &["create", "patch"]),
    ];
    assert_eq!(rights("keyward-controller-secrets"), list(&served));
}

/// No verb on Secrets, and none that writes.
#[test]
fn the_gateway_has_exactly_these_rights() {
    let reads = [
        ("keyward.dev/accesskeys", &["list", "watch"][..]),
        ("keyward.dev/devices", &["list", "watch"]),
    ];
    assert_eq!(rights("keyward-gateway"), list(&reads));
}

#[test]
fn no_role_has_a_wildcard_and_none_lists_or_watches_secrets() {
    for role in objects(INSTALL)
        .iter()
        .filter(|object| object["kind"] == "ClusterRole")
    {
        for rule in array(&role["rules"]) {
            let words = |field: &str| array(&rule[field]).iter().map(text).collect::<Vec<_>>();
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(!words(field).contains(&"*".to_owned()), "{rule}");
            }
            if words("resources").contains(&"secrets".to_owned()) {
                let reading = ["list", "watch", "patch", "deletecollection"];
                assert!(
                    !words("verbs")
                        .iter()
                        .any(|verb| reading.contains(&verb.as_str()))
                );
            }
        }
    }
}

/// The install alone gives nobody a right on Secrets.
#[test]
fn the_install_binds_only_the_role_without_secrets() {
    let bound: Vec<Value> = objects(INSTALL)
        .into_iter()
        .filter(|object| text(&object["kind"]).ends_with("RoleBinding"))
        .map(|binding| binding["roleRef"]["name"].clone())
        .collect();
    assert_eq!(bound, ["keyward-controller", "keyward-gateway"]);
}

#[test]
fn the_two_other_files_bind_secrets_in_one_namespace_and_in_all() {
    for (file, kind) in [
        (NAMESPACE, "RoleBinding"),
        (ALL_NAMESPACES, "ClusterRoleBinding"),
    ] {
        assert_eq!(objects(file).len(), 1, "{file}");
        let binding = object(file, kind, "keyward-controller-secrets");
        // `kubectl apply -n` says where; a namespace in the file would override or refuse it.
        assert!(binding["metadata"].get("namespace").is_none(), "{file}");
        let role = json!({
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "keyward-controller-secrets",
        });
        assert_eq!(binding["roleRef"], role, "{file}");
        let subject = json!([{
            "kind": "ServiceAccount",
            "name": "keyward-controller",
            "namespace": "keyward-system",
        }]);
        assert_eq!(binding["subjects"], subject, "{file}");
    }
}

#[test]
fn the_flags_that_are_shipped_are_flags_that_there_are() {
    let files = [
        INSTALL,
        "deploy/brokers/nats/service.yaml",
        "deploy/brokers/nats/sidecar.yaml",
        "deploy/brokers/rabbitmq/service.yaml",
        "deploy/brokers/rabbitmq/sidecar.yaml",
    ];
    let mut flags = 0;
    for file in files {
        for object in objects(file) {
            let Some(containers) = object.pointer("/spec/template/spec/containers") else {
                continue;
            };
            let containers = array(containers).iter();
            for container in containers.filter(|one| text(&one["image"]).starts_with("keyward:")) {
                let arguments: Vec<String> = array(&container["args"]).iter().map(text).collect();
                let known = flags_of(&arguments[0]);
                let given = arguments.iter().filter(|flag| flag.starts_with("--"));
                for flag in given {
                    let name = flag.split('=').next().expect("a name");
                    assert!(known.iter().any(|known| known == name), "{file}: {flag}");
                    flags += 1;
                }
            }
        }
    }
    assert!(flags > 20);
}

#[test]
fn people_who_edit_manage_keys_and_people_who_view_do_not_see_them() {
    let mut aggregated = Vec::new();
    for role in objects(INSTALL) {
        let labels = role["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let to = labels
            .keys()
            .filter_map(|key| key.split_once("/aggregate-to-"));
        aggregated.extend(to.map(|(_, to)| (text(&role["metadata"]["name"]), to.to_owned())));
    }
    let edit = "keyward-edit".to_owned();
    assert_eq!(
        aggregated,
        [(edit.clone(), "admin".into()), (edit, "edit".into())]
    );
    for (resource, verbs) in rights("keyward-edit") {
        if resource.ends_with("/status") {
            assert_eq!(
                verbs,
                ["get"],
                "{resource}: only the controller writes a status"
            );
        }
    }
}

/// What the Service Binding specification asks for.
#[test]
fn whoever_binds_workloads_to_services_finds_access_keys_and_may_read_them() {
    let name = "keyward-service-binding";
    let labels = &object(INSTALL, "ClusterRole", name)["metadata"]["labels"];
    assert_eq!(labels["servicebinding.io/controller"], "true");
    let reads = [("keyward.dev/accesskeys", &["get", "list", "watch"][..])];
    assert_eq!(rights(name), list(&reads));

    let kind = "CustomResourceDefinition";
    let definition = object("crds/accesskeys.yaml", kind, "accesskeys.keyward.dev");
    let labels = &definition["metadata"]["labels"];
    assert_eq!(labels["servicebinding.io/provisioned-service"], "true");
}

#[test]
fn the_policy_denies_and_covers_every_way_to_write_a_secret() {
    let name = "keyward-controller-secrets";
    let policy = object(INSTALL, "ValidatingAdmissionPolicy", name);
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    let rules = json!([{
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["secrets"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
    }]);
    assert_eq!(policy["spec"]["matchConstraints"]["resourceRules"], rules);
    let conditions = array(&policy["spec"]["matchConditions"]);
    assert_eq!(conditions.len(), 1);
    assert!(text(&conditions[0]["expression"]).ends_with(&format!("== '{CONTROLLER}'")));

    let binding = object(INSTALL, "ValidatingAdmissionPolicyBinding", name);
    let spec = json!({ "policyName": name, "validationActions": ["Deny"] });
    assert_eq!(binding["spec"], spec, "it matches everywhere");
}

#[test]
fn pods_run_restricted_and_bounded() {
    let mut pods: Vec<Value> = ["keyward-controller", "keyward-gateway"]
        .iter()
        .map(|name| object(INSTALL, "Deployment", name)["spec"]["template"]["spec"].clone())
        .collect();
    for file in examples() {
        let found = objects(&file)
            .into_iter()
            .filter(|object| object["kind"] == "Pod");
        pods.extend(found.map(|pod| pod["spec"].clone()));
    }
    assert_eq!(pods.len(), 3, "the two parts and the example of a device");
    for pod in pods {
        restricted(&pod);
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(host).is_none(), "{host}");
        }
        for volume in array(&pod["volumes"]) {
            assert!(volume.get("hostPath").is_none(), "{volume}");
        }
    }
}

/// The restricted level of the Pod Security Standards, and a root that cannot be written.
fn restricted(pod: &Value) {
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(
        security["runAsUser"], 65532,
        "by number: a name cannot be checked to be none of root's"
    );
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for container in array(&pod["containers"]) {
        let security = &container["securityContext"];
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(*security, expected);
        assert!(container["resources"]["requests"]["cpu"].is_string());
        assert!(container["resources"]["requests"]["memory"].is_string());
        assert!(container["resources"]["limits"]["memory"].is_string());
        assert!(!text(&container["image"]).ends_with(":latest"));
        assert!(text(&container["image"]).contains(':'), "a tag");
    }
}

#[test]
fn tokens_are_mounted_only_where_they_are_used() {
    for part in ["keyward-controller", "keyward-gateway"] {
        let account = object(INSTALL, "ServiceAccount", part);
        assert_eq!(account["automountServiceAccountToken"], false);
        let deployment = object(INSTALL, "Deployment", part);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], true);
        assert_eq!(pod["serviceAccountName"], part);
    }
    for file in examples() {
        for pod in objects(&file)
            .iter()
            .filter(|object| object["kind"] == "Pod")
        {
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{file}");
        }
    }
}

#[test]
fn the_gateway_is_two_behind_a_service_and_one_of_them_stays() {
    let deployment = object(INSTALL, "Deployment", "keyward-gateway");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], *labels);
    let service = object(INSTALL, "Service", "keyward-gateway");
    assert_eq!(service["spec"]["selector"], *labels);
    let budget = object(INSTALL, "PodDisruptionBudget", "keyward-gateway");
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(budget["spec"]["minAvailable"], 1);

    let container = &template["spec"]["containers"][0];
    let args: Vec<String> = array(&container["args"]).iter().map(text).collect();
    let mount = "/etc/keyward/";
    let expected = [
        "gateway",
        "--all-namespaces",
        "--topic-root",
        "{namespace}/devices",
        "--devices-listen",
        "0.0.0.0:8081",
        "--brokers-listen",
        "0.0.0.0:8082",
        "--admin-listen",
        "0.0.0.0:8080",
        "--caller-token-file",
        &format!("{mount}callers"),
        "--signing-key",
        &format!("{mount}signing-key.pem"),
        "--issuer",
        "http://keyward-gateway.keyward-system.svc",
        "--staleness",
        "best-effort",
        "--log-level",
        "info",
        "--log-format",
        "json",
    ];
    assert_eq!(args, expected);
    let ports = array(&container["ports"]);
    let named = ports
        .iter()
        .map(|port| (text(&port["name"]), port["containerPort"].as_u64()));
    let expected = [("admin", 8080), ("devices", 8081), ("brokers", 8082)];
    assert!(named.eq(expected.map(|(name, port)| (name.to_owned(), Some(port)))));
    let targets: Vec<String> = array(&service["spec"]["ports"])
        .iter()
        .map(|port| text(&port["targetPort"]))
        .collect();
    assert_eq!(targets, ["devices", "brokers"]);
    let wait = &container["lifecycle"]["preStop"]["sleep"]["seconds"];
    let grace = &template["spec"]["terminationGracePeriodSeconds"];
    // What is under way has 20 seconds after that.
    assert!(wait.as_u64().map(|wait| wait + 20) < grace.as_u64());
}

#[test]
fn the_controller_is_one_replaced_in_place_and_probed_where_it_listens() {
    let deployment = object(INSTALL, "Deployment", "keyward-controller");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({ "type": "Recreate" })
    );
    let template = &deployment["spec"]["template"];
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(*labels, template["metadata"]["labels"]);

    let container = &template["spec"]["containers"][0];
    let args: Vec<String> = array(&container["args"]).iter().map(text).collect();
    let expected = "controller --all-namespaces --admin-listen 0.0.0.0:8080 --hash-profile fleet --log-level info \
                    --log-format json";
    assert_eq!(args.join(" "), expected);
    assert_eq!(
        container["ports"],
        json!([{ "name": "admin", "containerPort": 8080 }])
    );
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(
            container[probe]["httpGet"],
            json!({ "path": path, "port": "admin" })
        );
    }
}

#[test]
fn the_examples_read_as_what_they_are() {
    let mut keys = Vec::new();
    for file in examples() {
        for object in objects(&file) {
            match object["kind"].as_str() {
                Some("AccessKey") => {
                    let key: AccessKey = serde_json::from_value(object).expect(&file);
                    let annotations = key.metadata.annotations.clone().unwrap_or_default();
                    let kept = annotations
                        .get("velero.io/restore-status")
                        .map(String::as_str);
                    assert_eq!(
                        kept,
                        Some("true"),
                        "{file}: a restore without status loses the key"
                    );
                    keys.push(key);
                }
                Some("Device") => {
                    serde_json::from_value::<Device>(object).expect(&file);
                }
                _ => {}
            }
        }
    }
    let restrictions = |key: &AccessKey| key.spec.restrictions.clone();
    assert!(
        keys.iter()
            .any(|key| restrictions(key).device_ids.is_some())
    );
    assert!(
        keys.iter()
            .any(|key| restrictions(key).device_tags.is_some())
    );

    // The Pod mounts the Secret of an example, and is a device that the key admits.
    let pod = object("deploy/examples/device-pod.yaml", "Pod", "pump-1");
    let mounted = text(&pod["spec"]["volumes"][0]["secret"]["secretName"]);
    let key = keys
        .iter()
        .find(|key| key.secret_name() == mounted)
        .expect("an example's Secret");
    let device = text(&pod["spec"]["containers"][0]["env"][0]["value"]);
    assert!(
        restrictions(key)
            .device_ids
            .is_some_and(|ids| ids.contains(&device))
    );
}

/// What a ClusterRole of the install grants.
fn rights(role: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for rule in array(&object(INSTALL, "ClusterRole", role)["rules"]) {
        let verbs: Vec<String> = array(&rule["verbs"]).iter().map(text).collect();
        for group in array(&rule["apiGroups"]) {
            for resource in array(&rule["resources"]) {
                found.push((format!("{}/{}", text(group), text(resource)), verbs.clone()));
            }
        }
        assert!(rule.get("resourceNames").is_none() && rule.get("nonResourceURLs").is_none());
    }
    found
}

fn list(rights: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |verbs: &[&str]| verbs.iter().map(|&verb| verb.to_owned()).collect();
    rights
        .iter()
        .map(|&(resource, verbs)| (resource.to_owned(), owned(verbs)))
        .collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
        .to_owned()
}
