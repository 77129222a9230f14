//! When to try again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// Before jitter, which makes it a minute at most.
const LONGEST: Duration = Duration::from_secs(48);
/// The same while the API server is away: 10 seconds at most.
const LONGEST_IN_OUTAGE: Duration = Duration::from_secs(8);

/// Counts the failures of one object since its last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff(u32);

impl Backoff {
    /// Counts a failure, and says how long to wait: 1 to 60 seconds, twice as long as before, and
    /// up to a quarter more by `jitter` (0 to 1), so that objects that failed together do not
    /// come back together.
    pub fn fail(&mut self, jitter: f64) -> Duration {
        self.wait_up_to(LONGEST, jitter)
    }

    /// The same for a failure that is the API server's and not the object's: at most 10 seconds,
    /// since all waits for these objects once it is back, and counted no further than that.
    pub fn fail_in_outage(&mut self, jitter: f64) -> Duration {
        self.wait_up_to(LONGEST_IN_OUTAGE, jitter)
    }

    fn wait_up_to(&mut self, longest: Duration, jitter: f64) -> Duration {
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.0));
        if wait < longest {
            self.0 += 1;
        }
        wait.min(longest)
            .mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// Did it fail the last time?
    pub fn is_failing(&self) -> bool {
        self.0 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_one_second_to_a_minute_and_begins_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.fail(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 48, 48, 48]);
        backoff.reset();
        assert!(!backoff.is_failing());
        assert_eq!(backoff.fail(0.0), FIRST);
    }

    #[test]
    fn in_an_outage_waits_ten_seconds_at_most_and_leaves_no_long_wait_behind() {
        let mut backoff = Backoff::default();
        let waits = [0; 5].map(|_| backoff.fail_in_outage(0.0).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 8]);
        assert_eq!(backoff.fail_in_outage(1.0), Duration::from_secs(10));
        assert_eq!(backoff.fail(0.0).as_secs(), 8);
        let mut failing = Backoff(u32::MAX);
        assert_eq!(failing.fail_in_outage(0.0).as_secs(), 8);
        assert_eq!(failing.fail(0.0).as_secs(), 48);
    }

    #[test]
    fn jitter_adds_at_most_a_quarter() {
        assert_eq!(Backoff::default().fail(1.0), Duration::from_millis(1250));
        assert_eq!(Backoff(u32::MAX).fail(1.0), Duration::from_secs(60));
        assert_eq!(Backoff(u32::MAX).fail(7.0), Duration::from_secs(60));
    }
}
