//! Durations as Go writes them, restricted to what every reader of the API agrees on.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration such as `24h`, `1h30m`, `90s` or `500ms`: whole numbers with the units `h`, `m`, `s`
/// and `ms`.
///
/// Go, CEL and Kubernetes' own parsers each accept a little more (days, weeks, fractions), but not
/// the same: what only some of them can read would make an object unreadable. Written out as a
/// whole number of the largest unit that fits, so that what is written always passes the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// What the schema admits; as few digits as 2160h takes in each unit, since CEL gives no answer at
/// all for a duration of 300 years.
pub(super) const SHAPE: &str = "^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,7}s|[0-9]{1,10}ms){1,4}$";

/// The duration is not a series of whole numbers with units.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a duration: write whole numbers with the units h, m, s or ms, such as 24h or 1h30m")]
pub struct ParseDurationError;

impl GoDuration {
    /// This many hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseDurationError);
        }
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let (part, after) = first_part(rest).ok_or(ParseDurationError)?;
            total = total.checked_add(part).ok_or(ParseDurationError)?;
            rest = after;
        }
        Ok(Self(total))
    }
}

/// The leading number and unit of `text`, and what follows them.
fn first_part(text: &str) -> Option<(Duration, &str)> {
    let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let end = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    let millis: u64 = match unit {
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        _ => return None,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(millis)?;
    Some((Duration::from_millis(total), after))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
            _ => write!(f, "{}s{}ms", millis / 1_000, millis % 1_000),
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{SHAPE}')"),
                "message": "a duration is whole numbers with the units h, m, s or ms, such as 24h \
                            or 1h30m; for 90 days write 2160h",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_admits_and_writes_it_back_unchanged() {
        for text in ["0s", "24h", "90m", "7s", "2160h", "1s500ms"] {
            let read: GoDuration = text.parse().expect(text);
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn adds_up_mixed_units() {
        let cases = [
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0h0m0s1ms", 1),
            ("1m1m", 120_000),
        ];
        for (text, millis) in cases {
            let read: GoDuration = text.parse().expect(text);
            assert_eq!(read.0, Duration::from_millis(millis), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
    }

    #[test]
    fn refuses_what_other_readers_would_not_agree_on() {
        for text in [
            "", "0", "90d", "2 weeks", "P1D", "1.5h", "-1h", "+1h", "h", "1", "1us", "1H",
        ] {
            assert_eq!(
                text.parse::<GoDuration>(),
                Err(ParseDurationError),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_numbers_too_large_to_hold() {
        for text in [
            "99999999999999999999h",
            "18446744073709551615h",
            "5124095576030431h1h",
        ] {
            let _ = text.parse::<GoDuration>();
        }
        assert_eq!(
            "18446744073709551615h".parse::<GoDuration>(),
            Err(ParseDurationError)
        );
    }
}
