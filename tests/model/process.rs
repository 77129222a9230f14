//! A controller: the product's own step function and what it remembers, with one request under way at a time.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::Timestamp;
use keyward::clock::{Moment, Now};
use keyward::controller::ledger::AttemptId;
use keyward::controller::memory::Memory;
use keyward::controller::observed::{Answer, Bytes, Observed, PresentSecret, SecretSeen};
use keyward::controller::step::{Situation, Step, Timing};
use keyward::controller::view::View;

use crate::rules::{Attempts, Rule};
use crate::server::{Purpose, StatusWrite, Write};
use crate::world::{World, wall};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    pub memory: Memory,
    pub run: Option<Run>,
    /// The AccessKey as this process saw it at the begin of its last run, while stale copies are to be had.
    pub old: Option<View>,
    /// How the last run ended.
    pub ended: Ended,
}

/// How a run ended, if it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ended {
    #[default]
    Anyhow,
    /// A person is called.
    Called,
    /// It needs another attempt than there are in the budget.
    OutOfAttempts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    pub observed: Observed,
    /// What the bytes are that were read.
    pub read: Option<AttemptId>,
    pub sent: Option<(Step, Write)>,
}

impl Process {
    pub fn memory_now(&self) -> &Memory {
        self.run
            .as_ref()
            .map_or(&self.memory, |run| &run.observed.memory)
    }

    pub fn sent(&self) -> Option<&(Step, Write)> {
        self.run.as_ref()?.sent.as_ref()
    }

    pub fn is_new(&self) -> bool {
        let new = Process {
            old: self.old.clone(),
            ..Process::default()
        };
        *self == new
    }

    /// Forgets everything but the cache that it may begin with.
    pub fn restart(&mut self) -> Option<Run> {
        let old = self.old.take();
        let crashed = std::mem::take(self);
        self.old = old;
        crashed.run
    }

    /// Does it drop attempts although it has seen a Secret?
    pub fn drops_over_an_older(&self) -> bool {
        let Some(Run { observed, sent, .. }) = &self.run else {
            return false;
        };
        let drops = matches!(sent, Some((Step::Commit { outlived }, _)) if !outlived.is_empty());
        drops && matches!(observed.secret, Some(SecretSeen::Present(_)))
    }

    pub fn age(&mut self) {
        self.memory.age();
        if let Some(run) = &mut self.run {
            run.observed.age();
        }
    }
}

const GRACE: Duration = Duration::from_secs(10);

/// The monotonic clock stands still: time passes by ageing what is remembered.
pub fn now(hour: u8) -> Now {
    Now {
        monotonic: Moment::default() + GRACE,
        wall: wall(hour),
    }
}

pub fn timing() -> Timing {
    Timing {
        grace: GRACE,
        patience: Duration::ZERO,
        lag: GRACE,
    }
}

impl World {
    /// Would a run change anything, be it only what this process remembers?
    pub fn has_work(&self, controller: usize) -> bool {
        let process = &self.controllers[controller];
        self.key.as_ref().is_some_and(|key| {
            let now = now(self.hour_of(controller));
            let observed = Observed::cached(key.clone(), process.memory.clone(), now.monotonic);
            match self.mutant.next(&observed, now, &timing()) {
                Step::Rest(rest) => {
                    self.kept(observed.rested(&rest, now.monotonic)) != process.memory
                }
                _ => true,
            }
        })
    }

    pub fn begin(&mut self, controller: usize, stale: bool) {
        self.left.stale -= u8::from(stale);
        let remembers = self.left.stale > 0;
        let key = self.key.as_ref().cloned();
        let begun = self.controllers[controller].change(|process| {
            let old = process.old.take();
            let view = if stale { old } else { key }?;
            process.old = remembers.then(|| view.clone());
            Some((view, std::mem::take(&mut process.memory)))
        });
        if let Some((view, memory)) = begun {
            let observed = Observed::cached(view, memory, now(self.hour_of(controller)).monotonic);
            self.go_on(controller, observed, None);
        }
    }

    /// Sends the next write at once, and leaves a read for later.
    fn go_on(&mut self, controller: usize, observed: Observed, read: Option<AttemptId>) {
        let now = now(self.hour_of(controller));
        let step = self.mutant.next(&observed, now, &timing());
        match &step {
            Step::Rest(rest) => {
                let called = is_call(rest.situation);
                if called {
                    self.history.calls();
                }
                let ended = if called { Ended::Called } else { Ended::Anyhow };
                self.end(controller, observed.rested(rest, now.monotonic), ended);
            }
            Step::StartOver => match observed.after(&step, Answer::Done, now.monotonic) {
                Break(memory) => self.end(controller, memory, Ended::Anyhow),
                Continue(_) => panic!("a run goes on after it has to start over"),
            },
            Step::Commit { .. } if self.left.attempts == 0 => {
                self.end(controller, observed.memory, Ended::OutOfAttempts);
            }
            _ => {
                let sent = self.write(&observed, &step, now.wall);
                let sent = sent.map(|write| (step, write));
                self.controllers[controller].change(|process| {
                    process.ended = Ended::Anyhow;
                    process.run = Some(Run {
                        observed,
                        read,
                        sent,
                    });
                });
            }
        }
    }

    fn end(&mut self, controller: usize, memory: Memory, ended: Ended) {
        let memory = self.kept(memory);
        self.controllers[controller].change(|process| {
            *process = Process {
                memory,
                run: None,
                old: process.old.take(),
                ended,
            };
        });
    }

    /// What a later run may need.
    fn kept(&self, memory: Memory) -> Memory {
        let version = self.key.as_ref().map(|key| key.version);
        let idle = version.is_some_and(|version| memory.is_idle(version));
        if idle { Memory::default() } else { memory }
    }

    /// The request that takes a step; none if the step reads.
    fn write(&mut self, observed: &Observed, step: &Step, now: Timestamp) -> Option<Write> {
        let view = &observed.view;
        let ledger = &view.ledger;
        let attempts = || ledger.attempts().iter().collect::<Attempts>();
        let (purpose, next, lets_go) = match step {
            Step::Commit { outlived } => {
                let attempt = self.new_attempt();
                if self.mutant.publishes_first() {
                    return Some(create(view, attempt));
                }
                let base = self.mutant.base(view);
                let next = base.commit(attempt, outlived, &view.uid, view.wanted);
                (Purpose::Commit(attempt), next, outlived.iter().collect())
            }
            Step::Confirm {
                attempt,
                secret,
                settled,
            } => {
                let next = ledger.confirm(*attempt, secret, *settled, &view.rotation, now);
                (Purpose::Confirm, next, attempts())
            }
            Step::ClearMark => {
                let strays = ledger.unsettled.iter().flatten().collect();
                (Purpose::ClearMark, ledger.settle(), strays)
            }
            Step::TakeOver { attempt } => {
                let next = ledger.take_over(*attempt, &view.uid, view.wanted, &view.rotation, now);
                (Purpose::TakeOver, next, Attempts::default())
            }
            Step::Retire => (Purpose::Retire, ledger.retire(now), Attempts::default()),
            Step::Schedule { next, skips } => {
                let purpose = if *skips {
                    Purpose::Skip
                } else {
                    Purpose::Schedule
                };
                let next = match skips {
                    true => ledger.skip(*next),
                    false => ledger.schedule(*next),
                };
                (purpose, next, Attempts::default())
            }
            Step::Consume => (Purpose::Consume, ledger.consume(), Attempts::default()),
            Step::Publish { attempt, over } => return Some(publish(view, *attempt, over.as_ref())),
            Step::DeleteSecret { uid, version } | Step::Withdraw { uid, version } => {
                return Some(Write::Delete {
                    uid: uid.clone(),
                    version: *version,
                    owner: view.uid.clone(),
                    withdraws: matches!(step, Step::Withdraw { .. }),
                });
            }
            // Nothing is restored here; a mutant that takes a key for a restored one stays there.
            Step::Adopt { .. } | Step::Rebind => return None,
            Step::ReadKey | Step::ReadSecret { .. } | Step::Recheck | Step::Look => return None,
            Step::StartOver | Step::Rest(_) => return None,
        };
        Some(Write::Status(StatusWrite {
            uid: view.uid.clone(),
            version: view.version,
            ledger: self.mutant.with_due_time(purpose, ledger, next),
            purpose,
            lets_go,
        }))
    }

    /// Carries out the read that a run waits for.
    pub fn read(&mut self, controller: usize) {
        let Some(mut run) = self.take_run(controller) else {
            return;
        };
        let now = now(self.hour_of(controller));
        let step = self.mutant.next(&run.observed, now, &timing());
        let answer = match &step {
            Step::ReadKey => self.read_key(&run),
            Step::ReadSecret { bytes: true } => {
                self.check_read(&run.observed);
                run.read = self.secret.as_ref().and_then(|secret| secret.holds);
                Answer::Secret(self.seen(&run.observed, Bytes::Read))
            }
            Step::ReadSecret { bytes: false } | Step::Recheck | Step::Look => {
                Answer::Secret(self.seen(&run.observed, Bytes::Unread))
            }
            _ => return self.go_on(controller, run.observed, run.read),
        };
        self.answer(controller, run, &step, answer);
    }

    /// What the read bytes verify against, the live AccessKey tells.
    fn read_key(&self, run: &Run) -> Answer {
        match self.mutant.live(&self.key, &run.observed) {
            Some(key) => Answer::Key(key.clone(), verify(run.read, &run.observed, key)),
            None => Answer::Gone,
        }
    }

    /// The bytes of a Secret are asked for only if its metadata said that it is ours.
    fn check_read(&mut self, observed: &Observed) {
        let Some(SecretSeen::Present(seen)) = &observed.secret else {
            return;
        };
        let foreign = self.secret.as_ref().is_some_and(|secret| {
            (&secret.uid, secret.version) == (&seen.uid, seen.version)
                && secret.owner.as_ref() != Some(&observed.view.uid)
        });
        if foreign {
            self.history.breaks(Rule::ForeignSecretIsNotRead);
        }
    }

    fn seen(&self, observed: &Observed, bytes: Bytes) -> SecretSeen {
        let at = now(0).monotonic;
        match &self.secret {
            None => SecretSeen::Absent(at),
            Some(secret) => SecretSeen::Present(PresentSecret {
                uid: secret.uid.clone(),
                version: secret.version,
                owner: self.mutant.owner(secret, observed),
                namesake: secret.owner.is_some(),
                bytes,
                at,
            }),
        }
    }

    pub fn fail_read(&mut self, controller: usize) {
        self.left.faults -= 1;
        if let Some(run) = self.take_run(controller) {
            let now = now(self.hour_of(controller));
            let step = self.mutant.next(&run.observed, now, &timing());
            self.answer(controller, run, &step, Answer::Failed);
        }
    }

    pub fn take_run(&mut self, controller: usize) -> Option<Run> {
        self.controllers[controller].change(|process| process.run.take())
    }

    /// A run learns what came of its step.
    pub fn answer(&mut self, controller: usize, run: Run, step: &Step, answer: Answer) {
        let read = run.read;
        let now = now(self.hour_of(controller)).monotonic;
        match self.mutant.after(run, step, answer, now) {
            Continue(observed) => self.go_on(controller, observed, read),
            Break(memory) => self.end(controller, memory, Ended::Anyhow),
        }
    }
}

/// What the bytes are that were read, by what this AccessKey says.
pub fn verify(read: Option<AttemptId>, observed: &Observed, key: &View) -> Option<AttemptId> {
    let held = observed.memory.held.as_ref().map(|held| held.attempt);
    read.filter(|read| held == Some(*read) || key.ledger.known().any(|known| known == *read))
}

fn is_call(situation: Situation) -> bool {
    matches!(
        situation,
        Situation::SecretExists
            | Situation::SecretModified
            | Situation::VerifierLost
            | Situation::NotTakenOver
    )
}

fn create(view: &View, attempt: AttemptId) -> Write {
    Write::Create {
        owner: view.uid.clone(),
        attempt,
    }
}

fn publish(
    view: &View,
    attempt: AttemptId,
    over: Option<&(
        keyward::controller::ledger::Uid,
        keyward::controller::ledger::Version,
    )>,
) -> Write {
    match over {
        None => create(view, attempt),
        Some((uid, version)) => Write::Replace {
            uid: uid.clone(),
            version: *version,
            owner: view.uid.clone(),
            attempt,
        },
    }
}
