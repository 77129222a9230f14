//! What has to hold of everything that a run left in the API server, from outside: the invariants
//! I1 to I7, I10 and I11. I8 and I9 take a controller that runs, and I12 is about gateways: that
//! what cannot be read admits nobody is shown elsewhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use keyward::api::{AcceptedVerifier, AccessKey, AccessKeyStatus, KeyState};
use keyward::key::Secret;
use keyward::policy::{Decision, KeyRecord, Known, Presented, decide};
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
        uids: BTreeMap::new(),
        records: BTreeMap::new(),
        attempts: BTreeSet::new(),
        withdrawn: BTreeSet::new(),
        turns: 0,
        consumptions: 0,
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
    /// The uids that the AccessKeys of a name had.
    uids: BTreeMap<String, BTreeSet<String>>,
    /// What was seen of each AccessKey, by its uid.
    records: BTreeMap<String, Record>,
    /// All verifiers that were ever committed to.
    attempts: BTreeSet<String>,
    /// Plaintexts whose Secrets were deleted as `deleteAfter` asks.
    withdrawn: BTreeSet<String>,
    /// How often a status said something that is an Event.
    turns: usize,
    /// How often that was that the Secret is gone.
    consumptions: usize,
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
    status: AccessKeyStatus,
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
            What::SecretGone => {
                self.hear_end(name, &scene);
                scene.secret = None;
            }
        }
        if let Some(key) = &scene.key {
            self.is_in_order(name, key, scene.secret.as_deref());
            self.is_gone_if_consumed(name, key, scene.secret.as_deref());
            self.is_decided_rightly(name, key, &scene);
        }
        self.names.insert(name.clone(), scene);
    }

    fn hear_key(&mut self, name: &str, key: &AccessKey) {
        let text = serde_json::to_string(key).expect("JSON");
        self.unless(!looks_like_a_secret(&text), "I7", name, "holds plaintext");
        let uid = key.uid().unwrap_or_default();
        let uids = self.uids.entry(name.to_owned()).or_default();
        uids.insert(uid.clone());
        let Some(status) = &key.status else {
            let is_new = !self.records.contains_key(&uid);
            self.unless(is_new, "I5", name, "lost its status");
            return;
        };
        let record = self.records.entry(uid).or_default();
        let before = record.clone();
        record.key.clone_from(&status.key);
        record.last.clone_from(&status.verifiers);
        record.status.clone_from(status);
        self.turns += turns(&before.status, status);
        self.consumptions += usize::from(becomes_consumed(&before.status, status));
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
        self.is_consumed_once(name, &before.status, status);
        self.is_asked_for(name, key, status);
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
        let rightly = stalled.is_none_or(|stalled| {
            let said = ["AdmissionRefused", "InvalidSpec"].contains(&stalled.reason.as_str());
            said && self.case.refusals > 0
        });
        self.unless(rightly, "I9", name, "calls a person");
    }

    /// That a Secret is gone is recorded at one time, for as long as the status names it.
    fn is_consumed_once(&mut self, name: &str, before: &AccessKeyStatus, now: &AccessKeyStatus) {
        let named = before.secret.iter().zip(&now.secret);
        let mut named = named.filter(|(before, now)| before.uid == now.uid);
        let stays = named.all(|(before, now)| {
            before.consumed_at.is_none() || before.consumed_at == now.consumed_at
        });
        self.unless(stays, "I3", name, "says anew whether its Secret is gone");
    }

    /// Nothing is issued, and so no Secret made again, but for a higher revision, or by a schedule.
    fn is_asked_for(&mut self, name: &str, key: &AccessKey, status: &AccessKeyStatus) {
        let open = status.issuance.as_ref().map(|open| open.revision);
        let issued = status.revision.max(open);
        let rotation = &key.spec.rotation;
        let asked = rotation.every.is_some() || issued <= Some(rotation.revision);
        self.unless(asked, "P2", name, "is issued more often than is asked for");
    }

    /// By the end of its time, or at once by an overlap of nothing, for a newer one.
    fn may_go(&self, key: &AccessKey, known: &AcceptedVerifier) -> bool {
        let over = known.valid_until.as_ref();
        let status = key.status.iter().flat_map(|status| &status.verifiers);
        let is_followed = status.into_iter().any(|now| now.revision > known.revision);
        is_followed
            && (over.is_some_and(|until| until.0 <= self.case.end)
                || key.spec.rotation.overlap.0.is_zero())
    }

    fn hear_secret(&mut self, name: &str, scene: &Scene, secret: &Stored) {
        let mut attempts = self.attempts.iter();
        let committed = attempts.any(|verifier| accepts(verifier, &secret.plaintext));
        self.unless(committed, "I2", name, "was published before its commit");
        let status = scene.key.as_ref().and_then(|key| key.status.as_ref());
        // What was taken before it was accepted may come again: the controller has not seen it gone.
        let is_open = status.is_some_and(|status| {
            let mut attempts = status.issuance.iter().flat_map(|open| &open.attempts);
            attempts.any(|attempt| accepts(&attempt.verifier, &secret.plaintext))
        });
        let mut earlier = scene.secrets.iter();
        let was_there = earlier.any(|old| old.plaintext == secret.plaintext);
        let returned = scene.secret.is_none() && was_there && !is_open;
        self.unless(!returned, "P2", name, "is back after it was gone");
        let Some(old) = &scene.secret else { return };
        self.unless(old.owner == secret.owner, "I4", name, "has another owner");
        let rotates = status.is_some_and(|status| {
            let mut verifiers = status.verifiers.iter();
            let old = verifiers.any(|known| accepts(&known.verifier, &old.plaintext));
            old && status.issuance.is_some()
        });
        self.unless(rotates, "P2", name, "was replaced without a rotation");
    }

    /// The Secret is deleted. If its secret counts, a user took it, or it was delivered so long ago as `deleteAfter` says:
    /// that of a newer revision was not.
    fn hear_end(&mut self, name: &str, scene: &Scene) {
        let (Some(secret), Some(key)) = (&scene.secret, &scene.key) else {
            return;
        };
        let taken = self.case.taken.contains(&secret.plaintext);
        let goes_with_all = self.case.workload == Workload::EndNamespace;
        let status = key.status.clone().unwrap_or_default();
        let counts = secret.owner == key.uid() && counts(&status, secret);
        if taken || goes_with_all || !counts {
            return;
        }
        let rightly = is_delivered(&status, secret) && self.is_to_be_gone(key);
        self.unless(
            rightly,
            "P2",
            name,
            "is deleted, and was not to be withdrawn",
        );
        self.withdrawn.insert(secret.plaintext.clone());
    }

    fn is_to_be_gone(&self, key: &AccessKey) -> bool {
        withdrawal(key).is_some_and(|at| at <= self.case.end)
    }

    /// A Secret that is there is not said to be gone.
    fn is_gone_if_consumed(&mut self, name: &str, key: &AccessKey, secret: Option<&Stored>) {
        let status = key.status.clone().unwrap_or_default();
        let is_named = |secret: &Stored| {
            status
                .secret
                .as_ref()
                .is_some_and(|named| named.uid == secret.uid)
        };
        let gone = !is_consumed(&status) || !secret.is_some_and(is_named);
        self.unless(gone, "I3", name, "says that a Secret is gone that is there");
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

    /// Invariants I6 and I10: what a gateway would decide by this version, at the begin and at the end
    /// of the run.
    fn is_decided_rightly(&mut self, name: &str, key: &AccessKey, scene: &Scene) {
        let record = KeyRecord::of(key).ok().flatten();
        for (secret, now) in scene
            .secrets
            .iter()
            .flat_map(|secret| [(secret, self.case.start), (secret, self.case.end)])
        {
            let presented = Presented {
                namespace: "",
                key: &secret.key,
                device_id: "pump",
                secret: &secret.plaintext,
                source: None,
            };
            let known = Known {
                key: record.as_ref(),
                ..Known::default()
            };
            let decision = decide(known, &presented, now, |known, _| {
                accepts(known.hashed.verifier.as_str(), &secret.plaintext)
            });
            let allowed = matches!(decision, Decision::Allow(_));
            let right = self.is_to_be_allowed(key, secret, now);
            let what = format!("decides {decision:?} where {right} is right");
            self.unless(allowed == right, "I6", name, &what);
        }
    }

    fn is_to_be_allowed(&self, key: &AccessKey, secret: &Stored, now: Timestamp) -> bool {
        let restrictions = &key.spec.restrictions;
        let admits = restrictions.all_devices == Some(true)
            || restrictions
                .device_ids
                .iter()
                .flatten()
                .any(|id| id == "pump");
        let spec = &key.spec;
        let has_begun = spec.not_before.as_ref().is_none_or(|begin| begin.0 <= now);
        let is_over = spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
        let status = key.status.clone().unwrap_or_default();
        let valid = |known: &&AcceptedVerifier| {
            let until = known.valid_until.as_ref();
            until.is_none_or(|until| until.0 > now)
        };
        let mut verifiers = status.verifiers.iter().filter(valid);
        let own = secret.owner == key.uid() || self.case.workload == Workload::Restore;
        let accepted = verifiers.any(|known| accepts(&known.verifier, &secret.plaintext));
        own && admits
            && has_begun
            && !is_over
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
        if self.is_to_be_gone(key) {
            let status = key.status.clone().unwrap_or_default();
            let is_over = scene.secret.is_none() && is_consumed(&status);
            self.unless(is_over, "I9", name, "has a Secret that was to be withdrawn");
        }
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
                // See Run::was_collected.
                let restored = self.case.workload == Workload::Restore;
                let collected = |secret: &Arc<Stored>| {
                    restored && secret.owner != key.uid() && fits(&secret.plaintext)
                };
                let mut gone = self.case.taken.iter().chain(&self.withdrawn);
                let taken = gone.any(fits) || scene.secrets.iter().any(collected);
                self.unless(taken, "I2", name, "lost a secret that nobody took");
            }
        }
    }

    /// Invariants I4, I7 and I11: no Secret is replaced or deleted but by its uid and version, and
    /// only if it is ours; plaintext is sent in Secrets only; an Event for each secret that was
    /// accepted and for each turn, at most.
    fn asked_rightly(&mut self) {
        let (mut events, mut consumed) = (0, 0);
        for asked in &self.case.asked {
            events += usize::from(asked.is_about_event() && asked.method == Method::POST);
            consumed += usize::from(is_event(asked, "Consumed"));
            if !asked.path.contains("/secrets") {
                let text = String::from_utf8_lossy(&asked.body);
                let holds = looks_like_a_secret(&text) || looks_like_a_secret(&asked.path);
                self.unless(!holds, "I7", &asked.path, "was sent plaintext");
            } else if [Method::PUT, Method::DELETE].contains(&asked.method) {
                self.is_asked_of_ours(asked);
            }
        }
        let accepted = self.records.values().map(|record| record.accepted.len());
        let accepted: usize = accepted.sum();
        let restored = self.case.workload == Workload::Restore;
        let enough = restored || events <= accepted + self.turns + self.case.refusals;
        let turns = self.turns;
        let what = format!("{events} Events about {accepted} secrets and {turns} turns");
        self.unless(enough, "I11", "an AccessKey", &what);
        let gone = self.consumptions;
        let what = format!("{consumed} Events about {gone} Secrets that are gone");
        self.unless(consumed <= gone, "I11", "an AccessKey", &what);
    }

    fn is_asked_of_ours(&mut self, asked: &Asked) {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let at = match asked.method {
            Method::PUT => &body["metadata"],
            _ => &body["preconditions"],
        };
        let (Some(uid), Some(version)) = (at["uid"].as_str(), at["resourceVersion"].as_str())
        else {
            self.unless(
                false,
                "I4",
                &asked.path,
                "is written without a precondition",
            );
            return;
        };
        let mut name = asked
            .path
            .split(['/', '?'])
            .skip_while(|part| *part != "secrets");
        let name = name.nth(1).unwrap_or_default();
        let uids = self.uids.get(name).cloned().unwrap_or_default();
        let secrets = self.names.get(name).into_iter();
        let ours = secrets.flat_map(|scene| &scene.secrets).any(|secret| {
            let owner = secret.owner.as_ref();
            (&*secret.uid, &*secret.version) == (uid, version)
                && owner.is_some_and(|owner| uids.contains(owner))
        });
        self.unless(ours, "I4", &asked.path, "is written, and is not ours");
    }

    fn unless(&mut self, holds: bool, invariant: &str, name: &str, what: &str) {
        if !holds {
            self.found.push(format!("{invariant}: {name} {what}"));
        }
    }
}

/// What one status says that is an Event, and the one before did not: another state, or the end of the
/// present one soon; a rotation that begins or is left out, a verifier or a Secret that is gone.
fn turns(before: &AccessKeyStatus, after: &AccessKeyStatus) -> usize {
    let told = |status: &AccessKeyStatus| {
        let mut conditions = status.conditions.iter();
        let active = conditions.find(|condition| condition.type_ == "Active");
        (status.state, active.map(|active| active.reason.clone()))
    };
    let another_state = before.state.is_some() && told(before) != told(after);
    let begins = before.issuance.is_none() && after.issuance.is_some();
    let moved = before.next_rotation.is_some() && before.next_rotation != after.next_rotation;
    let gone = before.verifiers.iter().any(|old| {
        let mut kept = after.verifiers.iter();
        !kept.any(|kept| kept.verifier == old.verifier)
    });
    let turns = [
        another_state,
        begins && !after.verifiers.is_empty(),
        moved && after.issuance.is_none(),
        gone,
        becomes_consumed(before, after),
    ];
    turns.into_iter().filter(|turn| *turn).count()
}

fn becomes_consumed(before: &AccessKeyStatus, after: &AccessKeyStatus) -> bool {
    is_consumed(after) && !is_consumed(before)
}

/// Is the Secret said to be gone in which the key was delivered?
pub fn is_consumed(status: &AccessKeyStatus) -> bool {
    let delivered = status.secret.as_ref();
    delivered.is_some_and(|delivered| delivered.consumed_at.is_some())
}

/// Is what this Secret holds accepted, or may it yet be?
fn counts(status: &AccessKeyStatus, secret: &Stored) -> bool {
    let open = status.issuance.iter().flat_map(|open| &open.attempts);
    let open = open.map(|attempt| &attempt.verifier);
    let accepted = status.verifiers.iter().map(|known| &known.verifier);
    open.chain(accepted)
        .any(|verifier| accepts(verifier, &secret.plaintext))
}

/// Is this the Secret that was delivered last, with what was accepted last?
fn is_delivered(status: &AccessKeyStatus, secret: &Stored) -> bool {
    let named = status.secret.as_ref();
    let newest = status.verifiers.last();
    named.is_some_and(|named| named.uid == secret.uid)
        && newest.is_some_and(|newest| accepts(&newest.verifier, &secret.plaintext))
}

/// Is it asked to say this in an Event, for the first time or again?
fn is_event(asked: &Asked, reason: &str) -> bool {
    let event: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    asked.is_about_event() && event["reason"] == reason
}

/// From when on the Secret that was delivered is to be gone.
pub fn withdrawal(key: &AccessKey) -> Option<Timestamp> {
    let delivered = key.status.as_ref()?.secret.as_ref()?;
    let after = key.spec.secret.delete_after?;
    delivered.published_at.0.checked_add(after.0).ok()
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
