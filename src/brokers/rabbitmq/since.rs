//! Since when a session has to be connected to have been admitted by a secret that is still accepted.
//!
//! RabbitMQ does not list by which issue of a key a session was admitted, and several gateways admit sessions. But it lists
//! when a session began, which is before it was admitted. So when an issue ends, all sessions of the key end that began
//! before: those that have the newer secret come back.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::policy::{Issues, Session};
use crate::text::Text;

/// A gateway that is gone may have admitted somebody for so long after an issue had ended.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of a key is kept for so long after its last session was seen.
const KEPT: Duration = Duration::from_secs(600);

/// What was known of the keys of sessions when these were last looked at.
#[derive(Debug, Default)]
pub struct Since(HashMap<(Text, Text), Known>);

#[derive(Debug)]
struct Known {
    accepted: Vec<i32>,
    since: Option<Timestamp>,
    seen: Timestamp,
}

impl Since {
    /// Since when a session has to be connected whose key has these issues; none if it does not matter.
    pub fn of(&mut self, session: &Session, issues: &Issues, now: Timestamp) -> Option<Timestamp> {
        let key = (session.namespace.clone(), session.key.clone());
        let known = self.0.entry(key).or_insert_with(|| Known {
            accepted: Vec::new(),
            since: issues.ended.map(|ended| (ended + GRACE).min(now)),
            seen: now,
        });
        let has_ended = |issue: &i32| !issues.accepted.contains(issue);
        if known.accepted.iter().any(has_ended) {
            known.since = Some(now);
        }
        known.accepted.clone_from(&issues.accepted);
        known.seen = now;
        known.since
    }

    /// Forgets keys that have no sessions any more.
    pub fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, known| now < known.seen + KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DeviceClass;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn session() -> Session {
        Session {
            namespace: "plant".into(),
            key: "AK".into(),
            device_id: "pump-1".into(),
            class: DeviceClass::default(),
            revision: None,
            source: None,
        }
    }

    fn issues(accepted: &[i32], ended: Option<i64>) -> Issues {
        Issues {
            accepted: accepted.to_vec(),
            ended: ended.map(at),
            ends: None,
        }
    }

    #[test]
    fn sessions_end_that_began_before_an_issue_ended() {
        let mut since = Since::default();
        let mut of = |issues, now| since.of(&session(), &issues, at(now));
        assert_eq!(of(issues(&[1], None), 100), None);
        assert_eq!(of(issues(&[1, 2], None), 110), None, "an overlap");
        assert_eq!(of(issues(&[2], Some(120)), 121), Some(at(121)));
        let later = of(issues(&[2], Some(120)), 200);
        assert_eq!(later, Some(at(121)), "who came back stays");
        assert_eq!(of(issues(&[3], Some(300)), 301), Some(at(301)));
    }

    #[test]
    fn a_gateway_that_was_away_goes_by_what_the_status_says() {
        let of = |ended, now| Since::default().of(&session(), &issues(&[2], ended), at(now));
        assert_eq!(of(None, 100), None);
        assert_eq!(of(Some(50), 100), Some(at(55)));
        assert_eq!(of(Some(99), 100), Some(at(100)), "nobody is cut for ever");
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten() {
        let mut since = Since::default();
        since.of(&session(), &issues(&[1], None), at(0));
        since.forget(at(599));
        assert_eq!(since.0.len(), 1);
        since.forget(at(600));
        assert!(since.0.is_empty());
    }
}
