//! Taking a step: one request to the API server, with one deadline, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use tokio::time::timeout;

use super::delivery::{self, Contents, FIELD_MANAGER};
use super::failure::Failure;
use super::latency;
use super::ledger::{AttemptId, Ledger, Uid, Version};
use super::observed::{Answer, Bytes, Observed, SecretSeen};
use super::report::{self, Finding, Verdict};
use super::run::Run;
use super::status::{self, attempt_id};
use super::step::Step;
use super::turn::Turn;
use super::view::View;
use crate::api::{AccessKey, AccessKeyStatus, Attempt, Delivery};
use crate::clock::Clock;
use crate::key::{Check, KeyId};
use crate::verifier::Verifier;

impl Run<'_> {
    /// Takes one step. A failure is kept for the end of the run.
    pub(super) async fn take(&mut self, step: &Step, observed: &Observed) -> Answer {
        self.failure = None;
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
            Step::ReadSecret { bytes: false } | Step::Recheck | Step::Look => {
                self.read_secret_metadata().await
            }
            Step::ReadSecret { bytes: true } => self.read_secret().await,
            Step::Commit { outlived } => self.commit(&observed.view, outlived).await,
            Step::Publish { over, .. } => self.publish(over.as_ref()).await,
            Step::Confirm {
                attempt,
                secret,
                settled,
            } => self.confirm(observed, *attempt, secret, *settled).await,
            Step::DeleteSecret { uid, version } => self.delete(uid, *version).await,
            Step::Withdraw { uid, version } => self.withdraw(uid, *version).await,
            Step::Consume => self.consume(ledger).await,
            Step::Adopt { uid, version } => self.adopt(&(uid.clone(), *version)).await,
            Step::Rebind => self.rebind(observed).await,
            Step::TakeOver { attempt } => self.take_over(&observed.view, *attempt).await,
            Step::ClearMark => self.record(&ledger.settle()).await,
            Step::Retire => {
                self.record(&ledger.retire(self.tools.clock.now().wall))
                    .await
            }
            Step::Schedule { next, skips } => self.schedule(ledger, *next, *skips).await,
            Step::StartOver | Step::Rest(_) => Ok(Answer::Done),
        }
    }

    async fn read_key(&mut self, observed: &Observed) -> Result<Answer, Failure> {
        let name = self.key.metadata.name.clone().unwrap_or_default();
        let read = async {
            let answer = self.keys.get(&name).await;
            answer.map_err(|error| Failure::about::<AccessKey>(error, &name))
        };
        let Some(key) = Failure::or_absent(self.in_time(read).await)? else {
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

    /// Which attempt the Secret's bytes are: the one that is held, or the one whose verifier they
    /// match.
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
            None => match &self.key.spec.existing {
                Some(existing) => existing.key.clone(),
                None => KeyId::generate()?.to_string(),
            },
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
        let is_further = view.ledger.issuance.is_some();
        if !(is_further && report::is_said_until_it_changes(&old)) {
            let issuing = Verdict::new(&self.key, Finding::Issuing);
            status::tell(&mut status, &self.key, &issuing, now);
        }
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
        observed: &Observed,
        attempt: AttemptId,
        secret: &Uid,
        settled: bool,
    ) -> Result<Answer, Failure> {
        let view = &observed.view;
        let waited = latency::of(&self.key, observed, self.tools.clock.now());
        let now = self.tools.clock.now().wall;
        let ledger = view
            .ledger
            .confirm(attempt, secret, settled, &view.rotation, now);
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
            consumed_at: None,
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
        let metrics = &self.tools.metrics;
        metrics.issue_seconds.observe(waited.as_secs_f64());
        Ok(Answer::Written(view))
    }

    async fn delete(&mut self, uid: &Uid, version: Version) -> Result<Answer, Failure> {
        let name = self.key.secret_name().to_owned();
        self.in_time(delivery::delete(&self.secrets, &name, uid, version))
            .await?;
        Ok(Answer::Done)
    }

    /// That nothing is left to delete is as good.
    async fn withdraw(&mut self, uid: &Uid, version: Version) -> Result<Answer, Failure> {
        match self.delete(uid, version).await {
            Err(Failure::NotFound) => Ok(Answer::Done),
            answer => answer,
        }
    }

    /// It is looked whether a Secret was taken when the spec has changed, which the same write says was seen.
    async fn consume(&mut self, ledger: &Ledger) -> Result<Answer, Failure> {
        self.record_and_tell(&ledger.consume()).await
    }

    /// Writes the restored Secret again, as it was read, with the AccessKey as its owner.
    async fn adopt(&mut self, over: &(Uid, Version)) -> Result<Answer, Failure> {
        let Contents { key, secret } = self.contents.as_ref().ok_or(Failure::Garbled)?;
        let publish = delivery::publish(&self.tools.client, &self.key, key, secret, Some(over));
        self.in_time(publish).await?;
        Ok(Answer::Done)
    }

    /// An adopted Secret is another object than the one that was delivered, so the status names
    /// that from now on.
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

    /// A changed schedule is another spec, which the same write says was seen.
    async fn schedule(
        &mut self,
        ledger: &Ledger,
        next: Option<Timestamp>,
        skips: bool,
    ) -> Result<Answer, Failure> {
        let ledger = match skips {
            true => ledger.skip(next),
            false => ledger.schedule(next),
        };
        let answer = self.record_and_tell(&ledger).await?;
        self.turns.extend(skips.then_some(Turn::RotationSkipped));
        Ok(answer)
    }

    /// With what there is to say of a key of which nothing more is asked.
    async fn record_and_tell(&mut self, ledger: &Ledger) -> Result<Answer, Failure> {
        let old = self.key.status.clone().unwrap_or_default();
        let now = self.tools.clock.now().wall;
        let mut status = status::write(&old, ledger, None, now);
        let verdict = Verdict::new(&self.key, Finding::settled(&self.key));
        status::tell(&mut status, &self.key, &verdict, now);
        Ok(Answer::Written(self.write(status).await?))
    }

    async fn take_over(&mut self, view: &View, attempt: AttemptId) -> Result<Answer, Failure> {
        let existing = self.key.spec.existing.as_ref().ok_or(Failure::Garbled)?;
        let now = self.tools.clock.now().wall;
        let old = self.key.status.clone().unwrap_or_default();
        let ledger = view
            .ledger
            .take_over(attempt, &view.uid, view.wanted, &view.rotation, now);
        let mut status = status::taken_over(&old, &ledger, existing, now);
        let verdict = Verdict::new(&self.key, Finding::TakenOver(existing.key.clone()));
        status::tell(&mut status, &self.key, &verdict, now);
        let view = self.write(status).await?;
        self.turns.push(Turn::TakenOver);
        Ok(Answer::Written(view))
    }

    async fn record(&mut self, ledger: &Ledger) -> Result<Answer, Failure> {
        let old = self.key.status.clone().unwrap_or_default();
        let status = status::write(&old, ledger, None, self.tools.clock.now().wall);
        Ok(Answer::Written(self.write(status).await?))
    }

    /// Writes the status by compare-and-swap on the version that was read.
    pub(super) async fn write(&mut self, mut status: AccessKeyStatus) -> Result<View, Failure> {
        // With what is written anyway, so that a key of an earlier version costs no write of its own.
        status.binding = status::binding(&status);
        let mut key = AccessKey::clone(&self.key);
        key.status = Some(status);
        let name = key.metadata.name.clone().unwrap_or_default();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let replace = async {
            let answer = self.keys.replace_status(&name, &params, &key).await;
            answer.map_err(|error| Failure::about::<AccessKey>(error, &name))
        };
        let mut written: AccessKey = self.in_time(replace).await?;
        written.metadata.managed_fields = None;
        let view = status::view(&written).ok_or(Failure::Garbled)?;
        if written.metadata.uid != key.metadata.uid {
            return Err(Failure::Garbled);
        }
        let said = |key: &AccessKey| key.status.clone().unwrap_or_default();
        let turns = Turn::between(&said(&self.key), &said(&written));
        self.turns.extend(turns);
        self.key = Arc::new(written);
        Ok(view)
    }

    async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        within(self.tools.request_timeout, &self.tools.clock, request).await
    }
}

/// Gives a request its deadline. A process that was stopped for longer finds the answer that came
/// meanwhile: that, too, counts as none, since what it says may be over for long.
async fn within<T>(
    deadline: Duration,
    clock: &Clock,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let begun = clock.now().monotonic;
    match timeout(deadline, request).await {
        Ok(answer) if clock.now().monotonic.since(begun) <= deadline => answer,
        _ => Err(Failure::Deadline(deadline)),
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

/// What a step does, for logs and metrics.
fn name(step: &Step) -> &'static str {
    match step {
        Step::ReadKey => "read the AccessKey",
        Step::ReadSecret { .. } | Step::Recheck => "read the Secret",
        Step::Commit { .. } => "commit to a new secret",
        Step::Publish { .. } => "publish the Secret",
        Step::Confirm { .. } => "confirm the secret",
        Step::DeleteSecret { .. } => "delete the Secret",
        Step::Look => "look for the Secret",
        Step::Withdraw { .. } => "withdraw the Secret",
        Step::Consume => "record that the Secret is gone",
        Step::Adopt { .. } => "adopt the restored Secret",
        Step::Rebind => "record the restore",
        Step::TakeOver { .. } => "take over the key",
        Step::ClearMark => "record the sweep",
        Step::Retire => "retire a verifier",
        Step::Schedule { skips: false, .. } => "schedule the next rotation",
        Step::Schedule { skips: true, .. } => "skip a rotation",
        Step::StartOver | Step::Rest(_) => "rest",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_answer_that_is_found_after_its_deadline_counts_as_none() {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let answered_after = |time| {
            let hand = &hand;
            async move {
                hand.advance(time);
                Ok(())
            }
        };
        let in_time = within(DEADLINE, &clock, answered_after(DEADLINE)).await;
        assert!(in_time.is_ok());
        let late = DEADLINE + Duration::from_millis(1);
        let late = within(DEADLINE, &clock, answered_after(late)).await;
        assert!(matches!(late, Err(Failure::Deadline(DEADLINE))));
    }
}
