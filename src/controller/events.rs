//! Kubernetes Events, sent beside the work: best effort, at a bounded rate, and never waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::delivery::FIELD_MANAGER;
use super::report::Verdict;
use super::turn::Turn;
use crate::api::AccessKey;
use crate::metrics::Metrics;

/// As many may wait; more are dropped, and counted.
const QUEUE: usize = 256;

/// As many may be sent at once ...
const BURST: u32 = 100;

/// ... and one more after each of these.
const INTERVAL: Duration = Duration::from_millis(100);

/// Takes Events and sends them when it can.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Metrics,
}

impl Events {
    /// Starts the task that sends them; it ends with the last clone of this.
    pub fn start(client: Client, deadline: Duration, metrics: Metrics) -> Events {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(send_all(client, deadline, metrics.clone(), waiting));
        Events { queue, metrics }
    }

    /// A secret was issued.
    pub fn issued(&self, key: &AccessKey) {
        let public = key
            .status
            .as_ref()
            .and_then(|status| status.key.as_deref())
            .unwrap_or_default();
        let note = format!(
            "Issued a secret for key {public}, delivered in Secret {}.",
            key.secret_name()
        );
        self.send(EventType::Normal, "Issued", note, key.object_ref(&()));
    }

    /// The key begins or ceases to be usable, as its status says now; or a rotation gets on.
    pub fn turn(&self, key: &AccessKey, turn: Turn) {
        let type_ = match turn.is_warning() {
            true => EventType::Warning,
            false => EventType::Normal,
        };
        let secret = key.secret_name();
        let note = match turn {
            Turn::RotationStarted => {
                format!("A new secret is being issued, to be delivered in Secret {secret}.")
            }
            Turn::RotationSkipped => format!(
                "A scheduled rotation was left out: there is no Secret {secret}, and only a higher \
                 rotation.revision makes one."
            ),
            Turn::Consumed => format!(
                "Secret {secret}, in which the key was delivered, is gone; the key stays valid, and only a higher \
                 rotation.revision makes it again."
            ),
            Turn::Retired => "A secret that was replaced is accepted no more.".to_owned(),
            Turn::TakenOver => said_by(key, "Ready"),
            Turn::Activated | Turn::Deactivated | Turn::ExpiringSoon | Turn::Expired => {
                said_by(key, "Active")
            }
        };
        self.send(type_, turn.reason(), note, key.object_ref(&()));
    }

    /// A person has to act.
    pub fn alarm(&self, key: &AccessKey, verdict: &Verdict) {
        self.send(
            EventType::Warning,
            verdict.reason(),
            verdict.message(),
            key.object_ref(&()),
        );
    }

    /// An object of the API cannot be read, for this reason.
    pub fn unreadable(&self, object: ObjectReference) {
        let note = "The controller cannot read this object, and skips it: it was written under another schema. Apply \
                    it again."
            .to_owned();
        self.send(EventType::Warning, "Unreadable", note, object);
    }

    fn send(&self, type_: EventType, reason: &str, note: String, object: ObjectReference) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Issue".to_owned(),
            secondary: None,
        };
        if self.queue.try_send((event, object)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

/// The message of this condition.
fn said_by(key: &AccessKey, type_: &str) -> String {
    let conditions = key.status.iter().flat_map(|status| &status.conditions);
    let mut saying = conditions.filter(|condition| condition.type_ == type_);
    let said = saying.next().map(|condition| condition.message.clone());
    said.unwrap_or_default()
}

async fn send_all(
    client: Client,
    deadline: Duration,
    metrics: Metrics,
    mut waiting: mpsc::Receiver<(Event, ObjectReference)>,
) {
    let reporter = Reporter {
        controller: format!("{FIELD_MANAGER}.dev/controller"),
        instance: None,
    };
    let recorder = Recorder::new(client, reporter);
    let mut bucket = Bucket::full(Instant::now());
    while let Some((event, object)) = waiting.recv().await {
        let sent = bucket.take(Instant::now())
            && matches!(
                timeout(deadline, recorder.publish(&event, &object)).await,
                Ok(Ok(()))
            );
        if !sent {
            metrics.events_dropped.inc();
        }
    }
}

/// A token bucket: [`BURST`] tokens, one more after each [`INTERVAL`].
struct Bucket {
    tokens: u32,
    since: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Bucket {
        Bucket {
            tokens: BURST,
            since: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let due = (now - self.since).as_millis() / INTERVAL.as_millis();
        let due = u32::try_from(due).unwrap_or(BURST);
        self.since += INTERVAL.saturating_mul(due);
        self.tokens = self.tokens.saturating_add(due).min(BURST);
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_one_for_each_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(
            (0..BURST + 50).filter(|_| bucket.take(start)).count(),
            BURST as usize
        );
        let later = start + INTERVAL * 3;
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }
}
