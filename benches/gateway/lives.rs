//! A fleet whose keys all come to a turn of their lives in one minute: half of them expire, the schedules of the others
//! rotate them, and a minute later retire the secrets before. Devices ask for tokens all the while, and each answer is
//! judged, by the clock and by what the statuses said.
//!
//! 10,000 keys on a real API server, the controller, and two gateways, as processes. No schedule is shorter than an hour,
//! so what statuses say of the past is put back before: as if the secrets were older.

mod devices;
mod fleet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::AccessKey;
use kube::Api;
use kube::api::{ListParams, ObjectList, PostParams};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::follow::follow;
use super::load::Stop;
use super::measure::{Row, quantile, scaled};
use super::revocation::{Gateway, two_gateways};
use super::support::cluster::{TestNamespace, from_json};
use super::support::keys::entry;
use super::support::process::{Access, Launcher, Process};
use devices::Judged;
use fleet::{Fleet, Minute, Turn};

const KEYS: usize = 10_000;

pub fn run() -> Vec<Row> {
    let runtime = Runtime::new().expect("a runtime");
    let minute = Minute::after_preparation();
    let mut scene = runtime.block_on(Scene::prepare(&minute));
    let fleet = runtime.block_on(scene.fleet(&minute));
    let seen = Arc::clone(&fleet);
    let (handle, secrets) = (runtime.handle().clone(), scene.secrets());
    follow(&runtime, scene.keys(), move |key| {
        if let Some(number) = seen.saw(&key) {
            handle.spawn(Arc::clone(&seen).read_new_secret(number, secrets.clone()));
        }
    });
    runtime.block_on(put_back(&scene.keys(), &fleet));
    runtime.block_on(scene.is_at_rest());
    let begin = Begin::of(&mut scene, &runtime);
    let left = minute.begin.duration_since(Timestamp::now());
    assert!(
        left.is_positive(),
        "more time is needed to prepare: {left:#}"
    );
    println!(
        "  {:.0} s are left before the first turn",
        left.as_secs_f64()
    );

    let stop = Stop::default();
    let judged = thread::scope(|scope| {
        let (fleet, stop) = (&fleet, &stop);
        let asking: Vec<_> = scene
            .gateways
            .iter()
            .map(|(_, at)| scope.spawn(move || devices::ask(*at, fleet, stop)))
            .collect();
        let end = stop.at_the_end();
        runtime.block_on(all_are_done(fleet, &mut scene.controller));
        drop(end);
        let answers = asking
            .into_iter()
            .map(|asking| asking.join().expect("no panic"));
        devices::judge(fleet, answers.flatten())
    });
    begin.show(&mut scene, &runtime);
    show_times(&fleet, &minute);
    vec![row(&judged)]
}

/// What there is.
struct Scene {
    namespace: TestNamespace,
    controller: Process,
    gateways: Vec<Gateway>,
    /// Whose files the processes read.
    _launchers: [Launcher; 2],
}

impl Scene {
    /// Keys that were issued; and a controller that has found them so, so that its memory is that of its work from now
    /// on.
    async fn prepare(minute: &Minute) -> Scene {
        let namespace = TestNamespace::served("lives").await;
        let flag = format!("--namespace={}", namespace.name);
        let launcher = Launcher::as_controller("lives").await.logging("info");
        let mut first = launcher.start(&[&flag]);
        first.is_ready().await;
        let begin = Instant::now();
        create(&namespace.api(&namespace.admin), minute).await;
        until(&mut first, "keyward_keys_issued_total", scaled(KEYS)).await;
        println!(
            "  {} keys issued in {:.0} s",
            scaled(KEYS),
            begin.elapsed().as_secs_f64()
        );
        first.end(Duration::from_secs(30)).await;
        let mut controller = launcher.start(&[&flag]);
        until(&mut controller, SETTLED, scaled(KEYS)).await;

        let access = Access::admin().as_gateway().await;
        let for_gateways = Launcher::new("lives-gateway", &access).logging("info");
        Scene {
            gateways: two_gateways(&for_gateways, &namespace.name).await,
            namespace,
            controller,
            _launchers: [launcher, for_gateways],
        }
    }

    fn keys(&self) -> Api<AccessKey> {
        self.namespace.api(&self.namespace.admin)
    }

    fn secrets(&self) -> Api<KubeSecret> {
        self.namespace.api(&self.namespace.admin)
    }

    /// Each device with its secret.
    async fn fleet(&self, minute: &Minute) -> Arc<Fleet> {
        let mut fleet = Fleet::default();
        for secret in pages(&self.secrets()).await {
            let name = secret.metadata.name.as_deref().expect("a name");
            fleet.add(
                name,
                entry(&secret, "key"),
                entry(&secret, "secret"),
                minute,
            );
        }
        fleet.share(minute.keys)
    }

    /// Until the controller has nothing left to do about what was changed.
    async fn is_at_rest(&mut self) {
        let mut before = requests(&mut self.controller).await;
        loop {
            sleep(Duration::from_secs(2)).await;
            let now = requests(&mut self.controller).await;
            if now == before {
                return;
            }
            before = now;
        }
    }
}

const SETTLED: &str = "keyward_reconciles_total{outcome=\"settled\"}";

async fn create(keys: &Api<AccessKey>, minute: &Minute) {
    let created = stream::iter(0..scaled(KEYS)).for_each_concurrent(32, async |number| {
        let key: AccessKey = from_json(minute.manifest(number));
        let created = keys.create(&PostParams::default(), &key).await;
        created.expect("it is created");
    });
    created.await;
}

/// Waits until a count has come this far.
async fn until(process: &mut Process, metric: &str, count: usize) {
    while process.metric(metric).await < count as u64 {
        assert!(process.lives(), "the controller goes on");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn pages(secrets: &Api<KubeSecret>) -> Vec<KubeSecret> {
    let (mut all, mut params) = (Vec::new(), ListParams::default().limit(500));
    loop {
        let page: ObjectList<KubeSecret> = secrets.list(&params).await.expect("a list");
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return all,
        }
    }
}

/// Has the schedules of keys come to their turns.
async fn put_back(keys: &Api<AccessKey>, fleet: &Fleet) {
    let changed = stream::iter(&fleet.devices).for_each_concurrent(32, async |device| {
        if let Turn::Rotates(at) = device.turn {
            fleet::put_back(keys, &device.issued.device, at).await;
        }
    });
    changed.await;
}

/// Until all have had their turn, and a little longer, so that what was retired last is tried, too.
async fn all_are_done(fleet: &Fleet, controller: &mut Process) {
    while !fleet
        .devices
        .iter()
        .all(|device| device.done.get().is_some())
    {
        assert!(controller.lives(), "the controller goes on");
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_secs(10)).await;
}

/// What the controller had taken before.
struct Begin {
    memory: u64,
    requests: BTreeMap<String, u64>,
}

impl Begin {
    fn of(scene: &mut Scene, runtime: &Runtime) -> Begin {
        Begin {
            memory: scene.controller.memory("VmRSS"),
            requests: runtime.block_on(requests(&mut scene.controller)),
        }
    }

    fn show(self, scene: &mut Scene, runtime: &Runtime) {
        let now = runtime.block_on(requests(&mut scene.controller));
        for (step, count) in now {
            let since = count - self.requests.get(&step).copied().unwrap_or_default();
            if since > 0 {
                println!("  requests, {step}: {since}");
            }
        }
        println!(
            "  MiB of memory of the controller: {:.1} before, {:.1} after, {:.1} at most; of a gateway {:.1} at most",
            self.memory as f64 / 1024.0,
            scene.controller.memory("VmRSS") as f64 / 1024.0,
            peak(&scene.controller),
            peak(&scene.gateways[0].0),
        );
    }
}

/// MiB.
fn peak(of: &Process) -> f64 {
    of.memory("VmHWM") as f64 / 1024.0
}

/// How many the controller has sent, by step.
async fn requests(controller: &mut Process) -> BTreeMap<String, u64> {
    let (_, text) = controller.get("/metrics").await;
    let counts = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("keyward_api_requests_total{step=\"")?;
        let (step, count) = rest.split_once("\"} ")?;
        Some((step.to_owned(), count.parse().ok()?))
    });
    counts.collect()
}

fn show_times(fleet: &Fleet, minute: &Minute) {
    let seconds = |of: &dyn Fn(&fleet::Device) -> Option<SignedDuration>| {
        let times = fleet.devices.iter().filter_map(of);
        times.map(|time| time.as_secs_f64()).collect::<Vec<_>>()
    };
    let after = |at: Option<Timestamp>, due: Timestamp| Some(at?.duration_since(due));
    show(
        "from the end of a key until its status says so",
        seconds(&|device| match device.turn {
            Turn::Expires(due) => after(device.done.get().copied(), due),
            Turn::Rotates(_) => None,
        }),
    );
    show(
        "from when a rotation is due until its secret is accepted",
        seconds(&|device| match device.turn {
            Turn::Rotates(due) => after(device.accepted.get().map(|accepted| accepted.at), due),
            Turn::Expires(_) => None,
        }),
    );
    show(
        "from the end of an overlap until the status says so",
        seconds(&|device| {
            let accepted = device.accepted.get()?;
            after(device.done.get().copied(), accepted.old_until)
        }),
    );
    let last = fleet
        .devices
        .iter()
        .filter_map(|device| device.done.get())
        .max();
    let all = after(last.copied(), minute.begin).expect("there are devices");
    println!(
        "  s, from the first turn until all is done: {:.0}",
        all.as_secs_f64()
    );
}

fn show(what: &str, times: Vec<f64>) {
    println!(
        "  s, {what}: p50 {:.1}, p99 {:.1}, at most {:.1}",
        quantile(times.clone(), 0.5),
        quantile(times.clone(), 0.99),
        quantile(times, 1.0),
    );
}

fn row(judged: &Judged) -> Row {
    Row {
        goal: "lives",
        what: "wrong answers while keys expire and rotate",
        own: judged.wrong.to_string(),
        other: format!("{} answers", judged.answers),
        figure: judged.wrong as f64,
        most: 0.0,
        holds: (1..judged.answers).contains(&judged.allowed),
    }
}
