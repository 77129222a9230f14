//! AccessKeys in a namespace of one test: asked for as users do, and looked at as an admin.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret as KubeSecret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use keyward::api::{AccessKey, AccessKeyStatus};
use keyward::key::{Check, Secret};
use keyward::verifier::Verifier;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::canary;
use super::cluster::{TestNamespace, apply, eventually, from_json};
use super::controller::TestController;

const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// An AccessKey to apply. It admits all devices.
#[derive(Clone)]
pub struct Ask(Value);

/// An AccessKey of this name.
pub fn key(name: &str) -> Ask {
    Ask(json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": { "name": name },
        "spec": { "restrictions": { "allDevices": true } },
    }))
}

impl Ask {
    /// With this value at this path, such as `/spec/state`.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Ask {
        let mut at = &mut self.0;
        for part in path.split('/').skip(1) {
            at = &mut at[part];
        }
        *at = value.into();
        self
    }

    pub fn revision(self, revision: i32) -> Ask {
        self.with("/spec/rotation/revision", revision)
    }

    pub fn overlap(self, overlap: &str) -> Ask {
        self.with("/spec/rotation/overlap", overlap)
    }

    pub fn inactive(self) -> Ask {
        self.with("/spec/state", "Inactive")
    }

    pub fn suspended(self) -> Ask {
        self.with("/spec/suspend", true)
    }

    pub fn described(self, description: &str) -> Ask {
        self.with("/spec/description", description)
    }

    pub fn delivered_in(self, secret: &str) -> Ask {
        self.with("/spec/secret/name", secret)
    }

    /// Each annotation is within bounds; in bytes they are more than an object may have.
    pub fn too_large(self) -> Ask {
        let long = "\u{1F511}".repeat(2048);
        let annotations: serde_json::Map<String, Value> = (0..40)
            .map(|number| (format!("example.com/a{number}"), long.clone().into()))
            .collect();
        self.with("/spec/secret/annotations", annotations)
    }

    pub fn labelled(self, labels: Value) -> Ask {
        self.with("/spec/secret/labels", labels)
    }

    pub fn restored_by_a_backup_tool(self) -> Ask {
        self.with("/metadata/labels", json!({ "velero.io/restore-name": "r" }))
    }
}

/// A namespace, and what stands in it.
pub struct Place {
    /// What is logged from here on is searched.
    log: canary::Bookmark,
    pub namespace: TestNamespace,
    pub keys: Api<AccessKey>,
    pub secrets: Api<KubeSecret>,
    plaintexts: Mutex<BTreeSet<String>>,
}

impl Place {
    /// Where the controller may deliver Secrets.
    pub async fn served(purpose: &str) -> Place {
        Place::in_namespace(TestNamespace::served(purpose).await)
    }

    /// Where it may not.
    pub async fn unserved(purpose: &str) -> Place {
        Place::in_namespace(TestNamespace::unserved(purpose).await)
    }

    fn in_namespace(namespace: TestNamespace) -> Place {
        let log = canary::listen();
        let (keys, secrets) = (
            namespace.api(&namespace.admin),
            namespace.api(&namespace.admin),
        );
        Place {
            log,
            namespace,
            keys,
            secrets,
            plaintexts: Mutex::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.namespace.name
    }

    pub async fn apply(&self, ask: Ask) -> AccessKey {
        apply(&self.keys, &from_json::<AccessKey>(ask.0)).await
    }

    /// Makes an object as it is given, as an admin.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let api: Api<K> = self.namespace.api(&self.namespace.admin);
        let object = from_json(object);
        api.create(&PostParams::default(), &object)
            .await
            .expect("the admin may")
    }

    pub async fn key(&self, name: &str) -> AccessKey {
        self.keys.get(name).await.expect("the AccessKey exists")
    }

    pub async fn status(&self, name: &str) -> AccessKeyStatus {
        self.key(name).await.status.expect("a status")
    }

    /// The Secret of this name. Its plaintext is one that must turn up nowhere else.
    pub async fn secret(&self, name: &str) -> Option<KubeSecret> {
        let found = self.secrets.get_opt(name).await.expect("the admin may");
        found.inspect(|found| self.remember(found))
    }

    pub async fn delivered(&self, name: &str) -> KubeSecret {
        self.secret(name).await.expect("the Secret exists")
    }

    pub async fn delete_secret(&self, name: &str) {
        let params = DeleteParams::default();
        self.secrets
            .delete(name, &params)
            .await
            .expect("the admin may");
    }

    pub async fn patch_secret(&self, name: &str, patch: Value) -> KubeSecret {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.secrets.patch(name, &params, &patch);
        patched.await.expect("the admin may")
    }

    pub async fn patch_key(&self, name: &str, patch: Value) -> AccessKey {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.keys.patch(name, &params, &patch);
        patched.await.expect("the admin may")
    }

    pub async fn delete_key(&self, name: &str) {
        let params = DeleteParams::background();
        self.keys
            .delete(name, &params)
            .await
            .expect("the admin may");
    }

    pub async fn is_gone(&self, name: &str) {
        let gone = || async {
            self.keys
                .get_opt(name)
                .await
                .expect("the admin may")
                .is_none()
        };
        eventually("the AccessKey is gone", gone).await;
    }

    pub async fn secret_is_gone(&self, name: &str) {
        let gone = || async { self.secret(name).await.is_none() };
        collected("the Secret is gone", gone).await;
    }

    pub async fn secret_is_being_deleted(&self, name: &str) {
        let going = || async {
            let secret = self.delivered(name).await;
            secret.metadata.deletion_timestamp.is_some()
        };
        collected("the Secret is being deleted", going).await;
    }

    /// Waits until the status of this AccessKey is so.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&AccessKey, &AccessKeyStatus) -> bool,
    ) -> AccessKey {
        let begin = Instant::now();
        loop {
            let key = self.key(name).await;
            if let Some(status) = &key.status
                && holds(&key, status)
            {
                return key;
            }
            let late = begin.elapsed() > PATIENCE;
            assert!(!late, "{name}: not in time: {what}: {:#?}", key.status);
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Waits until all that the spec asks for is done.
    pub async fn ready(&self, name: &str) -> AccessKey {
        self.until(name, "is ready", |key, status| {
            is_current(key, status) && holds(status, "Ready") && status.issuance.is_none()
        })
        .await
    }

    /// Waits until the spec's revision is issued.
    pub async fn issued(&self, name: &str, revision: i32) -> AccessKey {
        let what = format!("has issued revision {revision}");
        self.until(name, &what, |key, status| {
            is_current(key, status) && holds(status, "Ready") && status.revision == Some(revision)
        })
        .await
    }

    /// Waits until a person is asked to act, for this reason.
    pub async fn stalled(&self, name: &str, reason: &str) -> Condition {
        self.says(name, "Stalled", reason).await
    }

    /// Waits until work is said to be under way, for this reason.
    pub async fn reconciling(&self, name: &str, reason: &str) -> Condition {
        self.says(name, "Reconciling", reason).await
    }

    async fn says(&self, name: &str, type_: &str, reason: &str) -> Condition {
        let what = format!("is {type_}/{reason}");
        let told = |_: &AccessKey, status: &AccessKeyStatus| {
            condition(status, type_).is_some_and(|c| c.reason == reason && c.status == "True")
        };
        let key = self.until(name, &what, told).await;
        let status = key.status.expect("a status");
        assert!(!holds(&status, "Ready"), "{name} is not ready");
        let both = holds(&status, "Stalled") && holds(&status, "Reconciling");
        assert!(!both, "{name} is either stalled or reconciling");
        condition(&status, type_).expect("it was there").clone()
    }

    /// The Events about an AccessKey: type, reason and how often.
    pub async fn events(&self, name: &str) -> Vec<(String, String, i32)> {
        let mut about: Vec<_> = self
            .all_events()
            .await
            .into_iter()
            .filter(|event| {
                let object = event.regarding.clone().unwrap_or_default();
                object.name.as_deref() == Some(name)
            })
            .map(|event| {
                let count = event.series.map_or(1, |series| series.count);
                (
                    event.type_.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    count,
                )
            })
            .collect();
        about.sort();
        about
    }

    /// Waits until these Events were sent about an AccessKey, so often, and no others.
    pub async fn told(&self, name: &str, reasons: &[(&str, i32)]) {
        let wanted: BTreeMap<&str, i32> = reasons.iter().copied().collect();
        let all: i32 = wanted.values().sum();
        let told = || async {
            self.events(name)
                .await
                .iter()
                .map(|event| event.2)
                .sum::<i32>()
                >= all
        };
        eventually("the Events arrive", told).await;
        let mut found = BTreeMap::new();
        let events = self.events(name).await;
        for (_, reason, count) in &events {
            *found.entry(reason.as_str()).or_default() += count;
        }
        assert_eq!(found, wanted);
    }

    /// Waits until these are all Events about an AccessKey.
    pub async fn told_once_each(&self, name: &str, reasons: &[&str]) {
        let told = || async { self.events(name).await.len() >= reasons.len() };
        eventually("the Events arrive", told).await;
        let events = self.events(name).await;
        let found: BTreeSet<&str> = events
            .iter()
            .map(|(_, reason, _)| reason.as_str())
            .collect();
        assert_eq!(found, reasons.iter().copied().collect(), "{events:?}");
        assert_eq!(events.len(), reasons.len(), "{events:?}");
        assert!(events.iter().all(|(_, _, count)| *count == 1), "{events:?}");
    }

    async fn all_events(&self) -> Vec<Event> {
        let events: Api<Event> = self.namespace.api(&self.namespace.admin);
        let params = ListParams::default();
        events.list(&params).await.expect("the admin may").items
    }

    /// Lets the namespace hold at most this many Secrets more than none.
    pub async fn limit_secrets_to(&self, count: u32) {
        let quotas: Api<ResourceQuota> = self.namespace.api(&self.namespace.admin);
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "few-secrets" },
            "spec": { "hard": { "secrets": count.to_string() } },
        });
        apply(&quotas, &from_json::<ResourceQuota>(quota)).await;
        let in_effect = || async {
            let quota = quotas.get("few-secrets").await.expect("the admin may");
            let hard = quota
                .status
                .and_then(|status| status.hard)
                .unwrap_or_default();
            hard.get("secrets")
                .is_some_and(|hard| hard.0 == count.to_string())
        };
        eventually("the quota is in effect", in_effect).await;
    }

    /// No plaintext of this namespace stands in an Event, an AccessKey, a metric or a log of this process.
    pub async fn keeps_its_secrets(&self, controllers: &[&TestController]) {
        let params = ListParams::default();
        for secret in &self
            .secrets
            .list(&params)
            .await
            .expect("the admin may")
            .items
        {
            self.remember(secret);
        }
        let secrets = self.plaintexts.lock();
        let secrets: Vec<String> = secrets
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        let events = serde_json::to_string(&self.all_events().await).expect("JSON");
        canary::holds_no_secret("an Event", &events, &secrets);
        let keys = self.keys.list(&params).await;
        let keys = serde_json::to_string(&keys.expect("the admin may").items).expect("JSON");
        canary::holds_no_secret("an AccessKey", &keys, &secrets);
        for controller in controllers {
            canary::holds_no_secret("a metric", &controller.metrics_text(), &secrets);
        }
        canary::logs_hold_no_secret(self.log, &secrets);
    }

    fn remember(&self, secret: &KubeSecret) {
        let mut known = self
            .plaintexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for bytes in secret.data.iter().flat_map(|data| data.values()) {
            if let Ok(secret) = std::str::from_utf8(&bytes.0)
                && secret.starts_with("kws_")
            {
                known.insert(secret.to_owned());
            }
        }
    }
}

/// Waits for the garbage collector, which learns of a new definition up to a minute late.
async fn collected<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE * 4, "not in time: {what}");
        sleep(BETWEEN_LOOKS).await;
    }
}

/// Has the controller seen the spec as it is?
pub fn is_current(key: &AccessKey, status: &AccessKeyStatus) -> bool {
    key.metadata.generation == Some(status.observed_generation)
        && status.rotation_requested.unwrap_or_default() >= key.spec.rotation.revision
}

/// A condition of this type.
pub fn condition<'a>(status: &'a AccessKeyStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.type_ == type_)
}

/// Is this condition `True`?
pub fn holds(status: &AccessKeyStatus, type_: &str) -> bool {
    condition(status, type_).is_some_and(|c| c.status == "True")
}

/// One entry of a Secret.
pub fn entry(secret: &KubeSecret, name: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    let bytes = bytes.unwrap_or_else(|| panic!("no entry {name}")).0.clone();
    String::from_utf8(bytes).expect("text")
}

/// The plaintext of a Secret with the default entry names.
pub fn plaintext(secret: &KubeSecret) -> String {
    entry(secret, "secret")
}

/// The revisions whose verifiers accept this plaintext, as a gateway would ask, whatever the time.
pub fn accepting(key: &AccessKey, plaintext: &str) -> Vec<i32> {
    let secret = Secret::parse(plaintext).expect("a well-formed secret");
    let status = key.status.as_ref().expect("a status");
    let check = Check::of(status.key.as_deref().expect("a key"), &secret);
    let accepts = |verifier: &str| {
        Verifier::parse(verifier)
            .expect("a usable verifier")
            .verifies(&secret)
    };
    let accepted = status
        .verifiers
        .iter()
        .filter(|known| accepts(&known.verifier));
    accepted
        .inspect(|known| assert_eq!(known.check.as_deref(), Some(check.as_str())))
        .map(|known| known.revision)
        .collect()
}

/// The Secret holds what the newest verifier accepts, under this AccessKey's key, and belongs to it.
pub fn fits(key: &AccessKey, secret: &KubeSecret) {
    let status = key.status.as_ref().expect("a status");
    let names = &key.spec.secret.keys;
    assert_eq!(Some(&entry(secret, &names.key)), status.key.as_ref());
    let accepted = accepting(key, &entry(secret, &names.secret));
    let newest = status.verifiers.last().map(|known| known.revision);
    assert_eq!(accepted, Vec::from_iter(newest));
    let owner = &secret.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!(Some(&owner.uid), key.metadata.uid.as_ref());
    assert_eq!(owner.controller, Some(true));
    let delivery = status.secret.as_ref().expect("a delivery");
    assert_eq!(Some(&delivery.uid), secret.metadata.uid.as_ref());
    assert_eq!(Some(&delivery.name), secret.metadata.name.as_ref());
    let binding = status.binding.as_ref().expect("a binding");
    assert_eq!(binding.name, delivery.name);
}

/// An ownerReference, as the controller writes it, to this AccessKey.
pub fn owned_by(name: &str, uid: &str) -> Value {
    json!([{
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "name": name, "uid": uid, "controller": true,
    }])
}

/// A Secret of the controller's type that somebody else made.
pub fn secret_of(name: &str, owners: Value, key: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "keyward.dev/access-key",
        "metadata": { "name": name, "ownerReferences": owners },
        "stringData": { "key": key, "secret": secret },
    })
}

/// A well-formed secret that nobody issued.
pub fn some_secret() -> String {
    let secret = Secret::generate().expect("a secret");
    secret.expose().to_owned()
}

/// Now, as a time of the API.
pub fn now() -> Timestamp {
    Timestamp::now()
}
