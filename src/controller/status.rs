//! Between an AccessKey's status and the [`Ledger`] that the steps work on, and the conditions that
//! people read.

use std::iter::successors;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sha2::{Digest, Sha256};

use super::existing;
use super::ledger::{Accepted, AttemptId, Issuance, Ledger, Uid, Version};
use super::life::{Life, Phase, SKEW};
use super::report::Verdict;
use super::rotation::Rotation;
use super::turn::EXPIRING_SOON;
use super::view::{Existing, View};
use crate::api::{
    AcceptedVerifier, AccessKey, AccessKeyStatus, Attempt, Binding, Delivery, EffectiveState,
    ExistingKey, KeyState, Unsettled,
};
use crate::conditions;

/// What backup tools leave on an object that they restored.
const RESTORED: &str = "velero.io/restore-name";

/// The AccessKey as the steps see it. None if the API server did not send what every stored object
/// has: name, uid and a numeric resourceVersion.
pub fn view(key: &AccessKey) -> Option<View> {
    let meta = &key.metadata;
    Some(View {
        uid: Uid(meta.uid.as_deref()?.into()),
        version: version(meta.resource_version.as_deref())?,
        deleted: meta.deletion_timestamp.is_some(),
        suspended: key.spec.suspend,
        restored: meta
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(RESTORED)),
        wanted: unsigned(key.spec.rotation.revision),
        rotation: Rotation::of(key),
        news: is_news(key),
        withdrawal: withdrawal(key),
        existing: existing::of(key).map(|existing| match existing {
            Ok(existing) => Existing::Usable(attempt_id(&existing.verifier)),
            Err(_) => Existing::Unusable,
        }),
        ledger: key.status.as_ref().map(ledger).unwrap_or_default(),
    })
}

fn is_news(key: &AccessKey) -> bool {
    let told = key.status.as_ref().map(|status| status.observed_generation);
    told != key.metadata.generation
}

/// From when on the Secret that was delivered, and is not known to be gone, is to be deleted.
fn withdrawal(key: &AccessKey) -> Option<Timestamp> {
    let delivered = key.status.as_ref()?.secret.as_ref()?;
    let after = key.spec.secret.delete_after?;
    let at = delivered.published_at.0.saturating_add(after.0);
    delivered
        .consumed_at
        .is_none()
        .then(|| at.unwrap_or(Timestamp::MAX))
}

/// A resourceVersion as a number, which Kubernetes promises that it is.
pub fn version(text: Option<&str>) -> Option<Version> {
    text?.parse().ok().map(Version)
}

/// The number of the attempt with this verifier: the beginning of a digest, so that it needs no
/// table.
pub fn attempt_id(verifier: &str) -> AttemptId {
    let digest = Sha256::digest(verifier);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    AttemptId(u64::from_be_bytes(first))
}

fn ledger(status: &AccessKeyStatus) -> Ledger {
    let ids = |attempts: &[Attempt]| {
        attempts
            .iter()
            .map(|attempt| attempt_id(&attempt.verifier))
            .collect()
    };
    Ledger {
        uid: status.uid.as_deref().map(|uid| Uid(uid.into())),
        revision: status.revision.map_or(0, unsigned),
        requested: status.rotation_requested.map_or(0, unsigned),
        issuance: status.issuance.as_ref().map(|issuance| Issuance {
            revision: unsigned(issuance.revision),
            attempts: ids(&issuance.attempts),
        }),
        accepted: status.verifiers.iter().map(accepted).collect(),
        unsettled: status
            .unsettled
            .as_ref()
            .map(|unsettled| ids(&unsettled.attempts)),
        secret: status
            .secret
            .as_ref()
            .map(|secret| Uid(secret.uid.as_str().into())),
        next_rotation: status.next_rotation.as_ref().map(|time| time.0),
        consumed: status
            .secret
            .as_ref()
            .is_some_and(|secret| secret.consumed_at.is_some()),
    }
}

fn accepted(verifier: &AcceptedVerifier) -> Accepted {
    Accepted {
        revision: unsigned(verifier.revision),
        attempt: attempt_id(&verifier.verifier),
        at: verifier.issued_at.0,
        until: verifier.valid_until.as_ref().map(|time| time.0),
    }
}

/// The status that says `ledger`. What it says of each attempt is taken from `old`, or from
/// `fresh`, the attempt that this write adds.
pub fn write(
    old: &AccessKeyStatus,
    ledger: &Ledger,
    fresh: Option<&Attempt>,
    now: Timestamp,
) -> AccessKeyStatus {
    let known = Known { old, fresh };
    AccessKeyStatus {
        uid: ledger.uid.as_ref().map(|uid| uid.0.to_string()),
        revision: (ledger.revision > 0).then(|| signed(ledger.revision)),
        rotation_requested: (ledger.requested > 0).then(|| signed(ledger.requested)),
        issuance: ledger
            .issuance
            .as_ref()
            .map(|issuance| crate::api::Issuance {
                revision: signed(issuance.revision),
                attempts: known.attempts(&issuance.attempts),
            }),
        verifiers: ledger
            .accepted
            .iter()
            .filter_map(|accepted| known.accepted(accepted, now))
            .collect(),
        unsettled: ledger.unsettled.as_ref().map(|ids| Unsettled {
            attempts: known.attempts(ids),
        }),
        next_rotation: ledger.next_rotation.map(Time),
        secret: old.secret.clone().map(|secret| Delivery {
            consumed_at: secret.consumed_at.or(ledger.consumed.then_some(Time(now))),
            ..secret
        }),
        ..old.clone()
    }
}

/// The Secret's name, where the Service Binding specification looks for it. It stays when the Secret is gone: whoever binds
/// workloads takes out of their Pods what is named no more, which restarts them, and only they have the secret then.
pub fn binding(status: &AccessKeyStatus) -> Option<Binding> {
    let secret = status.secret.as_ref()?;
    Some(Binding {
        name: secret.name.clone(),
    })
}

/// The status that says `ledger`, in which `existing` was taken over. No check is kept: the secret may
/// be weak, and a check would tell whoever reads it which guesses are worth a hash.
pub fn taken_over(
    old: &AccessKeyStatus,
    ledger: &Ledger,
    existing: &ExistingKey,
    now: Timestamp,
) -> AccessKeyStatus {
    let accepted = ledger.accepted.iter().map(|accepted| AcceptedVerifier {
        revision: signed(accepted.revision),
        verifier: existing.verifier.clone(),
        check: None,
        issued_at: Time(now),
        valid_until: None,
    });
    AccessKeyStatus {
        key: Some(existing.key.clone()),
        verifiers: accepted.collect(),
        ..write(old, ledger, None, now)
    }
}

/// Where the text of an attempt is found.
struct Known<'a> {
    old: &'a AccessKeyStatus,
    fresh: Option<&'a Attempt>,
}

impl Known<'_> {
    fn attempts(&self, ids: &[AttemptId]) -> Vec<Attempt> {
        ids.iter()
            .filter_map(|id| self.attempt(*id))
            .cloned()
            .collect()
    }

    fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        let open = self
            .old
            .issuance
            .iter()
            .flat_map(|issuance| &issuance.attempts);
        let unsettled = self
            .old
            .unsettled
            .iter()
            .flat_map(|unsettled| &unsettled.attempts);
        self.fresh
            .into_iter()
            .chain(open)
            .chain(unsettled)
            .find(|attempt| attempt_id(&attempt.verifier) == id)
    }

    fn accepted(&self, accepted: &Accepted, now: Timestamp) -> Option<AcceptedVerifier> {
        let same = |known: &&AcceptedVerifier| attempt_id(&known.verifier) == accepted.attempt;
        let before = self.old.verifiers.iter().find(same).cloned();
        let verifier = before.or_else(|| self.confirmed(accepted, now))?;
        Some(AcceptedVerifier {
            valid_until: accepted.until.map(Time),
            ..verifier
        })
    }

    fn confirmed(&self, accepted: &Accepted, now: Timestamp) -> Option<AcceptedVerifier> {
        let attempt = self.attempt(accepted.attempt)?;
        Some(AcceptedVerifier {
            revision: signed(accepted.revision),
            verifier: attempt.verifier.clone(),
            check: Some(attempt.check.clone()),
            issued_at: Time(now),
            valid_until: None,
        })
    }
}

/// Says in `status` what people and tools ask: which generation was seen, whether the key is ready,
/// whether it would authenticate, and whether someone has to act.
pub fn tell(status: &mut AccessKeyStatus, key: &AccessKey, verdict: &Verdict, now: Timestamp) {
    let generation = key.metadata.generation.unwrap_or_default();
    let Activity {
        state,
        reason,
        message,
    } = Activity::by(verdict, status).unwrap_or_else(|| Activity::told(status, key, now));
    status.observed_generation = generation;
    status.state = Some(state);
    let mut set = |type_: &str, holds: bool, reason: &str, message: &str| {
        conditions::set(
            &mut status.conditions,
            type_,
            holds,
            reason,
            message,
            generation,
            now,
        );
    };
    set(
        "Ready",
        verdict.is_ready(),
        verdict.reason(),
        &verdict.message(),
    );
    set("Active", state == EffectiveState::Active, reason, &message);
    // Present only while they hold, as kstatus expects of conditions that mean trouble or work.
    for (type_, holds) in [
        ("Reconciling", verdict.is_reconciling()),
        ("Stalled", verdict.is_stalled()),
    ] {
        if holds {
            conditions::set(
                &mut status.conditions,
                type_,
                true,
                verdict.reason(),
                &verdict.message(),
                generation,
                now,
            );
        } else {
            conditions::remove(&mut status.conditions, type_);
        }
    }
}

/// Whether the key may be used, and why.
struct Activity {
    state: EffectiveState,
    reason: &'static str,
    message: String,
}

impl Activity {
    /// Of a key that another AccessKey has.
    fn by(verdict: &Verdict, status: &AccessKeyStatus) -> Option<Activity> {
        let is_beaten = verdict.is_conflict() && !status.verifiers.is_empty();
        is_beaten.then(|| Activity {
            state: EffectiveState::Inactive,
            reason: verdict.reason(),
            message: verdict.message(),
        })
    }

    /// What a status says that another controller wrote, whose clock is ahead, is left: else the two would write in turn
    /// until the clock of this one is there, too.
    fn told(status: &AccessKeyStatus, key: &AccessKey, now: Timestamp) -> Activity {
        let (life, ahead) = (Life::of(key), now.checked_add(SKEW).unwrap_or(now));
        let turns = successors(life.next_turn(now), |turn| life.next_turn(*turn));
        let mut later = turns
            .take_while(|turn| *turn <= ahead)
            .map(|turn| Activity::of(status, key, turn));
        let is_told = status.observed_generation == key.metadata.generation.unwrap_or_default();
        let told = later.find(|later| is_told && later.is_said_by(status));
        told.unwrap_or_else(|| Activity::of(status, key, now))
    }

    fn is_said_by(&self, status: &AccessKeyStatus) -> bool {
        let mut conditions = status.conditions.iter();
        let says =
            |condition: &Condition| condition.type_ == "Active" && condition.reason == self.reason;
        status.state == Some(self.state) && conditions.any(says)
    }

    fn of(status: &AccessKeyStatus, key: &AccessKey, now: Timestamp) -> Activity {
        use EffectiveState::{Active, Expired, Inactive, NotYetValid, Pending};
        let extend = "set a later expiresAt to extend it.";
        let (state, reason, message) = match (key.spec.state, Life::of(key).phase(now)) {
            _ if status.verifiers.is_empty() => {
                (Pending, "NotIssued", "No secret was issued yet.".to_owned())
            }
            (KeyState::Inactive, _) => (
                Inactive,
                "Inactive",
                "Nobody may use the key: its state is Inactive.".to_owned(),
            ),
            (KeyState::Active, Phase::NotYetValid(begin)) => (
                NotYetValid,
                "NotYetValid",
                format!("The key may be used from {begin} on."),
            ),
            (KeyState::Active, Phase::Valid) => (
                Active,
                "Active",
                "The key may be used within its restrictions.".to_owned(),
            ),
            (KeyState::Active, Phase::ExpiringSoon(end)) => (
                Active,
                EXPIRING_SOON,
                format!("The key may be used until {end}: {extend}"),
            ),
            (KeyState::Active, Phase::Expired(end)) => (
                Expired,
                "Expired",
                format!("Nobody may use the key: it expired at {end}; {extend}"),
            ),
        };
        Activity {
            state,
            reason,
            message,
        }
    }
}

fn unsigned(number: i32) -> u32 {
    number.try_into().unwrap_or(0)
}

fn signed(number: u32) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
