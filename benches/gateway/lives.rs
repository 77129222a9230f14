//! A fleet whose keys all come to a turn of their lives in one minute: half of them expire, the schedules of the others
//! rotate them, and a minute later retire the secrets before. Devices ask for tokens all the while, and each answer is
//! judged, by the clock and by what the statuses said.
//!
//! 10,000 keys on a real API server, the controller, and two gateways, as processes. No schedule is shorter than an hour,
//! so what statuses say of the past is put back before: as if the secrets were older.

mod devices;
mod figures;
mod fleet;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::AccessKey;
use kube::Api;
use kube::api::{ListParams, ObjectList, PostParams};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::follow::follow;
use super::load::Stop;
use super::measure::{Row, scaled};
use super::revocation::{Gateway, two_gateways};
use super::support::cluster::{TestNamespace, from_json};
use super::support::keys::entry;
use super::support::process::{Access, Launcher, Process};
use devices::Judged;
use figures::{Begin, requests, show_times};
use fleet::{Fleet, Minute, Turn};

const KEYS: usize = 10_000;

pub fn run() -> Vec<Row> {
    let runtime = Runtime::new().expect("a runtime");
    let minute = Minute::after_preparation(scaled(KEYS));
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
    let begin = runtime.block_on(Begin::of(&mut scene.controller));
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
    runtime.block_on(begin.show(&mut scene.controller, &scene.gateways[0].0));
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
        until(&mut first, "keyward_keys_issued_total", minute.keys).await;
        println!(
            "  {} keys issued in {:.0} s",
            minute.keys,
            begin.elapsed().as_secs_f64()
        );
        first.end(Duration::from_secs(30)).await;
        let mut controller = launcher.start(&[&flag]);
        until(&mut controller, SETTLED, minute.keys).await;

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
    let created = stream::iter(0..minute.keys).for_each_concurrent(32, async |number| {
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

fn row(judged: &Judged) -> Row {
    Row {
        goal: "lives",
        what: "wrong answers while keys expire and rotate".to_owned(),
        own: judged.wrong.to_string(),
        other: format!("{} answers", judged.answers),
        figure: judged.wrong as f64,
        most: 0.0,
        holds: (1..judged.answers).contains(&judged.allowed),
    }
}
