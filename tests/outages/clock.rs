//! The wall clock of a controller is moved by an hour, as an administrator or a time server does; what it measures
//! goes on. Debian's faketime does that to the process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyward::api::AccessKey;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::fleet::{Fleet, PATIENCE};
use crate::support::cluster::{eventually, from_json};
use crate::support::history::Seen;
use crate::support::process::{Access, Folder, Launcher, Process};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_moved_by_an_hour_changes_what_is_said_and_not_what_is_measured() {
    let clock = WallClock::new();
    let mut fleet = Fleet::shared("clock").await;
    fleet.launcher = clock.rules(&fleet).await;
    work_as_the_clock_moves(&mut fleet, &clock, 1).await;
    wait_for_the_grace(&mut fleet, &clock).await;
    retire_by_the_clock(&fleet, &clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn a_clock_that_is_moved_again_and_again_issues_nothing_twice() {
    let clock = WallClock::new();
    let mut fleet = Fleet::shared("clock-often").await;
    fleet.launcher = clock.rules(&fleet).await;
    work_as_the_clock_moves(&mut fleet, &clock, 6).await;
}

/// In the midst of an issue, and with issues that a crash has left.
async fn work_as_the_clock_moves(fleet: &mut Fleet, clock: &WallClock, rounds: usize) {
    let mut controller = fleet.controller().await;
    fleet.issue(12).await;
    fleet.consume(2).await;
    for _ in 0..rounds {
        for by in [HOUR, -HOUR] {
            fleet.is_at_work(16, 6).await;
            clock.shows(by);
            fleet.ask(4, 0).await;
            controller.kill();
            controller = fleet.controller().await;
            clock.shows(-by);
            fleet.is_whole().await;
            clock.shows(by);
            fleet.ask(1, 0).await;
            fleet.is_whole().await;
            assert_eq!(hours_ahead(fleet), by.as_hours());
        }
    }
    let status = controller.end(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
    println!(
        "measured: {rounds} rounds: {}",
        fleet.history.seen().summary()
    );
}

/// How far ahead of the test's clock the last delivery was recorded.
fn hours_ahead(fleet: &Fleet) -> i64 {
    let seen = fleet.history.seen();
    let deliveries = seen.keys.values().filter_map(|key| {
        let name = key.name_any();
        let number: u32 = name.strip_prefix("key-")?.parse().ok()?;
        Some((number, key.status.as_ref()?.secret.as_ref()?.published_at.0))
    });
    let (_, last) = deliveries.max().expect("a delivery");
    (last.duration_since(Timestamp::now()).as_secs_f64() / 3600.0).round() as i64
}

/// A sweep that is due after the grace is not due because an hour has passed on the wall.
async fn wait_for_the_grace(fleet: &mut Fleet, clock: &WallClock) {
    let mut controller = leave_marks(fleet).await;
    let before = marked(&fleet.history.seen());
    clock.shows(HOUR);
    look_again(fleet, &mut controller).await;
    clock.shows(-HOUR);
    look_again(fleet, &mut controller).await;
    let after = marked(&fleet.history.seen());
    assert_eq!(after, before, "swept before the grace was over");
    controller.kill();
    let quick = fleet.controller().await;
    fleet.is_whole().await;
    drop(quick);
}

/// A controller with a grace that is longer than this test, which has confirmed what others began.
async fn leave_marks(fleet: &mut Fleet) -> Process {
    let mut killed = fleet.controller().await;
    loop {
        fleet.is_at_work(16, 0).await;
        killed.kill();
        let mut patient = fleet.start_with(&["--grace=1h"]);
        patient.is_ready().await;
        let issued = |seen: &Seen| seen.keys.values().all(is_issued);
        fleet.history.until("all is issued", PATIENCE, issued).await;
        if marked(&fleet.history.seen()) > 0 {
            return patient;
        }
        killed = patient;
    }
}

fn is_issued(key: &AccessKey) -> bool {
    let status = key.status.as_ref();
    status.is_some_and(|status| status.issuance.is_none() && !status.verifiers.is_empty())
}

fn marked(seen: &Seen) -> usize {
    let statuses = seen.keys.values().filter_map(|key| key.status.as_ref());
    statuses.filter(|status| status.unsettled.is_some()).count()
}

/// An overlap ends by the wall clock: its end is what gateways go by.
async fn retire_by_the_clock(fleet: &Fleet, clock: &WallClock) {
    let verifiers = async || {
        let key = fleet.keys.get("watched").await.expect("the admin may");
        key.status.unwrap_or_default().verifiers.len()
    };
    clock.shows(SignedDuration::ZERO);
    let mut controller = fleet.controller().await;
    let key: AccessKey = from_json(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "watched" },
        "spec": { "restrictions": { "allDevices": true }, "rotation": { "overlap": "30m" } },
    }));
    let made = fleet.keys.create(&PostParams::default(), &key).await;
    made.expect("the admin may");
    eventually("it is issued", || async { verifiers().await == 1 }).await;
    change(
        fleet,
        "watched",
        json!({ "spec": { "rotation": { "revision": 2 } } }),
    )
    .await;
    eventually("it is rotated", || async { verifiers().await == 2 }).await;
    clock.shows(-HOUR);
    look_again(fleet, &mut controller).await;
    assert_eq!(
        verifiers().await,
        2,
        "by its clock the overlap has not begun"
    );
    clock.shows(HOUR);
    look_again(fleet, &mut controller).await;
    assert_eq!(verifiers().await, 1, "by its clock the overlap is over");
}

/// Has the controller look at every key, and waits until it has.
async fn look_again(fleet: &Fleet, controller: &mut Process) {
    const SETTLED: &str = "keyward_reconciles_total{outcome=\"settled\"}";
    let before = controller.metric(SETTLED).await;
    let keys = fleet.keys.list(&ListParams::default()).await;
    let keys = keys.expect("the admin may").items;
    for key in &keys {
        let annotations = json!({ "example.com/looks-before": before.to_string() });
        let annotated = json!({ "metadata": { "annotations": annotations } });
        change(fleet, &key.name_any(), annotated).await;
    }
    let all_once_more = before + keys.len() as u64;
    controller.counts_at_least(SETTLED, all_once_more).await;
}

async fn change(fleet: &Fleet, name: &str, change: Value) {
    let (params, patch) = (PatchParams::default(), Patch::Merge(change));
    let changed = fleet.keys.patch(name, &params, &patch).await;
    changed.expect("the admin may");
}

/// What processes that are started by its rules take for the wall clock.
struct WallClock(Folder);

impl WallClock {
    fn new() -> WallClock {
        let clock = WallClock(Folder::new("clock"));
        clock.shows(SignedDuration::ZERO);
        clock
    }

    /// From now on it is so far ahead of the machine's.
    fn shows(&self, ahead: SignedDuration) {
        let text = format!("{:+}\n", ahead.as_secs());
        // At once: half a file is no time.
        let new = self.0.write("new", &text);
        fs::rename(new, self.file()).expect("it is replaced");
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("time")
    }

    async fn rules(&self, fleet: &Fleet) -> Launcher {
        let access = Access::admin().as_controller().await.unverified();
        Launcher::new(&fleet.namespace, &access)
            .with("LD_PRELOAD", &library())
            .with("FAKETIME_TIMESTAMP_FILE", &self.file().to_string_lossy())
            .with("FAKETIME_NO_CACHE", "1")
            .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a folder of libraries");
    let mut files = folders.map(|folder| {
        let folder = folder.expect("a folder").path();
        folder.join("faketime/libfaketimeMT.so.1")
    });
    let found = files.find(|file| file.exists());
    let found = found.expect("faketime is installed: apt-get install faketime");
    found.to_string_lossy().into_owned()
}
