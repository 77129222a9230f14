//! What must never happen, whatever the order of things: the invariants of the protocol, by the numbers that the tests
//! against a real API server use, too.

use std::fmt;

use jiff::Timestamp;
use keyward::controller::ledger::{Accepted, AttemptId, Ledger, Uid};
use keyward::controller::view::View;

use crate::server::{Purpose, StatusWrite, Stored};
use crate::shared::Shared;
use crate::world::{TAKEN_OVER, World, wall};

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    OneSecretForARevision,
    AcceptedSecretIsAskedFor,
    OneIssueForADueTime,
    ConsumedSecretStaysAway,
    OnlyConsumedIsSkipped,
    OnlyDeliveredIsWithdrawn,
    OnlyGoneIsConsumed,
    CommittedBeforePublished,
    PublishedBeforeAccepted,
    RestsOnTheAcceptedSecret,
    ForeignSecretIsNotRead,
    ForeignSecretIsNotTouched,
    DeliveredSecretIsNotTouched,
    NothingWrittenIsLost,
    OtherObjectIsNotWritten,
    RecreatedKeyIsNew,
    ReplacedSecretIsOver,
    AcceptedSecretIsThere,
    NobodyIsCalledWithoutReason,
    RestIsInReach,
}

impl Rule {
    pub fn number(self) -> &'static str {
        match self {
            Rule::OneSecretForARevision
            | Rule::AcceptedSecretIsAskedFor
            | Rule::OneIssueForADueTime
            | Rule::ConsumedSecretStaysAway
            | Rule::OnlyConsumedIsSkipped
            | Rule::ReplacedSecretIsOver => "I1",
            Rule::OnlyDeliveredIsWithdrawn | Rule::OnlyGoneIsConsumed => "I3",
            Rule::CommittedBeforePublished
            | Rule::PublishedBeforeAccepted
            | Rule::RestsOnTheAcceptedSecret => "I2",
            Rule::AcceptedSecretIsThere => "I3",
            Rule::ForeignSecretIsNotRead
            | Rule::ForeignSecretIsNotTouched
            | Rule::DeliveredSecretIsNotTouched => "I4",
            Rule::NothingWrittenIsLost => "I5",
            Rule::NobodyIsCalledWithoutReason | Rule::RestIsInReach => "I9",
            Rule::OtherObjectIsNotWritten | Rule::RecreatedKeyIsNew => "I10",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = match self {
            Rule::OneSecretForARevision => "two secrets are accepted for one revision",
            Rule::AcceptedSecretIsAskedFor => "a secret is issued that nobody asked for",
            Rule::OneIssueForADueTime => "a due time has two secrets issued",
            Rule::ConsumedSecretStaysAway => "a schedule makes a Secret that was taken away",
            Rule::OnlyConsumedIsSkipped => "a rotation is skipped whose Secret is there",
            Rule::OnlyDeliveredIsWithdrawn => "a Secret is withdrawn whose secret is not accepted",
            Rule::OnlyGoneIsConsumed => "a Secret is said to be gone that is there",
            Rule::CommittedBeforePublished => "a secret is published that was not committed to",
            Rule::PublishedBeforeAccepted => "a secret is accepted that was never published",
            Rule::RestsOnTheAcceptedSecret => "at rest the Secret holds another than the newest",
            Rule::AcceptedSecretIsThere => "an accepted secret is gone that nobody took",
            Rule::ForeignSecretIsNotRead => "a Secret that is not ours is read",
            Rule::ForeignSecretIsNotTouched => "a Secret that is not ours is changed",
            Rule::DeliveredSecretIsNotTouched => "a delivered secret is replaced or deleted",
            Rule::NothingWrittenIsLost => "an attempt or a verifier is lost from the status",
            Rule::NobodyIsCalledWithoutReason => "a person is called without a reason",
            Rule::RestIsInReach => "a state at rest is out of reach",
            Rule::OtherObjectIsNotWritten => "the status of another object is written",
            Rule::RecreatedKeyIsNew => "a secret is accepted for two objects",
            Rule::ReplacedSecretIsOver => "a secret is taken over that was to be replaced",
        };
        f.pad(&format!("{}: {broken}", self.number()))
    }
}

/// A set of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts(u32);

impl Attempts {
    pub fn add(&mut self, attempt: AttemptId) {
        self.0 |= 1 << attempt.0;
    }

    pub fn has(self, attempt: AttemptId) -> bool {
        self.0 & (1 << attempt.0) != 0
    }
}

impl<'a> FromIterator<&'a AttemptId> for Attempts {
    fn from_iter<I: IntoIterator<Item = &'a AttemptId>>(attempts: I) -> Attempts {
        let mut set = Attempts::default();
        attempts.into_iter().for_each(|attempt| set.add(*attempt));
        set
    }
}

/// What has happened, as far as a rule asks for it. No controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Which attempt was accepted for which revision of which object; 0 once the status that said so is lost.
    accepted: Shared<Vec<(Uid, u32, AttemptId)>>,
    committed: Attempts,
    published: Attempts,
    /// The user took the Secret that held it, or overwrote it.
    taken: Attempts,
    /// How often a rotation came due.
    dues: u8,
    /// There was no Secret when that happened last.
    absent_when_due: bool,
    /// The due time for which an issue was opened last.
    served: Option<Timestamp>,
    /// There is a reason to call a person.
    excused: bool,
    /// A controller was paused for too long.
    paused: bool,
    /// The key was made elsewhere, with its secret.
    existing: bool,
    /// The only rule that counts, if it is only one.
    asked: Option<Rule>,
    /// The rule that was broken first. Nothing happens after that.
    pub broken: Option<Rule>,
}

impl History {
    /// Of a world in which all rules count, or one.
    pub fn new(asked: Option<Rule>) -> History {
        History {
            accepted: Shared::new(Vec::new()),
            committed: Attempts::default(),
            published: Attempts::default(),
            taken: Attempts::default(),
            dues: 0,
            absent_when_due: false,
            served: None,
            excused: false,
            paused: false,
            existing: false,
            asked,
            broken: None,
        }
    }

    pub fn breaks(&mut self, rule: Rule) {
        if self.counts(rule) {
            self.broken.get_or_insert(rule);
        }
    }

    pub fn counts(&self, rule: Rule) -> bool {
        self.asked.is_none_or(|asked| asked == rule)
    }

    fn keeps(&mut self, kept: bool, rule: Rule) {
        if !kept {
            self.breaks(rule);
        }
    }

    pub fn takes(&mut self, secret: &Stored) {
        secret.holds.iter().for_each(|holds| self.taken.add(*holds));
    }

    /// A rotation comes due.
    pub fn comes_due(&mut self, secret: Option<&Stored>) {
        self.dues += 1;
        self.absent_when_due = secret.is_none();
    }

    pub fn forges(&mut self) {
        self.excused = true;
    }

    pub fn pauses(&mut self) {
        self.excused = true;
        self.paused = true;
    }

    /// The secret of a key that was made elsewhere is where its devices are, and nowhere else.
    pub fn hands_over(&mut self) {
        self.existing = true;
        self.published.add(TAKEN_OVER);
        self.taken.add(TAKEN_OVER);
    }

    /// A new secret is asked for; of a key that is still to be taken over nobody can say which is meant.
    pub fn asks_again(&mut self, key: &View) {
        self.excused |= key.existing.is_some() && key.ledger.is_blank();
    }

    /// What the status said is gone, and with it the key.
    pub fn loses(&mut self) {
        self.excused = true;
        self.accepted.change(|accepted| {
            accepted
                .iter_mut()
                .for_each(|(_, revision, _)| *revision = 0);
        });
    }

    pub fn calls(&mut self) {
        self.keeps(self.excused, Rule::NobodyIsCalledWithoutReason);
    }

    /// A Secret is written for `owner`.
    pub fn publishes(&mut self, owner: &Uid, holds: AttemptId, over: Option<&Stored>) {
        self.keeps(self.committed.has(holds), Rule::CommittedBeforePublished);
        self.published.add(holds);
        if let Some(over) = over {
            self.touches(owner, over);
            let delivered = |(of, revision, attempt): &(Uid, u32, AttemptId)| {
                of == owner && *revision > 0 && Some(*attempt) == over.holds
            };
            let older = self.accepted.iter().any(delivered);
            self.keeps(older, Rule::DeliveredSecretIsNotTouched);
        }
    }

    /// A Secret is deleted for `owner`.
    pub fn deletes(&mut self, owner: &Uid, secret: &Stored) {
        self.touches(owner, secret);
        let delivered = |(_, revision, attempt): &(Uid, u32, AttemptId)| {
            *revision > 0 && Some(*attempt) == secret.holds
        };
        let delivered = self.accepted.iter().any(delivered);
        self.keeps(!delivered, Rule::DeliveredSecretIsNotTouched);
    }

    /// The Secret in which a key was delivered is deleted, as its spec asks.
    pub fn withdraws(&mut self, owner: &Uid, secret: &Stored) {
        self.touches(owner, secret);
        let delivered = |(of, _, attempt): &(Uid, u32, AttemptId)| {
            of == owner && Some(*attempt) == secret.holds
        };
        let delivered = self.accepted.iter().any(delivered);
        self.keeps(delivered, Rule::OnlyDeliveredIsWithdrawn);
        self.takes(secret);
    }

    fn touches(&mut self, owner: &Uid, secret: &Stored) {
        let ours = secret.owner.as_ref() == Some(owner) && secret.holds.is_some();
        self.keeps(ours, Rule::ForeignSecretIsNotTouched);
    }

    /// A status is written. Is there a Secret?
    pub fn records(&mut self, write: &StatusWrite, key: &View, hour: u8, there: bool) {
        let (uid, before) = (&key.uid, &key.ledger);
        self.keeps(write.uid == *uid, Rule::OtherObjectIsNotWritten);
        if let Purpose::Commit(attempt) = write.purpose {
            self.committed.add(attempt);
            if before.issuance.is_none() {
                self.opens(key, hour, there);
            }
        }
        if write.purpose == Purpose::Consume {
            let newest = before.accepted.last();
            let taken = newest.is_none_or(|newest| self.has_taken(newest.attempt));
            self.keeps(taken, Rule::OnlyGoneIsConsumed);
        }
        if write.purpose == Purpose::Skip {
            let newest = before.accepted.last();
            let taken = newest.is_none_or(|newest| self.has_taken(newest.attempt));
            self.keeps(taken, Rule::OnlyConsumedIsSkipped);
        }
        self.keeps(
            loses_nothing(write, before, hour),
            Rule::NothingWrittenIsLost,
        );
        let revision = write
            .ledger
            .issuance
            .as_ref()
            .map(|issuance| issuance.revision);
        self.keeps(
            revision.is_none_or(|revision| revision <= key.wanted + u32::from(self.dues)),
            Rule::AcceptedSecretIsAskedFor,
        );
        for accepted in &write.ledger.accepted {
            self.accepts(uid, accepted, key.wanted);
        }
    }

    /// An issue is opened, for a revision that is asked for or a rotation that is due.
    fn opens(&mut self, key: &View, hour: u8, there: bool) {
        let ledger = &key.ledger;
        let asked = ledger.is_blank() || key.wanted > ledger.requested;
        let scheduled = key.rotation.every.and(ledger.next_rotation);
        let due = scheduled.filter(|due| *due <= wall(hour));
        self.keeps(asked || due.is_some(), Rule::AcceptedSecretIsAskedFor);
        if due.is_some() {
            self.keeps(self.served != due, Rule::OneIssueForADueTime);
            self.served = due;
            let consumed = self.absent_when_due && !there;
            self.keeps(asked || !consumed, Rule::ConsumedSecretStaysAway);
        }
    }

    fn accepts(&mut self, uid: &Uid, accepted: &Accepted, asked: u32) {
        let entry = (uid.clone(), accepted.revision, accepted.attempt);
        if self.accepted.contains(&entry) {
            return;
        }
        let mut same = self.accepted.iter();
        let revision_is_new = !same.any(|(of, revision, _)| (of, *revision) == (&entry.0, entry.1));
        let secret_is_new = !self
            .accepted
            .iter()
            .any(|(.., attempt)| *attempt == entry.2);
        let is_taken_over = self.existing && entry.2 == TAKEN_OVER;
        self.keeps(revision_is_new, Rule::OneSecretForARevision);
        // A status that is lost is written anew.
        self.keeps(secret_is_new || is_taken_over, Rule::RecreatedKeyIsNew);
        self.keeps(!is_taken_over || asked == 1, Rule::ReplacedSecretIsOver);
        let is_made = self.existing && entry.1 == 1 && !is_taken_over;
        self.keeps(!is_made, Rule::AcceptedSecretIsAskedFor);
        self.keeps(self.published.has(entry.2), Rule::PublishedBeforeAccepted);
        self.accepted.change(|accepted| accepted.push(entry));
    }

    fn has_taken(&self, attempt: AttemptId) -> bool {
        self.taken.has(attempt)
    }
}

/// A verifier leaves when its overlap is over; an attempt, and the mark, when the writer lets go of what it has seen.
fn loses_nothing(write: &StatusWrite, before: &Ledger, hour: u8) -> bool {
    let after = &write.ledger;
    let over = |accepted: &Accepted| accepted.until.is_some_and(|until| until <= wall(hour));
    let verifiers = before
        .accepted
        .iter()
        .all(|accepted| after.accepts(accepted.attempt) || over(accepted));
    let attempts = before
        .attempts()
        .iter()
        .chain(before.unsettled.iter().flatten())
        .all(|attempt| write.lets_go.has(*attempt) || after.known().any(|known| known == *attempt));
    let mark = before.unsettled.is_none()
        || after.unsettled.is_some()
        || write.purpose == Purpose::ClearMark;
    verifiers && attempts && mark
}

impl World {
    /// What can be judged only on the whole.
    pub fn judge(&mut self) {
        let Some(newest) = self.newest_delivered() else {
            return;
        };
        let there = self
            .secret
            .as_ref()
            .is_some_and(|secret| secret.holds == Some(newest));
        if !there && !self.history.has_taken(newest) {
            self.history.breaks(Rule::AcceptedSecretIsThere);
        }
    }

    fn newest_delivered(&self) -> Option<AttemptId> {
        let ledger = &self.key.as_ref()?.ledger;
        let newest = ledger.accepted.last()?.attempt;
        ledger.issuance.is_none().then_some(newest)
    }

    /// Everything that was asked for is issued, nothing is under way, and no controller has anything to do.
    pub fn rests(&self) -> bool {
        let Some(key) = &*self.key else {
            return self.controllers.iter().all(|process| process.run.is_none());
        };
        let ledger = &key.ledger;
        let settled = ledger.issuance.is_none() && ledger.unsettled.is_none();
        let due = self.is_due();
        let done = settled && !ledger.accepted.is_empty() && key.wanted == ledger.requested && !due;
        done && self.orphans.is_empty()
            && self
                .controllers
                .iter()
                .enumerate()
                .all(|(number, process)| process.run.is_none() && !self.has_work(number))
    }

    /// Has the time of a scheduled rotation come?
    fn is_due(&self) -> bool {
        self.key.as_ref().is_some_and(|key| {
            let scheduled = key.rotation.every.and(key.ledger.next_rotation);
            scheduled.is_some_and(|due| due <= wall(self.hour))
        })
    }

    /// A Secret of the AccessKey holds the newest accepted secret; a controller that was paused for too long may leave
    /// another.
    pub fn is_in_order(&self) -> bool {
        self.history.paused || self.holds_the_newest()
    }

    /// What a user made is the user's own.
    pub fn holds_the_newest(&self) -> bool {
        let (Some(newest), Some(secret)) = (self.newest_delivered(), &self.secret) else {
            return true;
        };
        let ours = secret.owner.as_ref() == self.key.as_ref().map(|key| &key.uid);
        !ours || secret.holds.is_none_or(|holds| holds == newest)
    }
}
