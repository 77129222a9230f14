//! Which client is which device, by where the broker keeps the client.
//!
//! The broker says when a client comes and when its connection ends, but not when it forgets the client. So one whose
//! connection has ended is kept for what the broker may still ask about it: until it comes again, its session is known
//! to be over, or too many others have gone since.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::permits::{Asked, Mark, Permits};
use super::{Client, Who};
use crate::policy::Session;
use crate::text::Text;

/// So many are kept of those whose connection has ended.
const MOST_AWAY: usize = 65_536;

/// A client that was admitted.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub client: Client,
    /// Its client ID.
    pub id: Text,
    pub session: Arc<Session>,
    admission: u64,
}

/// What is kept of it.
#[derive(Debug)]
struct Place {
    id: Text,
    key: Text,
    /// No other admission has the same.
    admission: u64,
    session: Arc<Session>,
    /// Its place among those whose connection has ended.
    away: Option<u64>,
}

impl Place {
    fn is_connected(&self) -> bool {
        self.away.is_none()
    }

    fn entry(&self, client: Client) -> Entry {
        Entry {
            client,
            id: self.id.clone(),
            session: Arc::clone(&self.session),
            admission: self.admission,
        }
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Asking {
    /// Somebody who was allowed just this, and still is.
    Again,
    /// Who was admitted with this session.
    Admitted(Arc<Session>, Mark),
    /// Nobody who was admitted here.
    Unknown,
}

/// Those that were admitted.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    places: HashMap<Client, Place>,
    /// The last that was admitted with this client ID.
    by_id: HashMap<Text, Client>,
    /// Whose connection has ended, in that order.
    away: BTreeMap<u64, Client>,
    /// About whom the broker may ask until it ticks, and no longer; and as which admission.
    over: Vec<(Client, u64)>,
    /// What they were allowed.
    permits: Permits,
    last_number: u64,
}

impl Sessions {
    /// A client is admitted, or once more.
    pub fn admit(&mut self, client: Client, id: &str, session: Session) {
        self.remove(client);
        let place = Place {
            id: id.into(),
            key: session.key.clone(),
            admission: self.next_number(),
            session: Arc::new(session),
            away: None,
        };
        let before = self.by_id.insert(place.id.clone(), client);
        self.places.insert(client, place);
        // The broker hands the session of the one before over to it.
        let Some(before) = before else { return };
        if let Some(place) = self.places.get(&before)
            && !place.is_connected()
        {
            self.over.push((before, place.admission));
        }
    }

    /// What is known about who asks this.
    pub fn asking(&mut self, asked: &Asked<'_>) -> Asking {
        let Err(mark) = self.permits.find(asked) else {
            return Asking::Again;
        };
        match self.of(asked.client, asked.who) {
            Some(place) => Asking::Admitted(Arc::clone(&place.session), mark),
            None => Asking::Unknown,
        }
    }

    /// What is asked is allowed, as long as what is known has this version.
    pub fn permit(&mut self, mark: Mark, version: u64) {
        self.permits.put(mark, version);
    }

    fn of(&self, client: Client, who: Who<'_>) -> Option<&Place> {
        let place = self.places.get(&client)?;
        let is_it = place.id.as_bytes() == who.id && place.key.as_bytes() == who.username;
        is_it.then_some(place)
    }

    /// The session of a client.
    pub fn session(&self, client: Client) -> Option<Arc<Session>> {
        let place = self.places.get(&client)?;
        Some(Arc::clone(&place.session))
    }

    /// The session of a client, if it still is who was admitted and its connection has not ended.
    pub fn connected(&self, client: Client, who: Who<'_>) -> Option<Arc<Session>> {
        let place = self.of(client, who)?;
        place.is_connected().then(|| Arc::clone(&place.session))
    }

    /// Whether a session is still there, and the one that its client ID stands for.
    pub fn has(&self, entry: &Entry) -> bool {
        let known = self.places.get(&entry.client);
        known.is_some_and(|known| known.admission == entry.admission && known.is_connected())
            && self.by_id.get(&*entry.id) == Some(&entry.client)
    }

    /// A connection has ended.
    pub fn gone(&mut self, client: Client, is_over: bool) {
        let number = self.next_number();
        let Some(place) = self.places.get_mut(&client) else {
            return;
        };
        if place.is_connected() {
            place.away = Some(number);
            self.away.insert(number, client);
        }
        // Another client may have its ID, and its session.
        if is_over || self.by_id.get(&*place.id) != Some(&client) {
            self.over.push((client, place.admission));
        }
    }

    /// Forgets those that the broker asks about no more.
    pub fn forget(&mut self) {
        for (client, admission) in std::mem::take(&mut self.over) {
            let is_it = |place: &Place| place.admission == admission && !place.is_connected();
            if self.places.get(&client).is_some_and(is_it) {
                self.remove(client);
            }
        }
        while self.away.len() > MOST_AWAY
            && let Some((_, oldest)) = self.away.first_key_value()
        {
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, client: Client) {
        self.permits.forget(client);
        let Some(removed) = self.places.remove(&client) else {
            return;
        };
        if let Some(away) = removed.away {
            self.away.remove(&away);
        }
        if self.by_id.get(&*removed.id) == Some(&client) {
            self.by_id.remove(&*removed.id);
        }
    }

    /// Those whose connection has not ended.
    pub fn all_connected(&self) -> Vec<Entry> {
        let connected = self.places.iter().filter(|(_, place)| place.is_connected());
        connected
            .map(|(client, place)| place.entry(*client))
            .collect()
    }

    /// How many these are.
    pub fn connected_count(&self) -> usize {
        self.places.len() - self.away.len()
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";

    fn session(device: &str) -> Session {
        Session {
            namespace: "plant".into(),
            key: KEY.into(),
            device_id: device.into(),
            class: crate::api::DeviceClass::Standalone,
            revision: Some(1),
            source: None,
        }
    }

    fn admit(sessions: &mut Sessions, client: usize, id: &str) {
        sessions.admit(Client(client), id, session(id));
    }

    fn who<'a>(id: &'a str, key: &'a str) -> Who<'a> {
        Who {
            id: id.as_bytes(),
            username: key.as_bytes(),
            has_address: true,
        }
    }

    fn has(sessions: &Sessions, client: usize, id: &str) -> bool {
        sessions.of(Client(client), who(id, KEY)).is_some()
    }

    #[test]
    fn a_client_is_who_was_admitted_there() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        assert!(has(&sessions, 1, "a"));
        assert!(!has(&sessions, 1, "b"), "another client lies there");
        assert!(!has(&sessions, 2, "a"));
        let other_key = "kwk_00000000000000000000000000";
        assert!(sessions.of(Client(1), who("a", other_key)).is_none());
    }

    #[test]
    fn one_that_is_away_is_kept_until_it_comes_again() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        sessions.gone(Client(1), false);
        sessions.forget();
        assert!(has(&sessions, 1, "a"));
        assert!(sessions.connected(Client(1), who("a", KEY)).is_none());
        assert_eq!(sessions.connected_count(), 0);

        admit(&mut sessions, 2, "a");
        assert!(has(&sessions, 1, "a"), "its will may be sent now");
        sessions.forget();
        assert!(!has(&sessions, 1, "a") && has(&sessions, 2, "a"));
        assert_eq!(sessions.connected_count(), 1);
    }

    #[test]
    fn one_whose_session_is_over_is_kept_until_the_tick() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        sessions.gone(Client(1), true);
        assert!(has(&sessions, 1, "a"), "its will may be sent now");
        sessions.forget();
        assert!(!has(&sessions, 1, "a"));
        assert!(
            sessions.places.is_empty() && sessions.by_id.is_empty() && sessions.away.is_empty()
        );
    }

    #[test]
    fn one_that_is_taken_over_is_forgotten_and_the_other_is_not() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        let first = sessions.all_connected().remove(0);
        admit(&mut sessions, 2, "a");
        assert!(
            !sessions.has(&first),
            "to cut it by its ID would end the other"
        );
        sessions.gone(Client(1), false);
        sessions.forget();
        assert!(!has(&sessions, 1, "a") && has(&sessions, 2, "a"));
        let second = sessions.all_connected().remove(0);
        assert!(sessions.has(&second));
    }

    #[test]
    fn another_client_may_lie_where_one_lay_that_is_over() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        let first = sessions.all_connected().remove(0);
        sessions.gone(Client(1), true);
        admit(&mut sessions, 1, "b");
        sessions.forget();
        assert!(has(&sessions, 1, "b") && !sessions.has(&first));
        assert!(!sessions.by_id.contains_key("a"));
    }

    #[test]
    fn the_same_client_may_be_admitted_again() {
        let mut sessions = Sessions::default();
        admit(&mut sessions, 1, "a");
        let first = sessions.all_connected().remove(0);
        admit(&mut sessions, 1, "a");
        sessions.forget();
        assert!(has(&sessions, 1, "a") && !sessions.has(&first));
        assert_eq!(sessions.connected_count(), 1);
    }

    #[test]
    fn who_went_first_makes_room() {
        let mut sessions = Sessions::default();
        for client in 0..MOST_AWAY + 3 {
            admit(&mut sessions, client, &client.to_string());
            // One that comes and goes takes the place of nobody.
            sessions.gone(Client(client), false);
            admit(&mut sessions, usize::MAX, "restless");
            sessions.gone(Client(usize::MAX), false);
        }
        sessions.forget();
        assert_eq!(sessions.away.len(), MOST_AWAY);
        assert!(
            !has(&sessions, 3, "3")
                && has(&sessions, 4, "4")
                && has(&sessions, usize::MAX, "restless")
        );
    }
}
