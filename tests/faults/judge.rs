//! What has to hold of everything that a run left in the API server, from outside: the invariants
//! I1 to I12, but for I8 and I9, which take a controller that runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use keyward::api::{AcceptedVerifier, AccessKey, KeyState};
use keyward::key::Secret;
use keyward::policy::{Decision, KeyRecord, Presented, decide};
use keyward::verifier::Verifier;
use kube::ResourceExt;
use serde_json::Value;

use super::recorder::{Stored, Version, What};
use super::support::canary::looks_like_a_secret;
use super::support::proxy::Asked;
use super::workload::Workload;

/// What a run has left.
pub struct Case<'a> {
    pub workload: Workload,
    /// In their order.
    pub versions: &'a [Version],
    /// Plaintexts that users took.
    pub taken: &'a BTreeSet<String>,
    /// How often they may rightly call a person.
    pub refusals: usize,
    /// What the controllers asked for.
    pub asked: Vec<Asked>,
    pub start: Timestamp,
    pub end: Timestamp,
}

/// Says what is wrong.
pub fn judge(case: &Case<'_>) -> Vec<String> {
    let mut bench = Bench {
        case,
        names: BTreeMap::new(),
        records: BTreeMap::new(),
        attempts: BTreeSet::new(),
        found: Vec::new(),
    };
    for version in case.versions {
        bench.hear(version);
    }
    bench.conclude();
    bench.found
}

struct Bench<'a> {
    case: &'a Case<'a>,
    /// What is there now, by name.
    names: BTreeMap<String, Scene>,
    /// What was seen of each AccessKey, by its uid.
    records: BTreeMap<String, Record>,
    /// All verifiers that were ever committed to.
    attempts: BTreeSet<String>,
    found: Vec<String>,
}

/// An AccessKey and a Secret of one name.
#[derive(Clone, Default)]
struct Scene {
    key: Option<Arc<AccessKey>>,
    secret: Option<Arc<Stored>>,
    /// The AccessKey, before it was deleted.
    last: Option<Arc<AccessKey>>,
    /// Every Secret that there was.
    secrets: Vec<Arc<Stored>>,
}

#[derive(Clone, Default)]
struct Record {
    key: Option<String>,
    accepted: BTreeMap<i32, String>,
    last: Vec<AcceptedVerifier>,
}

impl Bench<'_> {
    fn hear(&mut self, version: &Version) {
        let name = &version.name;
        let mut scene = self.names.remove(name).unwrap_or_default();
        match &version.what {
            What::Key(key) => {
                self.hear_key(name, key);
                scene.key = Some(Arc::clone(key));
                scene.last.clone_from(&scene.key);
            }
            What::KeyGone => scene.key = None,
            What::Secret(secret) => {
                self.hear_secret(name, &scene, secret);
                scene.secret = Some(Arc::clone(secret));
                scene.secrets.push(Arc::clone(secret));
            }
            What::SecretGone => scene.secret = None,
        }
        if let Some(key) = &scene.key {
            self.is_in_order(name, key, scene.secret.as_deref());
            self.is_decided_rightly(name, key, &scene);
        }
        self.names.insert(name.clone(), scene);
    }

    fn hear_key(&mut self, name: &str, key: &AccessKey) {
        let text = serde_json::to_string(key).expect("JSON");
        self.unless(!looks_like_a_secret(&text), "I7", name, "holds plaintext");
        let Some(status) = &key.status else { return };
        let record = self
            .records
            .entry(key.uid().unwrap_or_default())
            .or_default();
        let before = record.clone();
        record.key.clone_from(&status.key);
        record.last.clone_from(&status.verifiers);
        for known in &status.verifiers {
            record
                .accepted
                .insert(known.revision, known.verifier.clone());
        }
        let kept = before.key.is_none() || before.key == status.key;
        self.unless(kept, "I5", name, "has another key");
        for known in &status.verifiers {
            let accepted = before.accepted.get(&known.revision);
            let first = accepted.is_none_or(|verifier| *verifier == known.verifier);
            self.unless(first, "I1", name, "accepts a second secret of one revision");
            let committed = self.attempts.contains(&known.verifier);
            self.unless(committed, "I2", name, "accepts what was not committed to");
        }
        let open = status
            .issuance
            .iter()
            .flat_map(|issuance| &issuance.attempts);
        self.attempts
            .extend(open.map(|attempt| attempt.verifier.clone()));
        for known in &before.last {
            let stays = status
                .verifiers
                .iter()
                .any(|now| now.verifier == known.verifier);
            let retired = stays || self.may_go(key, known);
            self.unless(retired, "I5", name, "lost an accepted verifier");
        }
        let stalled = status.conditions.iter().any(|c| c.type_ == "Stalled");
        let rightly = !stalled || self.case.refusals > 0;
        self.unless(rightly, "I9", name, "calls a person");
    }

    /// By the end of its time, or at once by an overlap of nothing.
    fn may_go(&self, key: &AccessKey, known: &AcceptedVerifier) -> bool {
        let over = known.valid_until.as_ref();
        over.is_some_and(|until| until.0 <= self.case.end) || key.spec.rotation.overlap.0.is_zero()
    }

    fn hear_secret(&mut self, name: &str, scene: &Scene, secret: &Stored) {
        let mut attempts = self.attempts.iter();
        let committed = attempts.any(|verifier| accepts(verifier, &secret.plaintext));
        self.unless(committed, "I2", name, "was published before its commit");
        let returned = scene.secret.is_none()
            && scene
                .secrets
                .iter()
                .any(|old| old.plaintext == secret.plaintext);
        self.unless(!returned, "P2", name, "is back after it was gone");
        let Some(old) = &scene.secret else { return };
        self.unless(old.owner == secret.owner, "I4", name, "has another owner");
        let status = scene.key.as_ref().and_then(|key| key.status.as_ref());
        let rotates = status.is_some_and(|status| status.issuance.is_some());
        self.unless(rotates, "P2", name, "was replaced without a rotation");
    }

    /// Invariant I3.
    fn is_in_order(&mut self, name: &str, key: &AccessKey, secret: Option<&Stored>) {
        let (Some(status), Some(secret)) = (&key.status, secret) else {
            return;
        };
        let at_rest = status.issuance.is_none() && status.unsettled.is_none();
        let Some(newest) = status.verifiers.last().filter(|_| at_rest) else {
            return;
        };
        if secret.owner == key.uid() {
            let fits = accepts(&newest.verifier, &secret.plaintext);
            self.unless(fits, "I3", name, "does not accept what its Secret holds");
            let names_it = status.key.as_ref() == Some(&secret.key);
            self.unless(names_it, "I3", name, "is not the key of its Secret");
        }
    }

    /// Invariants I6, I10 and I12: what a gateway would decide by this version.
    fn is_decided_rightly(&mut self, name: &str, key: &AccessKey, scene: &Scene) {
        let record = KeyRecord::of(key).ok().flatten();
        for secret in &scene.secrets {
            let presented = Presented {
                device_id: "pump",
                secret: &secret.plaintext,
            };
            let decision = decide(
                record.as_ref(),
                None,
                &presented,
                self.case.start,
                |known, _| accepts(known.verifier.as_str(), &secret.plaintext),
            );
            let allowed = matches!(decision, Decision::Allow(_));
            let right = self.is_to_be_allowed(key, secret);
            let what = format!("decides {decision:?} where {right} is right");
            self.unless(allowed == right, "I6", name, &what);
        }
    }

    fn is_to_be_allowed(&self, key: &AccessKey, secret: &Stored) -> bool {
        let restrictions = &key.spec.restrictions;
        let admits = restrictions.all_devices == Some(true)
            || restrictions
                .device_ids
                .iter()
                .flatten()
                .any(|id| id == "pump");
        let status = key.status.clone().unwrap_or_default();
        let valid = |known: &&AcceptedVerifier| {
            let until = known.valid_until.as_ref();
            until.is_none_or(|until| until.0 > self.case.start)
        };
        let mut verifiers = status.verifiers.iter().filter(valid);
        let own = secret.owner == key.uid() || self.case.workload == Workload::Restore;
        let accepted = verifiers.any(|known| accepts(&known.verifier, &secret.plaintext));
        own && admits
            && accepted
            && key.spec.state == KeyState::Active
            && key.metadata.deletion_timestamp.is_none()
    }

    fn conclude(&mut self) {
        for (name, scene) in self.names.clone() {
            self.conclude_about(&name, &scene);
        }
        let keys: BTreeSet<_> = self.records.values().map(|record| &record.key).collect();
        let restored = self.case.workload == Workload::Restore;
        let different = restored || keys.len() == self.records.len();
        self.unless(different, "I10", "an AccessKey", "has the key of another");
        self.asked_rightly();
    }

    fn conclude_about(&mut self, name: &str, scene: &Scene) {
        let Some(key) = &scene.last else { return };
        let verifiers = key
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.verifiers);
        let newest = verifiers.last();
        let fits =
            |plaintext: &String| newest.is_some_and(|newest| accepts(&newest.verifier, plaintext));
        match &scene.secret {
            Some(secret) if secret.owner == key.uid() => {
                let accepted = fits(&secret.plaintext);
                self.unless(
                    accepted,
                    "I2",
                    name,
                    "leaves a secret that was never accepted",
                );
            }
            _ if self.case.workload == Workload::EndNamespace || newest.is_none() => {}
            _ => {
                let taken = self.case.taken.iter().any(fits);
                self.unless(taken, "I2", name, "lost a secret that nobody took");
            }
        }
    }

    /// Invariants I4 and I11: no Secret is replaced or deleted but by its uid and version, and only
    /// if it is ours; an Event for each secret that was accepted, at most.
    fn asked_rightly(&mut self) {
        let mut events = 0;
        for asked in &self.case.asked {
            events += usize::from(asked.is_about_event() && asked.method == Method::POST);
            let writes = [Method::PUT, Method::DELETE].contains(&asked.method);
            if !writes || !asked.path.contains("/secrets/") {
                continue;
            }
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            let at = match asked.method {
                Method::PUT => &body["metadata"],
                _ => &body["preconditions"],
            };
            let exact = at["uid"].is_string() && at["resourceVersion"].is_string();
            self.unless(
                exact,
                "I4",
                &asked.path,
                "is written without a precondition",
            );
            let ours = self.is_ours(&at["uid"], &at["resourceVersion"]);
            self.unless(ours, "I4", &asked.path, "is written, and is not ours");
        }
        let accepted: usize = self
            .records
            .values()
            .map(|record| record.accepted.len())
            .sum();
        let restored = self.case.workload == Workload::Restore;
        let enough = restored || events <= accepted + self.case.refusals;
        let what = format!("{events} Events about {accepted} secrets");
        self.unless(enough, "I11", "an AccessKey", &what);
    }

    fn is_ours(&self, uid: &Value, version: &Value) -> bool {
        let secrets = self.names.values().flat_map(|scene| &scene.secrets);
        let mut meant = secrets
            .filter(|secret| *uid == secret.uid.as_str() && *version == secret.version.as_str());
        meant.all(|secret| {
            let owner = secret.owner.as_ref();
            owner.is_some_and(|owner| self.records.contains_key(owner))
        })
    }

    fn unless(&mut self, holds: bool, invariant: &str, name: &str, what: &str) {
        if !holds {
            self.found.push(format!("{invariant}: {name} {what}"));
        }
    }
}

/// Does this verifier accept this plaintext? Asked so often that the answers are kept.
pub fn accepts(verifier: &str, plaintext: &str) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<(String, String), bool>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if known.len() > 10_000 {
            known.clear();
        }
        let question = (verifier.to_owned(), plaintext.to_owned());
        *known.entry(question).or_insert_with(|| {
            match (Verifier::parse(verifier), Secret::parse(plaintext)) {
                (Ok(verifier), Ok(secret)) => verifier.verifies(&secret),
                _ => false,
            }
        })
    })
}
