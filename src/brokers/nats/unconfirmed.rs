//! Cuts that servers were asked for, and have not confirmed.
//!
//! A server that hangs may do what it was asked for when nobody waits for its answer any more. So a session that it does
//! not list then was cut: it counts, and is written down.

use std::collections::{HashMap, HashSet};

use super::sessions::Connection;

/// So many are remembered. Of servers that never come back nobody hears any more.
const MOST: usize = 65_536;

/// What was to be cut, by server and number of the connection.
#[derive(Debug)]
pub struct Unconfirmed<T>(HashMap<(String, u64), T>);

impl<T> Default for Unconfirmed<T> {
    fn default() -> Unconfirmed<T> {
        Unconfirmed(HashMap::new())
    }
}

impl<T> Unconfirmed<T> {
    /// A server has not answered.
    pub fn put(&mut self, server: &str, cid: u64, cut: T) {
        if self.0.len() < MOST {
            self.0.insert((server.to_owned(), cid), cut);
        }
    }

    /// It has answered.
    pub fn take(&mut self, server: &str, cid: u64) -> Option<T> {
        self.0.remove(&(server.to_owned(), cid))
    }

    /// A server lists these, and no others: what else it was to cut it has cut.
    pub fn take_all_but(&mut self, server: &str, listed: &[Connection]) -> Vec<T> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let listed: HashSet<u64> = listed.iter().map(|connection| connection.cid).collect();
        let is_cut = |(at, cid): &(String, u64), _: &mut T| at == server && !listed.contains(cid);
        self.0.extract_if(is_cut).map(|(_, cut)| cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_list_any_more_was_cut() {
        let mut unconfirmed = Unconfirmed::default();
        for (server, cid) in [("A", 1), ("A", 2), ("A", 3), ("B", 1)] {
            unconfirmed.put(server, cid, (server, cid));
        }
        assert_eq!(unconfirmed.take("A", 3), Some(("A", 3)));
        assert_eq!(unconfirmed.take("A", 3), None);
        let listed = [Connection::of(2, "", String::new())];
        assert_eq!(unconfirmed.take_all_but("A", &listed), [("A", 1)]);
        assert!(unconfirmed.take_all_but("A", &listed).is_empty());
        assert_eq!(unconfirmed.take_all_but("B", &listed), [("B", 1)]);
        assert_eq!(unconfirmed.take("A", 2), Some(("A", 2)));
    }
}
