//! What of a key changes by the clock alone: whether its time has begun, is nearly over, or is over.

use jiff::{SignedDuration, Timestamp};

use crate::api::AccessKey;

/// The last tenth of a key's life is when it is said to expire soon, but no more than this.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Clocks of controllers that run at once differ by less.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// When a key's time begins, is nearly over, and is over. By default it does none of them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Life {
    begin: Option<Timestamp>,
    soon: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// Where in its life a key is, and until or since when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Its time begins then.
    NotYetValid(Timestamp),
    /// Its time has begun, and is not nearly over.
    Valid,
    /// Its time is over then.
    ExpiringSoon(Timestamp),
    /// Its time was over then.
    Expired(Timestamp),
}

impl Life {
    /// Of this key. It counts from when the key may be used, or was made if that is later.
    pub fn of(key: &AccessKey) -> Life {
        let begin = key.spec.not_before.as_ref().map(|time| time.0);
        let end = key.spec.expires_at.as_ref().map(|time| time.0);
        let made = key.metadata.creation_timestamp.as_ref();
        let from = begin.max(made.map(|time| time.0));
        let notice = |end: Timestamp| {
            let life = from.map_or(SignedDuration::MAX, |from| end.duration_since(from));
            (life / 10).clamp(SignedDuration::ZERO, SOON)
        };
        Life {
            begin,
            soon: end.map(|end| end.checked_sub(notice(end)).unwrap_or(end)),
            end,
        }
    }

    /// Where in its life it is, as gateways judge it.
    pub fn phase(&self, now: Timestamp) -> Phase {
        match *self {
            Life {
                begin: Some(begin), ..
            } if now < begin => Phase::NotYetValid(begin),
            Life { end: Some(end), .. } if end <= now => Phase::Expired(end),
            Life {
                soon: Some(soon),
                end: Some(end),
                ..
            } if soon <= now => Phase::ExpiringSoon(end),
            _ => Phase::Valid,
        }
    }

    /// When that changes next.
    pub fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        let turns = [self.begin, self.soon, self.end].into_iter().flatten();
        turns.filter(|turn| now < *turn).min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn life(not_before: Option<&str>, expires_at: Option<&str>) -> Life {
        let key = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": "key", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": {
                "restrictions": { "allDevices": true }, "notBefore": not_before, "expiresAt": expires_at,
            },
        });
        Life::of(&serde_json::from_value(key).expect("an AccessKey"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_key_without_times_is_valid_for_ever() {
        let life = life(None, None);
        for now in [Timestamp::MIN, at("2026-01-01T00:00:00Z"), Timestamp::MAX] {
            assert_eq!(life.phase(now), Phase::Valid);
            assert_eq!(life.next_turn(now), None);
        }
    }

    #[test]
    fn its_phases_follow_each_other() {
        // Ten hours from its beginning, so that the last hour is the last tenth.
        let [before, begin] = ["2026-02-01T07:59:59.999Z", "2026-02-01T08:00:00Z"];
        let [late, soon] = ["2026-02-01T16:59:59.999Z", "2026-02-01T17:00:00Z"];
        let [last, end] = ["2026-02-01T17:59:59.999Z", "2026-02-01T18:00:00Z"];
        let life = life(Some(begin), Some(end));
        let rows = [
            (before, Phase::NotYetValid(at(begin)), Some(begin)),
            (begin, Phase::Valid, Some(soon)),
            (late, Phase::Valid, Some(soon)),
            (soon, Phase::ExpiringSoon(at(end)), Some(end)),
            (last, Phase::ExpiringSoon(at(end)), Some(end)),
            (end, Phase::Expired(at(end)), None),
        ];
        for (now, phase, turn) in rows {
            assert_eq!(life.phase(at(now)), phase, "{now}");
            assert_eq!(life.next_turn(at(now)), turn.map(at), "{now}");
        }
    }

    #[test]
    fn notice_is_given_for_the_last_tenth_and_at_most_for_a_week() {
        let rows = [
            // Of a day, from when it was made.
            (None, "2026-01-02T00:00:00Z", "2026-01-01T21:36:00Z"),
            // A beginning before that counts for nothing.
            (
                Some("2020-01-01T00:00:00Z"),
                "2026-01-02T00:00:00Z",
                "2026-01-01T21:36:00Z",
            ),
            (None, "2026-03-12T00:00:00Z", "2026-03-05T00:00:00Z"),
            (None, "2036-01-08T00:00:00Z", "2036-01-01T00:00:00Z"),
        ];
        for (not_before, expires_at, soon) in rows {
            assert_eq!(
                life(not_before, Some(expires_at)).soon,
                Some(at(soon)),
                "{expires_at}"
            );
        }
    }

    #[test]
    fn a_key_that_was_made_when_its_time_was_over_has_expired() {
        let end = "2025-01-01T00:00:00Z";
        let life = life(None, Some(end));
        assert_eq!(life.phase(at("2024-12-31T23:59:59Z")), Phase::Valid);
        assert_eq!(life.phase(at(end)), Phase::Expired(at(end)));
    }
}
