//! How much of the broker's time goes into hashing.

use std::time::Duration;

use crate::clock::Moment;

/// One part of so many.
const PART: u32 = 10;

/// No more than this is saved up, so that a burst of devices stops the broker for no longer.
const MOST: Duration = Duration::from_millis(20);

/// What is left.
#[derive(Debug)]
pub(super) struct Share {
    left: Duration,
    /// What was taken beyond what was left.
    owed: Duration,
    at: Moment,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            left: MOST,
            owed: Duration::ZERO,
            at: Moment::default(),
        }
    }
}

impl Share {
    /// Whether something is left now.
    pub fn is_left(&mut self, now: Moment) -> bool {
        let gained = now.since(self.at) / PART;
        self.at = self.at.max(now);
        let paid = gained.min(self.owed);
        self.owed -= paid;
        self.left = (self.left + (gained - paid)).min(MOST);
        self.owed.is_zero() && !self.left.is_zero()
    }

    /// So long was hashed.
    pub fn take(&mut self, time: Duration) {
        self.owed += time.saturating_sub(self.left);
        self.left = self.left.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    #[test]
    fn a_tenth_of_the_time_is_left_and_a_little_at_once() {
        let mut share = Share::default();
        let hash = Duration::from_micros(500);
        let mut hashed = |from: u64, to: u64| {
            let mut times = 0_u32;
            for now in from..to {
                while share.is_left(at(now)) {
                    share.take(hash);
                    times += 1;
                }
            }
            times
        };
        assert_eq!(hashed(0, 1), 40, "saved up");
        assert_eq!(hashed(1, 1001), 200, "a tenth of a second");
    }

    #[test]
    fn what_took_longer_than_was_left_is_owed() {
        let mut share = Share::default();
        share.take(Duration::from_millis(120));
        assert!(!share.is_left(at(999)));
        assert!(!share.is_left(at(1000)));
        assert!(share.is_left(at(1001)));
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut share = Share::default();
        assert!(share.is_left(at(1000)));
        share.take(MOST);
        assert!(!share.is_left(at(0)));
        assert!(!share.is_left(at(1000)));
    }
}
