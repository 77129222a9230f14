//! The audit: a line of JSON for every decision, on standard output. It holds no secret.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::metrics::Asked;
use crate::policy::{Decision, Session};
use crate::topics::Action;

/// Where the lines go. Clones write to the same place.
#[derive(Clone)]
pub struct Audit(Arc<Mutex<dyn Write + Send>>);

/// What was decided about whom.
#[derive(Clone, Copy, Default)]
pub(super) struct Subject<'a> {
    pub namespace: &'a str,
    pub key: &'a str,
    pub device_id: &'a str,
    pub source: Option<IpAddr>,
    pub act: Option<(Action, &'a str)>,
}

impl<'a> Subject<'a> {
    pub fn of(session: &'a Session, act: Option<(Action, &'a str)>) -> Subject<'a> {
        Subject {
            namespace: &session.namespace,
            key: &session.key,
            device_id: &session.device_id,
            source: session.source,
            act,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    asked: &'static str,
    answer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    key: &'a str,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
}

impl Audit {
    /// To standard output.
    pub fn to_standard_output() -> Audit {
        Audit::to(io::stdout())
    }

    /// To anything else.
    pub fn to(writer: impl Write + Send + 'static) -> Audit {
        Audit(Arc::new(Mutex::new(writer)))
    }

    pub(super) fn write<T>(
        &self,
        time: Timestamp,
        asked: Asked,
        subject: Subject<'_>,
        decision: &Decision<T>,
    ) {
        let (answer, reason) = match decision {
            Decision::Allow(_) => ("allow", None),
            Decision::Deny(reason) => ("deny", Some(reason.as_str())),
            Decision::Unavailable => ("unavailable", None),
        };
        let line = Line {
            time,
            asked: asked.as_str(),
            answer,
            reason,
            namespace: printable(subject.namespace),
            key: printable(subject.key),
            device: printable(subject.device_id),
            source: subject.source,
            action: subject.act.map(|(action, _)| match action {
                Action::Publish { .. } => "publish",
                Action::Subscribe { .. } => "subscribe",
                Action::Receive => "receive",
            }),
            topic: subject.act.map(|(_, topic)| printable(topic)),
        };
        let mut text = serde_json::to_vec(&line).expect("JSON");
        text.push(b'\n');
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads it may be gone.
        writer.write_all(&text).and_then(|()| writer.flush()).ok();
    }
}

/// Somebody may take a secret for the key or the device ID. What is longer than either is not shown.
fn printable(text: &str) -> &str {
    match text.contains("kws_") || text.len() > LONGEST {
        true => "?",
        false => text,
    }
}

const LONGEST: usize = 1024;
