//! The rules of the crate's documentation, a scenario at a time: what is observed, and the steps
//! that must follow.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::ledger::{Accepted, AttemptId, Issuance, Ledger, Uid, Version};
use super::super::life::Life;
use super::super::memory::Memory;
use super::super::observed::Answer;
use super::super::rotation::Rotation;
use super::*;

mod cache;
mod delivery;
mod existing;
mod issue;
mod lives;
mod rotation;
mod schedule;

const GRACE: Duration = Duration::from_secs(300);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A run, as far as it got.
struct Walk {
    observed: Observed,
    now: Now,
}

impl Walk {
    fn from(view: View) -> Walk {
        Walk::resumed(view, Memory::default())
    }

    fn resumed(view: View, memory: Memory) -> Walk {
        let now = Now {
            monotonic: Moment::default(),
            wall: Timestamp::UNIX_EPOCH,
        };
        Walk {
            observed: Observed::cached(view, memory, now.monotonic),
            now,
        }
    }

    /// A first issue whose commit was answered.
    fn committed() -> Walk {
        Walk::from(view(1)).sees(
            commit(),
            Answer::Committed(view(1).trying(&[1]).at(2), AttemptId(1)),
        )
    }

    fn after(mut self, wait: Duration) -> Walk {
        self.now.monotonic = self.now.monotonic + wait;
        self.now.wall += SignedDuration::try_from(wait).unwrap();
        self
    }

    fn step(&self) -> Step {
        next(&self.observed, self.now, &Timing::with_grace(GRACE))
    }

    fn sees(self, step: Step, answer: Answer) -> Walk {
        self.stands_at(&step);
        let observed = self
            .observed
            .after(&step, answer, self.now.monotonic)
            .continue_value()
            .expect("the run goes on");
        Walk {
            observed,
            now: self.now,
        }
    }

    fn breaks_off(self, step: Step, answer: Answer) -> Memory {
        self.stands_at(&step);
        self.observed
            .after(&step, answer, self.now.monotonic)
            .break_value()
            .expect("the run ends")
    }

    fn rests(self) -> Memory {
        match self.step() {
            Step::Rest(rest) => self.observed.rested(&rest, self.now.monotonic),
            step => panic!("{step:?}"),
        }
    }

    fn stands_at(&self, step: &Step) {
        assert_eq!(self.step(), *step);
    }

    fn ends(&self, situation: Situation) {
        self.stands_at(&rests(situation));
    }
}

/// A run that has read the Secret, its bytes if it is ours, and then the key.
fn inspected(view: View, secret: SecretSeen, holds: Option<u64>) -> Walk {
    inspected_at(Duration::from_secs(2), view, secret, holds)
}

fn inspected_at(wait: Duration, view: View, secret: SecretSeen, holds: Option<u64>) -> Walk {
    let walk = Walk::from(view.clone()).after(wait);
    let walk = match &secret {
        SecretSeen::Present(PresentSecret {
            bytes: Bytes::Read, ..
        }) => walk
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(secret)),
        _ => walk.sees(read(false), Answer::Secret(secret)),
    };
    walk.sees(Step::ReadKey, Answer::Key(view, holds.map(AttemptId)))
}

fn view(wanted: u32) -> View {
    let (uid, version) = (uid("key"), Version(1));
    View {
        uid,
        version,
        deleted: false,
        suspended: false,
        restored: false,
        wanted,
        news: false,
        withdrawal: None,
        rotation: Rotation {
            overlap: DAY,
            every: None,
            life: Some(Life::default()),
        },
        existing: None,
        ledger: Ledger::default(),
    }
}

impl View {
    fn at(self, version: u64) -> View {
        View {
            version: Version(version),
            ..self
        }
    }

    fn trying(mut self, attempts: &[u64]) -> View {
        let attempts = attempts.iter().copied().map(AttemptId).collect();
        let revision = self.ledger.revision + 1;
        self.ledger.issuance = Some(Issuance { revision, attempts });
        self.ledger.uid.get_or_insert(uid("key"));
        self.ledger.requested = self.ledger.requested.max(1) + u32::from(revision > 1);
        self
    }

    fn also_trying(self, attempt: u64) -> View {
        let ledger = self
            .ledger
            .commit(AttemptId(attempt), &[], &self.uid, self.wanted);
        View { ledger, ..self }
    }

    fn accepting(mut self, revision: u32, attempt: u64) -> View {
        self.ledger.issuance = None;
        self.ledger.accepted.push(Accepted {
            revision,
            attempt: AttemptId(attempt),
            at: Timestamp::UNIX_EPOCH,
            until: None,
        });
        self.ledger.revision = revision;
        self.ledger.requested = revision;
        self.ledger.uid.get_or_insert(uid("key"));
        self.ledger.secret = Some(uid("secret"));
        self
    }

    fn rotated(mut self, revision: u32, attempt: u64, overlap: SignedDuration) -> View {
        for accepted in &mut self.ledger.accepted {
            accepted.until = Some(Timestamp::UNIX_EPOCH + overlap);
        }
        self.accepting(revision, attempt)
    }

    fn unsettled(mut self, attempts: &[u64]) -> View {
        self.ledger.unsettled = Some(attempts.iter().copied().map(AttemptId).collect());
        self
    }
}

fn uid(text: &str) -> Uid {
    Uid(text.into())
}

fn present(name: &str, version: u64, owner: Option<&str>, bytes: Bytes) -> SecretSeen {
    let (uid, owner) = (uid(name), owner.map(uid));
    SecretSeen::Present(PresentSecret {
        uid,
        version: Version(version),
        owner,
        namesake: false,
        bytes,
        at: Moment::default(),
    })
}

fn ours(bytes: Bytes) -> SecretSeen {
    present("secret", 9, Some("key"), bytes)
}

fn seen_after(wait: Duration, mut secret: SecretSeen) -> SecretSeen {
    match &mut secret {
        SecretSeen::Absent(at) | SecretSeen::Present(PresentSecret { at, .. }) => {
            *at = Moment::default() + wait;
        }
    }
    secret
}

fn foreign() -> SecretSeen {
    present("foreign", 9, None, Bytes::Unread)
}

fn predecessor() -> SecretSeen {
    let (uid, owner) = (uid("old"), Some(uid("predecessor")));
    SecretSeen::Present(PresentSecret {
        uid,
        version: Version(9),
        owner,
        namesake: true,
        bytes: Bytes::Unread,
        at: Moment::default(),
    })
}

fn commit() -> Step {
    Step::Commit {
        outlived: Vec::new(),
    }
}

fn publish(attempt: u64) -> Step {
    Step::Publish {
        attempt: AttemptId(attempt),
        over: None,
    }
}

fn confirm(attempt: u64, settled: bool) -> Step {
    Step::Confirm {
        attempt: AttemptId(attempt),
        secret: uid("secret"),
        settled,
    }
}

fn delete() -> Step {
    Step::DeleteSecret {
        uid: uid("secret"),
        version: Version(9),
    }
}

fn read(bytes: bool) -> Step {
    Step::ReadSecret { bytes }
}

fn rests(situation: Situation) -> Step {
    Step::Rest(Rest {
        situation,
        wake: None,
    })
}

fn wakes(situation: Situation, wake: Duration) -> Step {
    Step::Rest(Rest {
        situation,
        wake: Some(wake),
    })
}
