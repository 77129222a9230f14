//! The real controller is killed at the n-th answer it gets, for n = 1, 2, ... until it is done
//! before it is killed, and started again each time: it issues, and rotates, each key once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::cluster::{self, TestNamespace, from_json};
use crate::support::fault::Fault;
use crate::support::history::{History, Seen};
use crate::support::process::{Launcher, holds_no_secret};
use crate::support::proxy::{Asked, Proxy, Rules};
use futures::future::join_all;
use keyward::api::AccessKey;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

/// So that what a kill leaves is found, and swept, in seconds.
const QUICK: [&str; 2] = ["--grace=5s", "--request-timeout=1s"];

/// For what was left of a key, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_answer_it_issues_each_key_once() {
    at_each_answer(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make prove"]
async fn killed_twenty_times_at_each_answer_it_issues_each_key_once() {
    at_each_answer(20).await;
}

/// As many times at each answer, some answers at once.
async fn at_each_answer(times: usize) {
    const AT_ONCE: u64 = 4;
    let mut killed = Vec::new();
    for first in (1..).step_by(AT_ONCE as usize) {
        let answers = first..first + AT_ONCE;
        killed.extend(join_all(answers.map(|answer| kills_at(answer, times))).await);
        if killed.contains(&0) {
            break;
        }
    }
    let answers = killed.iter().take_while(|kills| **kills > 0).count();
    let kills: usize = killed.iter().sum();
    println!("measured: kills at each of {answers} answers, {times} times: {kills} kills");
    assert!(
        answers > 8,
        "an issue and a rotation take more than {answers} answers"
    );
}

/// How often it was killed before it was done.
async fn kills_at(answer: u64, times: usize) -> usize {
    let mut kills = 0;
    for _ in 0..times {
        kills += usize::from(is_killed_at(answer).await);
    }
    kills
}

/// Issues and rotates a key. Was the controller killed before it was done?
async fn is_killed_at(answer: u64) -> bool {
    let namespace = TestNamespace::served("kill").await;
    let history = History::of(&namespace);
    let rules = KillAt {
        answer,
        requests: AtomicU64::default(),
    };
    let proxy = Proxy::start(cluster::controller().await, rules).await;
    let name = format!("kill-{}", namespace.name);
    let launcher = Launcher::new(&name, &proxy.access());
    let serve = format!("--namespace={}", namespace.name);
    let start = || launcher.start(&[&serve, QUICK[0], QUICK[1]]);
    let mut process = start();
    proxy.set_victim(process.killer());

    create(&namespace).await;
    let mut lives = until_done(&history, &proxy).await;
    if lives {
        rotate(&namespace, &history).await;
        lives = until_done(&history, &proxy).await;
        if !lives {
            process.was_killed();
            process = start();
        }
    } else {
        process.was_killed();
        process = start();
        history.until_done(1, PATIENCE).await;
        rotate(&namespace, &history).await;
    }
    history.until_done(1, PATIENCE).await;
    process.kill();
    history.is_sound().await;
    assert_eq!(history.issues(), 2, "killed at answer {answer}");
    holds_no_secret(&launcher.log(), &history.plaintexts());
    !lives
}

/// Waits until the key is done, or the controller killed. Does it live?
async fn until_done(history: &History, proxy: &Proxy) -> bool {
    let killed = async {
        while !proxy.has_killed() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let done = async {
        history.until_done(1, PATIENCE).await;
        while proxy.is_about_to_kill() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = done => !proxy.has_killed(),
        () = killed => false,
    }
}

async fn create(namespace: &TestNamespace) {
    let key: AccessKey = from_json(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": "key" },
        "spec": { "restrictions": { "allDevices": true } },
    }));
    let keys = namespace.api(&namespace.admin);
    keys.create(&PostParams::default(), &key)
        .await
        .expect("the admin may");
}

async fn rotate(namespace: &TestNamespace, history: &History) {
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    let rotation = json!({ "spec": { "rotation": { "revision": 2, "overlap": "0s" } } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(rotation));
    keys.patch("key", &params, &patch)
        .await
        .expect("the admin may");
    let is_asked_for = |seen: &Seen| {
        let mut keys = seen.keys.values();
        keys.all(|key| key.spec.rotation.revision == 2)
    };
    history
        .until("a rotation is asked for", PATIENCE, is_asked_for)
        .await;
}

/// Kills once the answer of this number was given, the beginnings of watches apart.
struct KillAt {
    answer: u64,
    requests: AtomicU64,
}

impl Rules for KillAt {
    fn request(&self, asked: &Asked) -> Option<Fault> {
        let counts = u64::from(!asked.is_watch());
        let requests = self.requests.fetch_add(counts, Ordering::SeqCst) + counts;
        (counts > 0 && requests == self.answer).then_some(Fault::KillAnswered)
    }
}
