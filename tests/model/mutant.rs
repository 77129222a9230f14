//! The rules that can be taken out, one at a time: what is left must break an invariant, or the model would not notice
//! if the product lost that rule.

use crate::budget::{Budget, alone, attempts};
use crate::rules::Rule;
use crate::server::{Checks, Purpose};

/// The product without one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The product.
    None,

    // Rule 1.
    PublishBeforeCommit,
    PublishAfterUnknownCommit,
    PlaintextLivesOn,
    NextIssueCutsIn,

    // Rule 2: when to inspect, in which order to read, and each thing to decide.
    UncleanPublishIsBelieved,
    KeyIsReadFirst,
    KeyIsReadFromTheCache,
    DeadIsKept,
    DeadTakesAll,
    NothingDueGoesOn,
    AbsentIsLeft,
    EverySecretIsOurs,
    ForeignIsReplaced,
    OnlyOwnIsConfirmed,
    OldSecretStays,
    NoSecondLook,
    UnknownIsReplaced,
    FirstIssueReplaces,

    // Rule 3.
    YoungIsDroppedIfAbsent,
    YoungIsDroppedIfOlder,
    AgeCountsUntilTheCommit,

    // Rule 4.
    NoMark,
    NoMarkAfterSeveralAttempts,
    NoMarkAfterUncleanPublish,
    SweepWithoutGrace,
    SweepForgetsTheVersion,
    SweepTakesAll,
    SweepTakesNothing,
    NextRevisionBeforeSweep,

    // Rule 6.
    ConsumedIsMadeAgain,
    ScheduleMakesConsumed,
    ScheduleSkipsAll,
    ScheduleForgetsTheVersion,

    WithdrawnWithoutTheKey,
    UnseenIsConsumed,

    // Scheduled rotations.
    DueTimeIsServedTwice,
    DueIsIgnored,
    RemovedScheduleGoesOn,

    // Keys that were made elsewhere.
    ExistingIsIssued,
    ReplacedIsTakenOver,

    // The preconditions of each write.
    StatusIgnoresTheUid,
    CommitIgnoresTheVersion,
    ConfirmIgnoresTheVersion,
    SweepIgnoresTheVersion,
    RetireIgnoresTheVersion,
    ScheduleIgnoresTheVersion,
    SkipIgnoresTheVersion,
    ConsumeIgnoresTheVersion,
    TakeOverIgnoresTheVersion,
    CreateOverwrites,
    ReplaceIgnoresTheUid,
    ReplaceIgnoresTheVersion,
    DeleteIgnoresTheUid,
    DeleteIgnoresTheVersion,

    // Without these no invariant breaks.
    PlaintextStaysAfterAFailedCommit,
    RotationCommitsAtOnce,
    StaleCacheIsBelieved,
    DueTimeIsNotCleared,
}

/// A mutant, the invariant that it must break, and how little must go wrong for that.
pub type Row = (Mutant, Rule, Budget);

pub const NEEDED: &[Row] = &[
    (
        Mutant::PublishBeforeCommit,
        Rule::CommittedBeforePublished,
        attempts(1),
    ),
    (
        Mutant::PublishAfterUnknownCommit,
        Rule::CommittedBeforePublished,
        attempts(1).faults(1),
    ),
    (
        Mutant::PlaintextLivesOn,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2).faults(1),
    ),
    (
        Mutant::NextIssueCutsIn,
        Rule::NothingWrittenIsLost,
        attempts(2).rotations(1),
    ),
    (
        Mutant::UncleanPublishIsBelieved,
        Rule::PublishedBeforeAccepted,
        attempts(1).faults(1),
    ),
    (
        Mutant::KeyIsReadFirst,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2).rotations(1),
    ),
    (
        Mutant::KeyIsReadFromTheCache,
        Rule::RestIsInReach,
        attempts(1),
    ),
    (Mutant::DeadIsKept, Rule::RestIsInReach, attempts(2)),
    (
        Mutant::DeadTakesAll,
        Rule::DeliveredSecretIsNotTouched,
        attempts(2),
    ),
    (
        Mutant::NothingDueGoesOn,
        Rule::AcceptedSecretIsAskedFor,
        attempts(2),
    ),
    (
        Mutant::AbsentIsLeft,
        Rule::RestIsInReach,
        alone(1).faults(1),
    ),
    (
        Mutant::EverySecretIsOurs,
        Rule::ForeignSecretIsNotRead,
        alone(2).recreations(1),
    ),
    (
        Mutant::ForeignIsReplaced,
        Rule::ForeignSecretIsNotTouched,
        alone(2).recreations(1),
    ),
    (
        Mutant::OnlyOwnIsConfirmed,
        Rule::NobodyIsCalledWithoutReason,
        attempts(1),
    ),
    (
        Mutant::OldSecretStays,
        Rule::NobodyIsCalledWithoutReason,
        alone(2).rotations(1),
    ),
    (
        Mutant::NoSecondLook,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2).faults(1).deletions(1),
    ),
    (
        Mutant::UnknownIsReplaced,
        Rule::ForeignSecretIsNotTouched,
        attempts(2).forgeries(1),
    ),
    (
        Mutant::FirstIssueReplaces,
        Rule::ForeignSecretIsNotTouched,
        alone(2).recreations(1),
    ),
    (
        Mutant::YoungIsDroppedIfAbsent,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2),
    ),
    (
        Mutant::YoungIsDroppedIfOlder,
        Rule::NobodyIsCalledWithoutReason,
        alone(3).rotations(1).faults(1),
    ),
    (
        Mutant::AgeCountsUntilTheCommit,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2),
    ),
    (
        Mutant::NoMark,
        Rule::RestsOnTheAcceptedSecret,
        attempts(2).faults(1).deletions(1),
    ),
    (
        Mutant::NoMarkAfterSeveralAttempts,
        Rule::RestsOnTheAcceptedSecret,
        attempts(2).faults(1).deletions(1),
    ),
    (
        Mutant::NoMarkAfterUncleanPublish,
        Rule::RestsOnTheAcceptedSecret,
        alone(2).rotations(1).deletions(1).faults(1),
    ),
    (
        Mutant::SweepWithoutGrace,
        Rule::RestsOnTheAcceptedSecret,
        alone(2).rotations(1).deletions(1).faults(1),
    ),
    (
        Mutant::SweepForgetsTheVersion,
        Rule::RestsOnTheAcceptedSecret,
        attempts(2).faults(1).deletions(1),
    ),
    (
        Mutant::SweepTakesAll,
        Rule::DeliveredSecretIsNotTouched,
        attempts(1),
    ),
    (
        Mutant::SweepTakesNothing,
        Rule::RestsOnTheAcceptedSecret,
        attempts(2).faults(1).deletions(1),
    ),
    (
        Mutant::NextRevisionBeforeSweep,
        Rule::RestsOnTheAcceptedSecret,
        alone(2).rotations(1).deletions(1).faults(1),
    ),
    (
        Mutant::ConsumedIsMadeAgain,
        Rule::AcceptedSecretIsAskedFor,
        alone(2).deletions(1),
    ),
    (
        Mutant::ScheduleMakesConsumed,
        Rule::ConsumedSecretStaysAway,
        alone(2).dues(1).deletions(1),
    ),
    (
        Mutant::ScheduleSkipsAll,
        Rule::OnlyConsumedIsSkipped,
        alone(2).dues(1),
    ),
    (
        Mutant::ScheduleForgetsTheVersion,
        Rule::OnlyConsumedIsSkipped,
        attempts(2).dues(1),
    ),
    (
        Mutant::ScheduleForgetsTheVersion,
        Rule::ConsumedSecretStaysAway,
        alone(2).dues(1).deletions(1).faults(1),
    ),
    (
        Mutant::WithdrawnWithoutTheKey,
        Rule::OnlyDeliveredIsWithdrawn,
        attempts(2).withdraws().rotations(1),
    ),
    (
        Mutant::UnseenIsConsumed,
        Rule::OnlyGoneIsConsumed,
        alone(1).withdraws(),
    ),
    (
        Mutant::DueTimeIsServedTwice,
        Rule::OneIssueForADueTime,
        alone(3).dues(1),
    ),
    (Mutant::DueIsIgnored, Rule::RestIsInReach, alone(2).dues(1)),
    (
        Mutant::RemovedScheduleGoesOn,
        Rule::AcceptedSecretIsAskedFor,
        alone(2).dues(1).changes(1),
    ),
    (
        Mutant::ExistingIsIssued,
        Rule::AcceptedSecretIsAskedFor,
        alone(1).existing(1),
    ),
    (
        Mutant::ReplacedIsTakenOver,
        Rule::ReplacedSecretIsOver,
        alone(1).existing(1).rotations(1).losses(1),
    ),
    (
        Mutant::TakeOverIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(1).existing(1).rotations(1),
    ),
    (
        Mutant::StatusIgnoresTheUid,
        Rule::OtherObjectIsNotWritten,
        alone(2).recreations(1),
    ),
    (
        Mutant::CommitIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(2),
    ),
    (
        Mutant::ConfirmIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(1),
    ),
    (
        Mutant::SweepIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(2).rotations(1),
    ),
    (
        Mutant::RetireIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        alone(2).rotations(1).deletions(1).faults(1),
    ),
    (
        Mutant::ScheduleIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(2).dues(1).changes(1).rotations(1),
    ),
    (
        Mutant::ConsumeIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(2).withdraws().rotations(1),
    ),
    (
        Mutant::SkipIgnoresTheVersion,
        Rule::NothingWrittenIsLost,
        attempts(2).dues(1).deletions(1).rotations(1),
    ),
    (
        Mutant::CreateOverwrites,
        Rule::DeliveredSecretIsNotTouched,
        attempts(2),
    ),
    (
        Mutant::ReplaceIgnoresTheUid,
        Rule::DeliveredSecretIsNotTouched,
        alone(2).rotations(1).deletions(1).faults(1),
    ),
    (
        Mutant::ReplaceIgnoresTheVersion,
        Rule::DeliveredSecretIsNotTouched,
        alone(2).rotations(1).faults(1),
    ),
    (
        Mutant::DeleteIgnoresTheUid,
        Rule::DeliveredSecretIsNotTouched,
        attempts(2).deletions(1),
    ),
    (
        Mutant::DeleteIgnoresTheVersion,
        Rule::DeliveredSecretIsNotTouched,
        attempts(2).rotations(1),
    ),
    (
        Mutant::ConfirmIgnoresTheVersion,
        Rule::OneSecretForARevision,
        attempts(2).deletions(1),
    ),
    (
        Mutant::KeyIsReadFromTheCache,
        Rule::NobodyIsCalledWithoutReason,
        attempts(2).rotations(1),
    ),
    (
        Mutant::StatusIgnoresTheUid,
        Rule::RecreatedKeyIsNew,
        attempts(2).recreations(1),
    ),
    (
        Mutant::SweepTakesAll,
        Rule::AcceptedSecretIsThere,
        attempts(1),
    ),
    (
        Mutant::CreateOverwrites,
        Rule::AcceptedSecretIsThere,
        attempts(2),
    ),
];

/// Rules that save work, or say twice what a precondition says: without them no invariant breaks, within these budgets.
pub const SPARING: &[(Mutant, Budget)] = &[
    (
        Mutant::PlaintextStaysAfterAFailedCommit,
        attempts(3).faults(1),
    ),
    (
        Mutant::PlaintextStaysAfterAFailedCommit,
        alone(3).rotations(1).deletions(1).faults(1),
    ),
    (Mutant::RotationCommitsAtOnce, attempts(2).rotations(1)),
    (
        Mutant::RotationCommitsAtOnce,
        alone(3).rotations(1).deletions(1).faults(1),
    ),
    (Mutant::StaleCacheIsBelieved, attempts(2).stale(1)),
    (
        Mutant::StaleCacheIsBelieved,
        alone(2).rotations(1).stale(1).faults(1),
    ),
    // A time that was served is sooner than the schedule allows, and set anew for that.
    (Mutant::DueTimeIsNotCleared, attempts(2).dues(1)),
    (
        Mutant::DueTimeIsNotCleared,
        alone(3).dues(1).deletions(1).faults(1),
    ),
];

impl Mutant {
    pub fn publishes_first(self) -> bool {
        self == Mutant::PublishBeforeCommit
    }

    pub fn creates_over(self) -> bool {
        self == Mutant::CreateOverwrites
    }

    pub fn replaces(self) -> Checks {
        match self {
            Mutant::ReplaceIgnoresTheUid => Checks::NOT_THE_UID,
            Mutant::ReplaceIgnoresTheVersion => Checks::NOT_THE_VERSION,
            _ => Checks::ALL,
        }
    }

    pub fn deletes(self) -> Checks {
        match self {
            Mutant::DeleteIgnoresTheUid => Checks::NOT_THE_UID,
            Mutant::DeleteIgnoresTheVersion => Checks::NOT_THE_VERSION,
            _ => Checks::ALL,
        }
    }

    pub fn writes(self, purpose: Purpose) -> Checks {
        match (self, purpose) {
            (Mutant::StatusIgnoresTheUid, _) => Checks::NOT_THE_UID,
            (Mutant::CommitIgnoresTheVersion, Purpose::Commit(_))
            | (Mutant::ConfirmIgnoresTheVersion, Purpose::Confirm)
            | (Mutant::SweepIgnoresTheVersion, Purpose::ClearMark)
            | (Mutant::RetireIgnoresTheVersion, Purpose::Retire)
            | (Mutant::ScheduleIgnoresTheVersion, Purpose::Schedule)
            | (Mutant::SkipIgnoresTheVersion, Purpose::Skip)
            | (Mutant::ConsumeIgnoresTheVersion, Purpose::Consume)
            | (Mutant::TakeOverIgnoresTheVersion, Purpose::TakeOver) => Checks::NOT_THE_VERSION,
            _ => Checks::ALL,
        }
    }
}
