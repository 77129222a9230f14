//! What to do next for one AccessKey: the rules of the [crate's documentation](crate) as code.
//! Nothing here talks to anyone.
//!
//! A **run** looks at one AccessKey until it can rest: [`next`] names one [`Step`], someone takes
//! it with one request, and [`Observed::after`] says what is known then. Both are pure, so the
//! controller and a model of it share them.
//!
//! ```text
//! first issue    Commit -> Publish -> Confirm
//! existing key   TakeOver
//! rotation       ReadSecret, ReadSecret (bytes), ReadKey -> Commit -> Publish -> Confirm
//! a skip         ReadSecret, ReadKey -> Schedule
//! a withdrawal   ReadSecret, ReadKey -> Withdraw -> Consume
//! anything else  ReadSecret, ReadSecret (bytes), ReadKey -> decide on that pair
//! ```

use std::time::Duration;

use jiff::Timestamp;

use super::ledger::{AttemptId, MAX_ATTEMPTS, Uid, Version};
use super::memory::{Held, Publish};
use super::observed::{Bytes, Observed, PresentSecret, SecretSeen, Source};
use super::view::{Existing, View};
use crate::clock::{Moment, Now};

/// One thing to do, at most one request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the AccessKey from the API server, not from a cache.
    ReadKey,
    /// Read the Secret: its metadata only, or with its bytes, which only a Secret of ours is asked
    /// for.
    ReadSecret {
        /// With its bytes.
        bytes: bool,
    },
    /// Read the Secret's metadata once more: it fits nothing, and a person is called only if it
    /// stays so.
    Recheck,
    /// Make a new secret and add its verifier as an attempt, by compare-and-swap on the AccessKey.
    Commit {
        /// Attempts to drop: none of their requests can be alive.
        outlived: Vec<AttemptId>,
    },
    /// Write the plaintext of this attempt: create the Secret, or replace exactly the one that was
    /// seen.
    Publish {
        /// The attempt whose plaintext is held.
        attempt: AttemptId,
        /// The Secret to replace; none means create.
        over: Option<(Uid, Version)>,
    },
    /// Accept this attempt, by compare-and-swap on the AccessKey.
    Confirm {
        /// The attempt that the Secret holds.
        attempt: AttemptId,
        /// The Secret.
        secret: Uid,
        /// No other request of this issuance can still be alive, so no sweep is needed.
        settled: bool,
    },
    /// Delete exactly this Secret: it holds an attempt that is never accepted.
    DeleteSecret {
        /// Its uid.
        uid: Uid,
        /// Its resourceVersion.
        version: Version,
    },
    /// Read whether the Secret that was delivered is still there. It may stay unknown.
    Look,
    /// Delete exactly this Secret: the key was delivered in it, as long ago as the spec asks.
    Withdraw {
        /// Its uid.
        uid: Uid,
        /// Its resourceVersion.
        version: Version,
    },
    /// Record that the Secret that was delivered is gone, by compare-and-swap on the AccessKey.
    Consume,
    /// Make this Secret, restored from a backup, belong to the restored AccessKey.
    Adopt {
        /// Its uid.
        uid: Uid,
        /// Its resourceVersion.
        version: Version,
    },
    /// Record that the restored key belongs to the object as it is now.
    Rebind,
    /// Accept the secret of a key that was made elsewhere, by compare-and-swap on the AccessKey.
    TakeOver {
        /// Stands for its verifier.
        attempt: AttemptId,
    },
    /// Clear the mark of [`unsettled`](super::ledger::Ledger::unsettled), by compare-and-swap on the AccessKey as it was
    /// before the sweep.
    ClearMark,
    /// Drop verifiers whose overlap is over.
    Retire,
    /// Say when the next rotation is due by itself, by compare-and-swap on the AccessKey.
    Schedule {
        /// When; none: never.
        next: Option<Timestamp>,
        /// One was due, and is left out: the Secret was taken away (rule 6).
        skips: bool,
    },
    /// Forget what this run found and what is held, and run again later.
    StartOver,
    /// Nothing to do until something changes, or `wake` has passed.
    Rest(Rest),
}

impl Step {
    /// Does it change nothing but what the status says, by compare-and-swap?
    pub(super) fn records(&self) -> bool {
        match self {
            Step::Consume
            | Step::ClearMark
            | Step::Retire
            | Step::Schedule { .. }
            | Step::Rebind
            | Step::TakeOver { .. } => true,
            Step::ReadKey | Step::ReadSecret { .. } | Step::Recheck | Step::Look => false,
            Step::Commit { .. } | Step::Publish { .. } | Step::Confirm { .. } => false,
            Step::DeleteSecret { .. } | Step::Withdraw { .. } | Step::Adopt { .. } => false,
            Step::StartOver | Step::Rest(_) => false,
        }
    }
}

/// Why a run ends, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rest {
    /// What is the case.
    pub situation: Situation,
    /// Look again after this time; none: when something changes.
    pub wake: Option<Duration>,
}

/// What is the case with an AccessKey when a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Situation {
    /// It has a deletionTimestamp, or is gone.
    Deleted,
    /// The cache is behind this process's own writes.
    Behind,
    /// All that was asked for is issued and confirmed.
    Settled,
    /// The spec asks for no work now.
    Suspended,
    /// A backup tool made it and may still write its status.
    AwaitingRestore,
    /// Another process began an issue a moment ago.
    Issuing,
    /// A rotation waits until nothing of the issue before it can still be alive.
    AwaitingSweep,
    /// As many attempts as there may be, and none can be ruled out yet.
    TooManyAttempts,
    /// The Secret belongs to an AccessKey of the same name that is gone: the garbage collector will
    /// take it.
    PredecessorSecret,
    /// A Secret that is not ours has the name.
    SecretExists,
    /// Our Secret holds something that was never issued.
    SecretModified,
    /// The status says that the key was issued, but has no verifier.
    VerifierLost,
    /// Its public key belongs to another AccessKey.
    KeyConflict,
    /// The key that was made elsewhere cannot be taken over.
    NotTakenOver,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Longer than any request can live.
    pub grace: Duration,
    /// How long another process may take for an issue that it opened.
    pub patience: Duration,
    /// How long the cache may be behind before the AccessKey is read live.
    pub lag: Duration,
}

impl Timing {
    /// This grace, and what is fixed.
    pub fn with_grace(grace: Duration) -> Timing {
        Timing {
            grace,
            patience: Duration::from_secs(2),
            lag: Duration::from_secs(5),
        }
    }

    /// How long plaintext lives after its commit (rule 1).
    pub fn plaintext(&self) -> Duration {
        self.grace / 5
    }
}

/// The next step for what is observed. Never waits, never fails.
pub fn next(observed: &Observed, now: Now, timing: &Timing) -> Step {
    if observed.view.deleted {
        return rest(Situation::Deleted, None);
    }
    if observed.is_behind() {
        return catch_up(observed, now.monotonic, timing);
    }
    if let Some(step) = go_straight_on(observed, now.monotonic, timing) {
        return step;
    }
    match errand(observed, now, timing) {
        Errand::None(rest) => Step::Rest(rest),
        Errand::FirstIssue => Step::Commit {
            outlived: Vec::new(),
        },
        Errand::TakeOver(attempt) => Step::TakeOver { attempt },
        Errand::Retire => Step::Retire,
        Errand::Schedule(next) => Step::Schedule { next, skips: false },
        Errand::Look => Step::Look,
        Errand::Consume => Step::Consume,
        Errand::Withdraw => withdraw(observed),
        Errand::Inspect => read_pair(observed).unwrap_or_else(|| decide(observed, now, timing)),
        Errand::Sweep => read_pair(observed).unwrap_or_else(|| sweep(observed, timing)),
    }
}

fn rest(situation: Situation, wake: Option<Duration>) -> Step {
    Step::Rest(Rest { situation, wake })
}

/// Rule 5: does nothing while the cache is behind, and reads live when that lasts.
fn catch_up(observed: &Observed, now: Moment, timing: &Timing) -> Step {
    let waited = observed
        .memory
        .behind_since
        .map_or(Duration::ZERO, |since| now.since(since));
    match timing.lag.saturating_sub(waited) {
        Duration::ZERO => Step::ReadKey,
        left => rest(Situation::Behind, Some(left)),
    }
}

/// The straight path: after a clean commit publish, after a clean publish confirm, without a read
/// between.
fn go_straight_on(observed: &Observed, now: Moment, timing: &Timing) -> Option<Step> {
    if observed.source != Source::Answer {
        return None;
    }
    let held = observed.memory.held.as_ref()?;
    match &held.publish {
        Publish::Unsent => observed
            .publishable(now, timing)
            .map(|attempt| publish(observed, attempt)),
        Publish::Clean(secret) => observed
            .ledger()
            .tries(held.attempt)
            .then(|| confirm(observed, held.attempt, secret)),
        Publish::Unclear => None,
    }
}

/// Replaces nothing but an older revision's secret: what a first issue saw, before the AccessKey
/// turned out to be new or its status lost, is not ours.
fn publish(observed: &Observed, attempt: AttemptId) -> Step {
    let over = match &observed.secret {
        Some(SecretSeen::Present(secret)) => match secret.bytes {
            Bytes::Hold(Some(holds)) if observed.ledger().is_older(holds) => {
                Some((secret.uid.clone(), secret.version))
            }
            _ => None,
        },
        Some(SecretSeen::Absent(_)) | None => None,
    };
    Step::Publish { attempt, over }
}

/// Rule 4: nothing else can be alive if the issuance had one attempt and its publish was answered
/// cleanly.
fn confirm(observed: &Observed, attempt: AttemptId, secret: &Uid) -> Step {
    let clean = |held: &Held| held.attempt == attempt && matches!(held.publish, Publish::Clean(_));
    let settled =
        observed.ledger().attempts().len() == 1 && observed.memory.held.as_ref().is_some_and(clean);
    Step::Confirm {
        attempt,
        secret: secret.clone(),
        settled,
    }
}

/// What there is to do for an AccessKey, before the Secret is looked at.
enum Errand {
    None(Rest),
    FirstIssue,
    TakeOver(AttemptId),
    Inspect,
    Sweep,
    Retire,
    Schedule(Option<Timestamp>),
    Look,
    Consume,
    Withdraw,
}

impl Errand {
    fn none(situation: Situation, wake: Option<Duration>) -> Errand {
        Errand::None(Rest { situation, wake })
    }
}

fn errand(observed: &Observed, now: Now, timing: &Timing) -> Errand {
    let view = &observed.view;
    let until_sweep = observed.until_sweep(now.monotonic, timing);
    if view.ledger.issuance.is_some() {
        return finish(observed, now.monotonic, timing);
    }
    if observed.holds_dead().is_some() {
        return Errand::Inspect;
    }
    if let Some(left) = until_restored(observed, now.monotonic, timing) {
        return Errand::none(Situation::AwaitingRestore, Some(left));
    }
    if observed.beaten {
        return Errand::none(Situation::KeyConflict, None);
    }
    if view.suspended {
        return Errand::none(Situation::Suspended, None);
    }
    if view.is_moved() {
        return Errand::Inspect;
    }
    let next = view.next_rotation(now.wall);
    let is_moved = !view.is_asked() && next != view.ledger.next_rotation;
    let until_movable = is_moved.then(|| observed.until_movable(now.monotonic, timing));
    if until_movable == Some(Duration::ZERO) {
        return Errand::Schedule(next);
    }
    match until_sweep {
        Some(Duration::ZERO) => return Errand::Sweep,
        Some(left) if view.is_due(now.wall) => {
            return Errand::none(Situation::AwaitingSweep, Some(left));
        }
        _ => {}
    }
    // By a time that is wrong, nothing is due.
    if let Some(left) = until_movable.filter(|_| view.is_due(now.wall)) {
        return Errand::none(Situation::Settled, Some(left));
    }
    if view.is_due(now.wall) {
        return match view.existing {
            _ if !view.ledger.is_blank() => Errand::Inspect,
            None => Errand::FirstIssue,
            Some(Existing::Usable(attempt)) => Errand::TakeOver(attempt),
            Some(Existing::Unusable) => Errand::none(Situation::NotTakenOver, None),
        };
    }
    if view.ledger.accepted.is_empty() {
        return Errand::none(Situation::VerifierLost, None);
    }
    let until_retirement = view.ledger.next_retirement().map(|end| until(end, now));
    // What may still turn up finds the name taken as long as the Secret is there.
    let withdrawal = view.withdrawal.filter(|_| until_sweep.is_none());
    let until_withdrawal = withdrawal.map(|at| until(at, now));
    match until_retirement {
        Some(Duration::ZERO) => Errand::Retire,
        _ if until_withdrawal == Some(Duration::ZERO) => Errand::Withdraw,
        _ if view.news && view.has_delivered() && !observed.has_looked() => Errand::Look,
        _ if observed.misses_delivered() => Errand::Consume,
        _ => {
            let next = view.ledger.next_rotation;
            let until_rotation = next.filter(|next| *next > now.wall);
            let until_rotation = until_rotation.map(|next| until(next, now));
            let waits = [
                until_retirement,
                until_sweep,
                until_rotation,
                until_withdrawal,
                until_movable,
            ];
            Errand::none(Situation::Settled, waits.into_iter().flatten().min())
        }
    }
}

fn until(end: Timestamp, now: Now) -> Duration {
    Duration::try_from(end.duration_since(now.wall)).unwrap_or(Duration::ZERO)
}

/// An issue under way is finished; one that another process opened a moment ago is left to it for
/// that moment.
fn finish(observed: &Observed, now: Moment, timing: &Timing) -> Errand {
    let ages = observed
        .ledger()
        .attempts()
        .iter()
        .map(|attempt| observed.memory.age_of(*attempt, now));
    let idle = ages.min().unwrap_or(Duration::MAX);
    match timing.patience.saturating_sub(idle) {
        left if left > Duration::ZERO && observed.memory.held.is_none() => {
            Errand::none(Situation::Issuing, Some(left))
        }
        _ => Errand::Inspect,
    }
}

/// Rule 8: backup tools create first and write the status later.
fn until_restored(observed: &Observed, now: Moment, timing: &Timing) -> Option<Duration> {
    let (_, seen) = observed.memory.object.as_ref()?;
    let left = timing.grace.saturating_sub(now.since(*seen));
    (observed.view.restored && observed.ledger().is_blank() && left > Duration::ZERO)
        .then_some(left)
}

/// Rule 2: the Secret first (its bytes only if it is ours), *then* the AccessKey, live. None once
/// both are read.
fn read_pair(observed: &Observed) -> Option<Step> {
    match &observed.secret {
        None => Some(Step::ReadSecret { bytes: false }),
        Some(SecretSeen::Present(secret))
            if observed.view.owns(secret) && secret.bytes == Bytes::Unread =>
        {
            Some(Step::ReadSecret { bytes: true })
        }
        Some(_) if observed.source != Source::Live => Some(Step::ReadKey),
        Some(_) => None,
    }
}

/// The Secret first and *then* the AccessKey, live, which tells that nothing newer is in it. If that has changed
/// meanwhile, the Secret may have been read before it was made.
fn withdraw(observed: &Observed) -> Step {
    match (&observed.secret, observed.source) {
        (None, _) => Step::ReadSecret { bytes: false },
        (Some(_), Source::Cache | Source::Answer) => Step::ReadKey,
        (Some(_), Source::Live) if !observed.has_looked() => Step::StartOver,
        (Some(_), Source::Live) => match observed.delivered() {
            Some(secret) => Step::Withdraw {
                uid: secret.uid.clone(),
                version: secret.version,
            },
            None => Step::Consume,
        },
    }
}

/// Rule 2, in its order, on the pair that was read.
fn decide(observed: &Observed, now: Now, timing: &Timing) -> Step {
    let view = &observed.view;
    let present = match &observed.secret {
        Some(SecretSeen::Present(secret)) => Some(secret),
        Some(SecretSeen::Absent(_)) | None => None,
    };
    let ours = present.filter(|secret| view.owns(secret));
    if let Some(dead) = observed.holds_dead() {
        return take_back(ours, dead);
    }
    if view.ledger.issuance.is_none() && view.is_moved() {
        return take_over(view, ours);
    }
    if view.ledger.issuance.is_none() && !view.is_due(now.wall) {
        return rest(Situation::Settled, None);
    }
    let scheduled = view.ledger.issuance.is_none() && !view.is_asked();
    // Else the Secret may have been read before it was made, or before it was taken away.
    if scheduled && observed.remembered != Some(view.version) {
        return Step::StartOver;
    }
    match (present, ours) {
        (None, _) if scheduled => skip(view, now),
        (None, _) => write(observed, now.monotonic, timing),
        (Some(foreign), None) if foreign.namesake => rest(Situation::PredecessorSecret, None),
        (Some(_), None) => rest(Situation::SecretExists, None),
        (Some(_), Some(secret)) => match secret.bytes {
            Bytes::Hold(Some(attempt)) if view.ledger.tries(attempt) => {
                confirm(observed, attempt, &secret.uid)
            }
            Bytes::Hold(Some(attempt)) if view.ledger.is_older(attempt) => {
                write(observed, now.monotonic, timing)
            }
            Bytes::Settled if view.ledger.accepted.is_empty() => {
                rest(Situation::SecretExists, None)
            }
            Bytes::Settled => rest(Situation::SecretModified, None),
            Bytes::Hold(_) | Bytes::Read | Bytes::Unread => Step::Recheck,
        },
    }
}

/// Rule 6: a schedule makes no Secret again that was taken away.
fn skip(view: &View, now: Now) -> Step {
    let newest = view.ledger.newest();
    Step::Schedule {
        next: view.rotation.after_skip(newest, now.wall),
        skips: true,
    }
}

/// A dead attempt of ours: if the Secret holds it, the Secret goes.
fn take_back(ours: Option<&PresentSecret>, dead: AttemptId) -> Step {
    match ours {
        Some(secret) if secret.bytes == Bytes::Hold(Some(dead)) => delete(secret),
        _ => Step::StartOver,
    }
}

fn delete(secret: &PresentSecret) -> Step {
    Step::DeleteSecret {
        uid: secret.uid.clone(),
        version: secret.version,
    }
}

/// Rule 8: a restored key keeps its Secret if that still holds an accepted secret; otherwise it
/// counts as consumed.
fn take_over(view: &View, ours: Option<&PresentSecret>) -> Step {
    match ours {
        Some(PresentSecret {
            uid,
            version,
            owner,
            bytes: Bytes::Hold(Some(attempt)),
            ..
        }) if owner.as_ref() != Some(&view.uid) && view.ledger.accepts(*attempt) => Step::Adopt {
            uid: uid.clone(),
            version: *version,
        },
        _ => Step::Rebind,
    }
}

/// Publishes the plaintext at hand, or commits to a new secret first.
fn write(observed: &Observed, now: Moment, timing: &Timing) -> Step {
    if let Some(attempt) = observed.publishable(now, timing) {
        return publish(observed, attempt);
    }
    let outlived = outlived(observed, timing);
    if observed.ledger().attempts().len() - outlived.len() >= MAX_ATTEMPTS {
        return rest(Situation::TooManyAttempts, None);
    }
    Step::Commit { outlived }
}

/// The attempts that were older than the grace when the Secret was read and held none of them:
/// nothing of theirs can turn up. That it was read absent (rule 3) is the case of a first issue; of
/// a rotation, that it held an older secret.
fn outlived(observed: &Observed, timing: &Timing) -> Vec<AttemptId> {
    let Some(at) = observed.secret.as_ref().map(SecretSeen::at) else {
        return Vec::new();
    };
    let attempts = observed.ledger().attempts().iter().copied();
    attempts
        .filter(|attempt| observed.memory.age_of(*attempt, at) >= timing.grace)
        .collect()
}

/// Rule 4, on the pair that was read: only if the AccessKey did not change while the Secret was
/// read, and that not for another reason before the grace was over.
fn sweep(observed: &Observed, timing: &Timing) -> Step {
    let at = observed.secret.as_ref().map(SecretSeen::at);
    let until_sweep = at.and_then(|at| observed.until_sweep(at, timing));
    if !observed.has_looked() || until_sweep != Some(Duration::ZERO) {
        return Step::StartOver;
    }
    let stray = |attempt: &AttemptId| {
        observed
            .ledger()
            .unsettled
            .iter()
            .flatten()
            .any(|lost| lost == attempt)
    };
    match &observed.secret {
        Some(SecretSeen::Present(secret)) if observed.view.owns(secret) => match &secret.bytes {
            Bytes::Hold(Some(attempt)) if stray(attempt) => delete(secret),
            _ => Step::ClearMark,
        },
        _ => Step::ClearMark,
    }
}

#[cfg(test)]
mod tests;
