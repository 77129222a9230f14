//! At which pace sessions are ended that may come back: all at once would be a storm.

use std::time::Duration;

use crate::clock::Moment;

/// So many a second, and no more than a second's worth at once.
#[derive(Debug)]
pub struct Pace {
    per_second: u32,
    /// When all of a second's worth is there, or was.
    full: Moment,
}

impl Pace {
    /// So many a second.
    pub fn of(per_second: u32) -> Pace {
        Pace {
            per_second,
            full: Moment::default(),
        }
    }

    /// Takes so many, or as many as there are now.
    pub fn take(&mut self, wanted: usize, now: Moment) -> usize {
        let each = Duration::from_secs(1) / self.per_second.max(1);
        let missing = self.full.since(now);
        let there = Duration::from_secs(1).saturating_sub(missing);
        let there =
            usize::try_from(there.as_nanos() / each.as_nanos().max(1)).unwrap_or(usize::MAX);
        let taken = there.min(wanted);
        let worth = each.saturating_mul(u32::try_from(taken).unwrap_or(u32::MAX));
        self.full = self.full.max(now) + worth;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_a_second() {
        let mut pace = Pace::of(100);
        let at = |millis| Moment::default() + Duration::from_millis(millis);
        assert_eq!(pace.take(30, at(0)), 30);
        assert_eq!(pace.take(1000, at(0)), 70);
        assert_eq!(pace.take(1000, at(5)), 0);
        assert_eq!(pace.take(1000, at(500)), 50);
        assert_eq!(pace.take(7, at(90_000)), 7);
        assert_eq!(pace.take(1000, at(90_000)), 93);
    }
}
