//! How much memory each part takes, as the kubelet counts it, against its limit; and how much processor time.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use http::Request;
use keyward::api::AccessKey;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::PARTS;
use crate::inside::Inside;
use crate::support::keys::holds;

/// Without keys, with many, and after a restart with many.
pub async fn measure(inside: &Inside) {
    let keys = std::env::var("KEYWARD_BENCH_NODE_KEYS");
    let keys = keys.map_or(10_000, |keys| keys.parse().expect("a number"));
    println!(
        "\nmemory that the limit counts (working set) and that is the process's own (RSS), in MiB; processor time"
    );
    println!(
        "{:34} {:>8} {:>8} {:>8} {:>12}",
        "", "counted", "RSS", "limit", "millicores"
    );
    show(inside, "without keys").await;
    let begin = Instant::now();
    let all = json!({ "restrictions": { "allDevices": true } });
    stream::iter(0..keys)
        .for_each_concurrent(16, async |number| {
            inside.create(&format!("key-{number}"), all.clone()).await;
        })
        .await;
    are_ready(&inside.keys(), keys).await;
    println!(
        "{keys} keys were issued in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    show(inside, "with keys").await;
    for part in PARTS {
        let part = format!("deployment/keyward-{part}");
        inside.kubectl(&["rollout", "restart", &part, "-n", crate::inside::SYSTEM]);
    }
    for part in PARTS {
        inside.is_rolled_out(&format!("keyward-{part}")).await;
    }
    show(inside, "started again").await;
}

async fn are_ready(keys: &Api<AccessKey>, many: usize) {
    loop {
        let found = keys
            .list(&ListParams::default())
            .await
            .expect("listed")
            .into_iter();
        let ready = found.filter(|key| key.status.as_ref().is_some_and(|it| holds(it, "Ready")));
        if ready.count() >= many {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// The Pods of all parts, once they have come to rest.
async fn show(inside: &Inside, when: &str) {
    // The kubelet looks every ten seconds or so; what it says of processor time is of the last of them.
    sleep(Duration::from_secs(40)).await;
    let summary = Request::get("/api/v1/nodes/node/proxy/stats/summary?only_cpu_and_memory=true")
        .body(Vec::new());
    let summary: Value = inside
        .admin
        .request(summary.expect("a request"))
        .await
        .expect("the kubelet says");
    for part in PARTS {
        for pod in inside.pods(part).await {
            let limit = limit_of(&pod);
            let name = pod.name_any();
            let pods = summary["pods"].as_array().expect("Pods");
            let told = pods
                .iter()
                .find(|it| it["podRef"]["name"] == *name)
                .expect("it is known");
            let container = &told["containers"][0];
            let mib =
                |name: &str| container["memory"][name].as_f64().expect("bytes") / 1024.0 / 1024.0;
            let cores = container["cpu"]["usageNanoCores"]
                .as_f64()
                .unwrap_or_default()
                / 1e6;
            let (counted, own) = (mib("workingSetBytes"), mib("rssBytes"));
            println!(
                "{:34} {counted:>8.1} {own:>8.1} {limit:>8} {cores:>12.1}",
                format!("{part}, {when}")
            );
        }
    }
}

fn limit_of(pod: &k8s_openapi::api::core::v1::Pod) -> String {
    let containers = &pod.spec.as_ref().expect("a spec").containers;
    let resources = containers[0].resources.as_ref().expect("resources");
    let limits = resources.limits.as_ref().expect("limits");
    limits["memory"].0.clone()
}
