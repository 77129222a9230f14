//! What a token may be used for. The names are Losant's; a device asks for some of them to have a
//! token that can do less than its key allows.

use crate::topics::Action;

/// All that a device may do.
pub(super) const ALL: &str = "all.Device";

/// Every scope that may be asked for.
pub(super) const KNOWN: [&str; 19] = [
    ALL,
    "all.Device.read",
    "data.export",
    "data.timeSeriesQuery",
    "data.lastValueQuery",
    "device.commandStream",
    "device.get",
    "device.getCompositeState",
    "device.getState",
    "device.stateStream",
    "device.getLogEntries",
    "device.getCommand",
    "device.debug",
    "device.sendState",
    "device.sendCommand",
    "device.setConnectionStatus",
    "devices.get",
    "devices.getCompositeState",
    "devices.sendCommand",
];

/// Scopes separated by spaces, each once; none if one of them is not known.
pub(super) fn normal<'a>(asked: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked {
        let known = KNOWN.iter().find(|known| **known == scope)?;
        if !scopes.contains(known) {
            scopes.push(known);
        }
    }
    if scopes.is_empty() {
        scopes.push(ALL);
    }
    Some(scopes.join(" "))
}

/// What a service asks about: something that the device does to a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    SendState,
    SendCommand,
    GetState,
    GetCommand,
}

impl Act {
    /// By its name.
    pub fn named(name: &str) -> Option<Act> {
        match name {
            "sendState" => Some(Act::SendState),
            "sendCommand" => Some(Act::SendCommand),
            "getState" => Some(Act::GetState),
            "getCommand" => Some(Act::GetCommand),
            _ => None,
        }
    }

    /// What it would be as a message.
    pub fn action(self) -> Action {
        match self {
            Act::SendState | Act::SendCommand => Action::Publish { retain: false },
            Act::GetState | Act::GetCommand => Action::Receive,
        }
    }

    /// The topic's last level.
    pub fn kind(self) -> &'static str {
        match self {
            Act::SendState | Act::GetState => "state",
            Act::SendCommand | Act::GetCommand => "command",
        }
    }

    /// Whether a token with these scopes may be used for it.
    pub fn is_within(self, scopes: &str) -> bool {
        let enough: &[&str] = match self {
            Act::SendState => &["device.sendState"],
            Act::SendCommand => &["device.sendCommand", "devices.sendCommand"],
            Act::GetState => &[
                "all.Device.read",
                "device.getState",
                "device.stateStream",
                "device.getCompositeState",
                "devices.getCompositeState",
            ],
            Act::GetCommand => &[
                "all.Device.read",
                "device.getCommand",
                "device.commandStream",
            ],
        };
        let mut scopes = scopes.split(' ');
        scopes.any(|scope| scope == ALL || enough.contains(&scope))
    }
}
