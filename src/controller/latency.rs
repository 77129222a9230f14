//! How long a secret was waited for.

use std::time::Duration;

use jiff::SignedDuration;

use super::observed::Observed;
use crate::api::AccessKey;
use crate::clock::Now;

/// For how long the secret under way has been waited for: since the AccessKey was made, or since its rotation was begun.
/// The API's times are whole seconds, cut off, so what this process has seen itself is the better measure unless it came
/// late.
pub fn of(key: &AccessKey, observed: &Observed, now: Now) -> Duration {
    let (memory, ledger) = (&observed.memory, &observed.view.ledger);
    let (asked, seen) = if ledger.revision == 0 {
        let seen = memory.object.as_ref();
        let seen = seen.map(|(_, seen)| now.monotonic.since(*seen));
        (key.metadata.creation_timestamp.as_ref(), seen)
    } else {
        let first = ledger.attempts().first();
        let seen = first.map(|first| memory.age_of(*first, now.monotonic));
        let issuance = key.status.iter().flat_map(|status| &status.issuance);
        let mut attempts = issuance.flat_map(|issuance| &issuance.attempts);
        (attempts.next().map(|first| &first.at), seen)
    };
    let second = SignedDuration::from_secs(1);
    let by_times = asked.map(|asked| now.wall.duration_since(asked.0) - second);
    let by_times = by_times.and_then(|waited| Duration::try_from(waited).ok());
    by_times.into_iter().chain(seen).max().unwrap_or_default()
}
