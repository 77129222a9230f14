//! One controller of a run, behind a proxy of its own. It is started again whenever a fault has
//! killed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyward::clock::Clock;
use keyward::controller::hasher::Hasher;
use keyward::controller::run::Tools;
use keyward::controller::step::Timing;
use keyward::controller::{self, Controller, Nudge};
use keyward::metrics::{Metrics, Outcome, OutcomeLabel};
use keyward::verifier::HashProfile;
use kube::Client;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::plan::{Line, Schedule};
use super::support::controller::GRACE;
use super::support::proxy::Proxy;

/// In real time, since requests travel in it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A controller, and what stands between it and the API server.
pub struct Member {
    pub proxy: Proxy,
    pub schedule: Schedule,
    namespace: String,
    clock: Clock,
    running: Running,
    /// Looks of those that were killed.
    looked: u64,
}

struct Running {
    task: JoinHandle<()>,
    metrics: Metrics,
    nudges: broadcast::Sender<Nudge>,
    has_listed: Arc<AtomicBool>,
}

impl Member {
    /// Starts the controller of this number.
    pub async fn start(
        line: &Line,
        number: usize,
        client: &Client,
        namespace: &str,
        clock: &Clock,
    ) -> Member {
        let schedule = Schedule::of(line, number);
        let proxy = Proxy::start(client.clone(), schedule.clone()).await;
        let running = Running::start(&proxy, namespace, clock);
        Member {
            proxy,
            schedule,
            namespace: namespace.to_owned(),
            clock: clock.clone(),
            running,
            looked: 0,
        }
    }

    /// Starts it again if it was killed. Was it?
    pub fn revive(&mut self) -> bool {
        let was_killed = self.proxy.has_killed();
        if was_killed {
            self.restart();
        }
        was_killed
    }

    /// Kills it, and starts it again.
    pub fn restart(&mut self) {
        self.running.task.abort();
        self.looked += self.running.looks();
        self.running = Running::start(&self.proxy, &self.namespace, &self.clock);
    }

    /// Stops it for good.
    pub fn stop(&self) {
        self.running.task.abort();
    }

    /// Has it something done at once, if it listens.
    pub fn nudge(&self, nudge: Nudge) {
        self.running.nudges.send(nudge).ok();
    }

    /// How many looks at AccessKeys have ended.
    pub fn looks(&self) -> u64 {
        self.looked + self.running.looks()
    }

    /// What it waits for.
    pub fn state(&self) -> String {
        let has_listed = self.running.has_listed.load(Ordering::SeqCst);
        let (watches, active) = (
            self.proxy.has_watches(),
            self.running.metrics.active_reconciles.get(),
        );
        let (looks, requests) = (self.looks(), self.proxy.requests());
        format!(
            "listed: {has_listed}, watches: {watches}, active: {active}, looks: {looks}, requests: {requests}"
        )
    }

    /// Does it wait for something to happen, rather than for an answer or for its next try to watch?
    pub fn is_idle(&self) -> bool {
        self.running.has_listed.load(Ordering::SeqCst)
            && self.proxy.has_watches()
            && self.proxy.has_answered_all()
            && self.running.metrics.active_reconciles.get() == 0
            && !self.proxy.has_killed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.running.task.abort();
    }
}

impl Running {
    fn start(proxy: &Proxy, namespace: &str, clock: &Clock) -> Running {
        let (metrics, _) = Metrics::new();
        let (nudges, _) = broadcast::channel(64);
        let tools = Tools {
            client: controller::client(proxy.config()).expect("a client"),
            request_timeout: REQUEST_TIMEOUT,
            timing: Timing::with_grace(GRACE),
            clock: clock.clone(),
            hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
            metrics: metrics.clone(),
        };
        let controller = Controller {
            tools,
            namespaces: vec![namespace.to_owned()],
            concurrency: 4,
            nudges: nudges.clone(),
        };
        let has_listed: Arc<AtomicBool> = Arc::default();
        let listed = Arc::clone(&has_listed);
        let run = controller.run(std::future::pending(), move || {
            listed.store(true, Ordering::SeqCst);
        });
        let task = tokio::spawn(run);
        let handle = task.abort_handle();
        proxy.set_victim(move || handle.abort());
        Running {
            task,
            metrics,
            nudges,
            has_listed,
        }
    }

    fn looks(&self) -> u64 {
        let count = |outcome| {
            let reconciles = &self.metrics.reconciles;
            reconciles.get_or_create(&OutcomeLabel { outcome }).get()
        };
        Outcome::ALL.into_iter().map(count).sum()
    }
}
