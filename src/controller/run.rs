//! One run: takes the steps that [`step::next`](super::step::next) names, each as one request with
//! one deadline, until the AccessKey can rest.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::{Api, Client};

use super::delivery::Contents;
use super::failure::Failure;
use super::hasher::Hasher;
use super::memory::Memory;
use super::observed::Observed;
use super::report::Verdict;
use super::status;
use super::step::{Rest, Step, Timing, next};
use super::turn::Turn;
use crate::api::{AccessKey, AccessKeyStatus};
use crate::clock::{Clock, Moment};
use crate::key::Secret;
use crate::metrics::Metrics;

/// More steps than any way through the protocol takes; a run that needs more starts over, with
/// backoff.
const MAX_STEPS: usize = 24;

/// What runs need of the process.
pub struct Tools {
    /// Sends no request twice by itself.
    pub client: Client,
    /// The deadline of each request.
    pub request_timeout: Duration,
    /// How long the protocol waits for what.
    pub timing: Timing,
    /// The time.
    pub clock: Clock,
    /// Makes and checks verifiers.
    pub hasher: Hasher,
    /// Counts.
    pub metrics: Metrics,
}

/// What a process keeps of one AccessKey between runs.
#[derive(Default)]
pub struct Kept {
    /// What the steps remember.
    pub memory: Memory,
    plaintext: Option<Secret>,
}

impl Kept {
    /// For how long plaintext may still be held; none if there is none.
    pub fn plaintext_left(&self, now: Moment, timing: &Timing) -> Option<Duration> {
        let held = self
            .memory
            .held
            .as_ref()
            .filter(|_| self.plaintext.is_some())?;
        Some(timing.plaintext().saturating_sub(now.since(held.since)))
    }

    /// Drops plaintext whose time is over (rule 1), or that belongs to no attempt.
    pub fn forget_old_plaintext(&mut self, now: Moment, timing: &Timing) {
        let left = self.plaintext_left(now, timing);
        if left.is_none_or(|left| left.is_zero()) {
            self.plaintext = None;
        }
    }
}

/// How a run ended.
pub struct Ended {
    /// For the next run.
    pub kept: Kept,
    /// Why.
    pub ending: Ending,
    /// Secrets that it issued.
    pub issued: u32,
    /// What it wrote that is told once: whether the key may be used, and how rotations get on.
    pub turns: Vec<Turn>,
    /// A state that needs a person, if this run was the first to say so.
    pub alarm: Option<Verdict>,
    /// The AccessKey as it was seen last.
    pub key: Arc<AccessKey>,
}

/// Why a run ended.
#[derive(Debug)]
pub enum Ending {
    /// Nothing is left to do for now.
    Rested(Rest),
    /// Something was found that makes the run's knowledge worthless: another one follows.
    StartOver,
    /// A step failed, named by what could not be done.
    Failed(&'static str, Failure),
    /// The AccessKey lacks what every stored object has.
    Unreadable,
}

/// Runs until `key`, as the cache has it, can rest. `rival` is the name of the AccessKey that its
/// public key belongs to, if that is another.
pub async fn run(tools: &Tools, key: Arc<AccessKey>, kept: Kept, rival: Option<String>) -> Ended {
    let Some(view) = status::view(&key) else {
        return Ended {
            kept,
            ending: Ending::Unreadable,
            issued: 0,
            turns: Vec::new(),
            alarm: None,
            key,
        };
    };
    let observed = Observed::cached(view, kept.memory, tools.clock.now().monotonic);
    let observed = observed.beaten(rival.is_some());
    let namespace = key.metadata.namespace.clone().unwrap_or_default();
    let run = Run {
        tools,
        keys: Api::namespaced(tools.client.clone(), &namespace),
        secrets: Api::namespaced(tools.client.clone(), &namespace),
        key,
        plaintext: kept.plaintext,
        contents: None,
        failure: None,
        issued: 0,
        turns: Vec::new(),
        alarm: None,
        rival,
    };
    run.drive(observed).await
}

/// A run under way. [`act`](super::act) takes its steps.
pub(super) struct Run<'a> {
    pub(super) tools: &'a Tools,
    pub(super) keys: Api<AccessKey>,
    pub(super) secrets: Api<KubeSecret>,
    pub(super) key: Arc<AccessKey>,
    /// Of the attempt that is held.
    pub(super) plaintext: Option<Secret>,
    /// Of the Secret that was read.
    pub(super) contents: Option<Contents>,
    pub(super) failure: Option<(&'static str, Failure)>,
    pub(super) issued: u32,
    pub(super) turns: Vec<Turn>,
    alarm: Option<Verdict>,
    rival: Option<String>,
}

impl Run<'_> {
    async fn drive(mut self, mut observed: Observed) -> Ended {
        for _ in 0..MAX_STEPS {
            let step = next(&observed, self.tools.clock.now(), &self.tools.timing);
            if let Step::Rest(rest) = &step {
                let rival = self.rival.as_deref().unwrap_or_default();
                let verdict = Verdict::of(&self.key, &observed.view, rest.situation, rival);
                let rest = rest.clone();
                let memory = observed.rested(&rest, self.now());
                return self.end(memory, Ending::Rested(rest), verdict).await;
            }
            let answer = self.take(&step, &observed).await;
            match observed.after(&step, answer, self.now()) {
                Continue(more) => observed = more,
                Break(memory) => return self.end_early(memory, &step).await,
            }
            if observed.memory.held.is_none() {
                self.plaintext = None;
            }
        }
        self.end_early(observed.memory, &Step::StartOver).await
    }

    pub(super) fn now(&self) -> Moment {
        self.tools.clock.now().monotonic
    }

    async fn end_early(mut self, memory: Memory, step: &Step) -> Ended {
        let replacing = matches!(step, Step::Publish { over: Some(_), .. });
        let concerns_secret = matches!(
            step,
            Step::Publish { .. } | Step::ReadSecret { .. } | Step::Recheck
        );
        let (ending, verdict) = match self.failure.take() {
            Some((what, failure)) => {
                let verdict =
                    Verdict::of_failure(&self.key, &failure, replacing).filter(|_| concerns_secret);
                (Ending::Failed(what, failure), verdict)
            }
            None => (Ending::StartOver, None),
        };
        self.end(memory, ending, verdict).await
    }

    /// Says in the status what is the case, if it does not say so already, and keeps what the next
    /// run needs.
    async fn end(mut self, mut memory: Memory, ending: Ending, verdict: Option<Verdict>) -> Ended {
        let ending = match verdict {
            Some(verdict) => match self.tell(&mut memory, verdict).await {
                Err(failure) if matches!(ending, Ending::Rested(_)) => {
                    Ending::Failed(TELL, failure)
                }
                _ => ending,
            },
            None => ending,
        };
        let now = self.now();
        let mut kept = Kept {
            memory,
            plaintext: self.plaintext,
        };
        kept.forget_old_plaintext(now, &self.tools.timing);
        Ended {
            kept,
            ending,
            issued: self.issued,
            turns: self.turns,
            alarm: self.alarm,
            key: self.key,
        }
    }

    async fn tell(&mut self, memory: &mut Memory, verdict: Verdict) -> Result<(), Failure> {
        let now = self.tools.clock.now().wall;
        let before = self.key.status.clone().unwrap_or_default();
        let mut after = before.clone();
        status::tell(&mut after, &self.key, &verdict, now);
        if self.key.status.as_ref() == Some(&after) {
            return Ok(());
        }
        self.tools.metrics.requested(TELL);
        let view = self.write(after).await?;
        memory.wrote(&view, self.now());
        if verdict.is_stalled() && stalled_because(&before) != Some(verdict.reason()) {
            self.alarm = Some(verdict);
        }
        Ok(())
    }
}

/// What it is for, in logs and metrics, where no step writes the status anyway.
const TELL: &str = "write the status";

fn stalled_because(status: &AccessKeyStatus) -> Option<&str> {
    let stalled = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Stalled")?;
    (stalled.status == "True").then_some(stalled.reason.as_str())
}

#[cfg(test)]
mod deadlines;

#[cfg(test)]
mod tests {
    use super::super::ledger::AttemptId;
    use super::super::memory::{Held, Publish};
    use super::*;

    #[test]
    fn plaintext_is_kept_for_a_fifth_of_the_grace_and_no_longer() {
        let timing = Timing::with_grace(Duration::from_secs(300));
        let mut kept = Kept {
            memory: Memory::default(),
            plaintext: Some(Secret::generate().expect("a secret")),
        };
        kept.memory.held = Some(Held {
            attempt: AttemptId(1),
            since: Moment::default(),
            publish: Publish::Unclear,
        });
        let last = Moment::default() + Duration::from_millis(59_999);
        kept.forget_old_plaintext(last, &timing);
        assert!(kept.plaintext.is_some());
        kept.forget_old_plaintext(Moment::default() + Duration::from_secs(60), &timing);
        assert!(kept.plaintext.is_none());
    }
}
