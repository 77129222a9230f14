//! One run: takes the steps that [`step::next`](super::step::next) names, each as one request with one deadline, until
//! the AccessKey can rest.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::delivery::{self, Contents, FIELD_MANAGER};
use super::failure::Failure;
use super::hasher::Hasher;
use super::ledger::{AttemptId, Ledger, Uid, Version};
use super::observed::{Answer, Bytes, Memory, Observed, SecretSeen, View};
use super::report::{Finding, Verdict};
use super::status::{self, attempt_id};
use super::step::{Rest, Step, Timing, next};
use crate::api::{AccessKey, AccessKeyStatus, Attempt, Delivery};
use crate::clock::{Clock, Moment};
use crate::key::{Check, KeyId, Secret};
use crate::metrics::Metrics;
use crate::verifier::Verifier;

/// More steps than any way through the protocol takes; a run that needs more starts over, with backoff.
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
}

/// How a run ended.
pub struct Ended {
    /// For the next run.
    pub kept: Kept,
    /// Why.
    pub ending: Ending,
    /// Secrets that it issued.
    pub issued: u32,
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

/// Runs until `key`, as the cache has it, can rest.
pub async fn run(tools: &Tools, key: Arc<AccessKey>, kept: Kept) -> Ended {
    let Some(view) = status::view(&key) else {
        return Ended {
            kept,
            ending: Ending::Unreadable,
            issued: 0,
            alarm: None,
            key,
        };
    };
    let observed = Observed::cached(view, kept.memory, tools.clock.now().monotonic);
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
        alarm: None,
    };
    run.drive(observed).await
}

struct Run<'a> {
    tools: &'a Tools,
    keys: Api<AccessKey>,
    secrets: Api<KubeSecret>,
    key: Arc<AccessKey>,
    /// Of the attempt that is held.
    plaintext: Option<Secret>,
    /// Of the Secret that was read.
    contents: Option<Contents>,
    failure: Option<(&'static str, Failure)>,
    issued: u32,
    alarm: Option<Verdict>,
}

impl Run<'_> {
    async fn drive(mut self, mut observed: Observed) -> Ended {
        for _ in 0..MAX_STEPS {
            let step = next(&observed, self.tools.clock.now(), &self.tools.timing);
            if let Step::Rest(rest) = &step {
                let verdict = Verdict::of(&self.key, &observed.view, rest.situation);
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

    fn now(&self) -> Moment {
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

    /// Says in the status what is the case, if it does not say so already, and keeps what the next run needs.
    async fn end(mut self, mut memory: Memory, ending: Ending, verdict: Option<Verdict>) -> Ended {
        let ending = match verdict {
            Some(verdict) => match self.tell(&mut memory, verdict).await {
                Err(failure) if matches!(ending, Ending::Rested(_)) => {
                    Ending::Failed("write the status", failure)
                }
                _ => ending,
            },
            None => ending,
        };
        let mut kept = Kept {
            memory,
            plaintext: self.plaintext,
        };
        if kept
            .plaintext_left(self.tools.clock.now().monotonic, &self.tools.timing)
            .is_none_or(|left| left.is_zero())
        {
            kept.plaintext = None;
        }
        Ended {
            kept,
            ending,
            issued: self.issued,
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
        let view = self.write(after).await?;
        memory.wrote(&view, self.now());
        if verdict.is_stalled() && stalled_because(&before) != Some(verdict.reason()) {
            self.alarm = Some(verdict);
        }
        Ok(())
    }

    /// Takes one step. A failure is kept for the end of the run.
    async fn take(&mut self, step: &Step, observed: &Observed) -> Answer {
        if *step != Step::StartOver {
            self.tools.metrics.requested(name(step));
        }
        match self.attempt(step, observed).await {
            Ok(answer) => answer,
            Err(Failure::Conflict) => Answer::Conflict,
            Err(Failure::NotFound) if !matches!(step, Step::Publish { over: None, .. }) => {
                Answer::Conflict
            }
            Err(failure) => {
                self.failure = Some((name(step), failure));
                Answer::Failed
            }
        }
    }

    async fn attempt(&mut self, step: &Step, observed: &Observed) -> Result<Answer, Failure> {
        let ledger = &observed.view.ledger;
        match step {
            Step::ReadKey => self.read_key(observed).await,
            Step::ReadSecret { bytes: false } | Step::Recheck => self.read_secret_metadata().await,
            Step::ReadSecret { bytes: true } => self.read_secret().await,
            Step::Commit { outlived } => self.commit(&observed.view, outlived).await,
            Step::Publish { over, .. } => self.publish(over.as_ref()).await,
            Step::Confirm {
                attempt,
                secret,
                settled,
            } => {
                self.confirm(&observed.view, *attempt, secret, *settled)
                    .await
            }
            Step::DeleteSecret { uid, version } => {
                let name = self.key.secret_name().to_owned();
                self.in_time(delivery::delete(&self.secrets, &name, uid, *version))
                    .await?;
                Ok(Answer::Done)
            }
            Step::Adopt { uid, version } => self.adopt(&(uid.clone(), *version)).await,
            Step::Rebind => self.rebind(observed).await,
            Step::ClearMark => self.record(&ledger.settle()).await,
            Step::Retire => {
                self.record(&ledger.retire(self.tools.clock.now().wall))
                    .await
            }
            Step::StartOver | Step::Rest(_) => Ok(Answer::Done),
        }
    }

    async fn read_key(&mut self, observed: &Observed) -> Result<Answer, Failure> {
        let name = self.key.metadata.name.clone().unwrap_or_default();
        let read = async { Ok(self.keys.get_opt(&name).await?) };
        let Some(key) = self.in_time(read).await? else {
            return Ok(Answer::Gone);
        };
        self.key = Arc::new(key);
        let view = status::view(&self.key).ok_or(Failure::Garbled)?;
        let holds = self.match_contents(observed).await?;
        Ok(Answer::Key(view, holds))
    }

    async fn read_secret_metadata(&mut self) -> Result<Answer, Failure> {
        let begun = self.now();
        let found = self
            .in_time(delivery::read_metadata(&self.secrets, &self.key, begun))
            .await?;
        Ok(Answer::Secret(
            found.map_or(SecretSeen::Absent(begun), SecretSeen::Present),
        ))
    }

    async fn read_secret(&mut self) -> Result<Answer, Failure> {
        let begun = self.now();
        let found = self
            .in_time(delivery::read(&self.secrets, &self.key, begun))
            .await?;
        let Some((present, contents)) = found else {
            return Ok(Answer::Secret(SecretSeen::Absent(begun)));
        };
        self.contents = contents;
        Ok(Answer::Secret(SecretSeen::Present(present)))
    }

    /// Which attempt the Secret's bytes are: the one that is held, or the one whose verifier they match.
    async fn match_contents(&mut self, observed: &Observed) -> Result<Option<AttemptId>, Failure> {
        let Some(contents) = self.contents.take() else {
            return Ok(None);
        };
        let (Some(status), Contents { key, secret }) = (self.key.status.clone(), contents) else {
            return Ok(None);
        };
        let held = observed.memory.held.as_ref().filter(|_| {
            self.plaintext
                .as_ref()
                .is_some_and(|plaintext| plaintext.expose() == secret.expose())
        });
        if status.key.as_ref() != Some(&key) {
            return Ok(None);
        }
        if let Some(held) = held {
            let attempt = held.attempt;
            self.contents = Some(Contents { key, secret });
            return Ok(Some(attempt));
        }
        let candidates = candidates(&status, &Check::of(&key, &secret));
        let (secret, found) = if candidates.is_empty() {
            (secret, None)
        } else {
            let verifiers = candidates.clone();
            self.tools.hasher.find(secret, verifiers).await?
        };
        self.contents = Some(Contents { key, secret });
        Ok(found
            .and_then(|at| candidates.get(at))
            .map(|verifier| attempt_id(verifier.as_str())))
    }

    async fn commit(&mut self, view: &View, outlived: &[AttemptId]) -> Result<Answer, Failure> {
        let old = self.key.status.clone().unwrap_or_default();
        let key = match &old.key {
            Some(key) => key.clone(),
            None => KeyId::generate()?.to_string(),
        };
        let (secret, verifier) = self.tools.hasher.generate().await?;
        let now = self.tools.clock.now().wall;
        let check = Check::of(&key, &secret).as_str().to_owned();
        let attempt = Attempt {
            verifier: verifier.as_str().to_owned(),
            check,
            at: Time(now),
        };
        let id = attempt_id(&attempt.verifier);
        let ledger = view.ledger.commit(id, outlived, &view.uid, view.wanted);
        let mut status = status::write(&old, &ledger, Some(&attempt), now);
        status.key = Some(key);
        status::tell(
            &mut status,
            &self.key,
            &Verdict::new(&self.key, Finding::Issuing),
            now,
        );
        let view = self.write(status).await?;
        self.plaintext = Some(secret);
        Ok(Answer::Committed(view, id))
    }

    async fn publish(&mut self, over: Option<&(Uid, Version)>) -> Result<Answer, Failure> {
        let key = self
            .key
            .status
            .as_ref()
            .and_then(|status| status.key.as_deref())
            .ok_or(Failure::Garbled)?;
        let secret = self.plaintext.as_ref().ok_or(Failure::Garbled)?;
        let publish = delivery::publish(&self.tools.client, &self.key, key, secret, over);
        let (uid, version) = self.in_time(publish).await?;
        Ok(Answer::Published(uid, version))
    }

    async fn confirm(
        &mut self,
        view: &View,
        attempt: AttemptId,
        secret: &Uid,
        settled: bool,
    ) -> Result<Answer, Failure> {
        let now = self.tools.clock.now().wall;
        let overlap = SignedDuration::try_from(self.key.spec.rotation.overlap.0)
            .unwrap_or(SignedDuration::MAX);
        let ledger = view.ledger.confirm(attempt, secret, settled, overlap, now);
        let mut status = status::write(
            &self.key.status.clone().unwrap_or_default(),
            &ledger,
            None,
            now,
        );
        let name = self.key.secret_name().to_owned();
        status.secret = Some(Delivery {
            name,
            uid: secret.0.to_string(),
            published_at: Time(now),
        });
        let finding = if view.wanted > ledger.requested {
            Finding::Issuing
        } else {
            Finding::Issued
        };
        status::tell(
            &mut status,
            &self.key,
            &Verdict::new(&self.key, finding),
            now,
        );
        let view = self.write(status).await?;
        self.plaintext = None;
        self.issued += 1;
        Ok(Answer::Written(view))
    }

    /// Writes the restored Secret again, as it was read, with the AccessKey as its owner.
    async fn adopt(&mut self, over: &(Uid, Version)) -> Result<Answer, Failure> {
        let Contents { key, secret } = self.contents.as_ref().ok_or(Failure::Garbled)?;
        let publish = delivery::publish(&self.tools.client, &self.key, key, secret, Some(over));
        self.in_time(publish).await?;
        Ok(Answer::Done)
    }

    /// An adopted Secret is another object than the one that was delivered, so the status names that from now on.
    async fn rebind(&mut self, observed: &Observed) -> Result<Answer, Failure> {
        let View { uid, ledger, .. } = &observed.view;
        let old = self.key.status.clone().unwrap_or_default();
        let now = self.tools.clock.now().wall;
        let mut status = status::write(&old, &ledger.rebind(uid), None, now);
        if let (Some(delivery), Some(SecretSeen::Present(secret))) =
            (&mut status.secret, &observed.secret)
            && secret.owner.as_ref() == Some(uid)
            && matches!(secret.bytes, Bytes::Hold(Some(attempt)) if ledger.accepts(attempt))
        {
            delivery.uid = secret.uid.0.to_string();
        }
        Ok(Answer::Written(self.write(status).await?))
    }

    async fn record(&mut self, ledger: &Ledger) -> Result<Answer, Failure> {
        let old = self.key.status.clone().unwrap_or_default();
        let status = status::write(&old, ledger, None, self.tools.clock.now().wall);
        Ok(Answer::Written(self.write(status).await?))
    }

    /// Writes the status by compare-and-swap on the version that was read.
    async fn write(&mut self, status: AccessKeyStatus) -> Result<View, Failure> {
        let mut key = AccessKey::clone(&self.key);
        key.status = Some(status);
        let name = key.metadata.name.clone().unwrap_or_default();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let replace = async { Ok(self.keys.replace_status(&name, &params, &key).await?) };
        let mut written: AccessKey = self.in_time(replace).await?;
        written.metadata.managed_fields = None;
        let view = status::view(&written).ok_or(Failure::Garbled)?;
        if written.metadata.uid != key.metadata.uid {
            return Err(Failure::Garbled);
        }
        self.key = Arc::new(written);
        Ok(view)
    }

    async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let deadline = self.tools.request_timeout;
        timeout(deadline, request)
            .await
            .unwrap_or(Err(Failure::Deadline(deadline)))
    }
}

/// The verifiers that the bytes may match: those with the same check, and those without one.
fn candidates(status: &AccessKeyStatus, check: &Check) -> Vec<Verifier> {
    let open = status
        .issuance
        .iter()
        .flat_map(|issuance| &issuance.attempts);
    let unsettled = status
        .unsettled
        .iter()
        .flat_map(|unsettled| &unsettled.attempts);
    let attempts = open
        .chain(unsettled)
        .map(|attempt| (attempt.verifier.as_str(), Some(attempt.check.as_str())));
    let accepted = status
        .verifiers
        .iter()
        .map(|known| (known.verifier.as_str(), known.check.as_deref()));
    attempts
        .chain(accepted)
        .filter(|(_, known)| known.is_none_or(|known| known == check.as_str()))
        .filter_map(|(verifier, _)| Verifier::parse(verifier).ok())
        .collect()
}

fn stalled_because(status: &AccessKeyStatus) -> Option<&str> {
    let stalled = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Stalled")?;
    (stalled.status == "True").then_some(stalled.reason.as_str())
}

/// What a step does, for logs and metrics.
fn name(step: &Step) -> &'static str {
    match step {
        Step::ReadKey => "read the AccessKey",
        Step::ReadSecret { .. } | Step::Recheck => "read the Secret",
        Step::Commit { .. } => "commit to a new secret",
        Step::Publish { .. } => "publish the Secret",
        Step::Confirm { .. } => "confirm the secret",
        Step::DeleteSecret { .. } => "delete the Secret",
        Step::Adopt { .. } => "adopt the restored Secret",
        Step::Rebind => "record the restore",
        Step::ClearMark => "record the sweep",
        Step::Retire => "retire a verifier",
        Step::StartOver | Step::Rest(_) => "rest",
    }
}
