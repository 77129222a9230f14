//! What is asked about: one key and up to five devices, with few IDs, tags, labels, secrets and addresses, so that hits
//! and misses are about as frequent. It is written down as plainly as a person would, and says nothing of how it is read.

use super::chance::Chance;

pub const IDS: [&str; 5] = ["pump", "gate", "probe", "tank", "factory"];

/// The ID that no key lists and no Device has.
pub const STRANGER: &str = "z";

/// The last was made elsewhere.
pub const SECRETS: [&str; 4] = [
    "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge",
    "kws_00000000000000000000000000000000000000000002XkAl1",
    "kws_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz4HDBrW",
    "hunter2",
];

pub const ADDRESSES: [&str; 8] = [
    "10.1.2.3",
    "::ffff:10.1.2.3",
    "192.0.2.7",
    "192.0.2.8",
    "198.51.100.9",
    "2001:db8::1",
    "2001:db9::1",
    "::a01:203",
];

pub const RANGES: [&str; 5] = [
    "10.0.0.0/8",
    "192.0.2.7",
    "2001:db8::/32",
    "::ffff:198.51.100.0/120",
    "0.0.0.0/0",
];

#[derive(Clone, Debug)]
pub struct World {
    pub key: Key,
    pub devices: Vec<Device>,
    pub requires_registration: bool,
}

/// Times are seconds from now.
#[derive(Clone, Debug)]
pub struct Key {
    pub life: Life,
    pub is_inactive: bool,
    pub not_before: Option<i64>,
    pub expires_at: Option<i64>,
    pub restrictions: Restrictions,
    pub sources: Listed,
    pub topics: Listed,
    /// The oldest first.
    pub verifiers: Vec<Verifier>,
    /// Which secrets are being issued.
    pub under_way: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    Issued,
    NotIssued,
    Deleted,
}

#[derive(Clone, Debug)]
pub struct Restrictions {
    pub all: Option<bool>,
    pub ids: Option<Vec<&'static str>>,
    pub tags: Option<Vec<(Option<&'static str>, Option<&'static str>)>>,
    pub labels: Option<Vec<Requirement>>,
}

/// A label, what of it is asked, and with which values.
pub type Requirement = (&'static str, &'static str, Vec<&'static str>);

/// Sources, which have one list, or topics, which have two: to publish, and to subscribe.
#[derive(Clone, Debug)]
pub struct Listed {
    pub filter: Filter,
    pub lists: [Vec<String>; 2],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter {
    None,
    All,
    Allow,
    Deny,
}

#[derive(Clone, Debug)]
pub struct Verifier {
    pub revision: i32,
    /// The secret that was hashed.
    pub of: usize,
    pub valid_until: Option<i64>,
    /// The secret whose check stands beside it.
    pub check_of: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Device {
    pub id: &'static str,
    pub class: Class,
    pub gateway: Option<&'static str>,
    pub tags: Vec<(&'static str, &'static str)>,
    pub labels: Vec<(&'static str, &'static str)>,
    pub is_disabled: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    Standalone,
    Gateway,
    Peripheral,
    System,
}

impl World {
    pub fn by(chance: &mut Chance<'_>) -> World {
        let key = Key::by(chance);
        let devices = IDS.into_iter().filter_map(|id| Device::by(chance, id));
        World {
            key,
            devices: devices.collect(),
            requires_registration: chance.happens(48),
        }
    }
}

impl World {
    /// Takes away what keeps this device out.
    pub fn let_in(&mut self, device_id: &'static str) {
        let key = &mut self.key;
        key.is_inactive = false;
        (key.not_before, key.expires_at) = (None, None);
        key.sources = Listed {
            filter: Filter::All,
            lists: [Vec::new(), Vec::new()],
        };
        for verifier in &mut key.verifiers {
            verifier.valid_until = None;
        }
        if key.restrictions.all.is_none() {
            let ids = key.restrictions.ids.get_or_insert_default();
            ids.push(device_id);
        }
        self.requires_registration = false;
        for device in &mut self.devices {
            if device.id == device_id {
                device.is_disabled = false;
                let is_gateway = matches!(device.class, Class::Gateway | Class::Peripheral);
                device.class = match is_gateway {
                    true => Class::Gateway,
                    false => Class::Standalone,
                };
                device.gateway = None;
            }
        }
    }
}

impl Key {
    fn by(chance: &mut Chance<'_>) -> Key {
        let seconds = |chance: &mut Chance<'_>| chance.one_of(&[0, 1, -1]);
        let mut verifiers = chance.some(1, 3, Verifier::by);
        for (verifier, revision) in verifiers.iter_mut().zip(1..) {
            verifier.revision = revision;
        }
        let life = match chance.below(64) {
            62 => Life::NotIssued,
            63 => Life::Deleted,
            _ => Life::Issued,
        };
        Key {
            life,
            is_inactive: chance.happens(10),
            not_before: chance.maybe(24, seconds),
            expires_at: chance.maybe(24, seconds),
            restrictions: Restrictions::by(chance),
            sources: sources(chance),
            topics: topics(chance),
            verifiers,
            under_way: chance
                .maybe(48, |chance| chance.below(3))
                .into_iter()
                .collect(),
        }
    }
}

impl Verifier {
    fn by(chance: &mut Chance<'_>) -> Verifier {
        let of = chance.below(SECRETS.len());
        let check_of = match chance.below(16) {
            _ if of == 3 => None,
            15 => None,
            14 => Some((of + 1) % 3),
            _ => Some(of),
        };
        Verifier {
            revision: 0,
            of,
            valid_until: chance.maybe(64, |chance| chance.one_of(&[1, 0, -1])),
            check_of,
        }
    }
}

impl Restrictions {
    fn by(chance: &mut Chance<'_>) -> Restrictions {
        if !chance.happens(176) {
            return Restrictions {
                all: Some(true),
                ids: None,
                tags: None,
                labels: None,
            };
        }
        Restrictions {
            all: chance.maybe(6, |chance| chance.one_of(&[false, true])),
            ids: chance.maybe(140, |chance| {
                let least = usize::from(!chance.happens(8));
                chance.some(least, 3, |chance| chance.one_of(&IDS))
            }),
            tags: chance.maybe(140, |chance| {
                let least = usize::from(!chance.happens(8));
                chance.some(least, 2, pair)
            }),
            labels: chance.maybe(140, |chance| {
                let least = usize::from(!chance.happens(8));
                chance.some(least, 2, requirement)
            }),
        }
    }
}

/// With a part missing in one of two cases, with both in few.
fn pair(chance: &mut Chance<'_>) -> (Option<&'static str>, Option<&'static str>) {
    let key = chance.one_of(&["a", "b"]);
    let value = chance.one_of(&["x", "y", "a"]);
    match chance.below(32) {
        0..16 => (Some(key), Some(value)),
        16..24 => (Some(key), None),
        24..31 => (None, Some(value)),
        _ => (None, None),
    }
}

fn requirement(chance: &mut Chance<'_>) -> Requirement {
    let operator = chance.one_of(&["In", "NotIn", "Exists", "DoesNotExist"]);
    let fits = !chance.happens(8);
    let values = match operator.ends_with("In") == fits {
        true => chance.some(1, 2, |chance| chance.one_of(&["m", "n"])),
        false => Vec::new(),
    };
    (chance.one_of(&["k", "l"]), operator, values)
}

fn sources(chance: &mut Chance<'_>) -> Listed {
    let filter = match chance.below(32) {
        29 | 30 => Filter::Allow,
        31 => Filter::Deny,
        _ => Filter::All,
    };
    let fits = !chance.happens(3);
    let ranges = match (filter == Filter::All) == fits {
        true => Vec::new(),
        false => chance.some(1, 2, |chance| chance.one_of(&RANGES).to_owned()),
    };
    Listed {
        filter,
        lists: [ranges, Vec::new()],
    }
}

fn topics(chance: &mut Chance<'_>) -> Listed {
    let filter = chance.one_of(&[Filter::None, Filter::All, Filter::Allow, Filter::Deny]);
    let fits = !chance.happens(3);
    let lists = match matches!(filter, Filter::None | Filter::All) == fits {
        true => [Vec::new(), Vec::new()],
        false => [chance.some(0, 2, granted), chance.some(1, 2, granted)],
    };
    Listed { filter, lists }
}

/// A filter of up to three levels, and `#`.
fn granted(chance: &mut Chance<'_>) -> String {
    if chance.happens(2) {
        return chance
            .one_of(&["log/*", "", "$x", "{dev}", "#/log", "log+", "log/>"])
            .to_owned();
    }
    let level = |chance: &mut Chance<'_>| chance.one_of(&["log", "x", "{device}", "pump", "+"]);
    let mut levels = chance.some(1, 3, level);
    if chance.happens(64) {
        levels.push("#");
    }
    levels.join("/")
}

impl Device {
    /// What its ID says it is, more often than not; none in one of six cases.
    fn by(chance: &mut Chance<'_>, id: &'static str) -> Option<Device> {
        if chance.happens(40) {
            return None;
        }
        let usual = match id {
            "gate" => Class::Gateway,
            "probe" => Class::Peripheral,
            _ => Class::Standalone,
        };
        let others = [
            Class::Standalone,
            Class::Gateway,
            Class::Peripheral,
            Class::System,
        ];
        let class = chance
            .maybe(72, |chance| chance.one_of(&others))
            .unwrap_or(usual);
        let gateway = chance.maybe(128, |chance| chance.one_of(&["gate", "gate", "tank"]));
        Some(Device {
            id,
            class,
            gateway: gateway.filter(|_| class == Class::Peripheral),
            tags: chance.some(0, 2, |chance| {
                (chance.one_of(&["a", "b", "x"]), chance.one_of(&["x", "y"]))
            }),
            labels: match chance.below(4) {
                0 => Vec::new(),
                1 => vec![("k", chance.one_of(&["m", "n"]))],
                2 => vec![("l", chance.one_of(&["m", "n"]))],
                _ => vec![
                    ("k", chance.one_of(&["m", "n"])),
                    ("l", chance.one_of(&["m", "n"])),
                ],
            },
            is_disabled: chance.happens(20),
        })
    }
}
