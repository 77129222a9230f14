//! What sessions were told that they may send to.
//!
//! RabbitMQ remembers a dozen of these answers for as long as a session is busy, and does not ask again. So they are
//! remembered here, too, until the session is gone, and held against what is known. A gateway knows what it was asked
//! itself since it started.
//!
//! A login forgets nothing: it may vanish before it takes the session over, which then goes on. So a session may seem to
//! send what one before it did. Then it is cut once, and has to come back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Moment;

/// A session that sends to more topics than these has to begin again.
const MOST: usize = 16 * 1024;

/// So long RabbitMQ may not list a session that asks.
const UNLISTED: Duration = Duration::from_secs(10);

/// Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<Mutex<HashMap<Who, Topics>>>);

/// A session, by its key and client ID.
type Who = (String, String);

#[derive(Debug)]
struct Topics {
    topics: HashSet<String>,
    asked: Moment,
}

impl Sent {
    /// Whether a session may ask about one more.
    pub fn has_room(&self, key: &str, client_id: &str) -> bool {
        let sent = self.lock();
        let topics = sent.get(&who(key, client_id));
        topics.is_none_or(|topics| topics.topics.len() < MOST)
    }

    /// A session may send to this.
    pub fn may(&self, key: &str, client_id: &str, topic: &str, now: Moment) {
        let mut sent = self.lock();
        let topics = sent.entry(who(key, client_id));
        let topics = topics.or_insert_with(|| Topics {
            topics: HashSet::new(),
            asked: now,
        });
        topics.topics.insert(topic.to_owned());
        topics.asked = now;
    }

    /// Whether this holds for any topic that a session may send to.
    pub fn any(&self, key: &str, client_id: &str, holds: impl Fn(&str) -> bool) -> bool {
        let sent = self.lock();
        let topics = sent.get(&who(key, client_id));
        topics.is_some_and(|topics| topics.topics.iter().any(|topic| holds(topic)))
    }

    /// A session has ended: what is denied by now was not told to the one that comes next. Of one that has no room left
    /// all is forgotten.
    pub fn forget(&self, key: &str, client_id: &str, is_denied: impl Fn(&str) -> bool) {
        let mut sent = self.lock();
        if let Some(Topics { topics, .. }) = sent.get_mut(&who(key, client_id)) {
            let is_full = topics.len() >= MOST;
            topics.retain(|topic| !is_full && !is_denied(topic));
        }
    }

    /// Forgets sessions that are gone: all but those for which this holds.
    pub fn retain(&self, is_there: impl Fn(&str, &str) -> bool, now: Moment) {
        self.lock().retain(|(key, client_id), topics| {
            now.since(topics.asked) < UNLISTED || is_there(key, client_id)
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Topics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn who(key: &str, client_id: &str) -> Who {
    (key.to_owned(), client_id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_remembered_until_their_session_is_gone() {
        let sent = Sent::default();
        let at = |seconds| Moment::default() + Duration::from_secs(seconds);
        let knows = |id: &str| sent.any("AK", id, |topic| topic == "devices/b/command");
        sent.may("AK", "a", "devices/b/command", at(0));
        sent.may("AK", "b", "devices/b/command", at(8));
        assert!(knows("a") && knows("b") && !knows("c"));
        sent.retain(|_, id| id == "c", at(9));
        assert!(knows("a"), "it is not listed yet");
        sent.retain(|_, id| id == "c", at(10));
        assert!(!knows("a") && knows("b"));
        sent.retain(|_, id| id == "b", at(60));
        assert!(knows("b"));
    }

    #[test]
    fn what_ends_a_session_is_not_held_against_the_next() {
        let sent = Sent::default();
        let (state, command) = ("devices/a/state", "devices/b/command");
        for topic in [state, command] {
            sent.may("AK", "a", topic, Moment::default());
            sent.may("AK", "b", topic, Moment::default());
        }
        let knows = |id: &str, topic: &str| sent.any("AK", id, |known| known == topic);
        sent.forget("AK", "a", |topic| topic == command);
        assert!(knows("a", state), "it may still be busy with it");
        assert!(!knows("a", command));
        assert!(knows("b", command), "it has not ended");
    }

    #[test]
    fn a_session_is_not_remembered_without_end() {
        let sent = Sent::default();
        for number in 0..MOST {
            assert!(sent.has_room("AK", "a"));
            sent.may("AK", "a", &number.to_string(), Moment::default());
        }
        assert!(!sent.has_room("AK", "a"));
        assert!(sent.has_room("AK", "b"));
        sent.forget("AK", "a", |_| false);
        assert!(sent.has_room("AK", "a"), "it begins again");
    }
}
