//! A controller inside the test's process, as the shipped ServiceAccount, serving the namespaces of one test.

use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use keyward::clock::Clock;
use keyward::controller::hasher::Hasher;
use keyward::controller::run::Tools;
use keyward::controller::step::Timing;
use keyward::controller::{self, Controller};
use keyward::metrics::{Metrics, Outcome, OutcomeLabel, StepLabel};
use keyward::verifier::HashProfile;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::cluster;

/// A controller that runs until it is stopped or dropped.
pub struct TestController {
    /// What it counts.
    pub metrics: Metrics,
    resync: broadcast::Sender<()>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestController {
    /// Starts one on the machine's clock, and waits until it knows all AccessKeys of the namespace.
    pub async fn start(namespace: &str) -> TestController {
        TestController::with_clock(namespace, Clock::system()).await
    }

    /// Starts one on this clock.
    pub async fn with_clock(namespace: &str, clock: Clock) -> TestController {
        let client = controller::client(cluster::controller_config().await).expect("a client");
        let (metrics, _) = Metrics::new();
        let (resync, _) = broadcast::channel(4);
        let tools = Tools {
            client,
            request_timeout: Duration::from_secs(10),
            timing: Timing::with_grace(Duration::from_secs(300)),
            clock,
            hasher: Hasher::new(HashProfile::Fleet, metrics.clone()),
            metrics: metrics.clone(),
        };
        let namespaces = vec![namespace.to_owned()];
        let controller = Controller {
            tools,
            namespaces,
            concurrency: 16,
            resync: resync.clone(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped: Shared<_> = stopped.map(|_| ()).boxed().shared();
        let (listed, is_listed) = oneshot::channel();
        let task = tokio::spawn(controller.run(stopped, move || {
            listed.send(()).ok();
        }));
        is_listed.await.expect("the controller lists AccessKeys");
        TestController {
            metrics,
            resync,
            stop: Some(stop),
            task,
        }
    }

    /// Has every AccessKey looked at, and waits until `objects` more looks have ended.
    pub async fn resync(&self, objects: u64) {
        let before = self.looks();
        self.resync.send(()).expect("the controller runs");
        cluster::eventually("the resync ends", || async {
            self.looks() >= before + objects
        })
        .await;
    }

    /// How many looks at AccessKeys have ended.
    pub fn looks(&self) -> u64 {
        Outcome::ALL
            .into_iter()
            .map(|outcome| {
                self.metrics
                    .reconciles
                    .get_or_create(&OutcomeLabel { outcome })
                    .get()
            })
            .sum()
    }

    /// How many requests this step made.
    pub fn requests(&self, step: &'static str) -> u64 {
        self.metrics
            .api_requests
            .get_or_create(&StepLabel { step })
            .get()
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub async fn stop(mut self) {
        self.stop.take();
        (&mut self.task).await.expect("the controller ends");
    }
}

impl Drop for TestController {
    fn drop(&mut self) {
        self.task.abort();
    }
}
