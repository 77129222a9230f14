//! When a key gets a new secret by itself, `spec.rotation.every`, and for how long the one before is
//! accepted. Pure.
//!
//! The time of the next rotation stands in the status, written once, so that restarts do not move
//! it. It is counted from when the newest secret was issued, and is up to a tenth of `every` later:
//! never earlier, so that an overlap of three times `every` is kept with four secrets. What is drawn
//! within that tenth follows from the newest secret's digest: keys that were issued together rotate
//! apart, and every controller draws the same.
//!
//! No memory of an earlier `every` is needed: a time that is sooner or later than `every` allows is
//! one that was set for another, or by a clock that went wrong, and is set anew.

use jiff::{SignedDuration, Timestamp};

use super::life::{Life, Phase, SKEW};
use crate::api::{AccessKey, GoDuration, KeyState};

/// What the spec says of new secrets for a key that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// How long the secret before stays valid.
    pub overlap: SignedDuration,
    /// How often there is a new one by itself; none: never.
    pub every: Option<SignedDuration>,
    /// When the key may be used; none: never, its state is `Inactive`.
    pub life: Option<Life>,
}

/// The newest secret that is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    /// When it was issued.
    pub at: Timestamp,
    /// A number that nobody chose.
    pub draw: u64,
}

impl Rotation {
    /// Of this key.
    pub fn of(key: &AccessKey) -> Rotation {
        let rotation = &key.spec.rotation;
        Rotation {
            overlap: signed(rotation.overlap),
            every: rotation.every.map(signed),
            life: (key.spec.state == KeyState::Active).then(|| Life::of(key)),
        }
    }

    /// Is a new secret due, where the status says `next`? The secret of a key that nobody may use
    /// stays the same: whoever makes it active again, or extends it, finds it as it was.
    pub fn is_due(&self, next: Option<Timestamp>, now: Timestamp) -> bool {
        let may_be_used = self
            .life
            .is_some_and(|life| matches!(life.phase(now), Phase::Valid | Phase::ExpiringSoon(_)));
        may_be_used && self.every.is_some() && next.is_some_and(|next| next <= now)
    }

    /// What the status should say of the next rotation, where it says `known`: that, if it fits. One
    /// that is overdue when the schedule begins is still drawn from a tenth of `every`.
    pub fn next(
        &self,
        known: Option<Timestamp>,
        newest: Option<Newest>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let (every, newest) = (self.every?, newest?);
        if known.is_some_and(|known| fits(known, every, newest.at, now)) {
            return known;
        }
        let first = later(begin(newest.at, every, now), every);
        let next = later(first.max(now), spread(every, newest.draw));
        Some(whole_second(next))
    }

    /// When it is due after one that was left out now.
    pub fn after_skip(&self, newest: Option<Newest>, now: Timestamp) -> Option<Timestamp> {
        let (every, newest) = (self.every?, newest?);
        let next = later(later(now, every), spread(every, newest.draw));
        Some(whole_second(next))
    }
}

/// Is it no sooner than `every` after the newest secret was issued, and no later than `every` and a
/// tenth from now?
fn fits(next: Timestamp, every: SignedDuration, at: Timestamp, now: Timestamp) -> bool {
    let begin = begin(at, every, now);
    let tenth_and_rounding = every / 10 + SignedDuration::from_secs(1);
    let latest = later(later(begin.max(now), every), tenth_and_rounding);
    let is_early = at <= now && next < later(at, every);
    !is_early && next <= later(latest, SKEW)
}

/// From when an interval counts: a secret that was issued further in the future than an interval was
/// issued by a clock that went wrong.
fn begin(at: Timestamp, every: SignedDuration, now: Timestamp) -> Timestamp {
    if at > later(now, every) { now } else { at }
}

/// Up to a tenth of `every`, in whole seconds.
fn spread(every: SignedDuration, draw: u64) -> SignedDuration {
    let tenth = u64::try_from(every.as_secs() / 10).unwrap_or(0);
    let part = (u128::from(tenth) * u128::from(draw)) >> u64::BITS;
    SignedDuration::from_secs(i64::try_from(part).unwrap_or(0))
}

/// The first whole second that is not before `time`: a status holds seconds, and what it promises is
/// never cut short.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    let up = i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(time.as_second().saturating_add(up)).unwrap_or(Timestamp::MAX)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn signed(duration: GoDuration) -> SignedDuration {
    SignedDuration::try_from(duration.0).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: SignedDuration = SignedDuration::from_hours(1);

    fn hour(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    fn every(hours: i64) -> Rotation {
        Rotation {
            overlap: SignedDuration::ZERO,
            every: Some(SignedDuration::from_hours(hours)),
            life: Some(Life::default()),
        }
    }

    fn issued(at: i64) -> Option<Newest> {
        Some(Newest {
            at: hour(at),
            draw: 0,
        })
    }

    #[test]
    fn what_is_drawn_is_at_most_a_tenth_later_and_never_sooner() {
        let next = |draw| {
            let newest = Newest { at: hour(0), draw };
            every(10).next(None, Some(newest), hour(0))
        };
        assert_eq!(next(0), Some(hour(10)));
        assert_eq!(
            next(u64::MAX / 2),
            Some(hour(10) + TENTH / 2 - SignedDuration::from_secs(1))
        );
        let last = hour(11) - SignedDuration::from_secs(1);
        assert_eq!(next(u64::MAX), Some(last));
    }

    #[test]
    fn a_time_is_kept_while_it_fits_and_set_anew_when_it_does_not() {
        // What the status says, of a secret issued at hour 0, at this hour; and what it is to say.
        let rows = [
            ("there is none", 1, None, Some(10)),
            ("it was set", 1, Some(10), Some(10)),
            ("it was drawn late", 1, Some(11), Some(11)),
            ("it is due", 10, Some(10), Some(10)),
            ("it was due long ago", 99, Some(10), Some(10)),
            ("it is one after a skip", 12, Some(22), Some(22)),
            ("every was longer", 1, Some(20), Some(10)),
            (
                "every was longer, and a turn is overdue",
                90,
                Some(120),
                Some(90),
            ),
            ("every was shorter", 1, Some(5), Some(10)),
            ("there was none, and a turn is overdue", 99, None, Some(99)),
            ("the clock was turned back", -5, Some(10), Some(10)),
        ];
        for (case, now, known, next) in rows {
            let found = every(10).next(known.map(hour), issued(0), hour(now));
            assert_eq!(found, next.map(hour), "{case}");
            let again = every(10).next(found, issued(0), hour(now));
            assert_eq!(again, found, "{case}");
        }
    }

    #[test]
    fn without_a_schedule_or_a_secret_there_is_no_time() {
        let known = Some(hour(10));
        let never = Rotation {
            every: None,
            ..every(10)
        };
        assert_eq!(never.next(known, issued(0), hour(1)), None);
        assert_eq!(every(10).next(known, None, hour(1)), None);
        assert_eq!(never.after_skip(issued(0), hour(1)), None);
        assert!(!never.is_due(known, hour(99)));
    }

    /// Else the key would not rotate before its own clock is there, which may take years.
    #[test]
    fn a_secret_that_was_issued_by_a_clock_far_ahead_counts_from_now() {
        let next = every(10).next(Some(hour(1010)), issued(1000), hour(0));
        assert_eq!(next, Some(hour(10)));
        for now in [0, 5, 10] {
            assert_eq!(every(10).next(next, issued(1000), hour(now)), next);
        }
    }

    #[test]
    fn what_a_clock_that_is_ahead_has_set_is_kept() {
        let ahead = hour(0) + SKEW;
        let newest = Newest {
            at: ahead,
            draw: u64::MAX,
        };
        let set = every(10).next(None, Some(newest), ahead);
        assert_eq!(every(10).next(set, Some(newest), hour(0)), set);
        let newest = Newest {
            at: hour(-10),
            ..newest
        };
        let skipped = every(10).after_skip(Some(newest), ahead);
        assert_eq!(every(10).next(skipped, Some(newest), hour(0)), skipped);
    }

    #[test]
    fn a_key_that_nobody_may_use_does_not_rotate() {
        let key = |begin: Option<i64>, end: Option<i64>| {
            let key = serde_json::json!({
                "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": "key" },
                "spec": {
                    "restrictions": { "allDevices": true }, "rotation": { "every": "10h", "overlap": "1h" },
                    "notBefore": begin.map(hour), "expiresAt": end.map(hour),
                },
            });
            serde_json::from_value::<AccessKey>(key).expect("an AccessKey")
        };
        let inactive = |mut key: AccessKey| {
            key.spec.state = KeyState::Inactive;
            key
        };
        let rows = [
            ("active", key(None, None), true),
            ("in its time", key(Some(1), Some(99)), true),
            ("expiring soon", key(Some(1), Some(11)), true),
            ("not yet valid", key(Some(11), None), false),
            ("expired", key(None, Some(10)), false),
            ("inactive", inactive(key(None, None)), false),
        ];
        for (case, key, due) in rows {
            let rotation = Rotation::of(&key);
            assert_eq!(rotation.is_due(Some(hour(10)), hour(10)), due, "{case}");
            assert!(!rotation.is_due(Some(hour(10)), hour(9)), "{case}");
            assert!(!rotation.is_due(None, hour(99)), "{case}");
        }
    }

    #[test]
    fn no_length_of_time_is_too_long() {
        let longest = Rotation {
            every: Some(SignedDuration::MAX),
            ..every(10)
        };
        assert_eq!(
            longest.next(None, issued(0), hour(0)),
            Some(whole_second(Timestamp::MAX))
        );
    }
}
