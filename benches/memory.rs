//! How much memory the controller takes with 10,000 keys: when it has issued them, and when it is started again and
//! finds them issued.
//!
//! Needs `KUBECONFIG` of an admin of a cluster with `crds/` and `deploy/install.yaml` applied: `make bench` brings one
//! up. `KEYWARD_BENCH_MEMORY_KEYS` changes the number of keys.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use keyward::api::AccessKey;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use support::cluster::{TestNamespace, from_json};
use support::process::{Launcher, Process};
use tokio::time::sleep;

/// MiB, resident.
const GOAL: f64 = 64.0;

#[tokio::main]
async fn main() {
    let keys = std::env::var("KEYWARD_BENCH_MEMORY_KEYS");
    let keys = keys.map_or(10_000, |keys| keys.parse().expect("a number"));
    let namespace = TestNamespace::served("memory").await;
    let launcher = Launcher::as_controller("memory").await.logging("info");
    let flag = format!("--namespace={}", namespace.name);
    println!("{keys} keys; MiB of memory of the controller");
    println!(
        "{:24} {:>9} {:>6} {:>10} {:>6}",
        "", "resident", "heap", "binary", "peak"
    );

    let mut process = launcher.start(&[&flag]);
    process.is_ready().await;
    show("started, without keys", &process);
    let begin = Instant::now();
    create(&namespace.api(&namespace.admin), keys).await;
    until(&mut process, "keyward_keys_issued_total", keys).await;
    let issued = show(
        &format!("issued, in {:.0} s", begin.elapsed().as_secs_f64()),
        &process,
    );
    sleep(Duration::from_secs(10)).await;
    show("10 s later", &process);
    process.end(Duration::from_secs(30)).await;

    let mut process = launcher.start(&[&flag]);
    let settled = "keyward_reconciles_total{outcome=\"settled\"}";
    until(&mut process, settled, keys).await;
    let restarted = show("started again", &process);
    sleep(Duration::from_secs(10)).await;
    show("10 s later", &process);
    let most = issued.max(restarted);
    let verdict = if most <= GOAL { "at most" } else { "MORE THAN" };
    println!("resident: {most:.1} MiB, {verdict} {GOAL} MiB");
}

async fn create(keys: &Api<AccessKey>, count: u64) {
    let created = stream::iter(0..count).for_each_concurrent(32, |number| async move {
        let key: AccessKey = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": format!("key-{number}") },
            "spec": { "restrictions": { "deviceIds": [format!("device-{number}")] } },
        }));
        let created = keys.create(&PostParams::default(), &key).await;
        created.expect("it is created");
    });
    created.await;
}

/// Waits until a count has come this far.
async fn until(process: &mut Process, metric: &str, count: u64) {
    while process.metric(metric).await < count {
        assert!(process.lives(), "the controller goes on");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Prints a line, and gives what is resident.
fn show(when: &str, process: &Process) -> f64 {
    let mib = |name| process.memory(name) as f64 / 1024.0;
    let resident = mib("VmRSS");
    println!(
        "{when:24} {resident:>9.1} {:>6.1} {:>10.1} {:>6.1}",
        mib("RssAnon"),
        mib("RssFile"),
        mib("VmHWM"),
    );
    resident
}
