//! Which sessions there are, as far as one remembers: so that those of a key that changes can end at once.
//!
//! To ask a server for all of its sessions takes the longer the more there are, and is not done without a rest. That is
//! what decides; what stands here is what it told the last time, and who was admitted here since. A session that is
//! missing ends later, and one that is not there any more cannot be ended.

use std::collections::HashMap;

use super::sessions::Connection;
use crate::text::Text;

/// Of no more sessions of a server is anything remembered.
const MOST: usize = 65_536;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Known {
    servers: HashMap<String, Sessions>,
    time: u64,
}

/// Those of a server.
#[derive(Debug, Default)]
struct Sessions {
    by_key: HashMap<Text, Vec<(u64, Connection)>>,
    many: usize,
}

/// When a server was asked for its list.
#[derive(Clone, Copy, Debug)]
pub struct Asked(u64);

impl Known {
    /// A server is asked for all that it has.
    pub fn ask(&mut self) -> Asked {
        self.time += 1;
        Asked(self.time)
    }

    /// It has told. Who was admitted since it was asked may be missing in what it says.
    pub fn told(&mut self, server: &str, asked: Asked, connections: Vec<Connection>) {
        let before = self.servers.remove(server).unwrap_or_default();
        let mut sessions = Sessions::default();
        for connection in connections {
            sessions.add(asked.0, connection);
        }
        let before = before.by_key.into_values().flatten();
        for (time, connection) in before.filter(|(time, _)| *time >= asked.0) {
            sessions.add(time, connection);
        }
        self.servers.insert(server.to_owned(), sessions);
    }

    /// A server is told that it may admit this one.
    pub fn admit(&mut self, server: &str, connection: Connection) {
        let time = self.time;
        let sessions = self.servers.entry(server.to_owned()).or_default();
        sessions.add(time, connection);
    }

    /// The sessions of a key, by server.
    pub fn of(&self, key: &str) -> Vec<(String, Vec<Connection>)> {
        let servers = self.servers.iter();
        let of_key = servers.filter_map(|(server, sessions)| {
            let connections = sessions.by_key.get(key)?.iter();
            let connections = connections.map(|(_, connection)| connection.clone());
            Some((server.clone(), connections.collect()))
        });
        of_key.collect()
    }

    /// Forgets what servers have that are not among these.
    pub fn retain(&mut self, servers: &[String]) {
        self.servers.retain(|server, _| servers.contains(server));
    }
}

impl Sessions {
    fn add(&mut self, time: u64, connection: Connection) {
        let Some(name) = connection.name() else {
            return;
        };
        if self.many == MOST {
            return;
        }
        self.many += 1;
        let key = name.key.into();
        self.by_key.entry(key).or_default().push((time, connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(cid: u64, key: &str) -> Connection {
        let name = format!("pump-1/1/{}/{key}", "0".repeat(32));
        Connection::of(cid, "127.0.0.1", name)
    }

    /// The numbers of the connections of a key, by server.
    fn of(known: &Known, key: &str) -> Vec<(String, Vec<u64>)> {
        let of_key = known.of(key).into_iter();
        let numbers = of_key.map(|(server, connections)| {
            let mut numbers: Vec<_> = connections.iter().map(|one| one.cid).collect();
            numbers.sort_unstable();
            (server, numbers)
        });
        let mut all: Vec<_> = numbers.collect();
        all.sort();
        all
    }

    #[test]
    fn what_a_server_tells_takes_the_place_of_what_was_known_before_it_was_asked() {
        let mut known = Known::default();
        known.admit("A", connection(1, "one"));
        known.admit("B", connection(1, "one"));
        let asked = known.ask();
        known.admit("A", connection(2, "one"));
        known.told("A", asked, vec![connection(3, "one"), connection(4, "two")]);
        let [a, b] = ["A", "B"].map(str::to_owned);
        assert_eq!(of(&known, "one"), [(a.clone(), vec![2, 3]), (b, vec![1])]);
        assert_eq!(of(&known, "two"), [(a.clone(), vec![4])]);
        known.retain(std::slice::from_ref(&a));
        assert_eq!(of(&known, "one"), [(a, vec![2, 3])]);
        let asked = known.ask();
        known.told("A", asked, Vec::new());
        assert!(of(&known, "one").is_empty() && of(&known, "two").is_empty());
    }

    #[test]
    fn others_are_not_remembered_and_no_more_than_so_many() {
        let mut known = Known::default();
        known.admit("A", Connection::of(1, "", "backend".to_owned()));
        assert!(of(&known, "").is_empty());
        for cid in 0..MOST as u64 + 5 {
            known.admit("A", connection(cid, "one"));
        }
        assert_eq!(known.of("one")[0].1.len(), MOST);
    }
}
