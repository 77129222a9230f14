//! What a thousand keys cost the API server, by its own count: to issue, to keep, and after a restart.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::cluster::{CONTROLLER_USER, apply, from_json};
use crate::support::history::History;
use crate::support::instance::Instance;
use crate::support::process::{Launcher, Process, holds_no_secret};
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use keyward::api::AccessKey;
use keyward::clock::Clock;
use keyward::controller::hasher::Hasher;
use keyward::controller::run::Tools;
use keyward::controller::step::Timing;
use keyward::controller::{Controller, Nudge};
use keyward::metrics::{Metrics, Outcome, OutcomeLabel};
use keyward::verifier::HashProfile;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::sync::{broadcast, oneshot};
use tokio::time::sleep;

const KEYS: u64 = 1000;
const NAMESPACE: &str = "plant";
const PATIENCE: Duration = Duration::from_secs(60);
const SETTLED: &str = "keyward_reconciles_total{outcome=\"settled\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_cost_three_writes_each_and_nothing_afterwards() {
    let manifests = ["crds/", "deploy/install.yaml", "deploy/all-namespaces.yaml"];
    let instance = Instance::with("scale", &manifests).await;
    let namespaces: Api<Namespace> = Api::all(instance.admin.clone());
    let namespace = from_json(json!({ "metadata": { "name": NAMESPACE } }));
    let made = namespaces.create(&PostParams::default(), &namespace).await;
    made.expect("a namespace");
    let history = History::as_seen_by(&instance.admin, NAMESPACE);
    let launcher = Launcher::new("scale", &instance.access().as_controller().await);

    issue(&instance, &launcher, &history).await;
    idle(&instance).await;
    restart(&instance, &launcher).await;
    holds_no_secret(&launcher.log(), &history.plaintexts());
}

async fn issue(instance: &Instance, launcher: &Launcher, history: &History) {
    let mut process = launcher.start(&["--all-namespaces"]);
    process.is_ready().await;
    let before = instance.requests().await;
    let begin = Instant::now();
    apply_all(instance).await;
    let applied = begin.elapsed();
    history.until_done(KEYS as usize, PATIENCE).await;
    println!(
        "{KEYS} keys were applied in {applied:?} and issued in {:?}",
        begin.elapsed()
    );
    // Events come last, and are sent at their own pace.
    sleep(Duration::from_secs(1)).await;
    let cost = instance.requests().await.since(&before);
    println!("by apiserver_request_total: {cost:#?}");

    history.is_sound().await;
    let different: HashSet<String> = history.plaintexts().into_iter().collect();
    assert_eq!(different.len() as u64, KEYS);
    assert_eq!(
        cost.writes("accesskeys/status"),
        [("update", 200, 2 * KEYS)]
    );
    assert_eq!(cost.writes("secrets"), [("create", 201, KEYS)]);
    let events: u64 = cost.writes("events").iter().map(|(.., count)| count).sum();
    assert!(events > 0 && events <= KEYS, "{events} Events");
    assert_eq!(cost.answered(409), 0, "there were no conflicts");

    let audited = instance.audited(CONTROLLER_USER);
    println!("by the audit log, the controller: {audited:#?}");
    assert_eq!(audited.reads("secrets"), 0);
    let elsewhere = audited.all_writes()
        - audited
            .writes("events")
            .iter()
            .map(|(.., n)| n)
            .sum::<u64>();
    assert_eq!(elsewhere, 3 * KEYS);
    process.counts("keyward_hashes_total", KEYS).await;
    end(process).await;
}

async fn apply_all(instance: &Instance) {
    let keys: Api<AccessKey> = Api::namespaced(instance.admin.clone(), NAMESPACE);
    let applied = stream::iter(0..KEYS).for_each_concurrent(32, |number| {
        let keys = keys.clone();
        async move {
            let key: AccessKey = from_json(json!({
                "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
                "metadata": { "name": format!("key-{number}") },
                "spec": { "restrictions": { "deviceIds": [format!("device-{number}")] } },
            }));
            apply(&keys, &key).await;
        }
    });
    applied.await;
}

/// Ten resyncs, which the binary makes one each ten minutes: no write, no hash, and no read of a Secret.
async fn idle(instance: &Instance) {
    let before = instance.audited(CONTROLLER_USER);
    let config = instance.access().as_controller().await;
    let (metrics, _) = Metrics::new();
    let tools = Tools {
        client: config.client().await,
        request_timeout: Duration::from_secs(10),
        timing: Timing::with_grace(Duration::from_secs(300)),
        clock: Clock::system(),
        hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
        metrics: metrics.clone(),
    };
    let (nudges, _) = broadcast::channel(4);
    let controller = Controller {
        tools,
        namespaces: vec![NAMESPACE.to_owned()],
        concurrency: 16,
        nudges: nudges.clone(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(stopped.map(|_| ()).boxed().shared(), || {}));
    let settled = metrics.reconciles.get_or_create(&OutcomeLabel {
        outcome: Outcome::Settled,
    });
    let settled = settled.clone();
    for round in 0..=10 {
        let begin = Instant::now();
        while settled.get() < (round + 1) * KEYS {
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "resync {round}: {} looks ended", settled.get());
            sleep(Duration::from_millis(5)).await;
        }
        if round < 10 {
            nudges.send(Nudge::Resync).expect("the controller runs");
        }
    }
    drop(stop);
    running.await.expect("the controller ends");

    assert_eq!(settled.get(), 11 * KEYS);
    assert_eq!(metrics.hashes.get(), 0);
    let cost = instance.audited(CONTROLLER_USER).since(&before);
    println!("ten resyncs, by the audit log: {cost:#?}");
    assert_eq!(cost.all_writes(), 0);
    assert_eq!(cost.reads("secrets"), 0);
}

async fn restart(instance: &Instance, launcher: &Launcher) {
    let before = instance.audited(CONTROLLER_USER);
    let mut process = launcher.start(&["--all-namespaces"]);
    process.is_ready().await;
    process.counts_at_least(SETTLED, KEYS).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(process.metric(SETTLED).await, KEYS);
    assert_eq!(process.requests().await, 0);
    assert_eq!(process.metric("keyward_hashes_total").await, 0);
    end(process).await;
    let cost = instance.audited(CONTROLLER_USER).since(&before);
    println!("a restart, by the audit log: {cost:#?}");
    assert_eq!(cost.all_writes(), 0);
    assert_eq!(cost.reads("secrets"), 0);
}

async fn end(process: Process) {
    let status = process.end(Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0));
}
