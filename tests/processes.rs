//! The real binary, killed, doubled, told to end, and started wrongly. Whatever happens to a process, exactly one
//! secret a revision is ever accepted, and it is the one that was delivered.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::{TestNamespace, from_json};
use crate::support::history::{History, Seen, is_done};
use crate::support::process::{Access, Launcher, Process, holds_no_secret};
use futures::stream::{self, StreamExt};
use keyward::api::AccessKey;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// So that what a crash leaves is found, and swept, in seconds.
const QUICK: [&str; 2] = ["--grace=5s", "--request-timeout=1s"];

/// For a few hundred keys and everything that was left of them, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_it_issues_each_key_once() {
    const WAITING: usize = 20;
    const ROTATIONS: usize = 100;
    const KILLS: usize = 56;
    let mut random = random();
    let namespace = TestNamespace::served("kills").await;
    let launcher = Launcher::as_controller("kills").await;
    let history = History::of(&namespace);
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    let flags = flags(&namespace);

    // So many keys wait that each kill finds work under way, and half of the way through some are rotated.
    let (mut made, mut rotated) = (0, 0);
    for kill in 1..=KILLS {
        let waiting = made - begun(&history.seen());
        let more = made..made + WAITING.saturating_sub(waiting);
        made = more.end;
        create(&keys, more).await;
        let before = history.seen().statuses;
        let process = start(&launcher, &flags);
        let rotations = rotated..(2 * ROTATIONS * kill / KILLS).saturating_sub(ROTATIONS);
        rotated = rotations.end;
        let process = live(process, &history, before, &mut random);
        let (process, ()) = tokio::join!(process, rotate(&keys, rotations));
        process.kill();
    }

    let last = start(&launcher, &flags);
    history.until_done(made, PATIENCE).await;
    drop(last);
    history.is_sound().await;
    println!("{KILLS} kills: {}", history.seen().summary());
    let issues = history.issues();
    assert!(issues >= 500, "{issues} issues");
    let repeated = history.seen().repeated.len();
    assert!(repeated > 10, "kills hit issues under way: {repeated}");
    assert!(!history.seen().marked.is_empty(), "there were sweeps");
    logs_hold_no_secret(&launcher, &history);
}

/// Lets a process live for a while that ends at a moment of interest.
async fn live(
    mut process: Process,
    history: &History,
    statuses: u64,
    random: &mut StdRng,
) -> Process {
    let (kind, a_moment) = (random.random_range(0..10), random.random::<f64>());
    match kind {
        // As it starts, or lists.
        0 => sleep(Duration::from_millis(400).mul_f64(a_moment)).await,
        // As it takes up what earlier ones left, which it does not before its patience is over.
        1 | 2 => {
            process.is_ready().await;
            sleep(Duration::from_millis(1_950) + Duration::from_millis(250).mul_f64(a_moment))
                .await;
        }
        // In the midst of its first issues.
        _ => {
            let writes = statuses + random.random_range(1..=8);
            let written = |seen: &Seen| seen.statuses >= writes;
            history.until("it issues", PATIENCE, written).await;
            sleep(Duration::from_millis(4).mul_f64(a_moment)).await;
        }
    }
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_issue_each_key_once() {
    const KEYS: usize = 200;
    const ROTATIONS: usize = 50;
    let namespace = TestNamespace::served("two").await;
    let launcher = Launcher::as_controller("two").await;
    let history = History::of(&namespace);
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    let flags = flags(&namespace);
    let mut processes = [start(&launcher, &flags), start(&launcher, &flags)];
    for process in &mut processes {
        process.is_ready().await;
    }

    create(&keys, 0..KEYS).await;
    rotate(&keys, 0..ROTATIONS).await;
    history.until_done(KEYS, PATIENCE).await;
    history.is_sound().await;
    for process in &mut processes {
        let issued = process.metric("keyward_keys_issued_total").await;
        assert!(issued > 0, "both of them issue");
    }

    // Looks that were put off end, and after that nothing happens any more.
    sleep(Duration::from_secs(6)).await;
    let rested = activity(&history, &mut processes).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(activity(&history, &mut processes).await, rested);
    println!("two at once: {}", history.seen().summary());
    logs_hold_no_secret(&launcher, &history);
}

/// Versions of objects, and requests of processes.
async fn activity(history: &History, processes: &mut [Process]) -> (u64, Vec<u64>) {
    let mut requests = Vec::new();
    for process in processes {
        requests.push(process.requests().await);
    }
    (history.seen().versions, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_finishes_what_is_under_way() {
    const KEYS: usize = 300;
    let namespace = TestNamespace::served("end").await;
    let launcher = Launcher::as_controller("end").await;
    let history = History::of(&namespace);
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    // With time enough for each request, so that none has to be given up.
    let flag = format!("--namespace={}", namespace.name);
    create(&keys, 0..KEYS).await;

    let process = launcher.start(&[&flag]);
    let issues = |seen: &Seen| seen.secrets.len() > KEYS / 10;
    history.until("it issues", PATIENCE, issues).await;
    let begin = Instant::now();
    let status = process.end(Duration::from_secs(10)).await;
    println!("ended {:?} after SIGTERM", begin.elapsed());
    assert_eq!(status.code(), Some(0));

    let all_seen = |seen: &Seen| seen.secrets.len() == issued(seen) && seen.keys.len() == KEYS;
    history
        .until(
            "nothing is left half done",
            Duration::from_secs(5),
            all_seen,
        )
        .await;
    let first = issued(&history.seen());
    assert!(first < KEYS, "it was told to end in the midst of its work");
    let open = history
        .seen()
        .keys
        .values()
        .filter(|key| is_open(key))
        .count();
    assert_eq!(open, 0, "issues under way were finished");

    let second = launcher.start(&[&flag]);
    history.until_done(KEYS, PATIENCE).await;
    assert_eq!(second.end(Duration::from_secs(10)).await.code(), Some(0));
    history.is_sound().await;
    let seen = history.seen();
    assert_eq!(seen.repeated.len(), 0, "no issue took a second attempt");
    assert_eq!(seen.marked.len(), 0, "no sweep was needed");
    drop(seen);
    println!("{first} of {KEYS} keys were issued before the end");
    logs_hold_no_secret(&launcher, &history);
}

fn begun(seen: &Seen) -> usize {
    let keys = seen.keys.values();
    keys.filter(|key| key.status.is_some()).count()
}

fn issued(seen: &Seen) -> usize {
    let keys = seen.keys.values();
    keys.filter(|key| is_done(key)).count()
}

fn is_open(key: &AccessKey) -> bool {
    key.status
        .as_ref()
        .is_some_and(|status| status.issuance.is_some())
}

#[tokio::test]
async fn it_is_ready_once_it_knows_all_keys() {
    let namespace = TestNamespace::served("ready").await;
    let keys = namespace.api::<AccessKey>(&namespace.admin);
    let history = History::of(&namespace);
    create(&keys, 0..3).await;
    let access = Access::admin().as_controller().await;
    let door = Door::to(access.address().await).await;
    let launcher = Launcher::new("ready", &access.by_way_of(door.address));
    let mut process = start(&launcher, &flags(&namespace));

    sleep(Duration::from_secs(5)).await;
    assert!(process.lives(), "it keeps trying");
    assert_eq!(process.get("/livez").await.0, 200);
    let (code, text) = process.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("AccessKeys are listed"), "{text}");
    let log = process.log_text();
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| line.contains("cannot watch AccessKeys, trying again: "))
        .collect();
    // Four tries fit in: after 0.8, 1.6 and 3.2 s, each a little sooner or later.
    let tried = door.tries.load(Ordering::Relaxed);
    assert!((1..=8).contains(&complaints.len()), "{complaints:#?}");
    assert!(tried <= 24, "it waits between its tries: {tried}");

    door.open.store(true, Ordering::Relaxed);
    process.is_ready().await;
    history.until_done(3, PATIENCE).await;
    process.counts("keyward_keys_issued_total", 3).await;
    process.counts("keyward_hashes_total", 3).await;
    let commits = "keyward_api_requests_total{step=\"commit to a new secret\"}";
    process.counts(commits, 3).await;
    let settled = "keyward_reconciles_total{outcome=\"settled\"}";
    process.counts_at_least(settled, 3).await;
    logs_hold_no_secret(&launcher, &history);
}

/// A way to the API server that can be opened.
struct Door {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    tries: Arc<AtomicU32>,
}

impl Door {
    async fn to(server: SocketAddr) -> Door {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let door = Door {
            address: listener.local_addr().expect("an address"),
            open: Arc::default(),
            tries: Arc::default(),
        };
        let (open, tries) = (Arc::clone(&door.open), Arc::clone(&door.tries));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tries.fetch_add(1, Ordering::Relaxed);
                if open.load(Ordering::Relaxed) {
                    tokio::spawn(async move {
                        if let Ok(mut server) = TcpStream::connect(server).await {
                            copy_bidirectional(&mut client, &mut server).await.ok();
                        }
                    });
                }
            }
        });
        door
    }
}

#[tokio::test]
async fn started_wrongly_it_says_what_to_change() {
    let launcher = Launcher::as_controller("flags").await;
    let taken = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let taken = taken.local_addr().expect("an address");
    let taken_flag = format!("--admin-listen={taken}");
    let some = "--namespace=some";
    let rows: [(&[&str], i32, &str); 10] = [
        (
            &[some, "--grace=49s"],
            1,
            "keyward: --grace 49s is too short: give at least five times --request-timeout, 50s\n",
        ),
        (
            &[some, "--grace=5s", "--request-timeout=1001ms"],
            1,
            "keyward: --grace 5s is too short: give at least five times --request-timeout, 5.005s\n",
        ),
        (
            &[some, "--grace=0s", "--request-timeout=0s"],
            1,
            "is too short",
        ),
        (&[], 2, "<--namespace <NS>|--all-namespaces>"),
        (&[some, "--all-namespaces"], 2, "cannot be used with"),
        (&[some, "--concurrency=0"], 2, "'--concurrency <N>'"),
        (
            &[some, "--hash-profile=md5"],
            2,
            "[possible values: fleet, owasp]",
        ),
        (
            &[some, "--request-timeout=10"],
            2,
            "'--request-timeout <DURATION>'",
        ),
        (&[some, "--log-level=loud"], 1, "\"loud\" is no level"),
        (
            &[some, &taken_flag],
            1,
            "(--admin-listen): Address already in use",
        ),
    ];
    for (flags, code, words) in rows {
        refuses(&launcher, flags, &[], code, words);
    }
    let missing = ("KUBECONFIG", "/nonexistent/kubeconfig");
    refuses(
        &launcher,
        &[some],
        &[missing],
        1,
        "keyward: no cluster is configured: set KUBECONFIG",
    );
    let useless = ("KUBECONFIG", "/dev/null");
    refuses(
        &launcher,
        &[some],
        &[useless],
        1,
        "keyward: no cluster is configured: set KUBECONFIG",
    );
}

fn refuses(
    launcher: &Launcher,
    flags: &[&str],
    environment: &[(&str, &str)],
    code: i32,
    words: &str,
) {
    let output = launcher
        .command(flags)
        .envs(environment.iter().copied())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8(output.stderr).expect("text");
    println!("{flags:?}: {said}");
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
    assert!(said.contains(words), "{flags:?}: {said}");
    assert!(!said.contains("panicked"), "{flags:?}: {said}");
    // What clap refuses is followed by the usage.
    let sentences = said.lines().filter(|line| !line.contains(" INFO "));
    assert!(code == 2 || sentences.count() == 1, "{flags:?}: {said}");
}

fn flags(namespace: &TestNamespace) -> Vec<String> {
    vec![format!("--namespace={}", namespace.name)]
}

fn start(launcher: &Launcher, flags: &[String]) -> Process {
    let flags: Vec<&str> = QUICK
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    launcher.start(&flags)
}

/// By the seed in `KEYWARD_TEST_SEED`, or one that is printed. Which step a moment hits differs all the same.
fn random() -> StdRng {
    let given = std::env::var("KEYWARD_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("a number"));
    println!("KEYWARD_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

async fn create(keys: &Api<AccessKey>, numbers: std::ops::Range<usize>) {
    let made = stream::iter(numbers).for_each_concurrent(16, |number| async move {
        let key: AccessKey = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": name(number) },
            "spec": {
                "restrictions": { "deviceIds": [format!("device-{number}")] },
                "rotation": { "overlap": "0s" },
            },
        }));
        let created = keys.create(&PostParams::default(), &key).await;
        created.expect("it is created");
    });
    made.await;
}

async fn rotate(keys: &Api<AccessKey>, numbers: std::ops::Range<usize>) {
    let rotated = stream::iter(numbers).for_each_concurrent(16, |number| async move {
        let patch = Patch::Merge(json!({ "spec": { "rotation": { "revision": 2 } } }));
        let (name, params) = (name(number), PatchParams::default());
        let patched = keys.patch(&name, &params, &patch).await;
        patched.expect("it is rotated");
    });
    rotated.await;
}

fn name(number: usize) -> String {
    format!("key-{number}")
}

/// Nor anything that looks like one.
fn logs_hold_no_secret(launcher: &Launcher, history: &History) {
    let log = launcher.log();
    let secrets = history.plaintexts();
    assert!(!secrets.is_empty(), "Secrets were delivered");
    holds_no_secret(&log, &secrets);
    println!(
        "{} MB of logs hold none of {} secrets",
        log.len() / 1_000_000,
        secrets.len()
    );
}
