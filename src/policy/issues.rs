//! Which issues of a key are accepted, and when others ended: for brokers that do not say which secret admitted a session.

use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

use super::KeyRecord;
use crate::api::AccessKey;

/// The issues of a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Issues {
    /// Those that are accepted now.
    pub accepted: Vec<i32>,
    /// When the last of the others ended, at the latest, as far as it is known.
    pub ended: Option<Timestamp>,
    /// When the next of these ends, or the key.
    pub ends: Option<Timestamp>,
}

impl KeyRecord {
    /// Its issues, as they are now.
    pub fn issues(&self, now: Timestamp) -> Issues {
        let accepted = self.verifiers().iter();
        let accepted = accepted.filter(|verifier| verifier.is_valid(|| now));
        let until = self.verifiers().iter();
        let until = until.filter_map(|verifier| verifier.valid_until());
        let (over, to_come): (Vec<_>, Vec<_>) = until
            .chain(self.expires_at())
            .partition(|until| *until <= now);
        let dropped = self.dropped.time().filter(|end| *end <= now);
        Issues {
            accepted: accepted.map(|verifier| verifier.revision).collect(),
            ended: over.into_iter().chain(dropped).max(),
            ends: to_come.into_iter().min(),
        }
    }
}

/// When issues ended that the status does not name any more, in seconds, which have room beside what a decision reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped(Option<NonZeroU32>);

impl Dropped {
    /// The issue before the oldest that is named had the overlap that the spec says; none, if that one was taken over.
    pub fn of(access_key: &AccessKey) -> Dropped {
        let verifiers = access_key.status.iter();
        let oldest = verifiers.flat_map(|status| status.verifiers.first()).next();
        let Some(oldest) = oldest.filter(|oldest| oldest.revision > 1) else {
            return Dropped(None);
        };
        let overlap = match oldest.check {
            Some(_) => SignedDuration::try_from(access_key.spec.rotation.overlap.0),
            None => Ok(SignedDuration::ZERO),
        };
        let end = oldest
            .issued_at
            .0
            .saturating_add(overlap.unwrap_or_default());
        let seconds = end.map_or(0, Timestamp::as_second);
        Dropped(u32::try_from(seconds).ok().and_then(NonZeroU32::new))
    }

    fn time(self) -> Option<Timestamp> {
        let seconds = self.0?.get();
        Timestamp::from_second(seconds.into()).ok()
    }
}
