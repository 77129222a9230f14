//! The NetworkPolicies of the chart, on a node that enforces them: what is to be reached is, and nothing else.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::inside::{Inside, PATIENCE, SYSTEM};
use crate::logins::Logins;
use crate::node::Node;
use crate::support::cluster::from_json;
use crate::support::helm::CHART;
use crate::support::wait::found_within;

#[test]
#[ignore = "takes a node"]
fn networks_are_closed_but_for_what_is_needed() {
    Node::start("network").inside(story);
}

async fn story(inside: Inside) {
    inside.install();
    let strangers = probe(&inside, "elsewhere").await;
    let monitoring = probe(&inside, "monitoring").await;
    let [controller, gateway, mosquitto] = [
        part(&inside, "controller").await,
        part(&inside, "gateway").await,
        part(&inside, "mosquitto").await,
    ];
    let service = inside.service("keyward-gateway", "devices").await;
    let api_server = "10.96.0.1:443".parse().expect("an address");
    let kubelet = "10.77.0.1:10250".parse().expect("an address");
    let metrics = [&controller, &gateway, &mosquitto].map(|pod| at(pod, 8080));

    // Without a policy all is open, or what follows would show nothing.
    for (from, to) in [
        (&strangers, metrics[0]),
        (&controller, at(&gateway, 8081)),
        (&controller, kubelet),
    ] {
        expect(from, to, true).await;
    }

    inside.kubectl_with(&["create", "-n", SYSTEM, "-f", "-"], &deny_all());
    restrict(&inside, true);
    for to in metrics {
        expect(&monitoring, to, true).await;
        expect(&strangers, to, false).await;
    }
    for to in [
        at(&gateway, 8081),
        at(&gateway, 8082),
        at(&mosquitto, 1883),
        service,
    ] {
        expect(&strangers, to, true).await;
    }
    for from in [&controller, &gateway, &mosquitto] {
        expect(from, api_server, true).await;
        expect(from, kubelet, false).await;
    }
    for to in [at(&gateway, 8081), service, metrics[2]] {
        expect(&controller, to, false).await;
    }
    expect(&gateway, metrics[0], false).await;
    expect(&mosquitto, at(&gateway, 8081), false).await;

    // And so it works.
    inside
        .create("all", json!({ "restrictions": { "allDevices": true } }))
        .await;
    let issued = inside.issued("all", 1).await;
    Logins::are_right(service, &issued).await;

    // Whoever closes everything, and leaves out what is needed, is told by what does not become ready.
    restrict(&inside, false);
    expect(&controller, api_server, false).await;
    expect(&strangers, at(&gateway, 8081), false).await;
    restrict(&inside, true);
    expect(&controller, api_server, true).await;
    inside.is_rolled_out("keyward-controller").await;
}

/// Switches the policies of the chart.
fn restrict(inside: &Inside, is_on: bool) {
    let policies = json!({
        "enabled": is_on,
        "apiServer": { "cidrs": ["10.77.0.1/32"], "ports": [6443] },
        "metricsFrom": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }],
    });
    let policies = format!("networkPolicy={policies}");
    let upgrade = [
        "upgrade",
        "keyward",
        CHART,
        "-n",
        SYSTEM,
        "--reuse-values",
        "--set-json",
        &policies,
    ];
    inside.helm(&upgrade);
}

fn deny_all() -> String {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny-all" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress", "Egress"] },
    })
    .to_string()
}

/// A Pod in a namespace that is made for it, from which others are asked.
async fn probe(inside: &Inside, namespace: &str) -> Pod {
    inside.kubectl(&["create", "namespace", namespace]);
    let pods: Api<Pod> = Api::namespaced(inside.admin.clone(), namespace);
    let pod = from_json(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe" },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{ "name": "pause", "image": "keyward.local/pause:1", "imagePullPolicy": "Never" }],
        },
    }));
    let created = pods.create(&PostParams::default(), &pod).await;
    created.expect("created");
    found_within(PATIENCE, "the probe runs", async || {
        let pod = pods.get("probe").await.ok()?;
        (pod.status.as_ref()?.phase.as_deref() == Some("Running")).then_some(pod)
    })
    .await
}

async fn part(inside: &Inside, component: &str) -> Pod {
    let mut pods = inside.pods(component).await;
    pods.pop().expect("a Pod")
}

fn at(pod: &Pod, port: u16) -> SocketAddr {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    format!("{}:{port}", ip.expect("an address"))
        .parse()
        .expect("an address")
}

/// Waits until a Pod reaches this, or does not, whichever is expected.
async fn expect(from: &Pod, to: SocketAddr, expected: bool) {
    let name = from.metadata.name.as_deref().expect("a name");
    found_within(
        PATIENCE,
        &format!("{name} reaches {to}: {expected}"),
        async || (reaches(from, to) == expected).then_some(()),
    )
    .await;
}

fn reaches(from: &Pod, to: SocketAddr) -> bool {
    let connect = || {
        // This thread alone.
        let network = network_of(from).expect("a namespace");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(network.as_fd(), kind).expect("a move");
        TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok()
    };
    thread::scope(|scope| scope.spawn(connect).join()).expect("an answer")
}

/// That of any of its processes that has not ended meanwhile.
fn network_of(pod: &Pod) -> Option<File> {
    let uid = format!("pod{}", pod.metadata.uid.as_deref().expect("a uid"));
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let is_its = |place: &String| {
        fs::read_to_string(format!("{place}/cgroup")).is_ok_and(|groups| groups.contains(&uid))
    };
    let places = processes.map(|process| process.path().display().to_string());
    let mut places = places.filter(is_its);
    places.find_map(|place| File::open(format!("{place}/ns/net")).ok())
}
