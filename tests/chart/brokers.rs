//! The values of gateways that are about brokers elsewhere.

use serde_json::{Value, json};

use super::made::{Made, mounted, told};

#[test]
fn the_gateway_reaches_rabbitmq_with_what_is_mounted() {
    let made = Made::of(json!({ "gateway": { "rabbitmq": {
        "url": "http://rabbitmq:15672", "secretName": "rabbitmq",
    } } }));
    told(
        &made,
        "keyward-gateway",
        &[
            "--rabbitmq-url http://rabbitmq:15672 --rabbitmq-credentials /etc/keyward-rabbitmq/login --log-level",
        ],
    );
    mounted(
        &made,
        "keyward-gateway",
        &["/etc/keyward", "/etc/keyward-rabbitmq"],
    );

    let made = Made::of(json!({ "gateway": { "rabbitmq": {
        "url": "https://rabbitmq:15671", "secretName": "rabbitmq",
        "tls": { "caSecretName": "ca", "secretName": "certificate" },
    } } }));
    told(
        &made,
        "keyward-gateway",
        &[
            "--rabbitmq-ca /etc/keyward-rabbitmq-ca/ca.crt --rabbitmq-cert /etc/keyward-rabbitmq-tls/tls.crt \
           --rabbitmq-key /etc/keyward-rabbitmq-tls/tls.key",
        ],
    );
    let secrets = [
        ("/etc/keyward", "keyward-gateway"),
        ("/etc/keyward-rabbitmq", "rabbitmq"),
        ("/etc/keyward-rabbitmq-ca", "ca"),
        ("/etc/keyward-rabbitmq-tls", "certificate"),
    ];
    assert_eq!(read(&made), secrets);
}

#[test]
fn the_gateway_decides_for_nats_with_what_is_mounted() {
    let nats = |more: Value| {
        let mut nats = json!({
            "urls": ["tls://nats-0:4222", "tls://nats-1:4222"], "account": "DEVICES", "secretName": "nats",
        });
        for (name, value) in more.as_object().unwrap() {
            nats[name] = value.clone();
        }
        let gateway = json!({ "namespaces": ["plant"], "topicRoot": "devices", "nats": nats });
        Made::of(json!({ "gateway": gateway }))
    };
    let made = nats(json!({ "tls": { "caSecretName": "ca", "secretName": "certificate" } }));
    told(
        &made,
        "keyward-gateway",
        &[
            "--namespace plant --topic-root devices",
            "--nats-url tls://nats-0:4222,tls://nats-1:4222 --nats-account DEVICES --nats-login /etc/keyward-nats/login \
             --nats-system-login /etc/keyward-nats/system-login --nats-issuer /etc/keyward-nats/issuer \
             --nats-xkey /etc/keyward-nats/xkey --nats-ca /etc/keyward-nats-ca/ca.crt \
             --nats-cert /etc/keyward-nats-tls/tls.crt --nats-key /etc/keyward-nats-tls/tls.key --log-level",
        ],
    );
    let secrets = [
        ("/etc/keyward", "keyward-gateway"),
        ("/etc/keyward-nats", "nats"),
        ("/etc/keyward-nats-ca", "ca"),
        ("/etc/keyward-nats-tls", "certificate"),
    ];
    assert_eq!(read(&made), secrets);

    let made = nats(json!({ "xkey": false }));
    assert!(!made.line("keyward-gateway").contains("xkey"));
    mounted(
        &made,
        "keyward-gateway",
        &["/etc/keyward", "/etc/keyward-nats"],
    );
}

#[test]
fn brokers_that_nobody_asked_for_leave_no_trace() {
    let made = Made::of(json!({ "gateway": {
        "rabbitmq": { "secretName": "rabbitmq", "tls": { "caSecretName": "ca" } },
        "nats": { "account": "DEVICES", "secretName": "nats" },
    } }));
    let line = made.line("keyward-gateway");
    assert!(
        !line.contains("rabbitmq") && !line.contains("nats"),
        "{line}"
    );
    mounted(&made, "keyward-gateway", &["/etc/keyward"]);
}

#[test]
fn gateways_of_some_namespaces_may_read_no_others() {
    let made = Made::of(json!({ "gateway": { "namespaces": ["plant", "lab"] } }));
    told(
        &made,
        "keyward-gateway",
        &["gateway --namespace plant --namespace lab --topic-root"],
    );
    assert!(made.find("ClusterRoleBinding", "keyward-gateway").is_none());
    let bindings = made.of_kind("RoleBinding");
    let read: Vec<_> = bindings
        .iter()
        .map(|binding| {
            assert_eq!(binding["roleRef"]["name"], "keyward-gateway");
            assert_eq!(binding["subjects"][0]["name"], "keyward-gateway");
            &binding["metadata"]["namespace"]
        })
        .collect();
    assert_eq!(read, ["plant", "lab"]);
}

/// Where the gateway finds which Secret. Of authorities it finds nothing but the certificate.
fn read(made: &Made) -> Vec<(&str, &str)> {
    let pod = made.pod("keyward-gateway");
    let volumes = pod["volumes"].as_array().unwrap();
    let mounts = made.container("keyward-gateway")["volumeMounts"].as_array();
    let mounts = mounts.unwrap().iter().map(|mount| {
        assert_eq!(mount["readOnly"], true);
        let at = mount["mountPath"].as_str().unwrap();
        let mut volumes = volumes.iter();
        let secret = &volumes
            .find(|volume| volume["name"] == mount["name"])
            .unwrap()["secret"];
        assert_eq!(secret["defaultMode"], 0o440);
        let only_its_certificate = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
        assert_eq!(
            at.ends_with("-ca"),
            secret["items"] == only_its_certificate,
            "{at}"
        );
        (at, secret["secretName"].as_str().unwrap())
    });
    mounts.collect()
}
