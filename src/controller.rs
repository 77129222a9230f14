//! `keyward controller`: issues the secrets that AccessKeys ask for.
//!
//! ```text
//! watch AccessKeys -> queue -> run: step::next names a step, run takes it -> report -> queue again later
//! ```
//!
//! What is decided is in [`step`] (the rules of the crate's documentation as code) and [`ledger`]
//! (what a step does to the status); both are pure. [`run`] has them taken, one request each.
//! `watching` says what there is to look at, and [`census`] counts it. This file queues, and is where runs are logged and
//! counted, and their Events sent.

mod act;
pub mod census;
pub mod command;
pub mod delivery;
pub mod devices;
pub mod events;
pub mod existing;
pub mod failure;
pub mod hasher;
mod latency;
pub mod ledger;
pub mod life;
pub mod memory;
pub mod observed;
pub mod report;
pub mod rotation;
pub mod run;
pub mod status;
pub mod step;
pub mod turn;
pub mod view;
mod watching;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{Stream, StreamExt, select_all};
use http::header::{HeaderValue, USER_AGENT};
use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Semaphore, broadcast};
use tracing::{debug, info, warn};

use self::census::Census;
use self::events::Events;
use self::life::Life;
use self::run::{Ended, Ending, Kept, Tools};
use self::step::{Rest, Situation};
use self::watching::{Guarded, Rivals, Watch};
use crate::api::AccessKey;
use crate::backoff::Backoff;
use crate::clock::Moment;
use crate::metrics::Outcome;

/// Every object is looked at this often, a tenth more or less, even if nothing happens.
const RESYNC: Duration = Duration::from_secs(600);

/// An object is not looked at again sooner than this if it did not change: whatever the clocks say,
/// nothing spins.
const SOONEST: Duration = Duration::from_millis(20);

/// The controller, ready to run.
pub struct Controller {
    /// What its runs need.
    pub tools: Tools,
    /// The namespaces that it serves; empty: all of them.
    pub namespaces: Vec<String>,
    /// As many AccessKeys are worked on at once.
    pub concurrency: u16,
    /// Each message has something done at once that is otherwise done from time to time.
    pub nudges: broadcast::Sender<Nudge>,
}

/// What can be done out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nudge {
    /// Every AccessKey is looked at.
    Resync,
    /// The AccessKeys are listed, to find what the watch has missed.
    Relist,
}

impl Controller {
    /// Runs until `shutdown` resolves and the runs under way have ended. `listed` is called once
    /// all AccessKeys are known.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
        listed: impl FnOnce(),
    ) {
        let tools = self.tools;
        let apis = crate::punctual::apis(&tools.client, &self.namespaces, tools.request_timeout);
        let watches: Vec<Watch> = apis
            .into_iter()
            .map(|api| Watch::start(api, on(Nudge::Relist, self.nudges.subscribe())))
            .collect();
        let stores: Vec<Store<Guarded>> = watches.iter().map(|watch| watch.store.clone()).collect();
        tools.metrics.census.set(Census {
            stores: stores.clone(),
            clock: tools.clock.clone(),
        });
        let desk = Arc::new(Desk {
            events: Events::start(
                tools.client.clone(),
                tools.request_timeout,
                tools.metrics.clone(),
            ),
            tools,
            places: Semaphore::new(usize::from(self.concurrency)),
            rivals: watches.iter().map(|watch| watch.rivals.clone()).collect(),
            slots: Mutex::default(),
        });
        let config = controller::Config::default().concurrency(self.concurrency);
        let queues = watches.into_iter().map(|watch| {
            let resyncs = on(Nudge::Resync, self.nudges.subscribe());
            controller::Controller::for_stream(watch.stream, watch.store)
                .with_config(config.clone())
                .reconcile_all_on(resyncs)
                .graceful_shutdown_on(shutdown.clone())
                .run(reconcile, retry, Arc::clone(&desk))
                .boxed()
        });
        let work = select_all(queues).for_each(|_| std::future::ready(()));
        let ready = async {
            join_all(stores.iter().map(Store::wait_until_ready)).await;
            listed();
            desk.forget_gone_ones(&stores).await
        };
        tokio::select! {
            () = work => {}
            never = ready => match never {},
        }
    }
}

/// An item for each nudge of this kind; at least one, if so many came that some were lost.
fn on(wanted: Nudge, receiver: broadcast::Receiver<Nudge>) -> impl Stream<Item = ()> {
    futures::stream::unfold(receiver, move |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(nudge) if nudge != wanted => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    return Some(((), receiver));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// Where runs begin and end, and what is kept of each AccessKey in between.
struct Desk {
    tools: Tools,
    events: Events,
    /// Shared by all watches.
    places: Semaphore,
    /// One for each watch.
    rivals: Vec<Rivals>,
    slots: Mutex<HashMap<ObjectRef<Guarded>, Slot>>,
}

/// What is kept of one AccessKey. Most need none.
#[derive(Default)]
struct Slot {
    kept: Kept,
    backoff: Backoff,
    /// Not before this moment, unless its owner changes it.
    retry: Option<(Moment, Edition)>,
}

/// Which object, as its owner wrote it.
#[derive(Clone, PartialEq)]
struct Edition {
    uid: Option<String>,
    generation: Option<i64>,
}

impl Edition {
    fn of(key: &AccessKey) -> Edition {
        Edition {
            uid: key.metadata.uid.clone(),
            generation: key.metadata.generation,
        }
    }
}

async fn reconcile(object: Arc<Guarded>, desk: Arc<Desk>) -> Result<Action, Infallible> {
    let reference = ObjectRef::from_obj(object.as_ref());
    let key = match &object.0 {
        Ok(key) => key,
        Err(_) => {
            desk.report_unreadable(&reference);
            return Ok(Action::await_change());
        }
    };
    let wait = desk.look_at(reference, key).await;
    Ok(Action::requeue(wait.max(SOONEST)))
}

/// Runs report their own failures; this is never called.
fn retry(_: Arc<Guarded>, error: &Infallible, _: Arc<Desk>) -> Action {
    match *error {}
}

impl Desk {
    /// Says when to look again.
    async fn look_at(&self, reference: ObjectRef<Guarded>, key: &AccessKey) -> Duration {
        let Ok(_place) = self.places.acquire().await else {
            return RESYNC;
        };
        let _active = self.tools.metrics.reconciling();
        let begin = self.now();
        let mut slot = self.take(&reference);
        slot.kept.forget_old_plaintext(begin, &self.tools.timing);
        if let Some(left) = slot.until_retry(key, begin) {
            let plaintext = slot.kept.plaintext_left(begin, &self.tools.timing);
            self.put_back(reference, slot);
            self.tools.metrics.reconciled(Outcome::Waiting);
            return plaintext.map_or(left, |plaintext| plaintext.min(left));
        }
        let kept = std::mem::take(&mut slot.kept);
        let rival = self.rivals.iter().find_map(|rivals| rivals.of(key));
        let ended = run::run(&self.tools, Arc::new(key.clone()), kept, rival).await;
        self.tools
            .metrics
            .reconcile_seconds
            .observe(self.now().since(begin).as_secs_f64());
        self.report(&ended);
        let wait = self.wait_after(&mut slot, &ended);
        slot.kept = ended.kept;
        if !slot.is_idle(key, &ended.ending) {
            self.put_back(reference, slot);
        }
        wait
    }

    fn now(&self) -> Moment {
        self.tools.clock.now().monotonic
    }

    fn take(&self, reference: &ObjectRef<Guarded>) -> Slot {
        let slot = self.slots().remove(reference).unwrap_or_default();
        if slot.backoff.is_failing() {
            self.tools.metrics.backoff_objects.dec();
        }
        slot
    }

    fn put_back(&self, reference: ObjectRef<Guarded>, slot: Slot) {
        if slot.backoff.is_failing() {
            self.tools.metrics.backoff_objects.inc();
        }
        self.slots().insert(reference, slot);
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ObjectRef<Guarded>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait after a run, and what that means for the next failure.
    fn wait_after(&self, slot: &mut Slot, ended: &Ended) -> Duration {
        slot.retry = None;
        let wait = match &ended.ending {
            Ending::Rested(rest) if has_succeeded(rest) => {
                slot.backoff.reset();
                rest.wake
                    .unwrap_or(Duration::MAX)
                    .min(RESYNC.mul_f64(0.9 + 0.2 * rand::random::<f64>()))
            }
            Ending::Rested(Rest {
                wake: Some(wake), ..
            }) => *wake,
            ending => {
                let jitter = rand::random();
                let wait = match ending {
                    Ending::Failed(_, failure) if failure.is_outage() => {
                        slot.backoff.fail_in_outage(jitter)
                    }
                    _ => slot.backoff.fail(jitter),
                };
                slot.retry = Some((self.now() + wait, Edition::of(&ended.key)));
                wait
            }
        };
        let plaintext = ended.kept.plaintext_left(self.now(), &self.tools.timing);
        let turn = until_turn(&ended.key, self.tools.clock.wall());
        [plaintext, turn]
            .into_iter()
            .flatten()
            .fold(wait, Duration::min)
    }

    fn report(&self, ended: &Ended) {
        let meta = &ended.key.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        if ended.issued > 0 {
            let key = ended
                .key
                .status
                .as_ref()
                .and_then(|status| status.key.as_deref());
            info!(namespace, name, key, "issued");
            self.tools
                .metrics
                .keys_issued
                .inc_by(u64::from(ended.issued));
            self.events.issued(&ended.key);
        }
        for turn in &ended.turns {
            info!(namespace, name, "{}", turn.reason());
            self.events.turn(&ended.key, *turn);
        }
        if let Some(verdict) = &ended.alarm {
            warn!(
                namespace,
                name,
                reason = verdict.reason(),
                "{}",
                verdict.message()
            );
            self.events.alarm(&ended.key, verdict);
        }
        if let Ending::Failed(what, failure) = &ended.ending {
            warn!(namespace, name, "could not {what}, trying again: {failure}");
        }
        debug!(namespace, name, ending = ?ended.ending, "looked at");
        self.tools.metrics.reconciled(outcome(&ended.ending));
    }

    fn report_unreadable(&self, reference: &ObjectRef<Guarded>) {
        let (namespace, name) = (reference.namespace.as_deref(), reference.name.as_str());
        warn!(
            namespace,
            name, "skipped: it cannot be read; apply it again under the current schema"
        );
        self.tools.metrics.reconciled(Outcome::Unreadable);
        self.events.unreadable(reference.clone().into());
    }

    /// Objects that are gone are not looked at again, so what was kept of them goes here, plaintext
    /// in time.
    async fn forget_gone_ones(&self, stores: &[Store<Guarded>]) -> Infallible {
        loop {
            tokio::time::sleep(RESYNC.min(self.tools.timing.plaintext())).await;
            let now = self.now();
            self.slots().retain(|reference, slot| {
                slot.kept.forget_old_plaintext(now, &self.tools.timing);
                let known = stores.iter().any(|store| store.get(reference).is_some());
                if !known && slot.backoff.is_failing() {
                    self.tools.metrics.backoff_objects.dec();
                }
                known
            });
        }
    }
}

impl Slot {
    /// How long until the next try, unless the object's owner changed it since the last.
    fn until_retry(&self, key: &AccessKey, now: Moment) -> Option<Duration> {
        let (at, edition) = self.retry.as_ref()?;
        let left = at.since(now);
        (*edition == Edition::of(key) && !left.is_zero()).then_some(left)
    }

    /// Would a later look do the same without it? Not before the cache shows what the run wrote,
    /// nor while a restore is waited for, which is counted from the first look.
    fn is_idle(&self, cached: &AccessKey, ending: &Ending) -> bool {
        let version = status::version(cached.metadata.resource_version.as_deref());
        !self.backoff.is_failing()
            && !awaits_restore(ending)
            && version.is_none_or(|version| self.kept.memory.is_idle(version))
    }
}

/// How long until the clock alone changes what is to be said about a key.
fn until_turn(key: &AccessKey, now: Timestamp) -> Option<Duration> {
    let turn = Life::of(key).next_turn(now)?;
    Duration::try_from(turn.duration_since(now)).ok()
}

/// Did a run end with nothing left to try?
fn has_succeeded(rest: &Rest) -> bool {
    matches!(
        rest.situation,
        Situation::Settled
            | Situation::Suspended
            | Situation::Deleted
            | Situation::VerifierLost
            | Situation::KeyConflict
            | Situation::NotTakenOver
    )
}

fn awaits_restore(ending: &Ending) -> bool {
    matches!(ending, Ending::Rested(rest) if rest.situation == Situation::AwaitingRestore)
}

fn outcome(ending: &Ending) -> Outcome {
    match ending {
        Ending::Rested(rest) => match rest.situation {
            Situation::Settled | Situation::Suspended | Situation::Deleted => Outcome::Settled,
            Situation::SecretExists
            | Situation::SecretModified
            | Situation::VerifierLost
            | Situation::KeyConflict
            | Situation::NotTakenOver => Outcome::Stalled,
            _ => Outcome::Waiting,
        },
        Ending::StartOver | Ending::Failed(..) => Outcome::Failed,
        Ending::Unreadable => Outcome::Unreadable,
    }
}

/// A client that sends every request once: the issuing protocol decides itself what a failed one
/// means (kube 5 would send a POST up to 15 times). In audit logs it goes by `keyward/` and the
/// version.
///
/// # Errors
/// When the configuration cannot be used, for instance because of an unreadable certificate.
pub fn client(mut config: kube::Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("keyward/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config)
}
