//! What a gateway is asked about a world.

use std::net::IpAddr;

use super::chance::Chance;
use super::world::{ADDRESSES, IDS, SECRETS, STRANGER, World};

/// May this device connect?
#[derive(Clone, Debug)]
pub struct Login {
    pub device_id: &'static str,
    pub knows_key: bool,
    pub secret: String,
    pub address: Option<&'static str>,
}

/// May a device that is connected do this?
#[derive(Clone, Debug)]
pub struct Wish {
    pub device_id: &'static str,
    pub knows_key: bool,
    /// Which issue of the key its secret came from, if that is known.
    pub revision: Option<i32>,
    pub address: Option<&'static str>,
    pub act: Act,
    pub topic: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    Publish,
    Retain,
    Subscribe,
    /// Where each delivery is asked about.
    SubscribeChecked,
    Receive,
}

impl Login {
    pub fn by(chance: &mut Chance<'_>, world: &mut World) -> Login {
        Login {
            device_id: device_id(chance, 8),
            knows_key: !chance.happens(6),
            secret: secret(chance, world),
            address: address(chance),
        }
    }
}

impl Wish {
    /// Of a device that could connect, more often than not.
    pub fn by(chance: &mut Chance<'_>, world: &mut World) -> Wish {
        let act = [
            Act::Publish,
            Act::Subscribe,
            Act::Receive,
            Act::SubscribeChecked,
            Act::Retain,
        ];
        let device_id = device_id(chance, 0);
        if !chance.happens(80) {
            world.let_in(device_id);
        }
        let revisions = world.key.verifiers.len() + usize::from(chance.happens(12));
        Wish {
            device_id,
            knows_key: !chance.happens(3),
            revision: chance
                .maybe(192, |chance| 1 + chance.below(revisions))
                .map(number),
            address: address(chance),
            act: chance.one_of(&act),
            topic: topic(chance),
        }
    }
}

fn device_id(chance: &mut Chance<'_>, malformed: u8) -> &'static str {
    if chance.happens(malformed) {
        return chance.one_of(&["", "#", "+", "a/b", "pump ", "plant.pump", "é"]);
    }
    match chance.below(12) {
        0..4 => "pump",
        4..8 => "gate",
        11 => STRANGER,
        _ => chance.one_of(&IDS),
    }
}

/// The right one more often than not.
fn secret(chance: &mut Chance<'_>, world: &World) -> String {
    let own = chance.below(world.key.verifiers.len());
    let secret = match chance.below(16) {
        0..12 => SECRETS[world.key.verifiers[own].of],
        12 => SECRETS[world.key.under_way.first().copied().unwrap_or_default()],
        13 | 14 => chance.one_of(&SECRETS),
        _ => chance.one_of(&["kws_typo", "", "hunter3", " ", "long"]),
    };
    match secret {
        "long" => "x".repeat(1025),
        secret => secret.to_owned(),
    }
}

fn address(chance: &mut Chance<'_>) -> Option<&'static str> {
    chance.maybe(192, |chance| chance.one_of(&ADDRESSES))
}

fn topic(chance: &mut Chance<'_>) -> String {
    let kind = |chance: &mut Chance<'_>| chance.one_of(&["state", "command"]);
    match chance.below(16) {
        0..9 => {
            let id = match chance.below(8) {
                7 => STRANGER,
                _ => chance.one_of(&IDS),
            };
            format!("devices/{id}/{}", kind(chance))
        }
        9 => {
            let begin = chance.one_of(&["", "$share/group/", "$share//", "$share/+/"]);
            format!(
                "{begin}devices/{}/{}",
                chance.one_of(&["+", "*"]),
                kind(chance)
            )
        }
        10..15 => custom(chance),
        _ => chance.one_of(&ODD).to_owned(),
    }
}

/// Of up to three levels, and `#`.
fn custom(chance: &mut Chance<'_>) -> String {
    let level = |chance: &mut Chance<'_>| {
        chance.one_of(&["log", "x", "pump", "gate", "log", "+", "x", "devices"])
    };
    let mut levels = chance.some(1, 3, level);
    if chance.happens(40) {
        levels.push(chance.one_of(&["#", ">"]));
    }
    levels.join("/")
}

/// Nobody's, for one reason or another.
const ODD: [&str; 20] = [
    "",
    "#",
    "+/+/state",
    "devices",
    "devices/pump",
    "devices/pump/log",
    "devices/pump/State",
    "devices/pump/state/x",
    "devices/pump/#",
    "devices/pump/+",
    "devices/#",
    "devices/pu+mp/state",
    "log/#/x",
    "log/a*",
    "log>",
    "a\0b",
    "$SYS/#",
    "$share/group/$SYS/#",
    "$share/group",
    "$queue/log",
];

fn number(count: usize) -> i32 {
    i32::try_from(count).expect("a small number")
}

pub fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}
