//! Feeds an [`Authenticator`] from the Kubernetes API: lists AccessKeys and Devices, watches them, and
//! proves how fresh what they say is.
//!
//! One watch for each kind and namespace (or for all namespaces). It lists, and then goes on from
//! there:
//!
//! - A watch lasts 20 seconds, at the end of which the API server tells the version that it has come
//!   to; one that says nothing for 25 is abandoned. The next one goes on from the last version.
//! - A version that is not kept any more (410) is followed by a list, and so is every tenth minute.
//! - Every few seconds the current version is asked for: see [`Freshness`](super::Freshness). If it
//!   is lower than what the watch has delivered, the API server's data were restored from a backup:
//!   all is listed anew.
//! - Within a watch an object never goes back in time, also if its events come in the wrong order.

mod kinds;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use futures::stream::StreamExt;
pub use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{DeserializeGuard, WatchEvent};
use kube::{Api, Config, Resource};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::metrics::Metrics;
use super::{Authenticator, Options, Watched};
use crate::api::{AccessKey, Device};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::controller::client;
use crate::controller::failure::Failure;
use crate::key::EntropyError;
use crate::punctual::{self, LONGEST_WATCH};

pub(super) use kinds::Order;
use kinds::{Fed, Unreadable, version};

/// Objects are listed so many at a time: what a page takes is several times what is kept of it.
const PAGE: u32 = 500;

/// So often the current version is asked for.
const PROOF: Duration = Duration::from_secs(5);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How patient a feed is, and how thorough.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A request is given up after this long.
    pub request_timeout: Duration,
    /// So often all is listed again, a tenth more or less.
    pub relist: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            request_timeout: Duration::from_secs(10),
            relist: Duration::from_secs(600),
        }
    }
}

/// An authenticator of one's own, which is fed from now on: what else is needed to embed a gateway.
/// It serves the namespace of its options, or all; the cluster is the one of `KUBECONFIG`, or the one
/// that this Pod runs in. The feed ends with the runtime that this is called on.
///
/// # Errors
/// When it cannot start: one sentence that says what to change.
pub async fn start(options: Options) -> Result<Authenticator, StartError> {
    // Whichever TLS connection came first would panic without it. It fails if one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = connect().await?;
    let namespaces: Vec<String> = options.namespace.iter().cloned().collect();
    let authenticator = Authenticator::new(options, Clock::system(), Metrics::new())?;
    let fed = authenticator.clone();
    tokio::spawn(async move { run(client, &namespaces, Pace::default(), fed).await });
    Ok(authenticator)
}

/// Why there is no [fed](start) authenticator.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nothing random is to be had.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A client for the cluster of `KUBECONFIG`, or for the one that this Pod runs in.
///
/// # Errors
/// When neither says which, or says it so that it cannot be used.
pub async fn connect() -> Result<Client, ConnectError> {
    Ok(client(Config::infer().await?)?)
}

/// Why there is no way to the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// None is configured.
    #[error(
        "no cluster is configured: set KUBECONFIG, or run in a Pod with a ServiceAccount token: {0}"
    )]
    NoCluster(#[from] kube::config::InferConfigError),
    /// What is configured cannot be used.
    #[error("the configuration of the cluster cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// Feeds the authenticator with what happens in these namespaces, or in all if none is named. Never
/// ends.
pub async fn run(client: Client, namespaces: &[String], pace: Pace, authenticator: Authenticator) {
    let keys = feeds::<AccessKey>(&client, namespaces, pace, &authenticator);
    let devices = feeds::<Device>(&client, namespaces, pace, &authenticator);
    tokio::join!(
        join_all(keys.into_iter().map(Feed::run)),
        join_all(devices.into_iter().map(Feed::run)),
    );
}

/// One list and watch.
struct Feed<K: Fed> {
    api: Api<DeserializeGuard<K>>,
    relist: Duration,
    to: Authenticator,
    watched: Watched,
    backoff: Backoff,
    /// What the watch has shown the end of since all was listed, by namespace and name, with the
    /// version of the end.
    ended: HashMap<(String, String), u64>,
}

fn feeds<K: Fed>(
    client: &Client,
    namespaces: &[String],
    pace: Pace,
    authenticator: &Authenticator,
) -> Vec<Feed<K>> {
    let apis = punctual::apis(client, namespaces, pace.request_timeout);
    apis.into_iter()
        .map(|api| Feed {
            api,
            relist: pace.relist,
            to: authenticator.clone(),
            watched: authenticator.expect_watch(),
            backoff: Backoff::default(),
            ended: HashMap::new(),
        })
        .collect()
}

/// Why a watch is over.
enum Over {
    /// The next one goes on from there.
    Ended,
    /// All has to be listed again.
    Outdated,
}

impl<K: Fed> Feed<K> {
    async fn run(mut self) {
        loop {
            match self.list().await {
                Ok(()) => {
                    self.backoff.reset();
                    self.watch_until_outdated().await;
                }
                Err(failure) => {
                    warn!("cannot list {}, trying again: {failure}", K::WHAT);
                    self.pause().await;
                }
            }
        }
    }

    /// What is known stays until the list is complete.
    async fn list(&mut self) -> Result<(), Failure> {
        let asked = self.watched.now();
        let mut exist: HashSet<(String, String)> = HashSet::new();
        let mut params = ListParams::default().limit(PAGE);
        let version = loop {
            let page = self.api.list(&params).await?;
            for object in page.items {
                exist.insert(name(&object));
                self.learn(object, Order::Listed);
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break version(page.metadata.resource_version.as_deref());
            }
        };
        let is_there =
            |namespace: &str, name: &str| exist.contains(&(namespace.to_owned(), name.to_owned()));
        K::retain(&self.to, is_there);
        self.ended.clear();
        let version = version.ok_or(Failure::Garbled)?;
        self.watched.listed(asked, version);
        debug!(version, objects = exist.len(), "listed all {}", K::WHAT);
        Ok(())
    }

    async fn watch_until_outdated(&mut self) {
        let soon = self.relist.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        let relist = Instant::now() + soon;
        let (api, watched) = (self.api.clone(), self.watched.clone());
        let went_back = prove::<K>(&api, &watched);
        tokio::pin!(went_back);
        loop {
            let over = tokio::select! {
                over = self.watch() => over,
                () = sleep_until(relist) => return,
                () = &mut went_back => {
                    info!("{} have gone back in time, as after a restore: listing all", K::WHAT);
                    return;
                }
            };
            match over {
                Ok(Over::Ended) => self.backoff.reset(),
                Ok(Over::Outdated) => return,
                Err(failure) => {
                    warn!("cannot watch {}, trying again: {failure}", K::WHAT);
                    self.pause().await;
                }
            }
        }
    }

    async fn watch(&mut self) -> Result<Over, Failure> {
        let params = WatchParams::default().timeout(LONGEST_WATCH);
        let from = self.watched.version().to_string();
        let events = match self.api.watch(&params, &from).await {
            Err(kube::Error::Api(status)) if status.code == GONE => return Ok(Over::Outdated),
            events => events?,
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let version = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = version(object.meta().resource_version.as_deref());
                    self.learn(object, Order::Watched);
                    version
                }
                WatchEvent::Deleted(object) => {
                    let version = version(object.meta().resource_version.as_deref());
                    self.forget(&object, version.unwrap_or(u64::MAX));
                    version
                }
                WatchEvent::Bookmark(bookmark) => {
                    version(Some(&bookmark.metadata.resource_version))
                }
                WatchEvent::Error(status) if status.code == GONE => return Ok(Over::Outdated),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            if let Some(version) = version {
                self.watched.delivered(version);
            }
        }
        Ok(Over::Ended)
    }

    fn learn(&mut self, object: DeserializeGuard<K>, order: Order) {
        let name = name(&object);
        let version = version(object.meta().resource_version.as_deref()).unwrap_or_default();
        let has_ended = |end: &u64| order == Order::Watched && version < *end;
        if self.ended.get(&name).is_some_and(has_ended) {
            return;
        }
        let read = match object.0 {
            Ok(object) => object.apply(&self.to, order),
            Err(why) => Err(Unreadable::of(why.metadata, why.error)),
        };
        if let Err(Unreadable { metadata, why }) = read {
            let (namespace, name) = (&*name.0, &*name.1);
            warn!(
                namespace,
                name,
                "one of the {} cannot be read, and {}: {why}",
                K::WHAT,
                K::UNREADABLE
            );
            self.to.unreadable();
            K::refuse(&metadata, &self.to, order);
        }
    }

    fn forget(&mut self, object: &DeserializeGuard<K>, version: u64) {
        let name = name(object);
        K::delete(&self.to, &name.0, &name.1);
        self.ended.insert(name, version);
    }

    async fn pause(&mut self) {
        let pause = self.backoff.fail(rand::random()).min(LONGEST_PAUSE);
        sleep(pause).await;
    }
}

/// Asks for the current version from time to time, until it turns out to have gone back.
async fn prove<K: Fed>(api: &Api<DeserializeGuard<K>>, watched: &Watched) {
    let one = ListParams::default().limit(1);
    loop {
        sleep(PROOF.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        let (asked, before) = (watched.now(), watched.version());
        let current = match api.list_metadata(&one).await {
            Ok(list) => version(list.metadata.resource_version.as_deref()),
            Err(error) => {
                debug!(
                    "cannot ask for the version of {}: {}",
                    K::WHAT,
                    Failure::from(error)
                );
                None
            }
        };
        if let Some(current) = current
            && watched.answered(asked, before, current)
        {
            return;
        }
    }
}

fn name<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    let namespace = meta.namespace.clone().unwrap_or_default();
    (namespace, meta.name.clone().unwrap_or_default())
}

/// The version is not kept any more.
const GONE: u16 = 410;
