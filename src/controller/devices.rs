//! Devices that have the ID of an older one are told so in their status, and again when that is over.
//!
//! That is all that the controller does about Devices; it gives them no say in anything. A Device
//! without a conflict is never written to. What is kept of each is what a write needs, not the
//! object: there may be many more Devices than keys. An object that cannot be read counts as absent,
//! since nobody can say which ID it claims.

mod index;
mod schedule;

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, select_all};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use self::index::{Index, Name, Record};
use self::schedule::Schedule;
use super::delivery::FIELD_MANAGER;
use super::failure::Failure;
use super::watching;
use crate::api::Device;
use crate::clock::{Clock, Moment};

/// Tells Devices of these namespaces (of all, if none is named) about conflicts, until `shutdown`
/// resolves and the write at hand has ended.
pub async fn run(
    client: Client,
    namespaces: Vec<String>,
    request_timeout: Duration,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let mut changes = changes(&client, &namespaces, request_timeout);
    let mut desk = Desk {
        client,
        request_timeout,
        clock,
        index: Index::default(),
        schedule: Schedule::default(),
        listing: namespaces.iter().map(|_| Vec::new()).collect(),
        namespaces,
    };
    tokio::pin!(shutdown);
    loop {
        let next = desk.next();
        // What is known should be as new as it can be when it is acted on, so changes go first.
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            Some((watch, change)) = changes.next() => desk.learn(watch, change),
            () = sleep(next) => desk.write_next().await,
        }
    }
}

/// Devices are listed so many at a time; little is kept of each.
const PAGE: u32 = 500;

type Guarded = DeserializeGuard<Device>;
type Change = Result<Event<Guarded>, watcher::Error>;

/// What happens to Devices, each with the number of its watch.
fn changes(
    client: &Client,
    namespaces: &[String],
    request_timeout: Duration,
) -> impl futures::Stream<Item = (usize, Change)> + use<> {
    let apis = crate::punctual::apis(client, namespaces, request_timeout);
    select_all(apis.into_iter().enumerate().map(watch))
}

fn watch((number, api): (usize, Api<Guarded>)) -> BoxStream<'static, (usize, Change)> {
    watching::events(api, PAGE)
        .map(move |change| (number, change))
        .boxed()
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Desk {
    client: Client,
    request_timeout: Duration,
    clock: Clock,
    namespaces: Vec<String>,
    index: Index,
    schedule: Schedule,
    /// What the list under way has found so far, for each watch.
    listing: Vec<Vec<Record>>,
}

impl Desk {
    fn learn(&mut self, watch: usize, change: Change) {
        match change {
            Ok(Event::Init) => self.listing(watch).clear(),
            Ok(Event::InitApply(device)) => {
                if let Some(record) = record(&device) {
                    self.listing(watch).push(record);
                }
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(self.listing(watch));
                let namespace = self.namespaces.get(watch);
                self.index.reset(namespace.map(String::as_str), listed);
            }
            Ok(Event::Apply(device)) => self.apply(&device),
            Ok(Event::Delete(device)) => self.index.delete(&name(&device)),
            Err(error) => {
                warn!(
                    "cannot watch Devices, trying again: {}",
                    watching::failure(error)
                );
            }
        }
        self.enqueue();
    }

    fn listing(&mut self, watch: usize) -> &mut Vec<Record> {
        if self.listing.len() <= watch {
            self.listing.resize_with(watch + 1, Vec::new);
        }
        &mut self.listing[watch]
    }

    fn apply(&mut self, device: &Guarded) {
        match record(device) {
            Some(record) => self.index.apply(record),
            None => self.index.delete(&name(device)),
        }
    }

    fn enqueue(&mut self) {
        let now = self.now();
        for name in self.index.take_due() {
            self.schedule.add(name, now);
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().monotonic
    }

    /// How long until the next write; None: there is nothing to write.
    fn next(&self) -> Option<Duration> {
        Some(self.schedule.next()?.since(self.now()))
    }

    async fn write_next(&mut self) {
        let now = self.clock.now();
        let Some(name) = self.schedule.pop(now.monotonic) else {
            return;
        };
        let Some(write) = self.index.write(&name, now.wall) else {
            return self.schedule.done(&name);
        };
        let written = self.patch_status(&name, &write).await;
        let (namespace, name_text) = (&*name.namespace, &*name.name);
        match written {
            Ok(device) => {
                let conflict = index::conflict_of(&device);
                info!(
                    namespace,
                    name = name_text,
                    conflict,
                    "Device told about its ID"
                );
                self.schedule.done(&name);
                self.apply(&DeserializeGuard(Ok(device)));
                self.enqueue();
            }
            Err(failure) => {
                let wait = self.schedule.failed(&name, self.now(), rand::random());
                let text = "could not tell a Device about its ID, trying again";
                match failure {
                    // The watch is about to bring what changed.
                    Failure::Conflict => debug!(namespace, name = name_text, ?wait, "{text}"),
                    other => warn!(namespace, name = name_text, ?wait, "{text}: {other}"),
                }
            }
        }
    }

    /// Compare and swap: the patch names the version that it is about. A patch, since a whole object
    /// without its labels and annotations would take these from whoever applied them.
    async fn patch_status(&self, name: &Name, write: &Device) -> Result<Device, Failure> {
        let api: Api<Device> = Api::namespaced(self.client.clone(), &name.namespace);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let status = write.status.clone().unwrap_or_default();
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": write.metadata.resource_version },
            "status": {
                "observedGeneration": status.observed_generation,
                "conditions": status.conditions,
            },
        }));
        let answer = timeout(
            self.request_timeout,
            api.patch_status(&name.name, &params, &patch),
        );
        match answer.await {
            Ok(answer) => answer.map_err(|error| Failure::about::<Device>(error, &name.name)),
            Err(_) => Err(Failure::Deadline(self.request_timeout)),
        }
    }
}

/// None: it claims no ID, because it is being deleted or cannot be read.
fn record(device: &Guarded) -> Option<Record> {
    match &device.0 {
        Ok(device) => Record::of(device),
        Err(_) => {
            let Name { namespace, name } = name(device);
            let (namespace, name) = (&*namespace, &*name);
            warn!(
                namespace,
                name, "skipped: the Device cannot be read; apply it again under the current schema"
            );
            None
        }
    }
}

fn name(device: &Guarded) -> Name {
    use kube::Resource;
    Name::of(device.meta())
}
