//! How fast keys are issued, against a bare loop that makes the same writes.
//!
//! Both arms run in this process, one after the other in each round, on the same API server: same
//! client, concurrency and watch, one hash at the default profile a key, two status writes and one
//! create a key, and the Events. Each issues a fresh namespace of keys that were applied before it
//! started. Needs `KUBECONFIG` of an admin of a cluster with `crds/`, `deploy/install.yaml` and
//! `deploy/all-namespaces.yaml` applied: `make bench` brings one up.
//!
//! `KEYWARD_BENCH_KEYS` and `KEYWARD_BENCH_ROUNDS` change the size (1000 keys, 5 rounds).

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, Attempt, Delivery};
use keyward::clock::Clock;
use keyward::controller::events::Events;
use keyward::controller::hasher::Hasher;
use keyward::controller::report::{Finding, Verdict};
use keyward::controller::run::Tools;
use keyward::controller::step::Timing;
use keyward::controller::{self, Controller, delivery, status};
use keyward::key::{Check, KeyId};
use keyward::metrics::Metrics;
use keyward::verifier::HashProfile;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::{broadcast, oneshot};

const CONCURRENCY: u16 = 16;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let keys = setting("KEYWARD_BENCH_KEYS", 1000);
    let rounds = setting("KEYWARD_BENCH_ROUNDS", 5);
    let config = Config::infer()
        .await
        .expect("KUBECONFIG names a cluster: run `make bench`");
    let client = controller::client(config).expect("a client");
    println!("{keys} keys, {CONCURRENCY} at once, {rounds} rounds; keys a second");
    println!(
        "{:>6} {:>9} {:>9} {:>6}",
        "round", "keyward", "bare", "ratio"
    );
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        // Whichever goes second finds a larger etcd: they take turns.
        let (keyward, bare) = if round % 2 == 0 {
            let bare = rate(&client, keys, Arm::Bare).await;
            (rate(&client, keys, Arm::Keyward).await, bare)
        } else {
            (
                rate(&client, keys, Arm::Keyward).await,
                rate(&client, keys, Arm::Bare).await,
            )
        };
        println!(
            "{round:>6} {keyward:>9.1} {bare:>9.1} {:>6.2}",
            keyward / bare
        );
        ratios.push(keyward / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number"))
    })
}

#[derive(Clone, Copy)]
enum Arm {
    Keyward,
    Bare,
}

/// Keys a second, from the start of the arm until the last key is confirmed.
async fn rate(client: &Client, keys: usize, arm: Arm) -> f64 {
    let namespace = namespace_with(client, keys).await;
    let begin = Instant::now();
    match arm {
        Arm::Keyward => keyward(client.clone(), &namespace, keys).await,
        Arm::Bare => bare(client.clone(), &namespace, keys).await,
    }
    let rate = keys as f64 / begin.elapsed().as_secs_f64();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .delete(&namespace, &DeleteParams::background())
        .await
        .expect("the namespace is deleted");
    // Its deletion would weigh on the next arm.
    while namespaces
        .get_opt(&namespace)
        .await
        .expect("an answer")
        .is_some()
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    rate
}

async fn namespace_with(client: &Client, keys: usize) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({ "metadata": { "generateName": "bench-" } }))
        .expect("a namespace");
    let made = namespaces
        .create(&PostParams::default(), &object)
        .await
        .expect("a namespace");
    let name = made.metadata.name.expect("a name");
    let api: Api<AccessKey> = Api::namespaced(client.clone(), &name);
    stream::iter(0..keys)
        .map(|number| {
            let api = api.clone();
            async move {
                let key = serde_json::from_value(json!({
                    "apiVersion": "keyward.dev/v1alpha1",
                    "kind": "AccessKey",
                    "metadata": { "name": format!("key-{number}") },
                    "spec": { "restrictions": { "deviceIds": [format!("device-{number}")] } },
                }));
                api.create(&PostParams::default(), &key.expect("an AccessKey"))
                    .await
                    .expect("it is created");
            }
        })
        .buffer_unordered(32)
        .collect::<()>()
        .await;
    name
}

async fn keyward(client: Client, namespace: &str, keys: usize) {
    let (metrics, _) = Metrics::new();
    let tools = Tools {
        client,
        request_timeout: REQUEST_TIMEOUT,
        timing: Timing::with_grace(Duration::from_secs(300)),
        clock: Clock::system(),
        hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
        metrics: metrics.clone(),
    };
    let (nudges, _) = broadcast::channel(1);
    let namespaces = vec![namespace.to_owned()];
    let controller = Controller {
        tools,
        namespaces,
        concurrency: CONCURRENCY,
        nudges,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(controller.run(stopped.map(|_| ()).boxed().shared(), || {}));
    while metrics.keys_issued.get() < keys as u64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(stop);
    running.await.expect("the controller ends");
}

/// The same writes, and nothing that makes them safe.
async fn bare(client: Client, namespace: &str, keys: usize) {
    let (metrics, _) = Metrics::new();
    let hasher = Hasher::new(HashProfile::Fleet, metrics.clone());
    let events = Events::start(client.clone(), REQUEST_TIMEOUT, metrics);
    let api: Api<AccessKey> = Api::namespaced(client.clone(), namespace);
    let watch = pin!(
        watcher(api.clone(), watcher::Config::default())
            .default_backoff()
            .applied_objects()
    );
    watch
        .try_filter(|key| {
            std::future::ready(
                key.status
                    .as_ref()
                    .is_none_or(|status| status.key.is_none()),
            )
        })
        .map(|key| {
            let (client, api, hasher, events) =
                (client.clone(), api.clone(), hasher.clone(), events.clone());
            tokio::spawn(async move {
                issue(client, api, hasher, events, key.expect("the watch goes on")).await
            })
        })
        .buffer_unordered(usize::from(CONCURRENCY))
        .take(keys)
        .for_each(|done| {
            done.expect("it is issued");
            std::future::ready(())
        })
        .await;
}

async fn issue(
    client: Client,
    api: Api<AccessKey>,
    hasher: Hasher,
    events: Events,
    mut key: AccessKey,
) {
    let (secret, verifier) = hasher.generate().await.expect("a secret");
    let public = KeyId::generate().expect("a key").to_string();
    let now = Timestamp::now();
    let check = Check::of(&public, &secret).as_str().to_owned();
    let attempt = Attempt {
        verifier: verifier.as_str().to_owned(),
        check,
        at: Time(now),
    };
    let id = status::attempt_id(&attempt.verifier);
    let view = status::view(&key).expect("a stored object");
    let old = key.status.take().unwrap_or_default();
    let committed = view.ledger.commit(id, &[], &view.uid, view.wanted);
    let mut first = status::write(&old, &committed, Some(&attempt), now);
    first.key = Some(public.clone());
    status::tell(&mut first, &key, &Verdict::new(&key, Finding::Issuing), now);
    let mut key = write(&api, key, first).await;

    let (uid, _) = delivery::publish(&client, &key, &public, &secret, None)
        .await
        .expect("the Secret is created");

    let confirmed = committed.confirm(id, &uid, true, &view.rotation, now);
    let old = key.status.take().expect("a status");
    let mut second = status::write(&old, &confirmed, None, now);
    let name = key.secret_name().to_owned();
    second.secret = Some(Delivery {
        name,
        uid: uid.0.to_string(),
        published_at: Time(now),
        consumed_at: None,
    });
    status::tell(&mut second, &key, &Verdict::new(&key, Finding::Issued), now);
    let key = write(&api, key, second).await;
    events.issued(&key);
}

async fn write(
    api: &Api<AccessKey>,
    mut key: AccessKey,
    status: keyward::api::AccessKeyStatus,
) -> AccessKey {
    key.status = Some(status);
    let name = key.metadata.name.clone().expect("a name");
    let params = PostParams {
        field_manager: Some(delivery::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.replace_status(&name, &params, &key)
        .await
        .expect("the status is written")
}
