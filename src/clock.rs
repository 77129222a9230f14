//! Time, as something that is handed in, so that a test can move it.
//!
//! Whatever decides takes a [`Now`]; only the outermost code holds a [`Clock`]. Lengths of time are
//! measured on the monotonic side ([`Moment`]), which no administrator and no time server can turn
//! back. The wall clock is for what the API speaks of: `validUntil`, and what people read.

use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Tells the time; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

impl Clock {
    /// The machine's clocks. [`Moment`]s count from this call.
    pub fn system() -> Self {
        Self(Source::System(read(ClockId::Monotonic)))
    }

    /// A clock that stands still at `start` until its [`ManualClock`] moves it.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let now = Now {
            monotonic: Moment::default(),
            wall: start,
        };
        let shared = Arc::new(Mutex::new(now));
        (
            Self(Source::Manual(Arc::clone(&shared))),
            ManualClock(shared),
        )
    }

    /// Both clocks, read at once.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System(start) => Now {
                monotonic: Moment::since_start(*start, ClockId::Monotonic),
                wall: Timestamp::now(),
            },
            Source::Manual(now) => *lock(now),
        }
    }

    /// The monotonic clock alone.
    pub fn monotonic(&self) -> Moment {
        match &self.0 {
            Source::System(start) => Moment::since_start(*start, ClockId::Monotonic),
            Source::Manual(now) => lock(now).monotonic,
        }
    }

    /// The monotonic clock as it was a few milliseconds ago: at the last tick of the kernel, which
    /// is told in a fraction of the time. See `CLOCK_MONOTONIC_COARSE` in clock_gettime(2).
    pub fn coarse(&self) -> Moment {
        match &self.0 {
            Source::System(start) => Moment::since_start(*start, ClockId::MonotonicCoarse),
            Source::Manual(now) => lock(now).monotonic,
        }
    }

    /// The wall clock alone.
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::System(_) => Timestamp::now(),
            Source::Manual(now) => lock(now).wall,
        }
    }
}

/// Moves the clock that it was made with.
#[derive(Debug)]
pub struct ManualClock(Arc<Mutex<Now>>);

impl ManualClock {
    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut now = lock(&self.0);
        now.monotonic = now.monotonic + by;
        now.wall = later(now.wall, by);
    }

    /// Sets the wall clock alone, as an administrator or a time server does.
    pub fn set_wall(&self, wall: Timestamp) {
        lock(&self.0).wall = wall;
    }
}

/// One reading of a [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Now {
    /// For measuring how long something takes.
    pub monotonic: Moment,
    /// For what the API says about dates.
    pub wall: Timestamp,
}

/// A point on the monotonic clock: how long after the [`Clock`] was made. Moments of different
/// clocks, or of different runs of the process, do not compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    fn since_start(start: Duration, clock: ClockId) -> Self {
        Self(read(clock).saturating_sub(start))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

#[derive(Clone, Debug)]
enum Source {
    /// When the clock was made, on the machine's monotonic one.
    System(Duration),
    Manual(Arc<Mutex<Now>>),
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    // Neither is ever negative on a monotonic clock.
    Duration::new(tv_sec.cast_unsigned(), tv_nsec as u32)
}

fn later(wall: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    wall.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        let before = clock.now();
        assert_eq!(clock.now(), before);

        hand.advance(SECOND);
        let after = clock.clone().now();
        assert_eq!(after.monotonic.since(before.monotonic), SECOND);
        assert_eq!(after.wall.as_second(), 1);
    }

    #[test]
    fn setting_the_wall_clock_back_leaves_the_monotonic_one() {
        let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
        hand.advance(SECOND);
        hand.set_wall(Timestamp::MIN);
        assert_eq!(clock.now().monotonic, Moment::default() + SECOND);
        assert_eq!(clock.now().wall, Timestamp::MIN);
    }

    #[test]
    fn neither_end_of_time_overflows() {
        let start = Moment::default();
        let end = start + Duration::MAX;
        assert_eq!(end + SECOND, end);
        assert_eq!(start.since(end), Duration::ZERO);

        let (clock, hand) = Clock::manual(Timestamp::MAX);
        hand.advance(Duration::MAX);
        assert_eq!(clock.now().wall, Timestamp::MAX);
    }

    #[test]
    fn the_system_clock_goes_forward() {
        let clock = Clock::system();
        let first = clock.now().monotonic;
        assert!(clock.now().monotonic >= first);
        let coarse = clock.coarse();
        assert!(coarse <= clock.monotonic(), "it is behind");
    }
}
