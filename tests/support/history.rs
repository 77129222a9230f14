//! Every version of the AccessKeys and Secrets of a namespace, as an admin's watches deliver them, and what must hold
//! of them whatever happened to the controller.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::StreamExt;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use keyward::api::{AccessKey, AccessKeyStatus, Restrictions};
use keyward::key::{Check, Secret};
use keyward::verifier::Verifier;
use kube::api::{ListParams, ObjectList, TypeMeta, VersionMatch};
use kube::core::metadata::ListMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::cluster::TestNamespace;

/// Records until it goes out of scope.
pub struct History {
    keys: Api<AccessKey>,
    secrets: Api<KubeSecret>,
    seen: Arc<Mutex<Seen>>,
    watches: [JoinHandle<()>; 2],
}

/// What was recorded.
#[derive(Default)]
pub struct Seen {
    /// The AccessKeys as they are now, by name.
    pub keys: BTreeMap<String, AccessKey>,
    /// The Secrets as they are now, by name.
    pub secrets: BTreeMap<String, KubeSecret>,
    /// How many versions of either were recorded.
    pub versions: u64,
    /// How many of them were versions of an AccessKey with a status.
    pub statuses: u64,
    /// Issues that took more than one attempt, by AccessKey and revision.
    pub repeated: BTreeSet<(String, i32)>,
    /// AccessKeys that were marked for a sweep.
    pub marked: BTreeSet<String>,
    /// Secrets that a sweep took back.
    pub taken_back: u64,
    /// The most attempts that any issue had at a time.
    pub most_attempts: usize,
    consumed: BTreeSet<String>,
    records: HashMap<String, KeyRecord>,
    violations: Vec<String>,
}

/// What was seen of one AccessKey, by its uid.
#[derive(Default)]
struct KeyRecord {
    key: Option<String>,
    accepted: BTreeMap<i32, String>,
    delivered: HashSet<(String, String)>,
}

impl History {
    /// Records from now on what happens in this namespace.
    pub fn of(namespace: &TestNamespace) -> History {
        History::as_seen_by(&namespace.admin, &namespace.name)
    }

    /// The same, by the watches of this client.
    pub fn as_seen_by(admin: &Client, namespace: &str) -> History {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let keys: Api<AccessKey> = Api::namespaced(admin.clone(), namespace);
        let secrets: Api<KubeSecret> = Api::namespaced(admin.clone(), namespace);
        let watches = [
            record("AccessKeys", keys.clone(), Arc::clone(&seen), Seen::saw_key),
            record(
                "Secrets",
                secrets.clone(),
                Arc::clone(&seen),
                Seen::saw_secret,
            ),
        ];
        History {
            keys,
            secrets,
            seen,
            watches,
        }
    }

    /// What is known so far. Not to be held over an await.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this holds of what is known.
    pub async fn until(&self, what: &str, patience: Duration, holds: impl Fn(&Seen) -> bool) {
        let begin = Instant::now();
        while !holds(&self.seen()) {
            let late = begin.elapsed() > patience;
            assert!(!late, "not in time: {what}: {}", self.seen().summary());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until as many AccessKeys as there shall be are ready, each at the revision that its spec asks for, with
    /// nothing under way and no sweep due.
    pub async fn until_done(&self, keys: usize, patience: Duration) {
        let done = |seen: &Seen| seen.keys.len() == keys && seen.keys.values().all(is_done);
        self.until("every key is done", patience, done).await;
    }

    /// From now on, no Secret of this name may turn up: the one that there was is taken away.
    pub fn consumed(&self, name: &str) {
        self.seen().consumed.insert(name.to_owned());
    }

    /// What was delivered before this record began stands in an earlier one.
    pub fn goes_on_from(&self, earlier: &History) {
        let (mut seen, earlier) = (self.seen(), earlier.seen());
        for (uid, known) in &earlier.records {
            let record = seen.records.entry(uid.clone()).or_default();
            record.delivered.extend(known.delivered.iter().cloned());
        }
    }

    /// Panics unless what must always hold held of every version, and what must hold at the end holds.
    pub async fn is_sound(&self) {
        self.catch_up().await;
        let seen = self.seen();
        let mut violations = seen.violations.clone();
        violations.extend(seen.false_acceptances());
        violations.extend(seen.keys.values().filter_map(|key| seen.unsound(key)));
        violations.extend(seen.orphans());
        let different: HashSet<_> = seen.keys.values().map(public).collect();
        if different.len() != seen.keys.len() {
            violations.push("two AccessKeys have one key".to_owned());
        }
        let total = violations.len();
        violations.truncate(10);
        assert!(total == 0, "{total} violations: {violations:#?}");
    }

    /// Of the two watches one may be behind the other.
    async fn catch_up(&self) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let (keys, secrets) = (versions(&self.keys).await, versions(&self.secrets).await);
            let is_behind = {
                let seen = self.seen();
                known(&seen.keys) != keys || known(&seen.secrets) != secrets
            };
            if !is_behind {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many secrets were accepted, one after the other.
    pub fn issues(&self) -> usize {
        let seen = self.seen();
        let records = seen.records.values();
        records.map(|record| record.accepted.len()).sum()
    }

    /// Every plaintext that stood in a Secret.
    pub fn plaintexts(&self) -> Vec<String> {
        let seen = self.seen();
        let delivered = seen.records.values().flat_map(|record| &record.delivered);
        delivered.map(|(_, secret)| secret.clone()).collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

fn record<K>(
    what: &'static str,
    api: Api<K>,
    seen: Arc<Mutex<Seen>>,
    saw: fn(&mut Seen, K, bool),
) -> JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let watch = watcher(api.clone(), watcher::Config::default());
    let mut record = Record {
        what,
        api,
        seen,
        saw,
        current: BTreeMap::new(),
        newest: None,
    };
    tokio::spawn(async move {
        let mut events = watch.boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object)) => record.saw(object, true),
                Ok(Event::Delete(object)) => record.saw(object, false),
                Ok(Event::InitDone) => record.catch_up().await,
                Ok(Event::Init | Event::InitApply(_)) => {}
                // A watch that cannot start goes on where the one before it ended, soon: whoever waits
                // for the record does not wait for the next try of a record.
                Err(_) => sleep(Duration::from_millis(300)).await,
            }
        }
    })
}

/// The record of one kind.
struct Record<K> {
    what: &'static str,
    api: Api<K>,
    seen: Arc<Mutex<Seen>>,
    saw: fn(&mut Seen, K, bool),
    current: BTreeMap<String, K>,
    /// The version up to which nothing is missing.
    newest: Option<u64>,
}

impl<K> Record<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    /// A watch shows again what a list has shown before it began.
    fn saw(&mut self, object: K, exists: bool) {
        let version = version(&object.meta().resource_version);
        if self.newest.is_none_or(|newest| newest < version) {
            self.newest = Some(version);
            self.note(object, exists);
        }
    }

    fn note(&mut self, object: K, exists: bool) {
        if exists {
            self.current.insert(object.name_any(), object.clone());
        } else {
            self.current.remove(&object.name_any());
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (self.saw)(&mut seen, object, exists);
    }

    /// A watch began with a list. What happened between the watch before it and this list is asked for version by
    /// version: etcd keeps old ones for minutes.
    async fn catch_up(&mut self) {
        let list = self.list(ListParams::default()).await;
        let now = version(&list.metadata.resource_version);
        let missing = self.newest.map_or(now, |newest| newest + 1)..now;
        for version in missing {
            let params = ListParams::default()
                .at(&version.to_string())
                .matching(VersionMatch::Exact);
            let then = self.list(params).await;
            self.differs(then.items);
        }
        self.differs(list.items);
        self.newest = self.newest.max(Some(now));
    }

    /// Notes in what a list differs from what is known.
    fn differs(&mut self, list: Vec<K>) {
        let there: HashSet<String> = list.iter().map(K::name_any).collect();
        let gone = self
            .current
            .iter()
            .filter(|(name, _)| !there.contains(*name));
        for gone in gone.map(|(_, gone)| gone.clone()).collect::<Vec<_>>() {
            self.note(gone, false);
        }
        for object in list {
            let known = self.current.get(&object.name_any()).map(K::meta);
            let is_new = known.is_none_or(|known| {
                (&known.uid, &known.resource_version)
                    != (&object.meta().uid, &object.meta().resource_version)
            });
            if is_new {
                self.note(object, true);
            }
        }
    }

    /// Asks until there is an answer. A version that is not kept any more is a gap.
    async fn list(&self, params: ListParams) -> ObjectList<K> {
        loop {
            match self.api.list(&params).await {
                Ok(list) => return list,
                Err(kube::Error::Api(status)) if status.code == 410 => {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.violations
                        .push(format!("the record of {} has a gap", self.what));
                    return ObjectList {
                        types: TypeMeta::default(),
                        metadata: ListMeta::default(),
                        items: self.current.values().cloned().collect(),
                    };
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// What is there now, and in which version.
async fn versions<K>(api: &Api<K>) -> BTreeMap<String, Option<String>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let objects = api.list(&ListParams::default()).await.expect("a list");
    let objects = objects.into_iter();
    objects
        .map(|object| (object.name_any(), object.resource_version()))
        .collect()
}

fn known<K: Resource>(objects: &BTreeMap<String, K>) -> BTreeMap<String, Option<String>> {
    let objects = objects.iter();
    objects
        .map(|(name, object)| (name.clone(), object.resource_version()))
        .collect()
}

fn version(text: &Option<String>) -> u64 {
    text.as_deref()
        .and_then(|text| text.parse().ok())
        .expect("a version")
}

impl Seen {
    fn saw_key(&mut self, key: AccessKey, exists: bool) {
        self.versions += 1;
        let name = key.name_any();
        if let Some(status) = &key.status {
            self.statuses += 1;
            self.saw_status(&name, &key.uid().expect("a uid"), status);
        }
        if exists {
            self.keys.insert(name, key);
        } else {
            self.keys.remove(&name);
        }
    }

    fn saw_status(&mut self, name: &str, uid: &str, status: &AccessKeyStatus) {
        let record = self.records.entry(uid.to_owned()).or_default();
        if record.key.is_some() && record.key != status.key {
            let (before, after) = (&record.key, &status.key);
            self.violations
                .push(format!("{name}: key {before:?} became {after:?}"));
        }
        record.key.clone_from(&status.key);
        for known in &status.verifiers {
            let (revision, verifier) = (known.revision, known.verifier.clone());
            let before = record.accepted.insert(revision, verifier.clone());
            if before.is_some_and(|before| before != verifier) {
                self.violations.push(format!(
                    "{name}: two secrets were accepted for revision {revision}"
                ));
            }
        }
        if let Some(issuance) = &status.issuance {
            self.most_attempts = self.most_attempts.max(issuance.attempts.len());
            if issuance.attempts.len() > 1 {
                self.repeated.insert((name.to_owned(), issuance.revision));
            }
        }
        if status.unsettled.is_some() {
            self.marked.insert(name.to_owned());
        }
    }

    fn saw_secret(&mut self, secret: KubeSecret, exists: bool) {
        self.versions += 1;
        let name = secret.name_any();
        let Some(owner) = owner(&secret) else {
            self.violations.push(format!("Secret {name} has no owner"));
            return;
        };
        let delivered = (entry(&secret, "key"), entry(&secret, "secret"));
        self.records
            .entry(owner)
            .or_default()
            .delivered
            .insert(delivered);
        if exists {
            if self.consumed.contains(&name) {
                let again = format!("{name}: its Secret was made again");
                self.violations.push(again);
            }
            self.secrets.insert(name, secret);
        } else {
            self.taken_back += 1;
            self.secrets.remove(&name);
        }
    }

    /// Verifiers that were accepted although no Secret ever held what they accept.
    fn false_acceptances(&self) -> Vec<String> {
        let records = self.records.iter().filter(|(_, record)| {
            let mut verifiers = record.accepted.values();
            !verifiers.all(|verifier| {
                let fits = |(_, secret): &(String, String)| accepts(verifier, secret);
                record.delivered.iter().any(fits)
            })
        });
        records
            .map(|(uid, _)| format!("{uid}: a secret was accepted that was never delivered"))
            .collect()
    }

    /// What is wrong with an AccessKey that should be done.
    fn unsound(&self, key: &AccessKey) -> Option<String> {
        let name = key.name_any();
        let status = key.status.clone().unwrap_or_default();
        let wrong = |what: &str| Some(format!("{name}: {what}: {status:?}"));
        if !is_done(key) {
            return wrong("is not done");
        }
        if key.spec.restrictions == Restrictions::default() {
            return wrong("has lost its restrictions");
        }
        let [accepted] = status.verifiers.as_slice() else {
            return wrong("does not accept exactly one secret");
        };
        let secret = match self.secrets.get(&name) {
            None if self.consumed.contains(&name) => return None,
            None => return wrong("has no Secret"),
            Some(secret) => secret,
        };
        let plaintext = entry(secret, "secret");
        if !accepts(&accepted.verifier, &plaintext) {
            return wrong("does not accept what its Secret holds");
        }
        let public = status.key.clone().unwrap_or_default();
        let parsed = Secret::parse(&plaintext).ok()?;
        if accepted.check.as_deref() != Some(Check::of(&public, &parsed).as_str()) {
            return wrong("has the wrong check");
        }
        if entry(secret, "key") != public {
            return wrong("is not the key of its Secret");
        }
        if owner(secret) != key.uid() {
            return wrong("does not own its Secret");
        }
        if status.secret.as_ref().map(|delivery| &delivery.uid) != secret.uid().as_ref() {
            return wrong("names another Secret");
        }
        None
    }

    fn orphans(&self) -> Vec<String> {
        let names = self.secrets.keys();
        names
            .filter(|name| !self.keys.contains_key(*name))
            .map(|name| format!("Secret {name} has no AccessKey"))
            .collect()
    }

    /// How far it has come.
    pub fn summary(&self) -> String {
        let done = self.keys.values().filter(|key| is_done(key)).count();
        let left = self.keys.values().find(|key| !is_done(key));
        let left = left.map(|key| (key.name_any(), &key.spec.rotation, &key.status));
        format!(
            "{done} of {} keys are done, {} issues took several attempts, {} keys were marked for a sweep, {} Secrets \
             were taken back, {} violations {:?}; one that is not done: {left:#?}",
            self.keys.len(),
            self.repeated.len(),
            self.marked.len(),
            self.taken_back,
            self.violations.len(),
            self.violations.first(),
        )
    }
}

/// Is all issued that its spec asks for, confirmed, and swept?
pub fn is_done(key: &AccessKey) -> bool {
    let Some(status) = &key.status else {
        return false;
    };
    let is = |type_: &str| {
        let condition = status.conditions.iter().find(|c| c.type_ == type_);
        condition.is_some_and(|condition| condition.status == "True")
    };
    key.metadata.generation == Some(status.observed_generation)
        && status.rotation_requested == Some(key.spec.rotation.revision)
        && is("Ready")
        && !is("Reconciling")
        && !is("Stalled")
        && status.issuance.is_none()
        && status.unsettled.is_none()
}

fn accepts(verifier: &str, secret: &str) -> bool {
    match (Verifier::parse(verifier), Secret::parse(secret)) {
        (Ok(verifier), Ok(secret)) => verifier.verifies(&secret),
        _ => false,
    }
}

fn public(key: &AccessKey) -> Option<&String> {
    key.status.as_ref()?.key.as_ref()
}

fn owner(secret: &KubeSecret) -> Option<String> {
    let owners = secret.metadata.owner_references.as_ref()?;
    owners.first().map(|owner| owner.uid.clone())
}

fn entry(secret: &KubeSecret, name: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    text.unwrap_or_default().to_owned()
}
