//! What a mutant does otherwise than the product, around the product's own `next` and `after`.

use std::borrow::Cow;
use std::ops::ControlFlow::{self, Break};
use std::time::Duration;

use keyward::clock::{Moment, Now};
use keyward::controller::ledger::{AttemptId, Ledger, Uid, Version};
use keyward::controller::memory::Memory;
use keyward::controller::observed::{Answer, Bytes, Observed, PresentSecret, SecretSeen, Source};
use keyward::controller::step::{Rest, Situation, Step, Timing, next};
use keyward::controller::view::{Existing, View};

use crate::mutant::Mutant;
use crate::process::{Run, verify};
use crate::server::{Purpose, StatusWrite, Stored, Write};
use crate::world::{EVERY, TAKEN_OVER};

impl Mutant {
    pub fn next(self, observed: &Observed, now: Now, timing: &Timing) -> Step {
        let again = |observed: Observed| next(&observed, now, timing);
        match self {
            Mutant::None => next(observed, now, timing),
            Mutant::PlaintextLivesOn => again(with_fresh_plaintext(observed, now.monotonic)),
            Mutant::AgeCountsUntilTheCommit => again(read_just_now(observed, now.monotonic)),
            Mutant::NextRevisionBeforeSweep if is_due(&observed.view) => {
                again(without_mark(observed, now.monotonic))
            }
            Mutant::DueIsIgnored => again(as_if_inactive(observed)),
            Mutant::RemovedScheduleGoesOn => again(with_schedule(observed)),
            Mutant::SweepWithoutGrace if is_marked(observed) => {
                let grace = Duration::ZERO;
                next(observed, now, &Timing { grace, ..*timing })
            }
            _ => match (self, next(observed, now, timing)) {
                (Mutant::DeadIsKept, Step::DeleteSecret { .. } | Step::StartOver)
                    if has_looked(observed) =>
                {
                    again(without_dead(observed))
                }
                (Mutant::ExistingIsIssued, Step::TakeOver { .. }) => {
                    again(with_existing(observed, None))
                }
                (Mutant::ReplacedIsTakenOver, step) if rests(&step, &[Situation::NotTakenOver]) => {
                    let usable = Existing::Usable(TAKEN_OVER);
                    again(with_existing(observed, Some(usable)))
                }
                (Mutant::NoSecondLook, Step::Recheck) => again(looked_twice(observed)),
                (Mutant::NothingDueGoesOn, step) if is_settled(&step) && has_looked(observed) => {
                    again(with_more_wanted(observed))
                }
                (Mutant::ConsumedIsMadeAgain, step) if is_settled(&step) => {
                    match again(with_more_wanted(observed)) {
                        Step::Commit { .. } if seen(observed).is_some() => step,
                        more => more,
                    }
                }
                (Mutant::ScheduleMakesConsumed, Step::Schedule { skips: true, .. })
                | (Mutant::DueTimeIsServedTwice, Step::Schedule { skips: false, .. }) => {
                    again(with_more_wanted(observed))
                }
                (Mutant::StaleCacheIsBelieved, step) if rests(&step, &[Situation::Behind]) => {
                    let mut believed = observed.clone();
                    believed.source = Source::Live;
                    again(believed)
                }
                (_, step) => self.instead(observed, step, now.monotonic),
            },
        }
    }

    /// Another step than the product's.
    fn instead(self, observed: &Observed, step: Step, now: Moment) -> Step {
        let ledger = &observed.view.ledger;
        let secret = seen(observed);
        let held = observed.memory.held.as_ref();
        match (self, step) {
            (Mutant::KeyIsReadFirst, Step::ReadSecret { bytes: false })
                if observed.source != Source::Live =>
            {
                Step::ReadKey
            }
            (Mutant::DeadTakesAll, Step::StartOver) if held.is_some() => match secret {
                Some(secret) if is_ours(observed, secret) => delete(secret),
                _ => Step::StartOver,
            },
            (Mutant::AbsentIsLeft, Step::Commit { .. } | Step::Publish { .. })
                if is_absent(observed) =>
            {
                settled()
            }
            (Mutant::ForeignIsReplaced, step)
                if rests(
                    &step,
                    &[Situation::PredecessorSecret, Situation::SecretExists],
                ) && secret.is_some_and(|secret| secret.bytes == Bytes::Unread) =>
            {
                replace(observed, now)
            }
            (Mutant::UnknownIsReplaced, Step::Recheck) => replace(observed, now),
            (
                Mutant::ForeignIsReplaced | Mutant::UnknownIsReplaced | Mutant::FirstIssueReplaces,
                Step::Publish {
                    attempt,
                    over: None,
                },
            ) => publish_over(observed, attempt),
            (Mutant::OnlyOwnIsConfirmed, Step::Confirm { attempt, .. })
                if held.is_none_or(|held| held.attempt != attempt) =>
            {
                Step::Recheck
            }
            (Mutant::OldSecretStays, Step::Commit { .. } | Step::Publish { .. })
                if secret.is_some() =>
            {
                Step::Recheck
            }
            (Mutant::YoungIsDroppedIfAbsent, Step::Commit { .. }) if is_absent(observed) => {
                Step::Commit {
                    outlived: ledger.attempts().to_vec(),
                }
            }
            (Mutant::YoungIsDroppedIfOlder, Step::Commit { .. }) if secret.is_some() => {
                Step::Commit {
                    outlived: ledger.attempts().to_vec(),
                }
            }
            (
                _,
                Step::Confirm {
                    attempt,
                    secret,
                    settled,
                },
            ) => Step::Confirm {
                settled: self.leaves_no_mark(observed, attempt, settled),
                attempt,
                secret,
            },
            (Mutant::SweepForgetsTheVersion, Step::StartOver) if is_marked(observed) => {
                sweep(observed)
            }
            (Mutant::SweepTakesAll, Step::ClearMark) => match secret {
                Some(secret) if is_ours(observed, secret) => delete(secret),
                _ => Step::ClearMark,
            },
            (Mutant::SweepTakesNothing, Step::DeleteSecret { .. }) if is_marked(observed) => {
                Step::ClearMark
            }
            (Mutant::WithdrawnWithoutTheKey, Step::ReadKey)
                if observed.view.withdrawal.is_some() =>
            {
                secret.map_or(Step::ReadKey, withdraw)
            }
            (Mutant::UnseenIsConsumed, Step::ReadSecret { bytes: false })
                if observed.view.withdrawal.is_some() && ledger.issuance.is_none() =>
            {
                Step::Consume
            }
            (Mutant::ScheduleSkipsAll, Step::Commit { .. }) if is_scheduled(observed) => {
                skip(observed)
            }
            (Mutant::ScheduleForgetsTheVersion, Step::StartOver)
                if is_scheduled(observed) && has_looked(observed) =>
            {
                match secret {
                    Some(_) => Step::Commit {
                        outlived: Vec::new(),
                    },
                    None => skip(observed),
                }
            }
            (Mutant::RotationCommitsAtOnce, Step::ReadSecret { bytes: false })
                if is_due(&observed.view) && ledger.issuance.is_none() && held.is_none() =>
            {
                Step::Commit {
                    outlived: Vec::new(),
                }
            }
            (_, step) => step,
        }
    }

    fn leaves_no_mark(self, observed: &Observed, attempt: AttemptId, product: bool) -> bool {
        use keyward::controller::memory::Publish;
        let held = observed.memory.held.as_ref();
        match self {
            Mutant::NoMark => true,
            Mutant::NoMarkAfterSeveralAttempts => held.is_some_and(|held| {
                held.attempt == attempt && matches!(held.publish, Publish::Clean(_))
            }),
            Mutant::NoMarkAfterUncleanPublish => observed.view.ledger.attempts().len() == 1,
            _ => product,
        }
    }

    pub fn after(
        self,
        run: Run,
        step: &Step,
        answer: Answer,
        now: Moment,
    ) -> ControlFlow<Memory, Observed> {
        let Run {
            observed,
            read,
            sent,
        } = run;
        let held = observed.memory.held.clone();
        let answer = self.believed(&observed, sent.as_ref(), answer);
        let committed = matches!(answer, Answer::Committed(..));
        let mut after = observed.after(step, answer, now);
        match (self, step, &mut after) {
            (Mutant::PlaintextStaysAfterAFailedCommit, Step::Commit { .. }, Break(memory))
                if !committed =>
            {
                memory.held = held;
            }
            (Mutant::KeyIsReadFirst, Step::ReadSecret { .. }, ControlFlow::Continue(observed)) => {
                hold_against_the_key_read_before(observed, read)
            }
            _ => {}
        }
        after
    }

    /// What it takes an answer for.
    fn believed(self, observed: &Observed, sent: Option<&(Step, Write)>, answer: Answer) -> Answer {
        match (self, sent, &answer) {
            (
                Mutant::PublishAfterUnknownCommit,
                Some((
                    _,
                    Write::Status(StatusWrite {
                        purpose: Purpose::Commit(attempt),
                        ledger,
                        ..
                    }),
                )),
                Answer::Failed,
            ) => {
                let ledger = ledger.clone();
                let view = View {
                    ledger,
                    ..observed.view.clone()
                };
                Answer::Committed(view, *attempt)
            }
            (Mutant::UncleanPublishIsBelieved, Some((Step::Publish { .. }, _)), Answer::Failed) => {
                Answer::Published(Uid("any".into()), Version(0))
            }
            _ => answer,
        }
    }

    /// The AccessKey that a read finds.
    pub fn live<'a>(self, key: &'a Option<View>, observed: &'a Observed) -> Option<&'a View> {
        match self {
            Mutant::KeyIsReadFromTheCache => Some(&observed.view),
            _ => key.as_ref(),
        }
    }

    /// The owner that a read finds.
    pub fn owner(self, secret: &Stored, observed: &Observed) -> Option<Uid> {
        match self {
            Mutant::EverySecretIsOurs => Some(observed.view.uid.clone()),
            _ => secret.owner.clone(),
        }
    }

    /// A due time that is not cleared by the commit stays, and the confirm finds it there.
    pub fn with_due_time(self, purpose: Purpose, before: &Ledger, after: Ledger) -> Ledger {
        match (self, purpose) {
            (
                Mutant::DueTimeIsNotCleared | Mutant::DueTimeIsServedTwice,
                Purpose::Commit(_) | Purpose::Confirm,
            ) => Ledger {
                next_rotation: before.next_rotation.or(after.next_rotation),
                ..after
            },
            _ => after,
        }
    }

    /// What a commit adds to.
    pub fn base(self, view: &View) -> Cow<'_, Ledger> {
        match self {
            Mutant::NextIssueCutsIn if is_due(view) => Cow::Owned(Ledger {
                issuance: None,
                ..view.ledger.clone()
            }),
            _ => Cow::Borrowed(&view.ledger),
        }
    }
}

fn with_existing(observed: &Observed, existing: Option<Existing>) -> Observed {
    let mut observed = observed.clone();
    observed.view.existing = existing;
    observed
}

fn is_due(view: &View) -> bool {
    view.wanted > view.ledger.requested && !view.ledger.is_blank()
}

/// Nothing is under way, and no revision is asked for.
fn is_scheduled(observed: &Observed) -> bool {
    let View { wanted, ledger, .. } = &observed.view;
    ledger.issuance.is_none() && !ledger.is_blank() && *wanted == ledger.requested
}

fn is_marked(observed: &Observed) -> bool {
    let ledger = &observed.view.ledger;
    ledger.unsettled.is_some() && ledger.issuance.is_none()
}

fn rests(step: &Step, situations: &[Situation]) -> bool {
    matches!(step, Step::Rest(rest) if situations.contains(&rest.situation))
}

fn is_settled(step: &Step) -> bool {
    rests(step, &[Situation::Settled])
}

fn settled() -> Step {
    Step::Rest(Rest {
        situation: Situation::Settled,
        wake: None,
    })
}

fn seen(observed: &Observed) -> Option<&PresentSecret> {
    match &observed.secret {
        Some(SecretSeen::Present(secret)) => Some(secret),
        _ => None,
    }
}

fn is_absent(observed: &Observed) -> bool {
    matches!(observed.secret, Some(SecretSeen::Absent(_)))
}

fn has_looked(observed: &Observed) -> bool {
    observed.source == Source::Live && observed.secret.is_some()
}

fn is_ours(observed: &Observed, secret: &PresentSecret) -> bool {
    secret.owner.as_ref() == Some(&observed.view.uid)
}

fn withdraw(secret: &PresentSecret) -> Step {
    Step::Withdraw {
        uid: secret.uid.clone(),
        version: secret.version,
    }
}

fn delete(secret: &PresentSecret) -> Step {
    Step::DeleteSecret {
        uid: secret.uid.clone(),
        version: secret.version,
    }
}

fn sweep(observed: &Observed) -> Step {
    let strays = &observed.view.ledger.unsettled;
    let stray = |attempt: &AttemptId| strays.iter().flatten().any(|stray| stray == attempt);
    match seen(observed) {
        Some(secret) if is_ours(observed, secret) => match &secret.bytes {
            Bytes::Hold(Some(attempt)) if stray(attempt) => delete(secret),
            _ => Step::ClearMark,
        },
        _ => Step::ClearMark,
    }
}

fn skip(observed: &Observed) -> Step {
    let due = observed.view.ledger.next_rotation;
    Step::Schedule {
        next: due.map(|due| due + EVERY),
        skips: true,
    }
}

/// Publishes over the Secret that was seen, or commits first.
fn replace(observed: &Observed, now: Moment) -> Step {
    let held = observed.memory.held.as_ref();
    match held.filter(|held| held.since == now && observed.view.ledger.tries(held.attempt)) {
        Some(held) => publish_over(observed, held.attempt),
        None => Step::Commit {
            outlived: Vec::new(),
        },
    }
}

fn publish_over(observed: &Observed, attempt: AttemptId) -> Step {
    let over = seen(observed).map(|secret| (secret.uid.clone(), secret.version));
    Step::Publish { attempt, over }
}

fn with_fresh_plaintext(observed: &Observed, now: Moment) -> Observed {
    let mut fresh = observed.clone();
    fresh
        .memory
        .held
        .iter_mut()
        .for_each(|held| held.since = now);
    fresh
}

fn without_dead(observed: &Observed) -> Observed {
    let ledger = &observed.view.ledger;
    let mut kept = observed.clone();
    kept.memory
        .held
        .take_if(|held| !ledger.tries(held.attempt) && !ledger.accepts(held.attempt));
    kept
}

fn read_just_now(observed: &Observed, now: Moment) -> Observed {
    let mut read = observed.clone();
    if let Some(SecretSeen::Absent(at) | SecretSeen::Present(PresentSecret { at, .. })) =
        &mut read.secret
    {
        *at = now;
    }
    read
}

fn without_mark(observed: &Observed, now: Moment) -> Observed {
    let mut view = observed.view.clone();
    view.ledger.unsettled = None;
    let mut clear = Observed::cached(view, observed.memory.clone(), now);
    clear.source = observed.source;
    clear.secret = observed.secret.clone();
    clear
}

fn looked_twice(observed: &Observed) -> Observed {
    let mut twice = observed.clone();
    if let Some(SecretSeen::Present(secret)) = &mut twice.secret {
        secret.bytes = Bytes::Settled;
    }
    twice
}

fn with_more_wanted(observed: &Observed) -> Observed {
    let mut more = observed.clone();
    more.view.wanted = more.view.ledger.requested + 1;
    more
}

fn as_if_inactive(observed: &Observed) -> Observed {
    let mut inactive = observed.clone();
    inactive.view.rotation.life = None;
    inactive
}

fn with_schedule(observed: &Observed) -> Observed {
    let mut scheduled = observed.clone();
    scheduled.view.rotation.every = Some(EVERY);
    scheduled
}

fn hold_against_the_key_read_before(observed: &mut Observed, read: Option<AttemptId>) {
    observed.source = Source::Live;
    let holds = verify(read, observed, &observed.view);
    if let Some(SecretSeen::Present(secret)) = &mut observed.secret
        && secret.bytes == Bytes::Read
    {
        secret.bytes = Bytes::Hold(holds);
    }
}
