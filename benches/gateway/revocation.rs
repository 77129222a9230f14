//! G15: how long a gateway goes on admitting a device after a bare watch has delivered that its key is inactive. And
//! the whole way: from the API server's answer to the change until the last gateway has refused the device.
//!
//! 10,000 keys on a real API server, their statuses written by this program instead of a controller; two `keyward
//! gateway` processes, each of which issues 300 tokens a second meanwhile. One more connection to each asks for a token
//! with the key that is about to be made inactive, twice in a millisecond, until it is refused. All of it shares the
//! processors of this machine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use keyward::api::{AccessKey, KeyState};
use keyward::verifier::HashProfile;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

use super::follow::follow;
use super::load::{Connection, Request, Stop, at_rate, auth_device};
use super::measure::{Row, quantile, scaled};
use super::plant::{Common, Issued};
use super::support::cluster::{TestNamespace, from_json};
use super::support::process::{Access, Launcher, Process};

const KEYS: usize = 10_000;
const REVOKED: usize = 500;

/// Tokens a second, of each gateway.
const RATE: usize = 300;

/// Milliseconds.
const MOST_BEYOND: f64 = 5.0;
const MOST_IN_ALL: f64 = 100.0;

const PAUSE: Duration = Duration::from_micros(500);

pub fn run() -> Vec<Row> {
    let runtime = Runtime::new().expect("a runtime");
    let (namespace, fleet, gateways) = runtime.block_on(prepare());
    let keys: Api<AccessKey> = namespace.api(&namespace.admin);
    let seen = watch(&runtime, keys.clone());
    let at = gateways.iter().map(|gateway| gateway.1);
    let at: Vec<SocketAddr> = at.collect();
    let (revoked, others) = fleet.split_at(scaled(REVOKED));
    let asks: Vec<Request> = others
        .iter()
        .take(1000)
        .map(|issued| auth_device(issued, &issued.secret))
        .collect();
    let stop = Stop::default();
    let times = thread::scope(|scope| {
        let load = |at| {
            while !stop.is_set() {
                at_rate(at, RATE, Duration::from_secs(1), &asks);
            }
        };
        for at in &at {
            scope.spawn(move || load(*at));
        }
        let _end = stop.at_the_end();
        revoke(runtime.handle(), &keys, revoked, &at, &seen)
    });
    drop((gateways, namespace));
    rows(times)
}

/// A process, and where it listens for devices.
pub type Gateway = (Process, SocketAddr);

async fn prepare() -> (TestNamespace, Vec<Issued>, Vec<Gateway>) {
    let namespace = TestNamespace::unserved("revocation").await;
    let common = Common::new(HashProfile::Fleet);
    let fleet: Vec<Issued> = (0..scaled(KEYS))
        .map(|number| Issued::with(number, &common))
        .collect();
    let begin = Instant::now();
    let keys: Api<AccessKey> = namespace.api(&namespace.admin);
    stream::iter(&fleet)
        .for_each_concurrent(32, async |issued| store(&keys, issued).await)
        .await;
    println!(
        "  {} keys stored in {:.0} s",
        fleet.len(),
        begin.elapsed().as_secs_f64()
    );
    let access = Access::admin().as_gateway().await;
    let launcher = Launcher::new("revocation", &access).logging("info");
    let gateways = two_gateways(&launcher, &namespace.name).await;
    (namespace, fleet, gateways)
}

/// Ready to be asked by devices of this namespace.
pub async fn two_gateways(launcher: &Launcher, namespace: &str) -> Vec<Gateway> {
    let flag = format!("--namespace={namespace}");
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let mut process = launcher.start_gateway(&[&flag, "--ephemeral-signing-key"]);
        process.is_ready().await;
        let at = process.address("devices").await;
        gateways.push((process, at));
    }
    gateways
}

async fn store(keys: &Api<AccessKey>, issued: &Issued) {
    let key: AccessKey = from_json(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": issued.device },
        "spec": { "restrictions": { "deviceIds": [issued.device] } },
    }));
    let params = PostParams::default();
    let mut key = keys.create(&params, &key).await.expect("it is created");
    key.status = Some(from_json(issued.status()));
    let stored = keys.replace_status(&issued.device, &params, &key).await;
    stored.expect("its status is stored");
}

/// A bare watch: tells the names of keys that have become inactive, and when it knew.
fn watch(runtime: &Runtime, keys: Api<AccessKey>) -> Receiver<(String, Instant)> {
    let (sender, seen) = channel();
    follow(runtime, keys, move |key| {
        if key.spec.state == KeyState::Inactive {
            // At the end nobody listens any more.
            sender.send((key.name_any(), Instant::now())).ok();
        }
    });
    seen
}

/// Milliseconds until the last gateway has refused, for each key.
#[derive(Default)]
struct Times {
    /// From when the bare watch knew.
    beyond: Vec<f64>,
    /// From when the change was answered.
    in_all: Vec<f64>,
}

fn revoke(
    runtime: &Handle,
    keys: &Api<AccessKey>,
    revoked: &[Issued],
    gateways: &[SocketAddr],
    seen: &Receiver<(String, Instant)>,
) -> Times {
    let mut connections: Vec<Connection> = gateways.iter().map(|at| Connection::to(*at)).collect();
    let patch = Patch::Merge(json!({ "spec": { "state": "Inactive" } }));
    let params = PatchParams::default();
    let (mut times, mut known) = (Times::default(), HashMap::new());
    for issued in revoked {
        let request = auth_device(issued, &issued.secret);
        for connection in &mut connections {
            assert_eq!(connection.ask(&request), 200, "it is admitted");
        }
        let (answered, refused) = thread::scope(|scope| {
            let asking = connections
                .iter_mut()
                .map(|connection| scope.spawn(|| refusal(connection, &request)));
            let asking: Vec<_> = asking.collect();
            let patched = runtime.block_on(keys.patch(&issued.device, &params, &patch));
            let answered = Instant::now();
            patched.expect("it is changed");
            let refused = asking
                .into_iter()
                .map(|asking| asking.join().expect("no panic"));
            (answered, refused.max().expect("a gateway"))
        });
        while !known.contains_key(&issued.device) {
            known.extend(seen.recv());
        }
        let millis =
            |since: Instant| refused.saturating_duration_since(since).as_secs_f64() * 1000.0;
        times.beyond.push(millis(known[&issued.device]));
        times.in_all.push(millis(answered));
    }
    times
}

/// When the first answer came that was no admission.
fn refusal(connection: &mut Connection, request: &[u8]) -> Instant {
    while connection.ask(request) == 200 {
        thread::sleep(PAUSE);
    }
    Instant::now()
}

fn rows(times: Times) -> Vec<Row> {
    let row = |goal, what: &str, other: &str, times: Vec<f64>, most| {
        let (middle, figure) = (quantile(times.clone(), 0.5), quantile(times, 0.99));
        println!("  ms, {what}: p50 {middle:.2}, p99 {figure:.2}");
        Row {
            goal,
            what: what.to_owned(),
            own: format!("p50 {middle:.1} ms, p99 {figure:.1} ms"),
            other: other.to_owned(),
            figure,
            most,
            holds: true,
        }
    };
    vec![
        row(
            "G15",
            "last refusal, since a watch knew",
            "a bare watch",
            times.beyond,
            MOST_BEYOND,
        ),
        row(
            "P4",
            "last refusal, since the change was answered",
            "the answer",
            times.in_all,
            MOST_IN_ALL,
        ),
    ]
}
