//! When the sessions of a broker are held against what is known.
//!
//! To cut sessions is a reconciliation, not an event. All of them are looked at: at the start, after each change, again
//! two and ten seconds after it (a session may have begun meanwhile, or the broker's list lag behind), when one of them
//! ends by the clock, and every minute. So is it when the broker itself has changed.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use crate::clock::{Clock, Moment};
use crate::gateway::Authenticator;

/// Looked at again so long after a change.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// Looked at so often if nothing happens.
const EVERY: Duration = Duration::from_secs(60);

/// After a look, so many times as long as it took nobody looks again, however often something changes.
const REST: u32 = 9;

/// The same after a look that failed, which has waited more than it has looked.
const REST_IF_FAILED: u32 = 1;

/// After a look that failed, the next comes so soon.
const RETRY: Duration = Duration::from_secs(1);

/// What came of a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// All sessions were seen, and those that are to end have ended, or will. The first of the others ends by the
    /// clock at this time, if any does.
    All(Option<Moment>),
    /// The broker was away, or has not confirmed a cut.
    NotAll,
}

/// Has `look` look whenever it is time to. Ends when nobody changes anything any more: never, while a gateway runs.
pub async fn keep_looking(
    authenticator: &Authenticator,
    clock: &Clock,
    look: impl AsyncFnMut() -> Seen,
) {
    keep_looking_at(&Notify::new(), authenticator, clock, look).await;
}

/// The same, of a broker that may itself change, and tells.
pub async fn keep_looking_at(
    broker: &Notify,
    authenticator: &Authenticator,
    clock: &Clock,
    mut look: impl AsyncFnMut() -> Seen,
) {
    let mut changes = authenticator.changes();
    authenticator.until_ready().await;
    let mut looks = Looks::default();
    loop {
        let wait = looks.due().since(clock.monotonic());
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                let begun = clock.monotonic();
                let seen = look().await;
                looks.looked(begun, clock.monotonic(), seen);
            }
            () = broker.notified() => looks.changed(clock.monotonic()),
            change = changes.recv() => match change {
                Ok(_) | Err(RecvError::Lagged(_)) => looks.changed(clock.monotonic()),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Knows when to look next.
#[derive(Debug, Default)]
pub struct Looks {
    changed: Option<Moment>,
    last: Option<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    begun: Moment,
    done: Moment,
    seen: Seen,
}

impl Looks {
    /// Something has changed.
    pub fn changed(&mut self, now: Moment) {
        self.changed = Some(now);
    }

    /// There was a look.
    pub fn looked(&mut self, begun: Moment, done: Moment, seen: Seen) {
        self.last = Some(Look { begun, done, seen });
    }

    /// When to look next.
    pub fn due(&self) -> Moment {
        let Some(Look { begun, done, seen }) = self.last else {
            return Moment::default();
        };
        let rest = match seen {
            Seen::All(_) => REST,
            Seen::NotAll => REST_IF_FAILED,
        };
        let rested = done + done.since(begun) * rest;
        let after_change = self.changed.and_then(|changed| {
            let mut times = AGAIN.iter().map(|later| changed + *later);
            match begun <= changed {
                true => Some(changed),
                false => times.find(|time| begun < *time),
            }
        });
        let of_itself = match seen {
            Seen::All(ends) => ends,
            Seen::NotAll => Some(done + RETRY),
        };
        let due = [after_change, of_itself, Some(begun + EVERY)];
        let due = due.into_iter().flatten().min();
        due.unwrap_or_default().max(rested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    /// Each look takes 10 ms.
    fn look(looks: &mut Looks, begun: Moment) {
        let done = begun + Duration::from_millis(10);
        looks.looked(begun, done, Seen::All(None));
    }

    #[test]
    fn the_first_look_is_due_at_once_and_then_one_a_minute() {
        let mut looks = Looks::default();
        assert_eq!(looks.due(), at(0));
        look(&mut looks, at(5));
        assert_eq!(looks.due(), at(60_005));
        look(&mut looks, at(61_000));
        assert_eq!(looks.due(), at(121_000));
    }

    #[test]
    fn a_change_is_looked_at_at_once_and_twice_again() {
        let mut looks = Looks::default();
        look(&mut looks, at(0));
        looks.changed(at(1000));
        for due in [1000, 3000, 11_000, 71_000] {
            assert_eq!(looks.due(), at(due));
            look(&mut looks, at(due + 1));
            if due == 11_000 {
                assert_eq!(looks.due(), at(71_001));
                break;
            }
        }
    }

    #[test]
    fn a_change_in_the_course_of_a_look_is_looked_at_after_it() {
        let mut looks = Looks::default();
        looks.changed(at(105));
        look(&mut looks, at(100));
        assert_eq!(looks.due(), at(200), "rested");
    }

    #[test]
    fn changes_without_end_take_no_more_than_their_part() {
        let mut looks = Looks::default();
        look(&mut looks, at(0));
        for change in 0..50 {
            looks.changed(at(11 + change));
        }
        assert_eq!(looks.due(), at(100));
    }

    #[test]
    fn the_end_of_a_session_is_looked_at() {
        let mut looks = Looks::default();
        looks.looked(at(0), at(0), Seen::All(Some(at(7000))));
        assert_eq!(looks.due(), at(7000));
        looks.looked(at(7000), at(7000), Seen::All(None));
        assert_eq!(looks.due(), at(67_000));
    }

    #[test]
    fn a_look_that_failed_is_soon_followed_by_another() {
        let mut looks = Looks::default();
        looks.looked(at(0), at(10), Seen::NotAll);
        assert_eq!(looks.due(), at(1010));
        looks.looked(at(1010), at(1020), Seen::All(None));
        assert_eq!(looks.due(), at(61_010));
        // However long it has waited in vain.
        looks.looked(at(61_010), at(63_010), Seen::NotAll);
        looks.changed(at(62_000));
        assert_eq!(looks.due(), at(65_010));
    }
}
