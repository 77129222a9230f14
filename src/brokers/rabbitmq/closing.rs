//! Connections that are being closed, or were just now.
//!
//! Sessions are looked at in two ways at once, and RabbitMQ lists for a while what it has closed, and closes it again if it
//! is asked to. So that each cut is one, nobody asks twice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Moment;

/// So long a connection may be listed that is closed.
const LISTED: Duration = Duration::from_secs(1);

/// Which they are, and since when they are closed, those that are.
#[derive(Debug, Default)]
pub struct Closing(Mutex<HashMap<String, Option<Moment>>>);

/// Whose it is to close a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Who asks.
    Own,
    /// Somebody else's, who is about to.
    Others,
    /// Nobody's: it is closed.
    Closed,
}

impl Closing {
    /// Whose turn it is; who asks first closes it.
    pub fn begin(&self, connection: &str, now: Moment) -> Turn {
        let mut closing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|_, closed| closed.is_none_or(|closed| now.since(closed) < LISTED));
        match closing.get(connection) {
            None => {
                closing.insert(connection.to_owned(), None);
                Turn::Own
            }
            Some(None) => Turn::Others,
            Some(Some(_)) => Turn::Closed,
        }
    }

    /// Whoever closed it has: it is closed, or it is somebody else's turn.
    pub fn end(&self, connection: &str, is_closed: bool, now: Moment) {
        let mut closing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is_closed {
            true => closing.insert(connection.to_owned(), Some(now)),
            false => closing.remove(connection),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_once() {
        let closing = Closing::default();
        let at = |millis| Moment::default() + Duration::from_millis(millis);
        assert_eq!(closing.begin("a", at(0)), Turn::Own);
        assert_eq!(closing.begin("a", at(5)), Turn::Others);
        assert_eq!(closing.begin("b", at(5)), Turn::Own);
        closing.end("a", true, at(10));
        assert_eq!(closing.begin("a", at(1009)), Turn::Closed);
        assert_eq!(
            closing.begin("a", at(1010)),
            Turn::Own,
            "another of that name"
        );
        assert_eq!(closing.begin("b", at(60_000)), Turn::Others);
        closing.end("b", false, at(60_000));
        assert_eq!(closing.begin("b", at(60_000)), Turn::Own, "it failed");
    }
}
