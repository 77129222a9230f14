//! What feeds a gateway goes on whatever becomes of its lists and watches: a real API server, and
//! between it and the feed a proxy that fails as it is told to.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::cluster::{self, from_json};
use crate::support::controller::TestController;
use crate::support::fault::{Fault, WatchFault};
use crate::support::keys::Place;
use crate::support::proxy::{Asked, Proxy, Rules};
use jiff::Timestamp;
use keyward::api::AccessKey;
use keyward::clock::{Clock, ManualClock};
use keyward::controller;
use keyward::gateway::feed::{self, Pace};
use keyward::gateway::metrics::Metrics;
use keyward::gateway::{Authenticator, Credentials, Options, Staleness};
use keyward::policy::{Decision, Reason};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A watch that is silent is given up after 25 seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// What goes wrong next.
#[derive(Clone, Default)]
struct Script(Arc<Next>);

#[derive(Default)]
struct Next {
    /// With the next events.
    events: Mutex<VecDeque<WatchFault>>,
    /// With the next beginnings of watches.
    begins: Mutex<VecDeque<Fault>>,
    /// With every list.
    lists: Mutex<Option<Fault>>,
    is_away: AtomicBool,
}

impl Rules for Script {
    fn request(&self, asked: &Asked) -> Option<Fault> {
        if self.0.is_away.load(Ordering::SeqCst) {
            return Some(Fault::Drop);
        }
        if asked.is_watch() {
            return self.0.begins.lock().unwrap().pop_front();
        }
        *self.0.lists.lock().unwrap()
    }

    fn event(&self) -> Option<WatchFault> {
        self.0.events.lock().unwrap().pop_front()
    }
}

/// A key, and a gateway that is fed by way of the proxy.
struct Scene {
    place: Place,
    _controller: TestController,
    script: Script,
    _proxy: Proxy,
    gateway: Authenticator,
    hand: ManualClock,
    feed: JoinHandle<()>,
    key: String,
    secret: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Scene {
    async fn set(purpose: &str, script: Script, staleness: Staleness) -> Scene {
        let relist = Pace::default().relist;
        Scene::listing_every(relist, purpose, script, staleness).await
    }

    async fn listing_every(
        relist: Duration,
        purpose: &str,
        script: Script,
        staleness: Staleness,
    ) -> Scene {
        let place = Place::served(purpose).await;
        let controller = TestController::start(&place).await;
        let key: AccessKey = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": "key" },
            "spec": { "restrictions": { "allDevices": true } },
        }));
        place
            .keys
            .create(&PostParams::default(), &key)
            .await
            .unwrap();
        let begin = Instant::now();
        let status = loop {
            let status = place
                .keys
                .get("key")
                .await
                .unwrap()
                .status
                .unwrap_or_default();
            if status.revision == Some(1) {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        };
        let data = place.secrets.get("key").await.unwrap().data.unwrap();
        let client = cluster::service_account(cluster::SYSTEM, cluster::GATEWAY).await;
        let proxy = Proxy::start(client, script.clone()).await;
        let (clock, hand) = Clock::manual(Timestamp::now());
        let namespace = place.namespace.name.clone();
        let options = Options {
            staleness,
            ..Options::of_namespace(&namespace)
        };
        let gateway = Authenticator::new(options, clock, Metrics::new()).unwrap();
        let fed = gateway.clone();
        let client = controller::client(proxy.config()).unwrap();
        let pace = Pace {
            request_timeout: Duration::from_secs(1),
            relist,
        };
        let feed = tokio::spawn(async move {
            feed::run(client, &[namespace], pace, fed).await;
        });
        Scene {
            _controller: controller,
            script,
            _proxy: proxy,
            gateway,
            hand,
            feed,
            key: status.key.unwrap(),
            secret: String::from_utf8(data["secret"].0.clone()).unwrap(),
            place,
        }
    }

    async fn ask(&self) -> Decision {
        let credentials = Credentials {
            device_id: "pump-1",
            key: &self.key,
            secret: &self.secret,
            source: None,
        };
        self.gateway.authenticate(&credentials).await
    }

    /// Waits until this is the answer; none: Allow.
    async fn until(&self, refusal: Option<Decision>, what: &str) -> Duration {
        let begin = Instant::now();
        loop {
            let decision = self.ask().await;
            let is_it = match &refusal {
                Some(refusal) => decision == *refusal,
                None => matches!(decision, Decision::Allow(_)),
            };
            if is_it {
                return begin.elapsed();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{what}: {decision:?}, not {refusal:?}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn change(&self, spec: Value) {
        let (params, patch) = (
            PatchParams::default(),
            Patch::Merge(json!({ "spec": spec })),
        );
        self.place.keys.patch("key", &params, &patch).await.unwrap();
    }

    /// Switches the key off and on, while this goes wrong each time.
    async fn withstands(&self, what: &str, fail: impl Fn(&Next)) {
        fail(&self.script.0);
        self.change(json!({ "state": "Inactive" })).await;
        self.until(Some(Decision::Deny(Reason::Inactive)), what)
            .await;
        fail(&self.script.0);
        self.change(json!({ "state": "Active" })).await;
        self.until(None, what).await;
        self.script.0.events.lock().unwrap().clear();
        self.script.0.begins.lock().unwrap().clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_go_wrong_are_made_good() {
    let scene = Scene::set("feed-events", Script::default(), Staleness::BestEffort).await;
    scene.until(None, "at first").await;
    for fault in [
        WatchFault::Close,
        WatchFault::BreakOff,
        WatchFault::Corrupt,
        WatchFault::Gone,
        WatchFault::Duplicate,
    ] {
        let fail = |next: &Next| next.events.lock().unwrap().push_back(fault);
        scene.withstands(&fault.to_string(), fail).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_do_not_begin_are_begun_again() {
    let scene = Scene::set("feed-begins", Script::default(), Staleness::BestEffort).await;
    scene.until(None, "at first").await;
    for fault in [
        Fault::Refuse(410),
        Fault::Refuse(500),
        Fault::Refuse(429),
        Fault::Page(502),
        Fault::Drop,
        Fault::Reset,
    ] {
        scene
            .withstands(&fault.to_string(), |next| {
                next.events.lock().unwrap().push_back(WatchFault::Close);
                next.begins.lock().unwrap().push_back(fault);
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_stays_as_new_as_it_was() {
    let scene = Scene::set("feed-back", Script::default(), Staleness::BestEffort).await;
    scene.until(None, "at first").await;
    scene
        .change(json!({ "description": "the first event" }))
        .await;
    // After the next event the first one comes once more.
    scene
        .script
        .0
        .events
        .lock()
        .unwrap()
        .push_back(WatchFault::GoBack);
    scene.change(json!({ "state": "Inactive" })).await;
    let inactive = Decision::Deny(Reason::Inactive);
    scene
        .until(Some(inactive.clone()), "it is switched off")
        .await;
    // Told after it.
    scene
        .change(json!({ "restrictions": { "allDevices": null, "deviceIds": ["pump-1"] } }))
        .await;
    for _ in 0..50 {
        assert_eq!(scene.ask().await, inactive);
        sleep(Duration::from_millis(10)).await;
    }
}

/// Found within 30 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_is_given_up() {
    let scene = Scene::set("feed-silence", Script::default(), Staleness::BestEffort).await;
    scene.until(None, "at first").await;
    scene
        .script
        .0
        .events
        .lock()
        .unwrap()
        .push_back(WatchFault::Silence);
    scene.change(json!({ "state": "Inactive" })).await;
    let refused = Some(Decision::Deny(Reason::Inactive));
    let taken = scene.until(refused, "silence").await;
    println!(
        "measured: a silent watch was found after {} s",
        taken.as_secs()
    );
}

/// Nothing shows that they are missing: versions go on, and the watch lives. What the controller
/// writes about the change is lost as well, or it would make the change known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_lost_are_made_good_by_the_next_list() {
    let (relist, script) = (Duration::from_secs(5), Script::default());
    let staleness = Staleness::BestEffort;
    let scene = Scene::listing_every(relist, "feed-lost", script, staleness).await;
    scene.until(None, "at first").await;
    for (state, refusal) in [
        ("Inactive", Some(Decision::Deny(Reason::Inactive))),
        ("Active", None),
    ] {
        let next = &scene.script.0;
        next.events.lock().unwrap().extend([WatchFault::Lose; 100]);
        scene.change(json!({ "state": state })).await;
        scene.until(refusal, state).await;
        next.events.lock().unwrap().clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vanishes_while_nobody_watches_is_gone_after_the_next_list() {
    let scene = Scene::set("feed-vanish", Script::default(), Staleness::BestEffort).await;
    scene.until(None, "at first").await;
    {
        let next = &scene.script.0;
        next.events.lock().unwrap().push_back(WatchFault::Close);
        // Both watches, so that the one of keys is among them.
        let gone = [Fault::Refuse(503), Fault::Refuse(410), Fault::Refuse(410)];
        next.begins.lock().unwrap().extend(gone);
    }
    scene
        .change(json!({ "description": "its watch is closed" }))
        .await;
    scene
        .place
        .keys
        .delete("key", &DeleteParams::default())
        .await
        .unwrap();
    scene
        .until(Some(Decision::Deny(Reason::UnknownKey)), "it is gone")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_until_the_first_list_is_complete() {
    let script = Script::default();
    *script.0.lists.lock().unwrap() = Some(Fault::Refuse(503));
    let scene = Scene::set("feed-first", script, Staleness::BestEffort).await;
    for _ in 0..50 {
        assert_eq!(scene.ask().await, Decision::Unavailable);
        sleep(Duration::from_millis(10)).await;
    }
    *scene.script.0.lists.lock().unwrap() = None;
    scene.until(None, "the list is complete").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_server_known_keys_work_as_long_as_the_mode_says() {
    tokio::join!(
        grows_old("feed-strict", Staleness::Strict, 60),
        grows_old("feed-best-effort", Staleness::BestEffort, 24 * 3600),
    );
}

async fn grows_old(purpose: &str, staleness: Staleness, limit: u64) {
    let scene = Scene::set(purpose, Script::default(), staleness).await;
    scene.until(None, "at first").await;
    scene.script.0.is_away.store(true, Ordering::SeqCst);
    scene.hand.advance(Duration::from_secs(limit));
    scene.until(None, "it is not too old yet").await;
    scene.hand.advance(Duration::from_secs(limit));
    assert_eq!(scene.ask().await, Decision::Unavailable, "{staleness:?}");
    scene.script.0.is_away.store(false, Ordering::SeqCst);
    scene.until(None, "it is proven again").await;
}
