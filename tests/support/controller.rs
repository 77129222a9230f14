//! A controller inside the test's process, as the shipped ServiceAccount, serving the namespaces of
//! one test.

use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use jiff::Timestamp;
use keyward::clock::{Clock, ManualClock};
use keyward::controller::hasher::Hasher;
use keyward::controller::run::Tools;
use keyward::controller::step::Timing;
use keyward::controller::{self, Controller, Nudge};
use keyward::key::{EntropyError, Secret};
use keyward::metrics::{Metrics, Outcome, OutcomeLabel};
use keyward::verifier::HashProfile;
use prometheus_client::registry::Registry;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::cluster;
use super::keys::Place;
use super::wire::Wire;

/// As the flag `--grace` has it by default.
pub const GRACE: Duration = Duration::from_secs(300);

/// Where secrets come from.
pub type Source = fn() -> Result<Secret, EntropyError>;

/// A controller that runs until it is stopped or dropped, which is as good as a crash.
pub struct TestController {
    /// What it counts.
    pub metrics: Metrics,
    /// What it sends.
    pub wire: Wire,
    registry: Registry,
    clock: Clock,
    hand: Option<ManualClock>,
    nudges: broadcast::Sender<Nudge>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestController {
    /// Starts one on the machine's clock, and waits until it knows all AccessKeys there.
    pub async fn start(place: &Place) -> TestController {
        TestController::serving(&[place], Clock::system(), None, Secret::generate).await
    }

    /// The same, with another source of secrets.
    pub async fn with_source(place: &Place, source: Source) -> TestController {
        TestController::serving(&[place], Clock::system(), None, source).await
    }

    /// Starts one on a clock that stands still until [`TestController::later`].
    pub async fn on_still_clock(place: &Place) -> TestController {
        TestController::on_still_clock_for(&[place]).await
    }

    /// The same, for several namespaces.
    pub async fn on_still_clock_for(places: &[&Place]) -> TestController {
        let (clock, hand) = Clock::manual(Timestamp::now());
        TestController::serving(places, clock, Some(hand), Secret::generate).await
    }

    async fn serving(
        places: &[&Place],
        clock: Clock,
        hand: Option<ManualClock>,
        source: Source,
    ) -> TestController {
        let client = controller::client(cluster::controller_config().await).expect("a client");
        let wire = Wire::default();
        let (metrics, registry) = Metrics::new();
        let (nudges, _) = broadcast::channel(16);
        let tools = Tools {
            client: wire.of(&client, places[0].name()),
            request_timeout: Duration::from_secs(10),
            timing: Timing::with_grace(GRACE),
            clock: clock.clone(),
            hasher: Hasher::new(HashProfile::Fleet, metrics.clone()).with_source(source),
            metrics: metrics.clone(),
        };
        let namespaces = places.iter().map(|place| place.name().to_owned()).collect();
        let controller = Controller {
            tools,
            namespaces,
            concurrency: 16,
            nudges: nudges.clone(),
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
            wire,
            registry,
            clock,
            hand,
            nudges,
            stop: Some(stop),
            task,
        }
    }

    /// Has every AccessKey looked at, and waits until as many looks as there are `objects` have
    /// ended. Those that wait for their next try count as well.
    pub async fn resync(&self, objects: u64) {
        let before = self.looks();
        self.nudges
            .send(Nudge::Resync)
            .expect("the controller runs");
        let looked = || async { self.looks() >= before + objects };
        cluster::eventually("the resync ends", looked).await;
    }

    /// Lets time pass, once what goes on by the present time is over, and has every AccessKey
    /// looked at. Else an answer that is still under way would be late by as much.
    pub async fn later(&self, by: Duration) {
        self.is_at_rest().await;
        let hand = self.hand.as_ref().expect("a clock that stands still");
        hand.advance(by);
        self.nudges
            .send(Nudge::Resync)
            .expect("the controller runs");
    }

    /// Waits until no look at an AccessKey has begun or ended for a moment.
    pub async fn is_at_rest(&self) {
        let quiet = || async {
            let before = (self.looks(), self.wire.sent().len());
            tokio::time::sleep(Duration::from_millis(300)).await;
            before == (self.looks(), self.wire.sent().len())
        };
        cluster::eventually("the controller is at rest", quiet).await;
    }

    /// The time on its clock, which stands still.
    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// How many looks at AccessKeys have ended.
    pub fn looks(&self) -> u64 {
        let count = |outcome| {
            let counter = self
                .metrics
                .reconciles
                .get_or_create(&OutcomeLabel { outcome });
            counter.get()
        };
        Outcome::ALL.into_iter().map(count).sum()
    }

    /// What `/metrics` would show.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        text
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
