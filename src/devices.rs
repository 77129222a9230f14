//! Device IDs, and which Device speaks for one.
//!
//! Controller and gateways must agree on the second: the controller tells the loser in its status
//! (`Ready=False`, reason [`DUPLICATE_DEVICE_ID`]), the gateways ignore it. So both ask here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;

use crate::api::Device;

/// The reason in the status of a Device whose ID an older Device has.
pub const DUPLICATE_DEVICE_ID: &str = "DuplicateDeviceId";

/// Whether `text` is a device ID: `^[A-Za-z0-9_-]{1,64}$`. Nothing else is one for any key: brokers
/// pass on whatever a client sends, and `a/b`, `#` or `*` would mean more than one device.
pub fn is_device_id(text: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(lawful)
}

/// What a Device says: that it is the one with this ID. IDs are compared within one namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim<'a> {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.name`.
    pub name: &'a str,
    /// The device ID: `spec.deviceId`, or the name.
    pub id: &'a str,
}

impl<'a> Claim<'a> {
    /// What `device` claims. None when it is being deleted, which counts as deleted.
    pub fn of(device: &'a Device) -> Option<Self> {
        let meta = &device.metadata;
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let created = meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0);
        Some(Self {
            created,
            name: meta.name.as_deref().unwrap_or_default(),
            id: device.device_id(),
        })
    }

    /// Whether this claim stands and the other, to the same ID, does not: the older Device wins,
    /// and of two from the same second the one whose name sorts first.
    pub fn beats(&self, other: &Claim<'_>) -> bool {
        (self.created.as_second(), self.name) < (other.created.as_second(), other.name)
    }
}

/// The claim that stands for each ID, whatever the order of `claims`.
pub fn elect<'a>(claims: impl IntoIterator<Item = Claim<'a>>) -> HashMap<&'a str, Claim<'a>> {
    let mut winners = HashMap::new();
    for claim in claims {
        match winners.entry(claim.id) {
            Entry::Vacant(entry) => _ = entry.insert(claim),
            Entry::Occupied(mut entry) if claim.beats(entry.get()) => _ = entry.insert(claim),
            Entry::Occupied(_) => {}
        }
    }
    winners
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn device_ids_are_up_to_64_letters_digits_underscores_and_hyphens() {
        let long = "x".repeat(65);
        let lawful = ["a", "Z", "0", "_", "-", "pump-1", "5f2c_A", &long[..64]];
        let unlawful = [
            "",
            &long,
            "a/b",
            "#",
            "a+b",
            "+",
            "*",
            ">",
            "a.b",
            "a b",
            " a",
            "a ",
            "a\n",
            "a\0",
            "$SYS",
            "é",
            "\u{ff41}",
            "a:b",
            "%41",
            "ns.dev",
            "a\u{200b}",
        ];
        assert!(lawful.iter().all(|id| is_device_id(id)));
        for id in unlawful {
            assert!(!is_device_id(id), "{id:?}");
        }
    }

    #[test]
    fn the_older_device_wins_and_within_a_second_the_name() {
        let claim = |created: &str, name| Claim {
            created: created.parse().expect("a timestamp"),
            name,
            id: "pump",
        };
        let rows = [
            (
                claim("2026-01-01T00:00:00Z", "b"),
                claim("2026-01-01T00:00:01Z", "a"),
            ),
            (
                claim("2026-01-01T00:00:00Z", "a"),
                claim("2026-01-01T00:00:00Z", "b"),
            ),
            (
                claim("2026-01-01T00:00:00.9Z", "a"),
                claim("2026-01-01T00:00:00.1Z", "b"),
            ),
            (
                claim("2026-01-01T00:00:00Z", "a"),
                claim("2026-01-01T00:00:00Z", "a-0"),
            ),
        ];
        for (winner, loser) in rows {
            assert!(
                winner.beats(&loser) && !loser.beats(&winner),
                "{winner:?} {loser:?}"
            );
            assert_eq!(elect([winner, loser])["pump"], winner);
            assert_eq!(elect([loser, winner])["pump"], winner);
        }
    }

    #[test]
    fn a_device_claims_its_id_or_its_name_until_it_is_deleted() {
        let device = |id: Option<&str>, deleted: bool| -> Device {
            let mut manifest = serde_json::json!({
                "apiVersion": "keyward.dev/v1alpha1",
                "kind": "Device",
                "metadata": {"name": "one", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"deviceId": id},
            });
            if deleted {
                manifest["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
            }
            serde_json::from_value(manifest).expect("a Device")
        };
        assert_eq!(
            Claim::of(&device(Some("Two"), false)).map(|claim| claim.id),
            Some("Two")
        );
        assert_eq!(
            Claim::of(&device(None, false)).map(|claim| claim.id),
            Some("one")
        );
        assert_eq!(Claim::of(&device(None, true)), None);
    }

    proptest! {
        #[test]
        fn every_id_has_one_winner_whatever_the_order(
            claims in prop::collection::vec((0_i64..3, "[a-c]{1,2}", "[x-z]"), 0..12),
        ) {
            let claims: Vec<Claim<'_>> = claims
                .iter()
                .map(|(created, name, id)| Claim {
                    created: Timestamp::from_second(*created).expect("small"),
                    name,
                    id,
                })
                .collect();
            let forward = elect(claims.iter().copied());
            let backward = elect(claims.iter().rev().copied());
            prop_assert_eq!(&forward, &backward);
            for claim in &claims {
                prop_assert!(!claim.beats(&forward[claim.id]));
            }
        }
    }
}
