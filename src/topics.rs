//! Topics: where those of devices lie, and which of them a session may use.
//!
//! Everything below the topic root is reserved: `<root>/<device>/state` and
//! `<root>/<device>/command` are the topics of a device, and there are no others. Outside it a key
//! grants what its [`Grants`] say.
//!
//! | who, about whom | publish state | publish command | subscribe state | subscribe command |
//! |---|---|---|---|---|
//! | [`Relation::Itself`] | yes | no | yes | yes |
//! | [`Relation::Admitted`] | no | yes | yes | yes |
//! | [`Relation::Peripheral`] | yes | yes | yes | yes |
//! | [`Relation::Other`] | no | no | no | no |
//!
//! A subscription with wildcards is allowed only if everything that it can match is. That is decided
//! exactly: see `filters`.

mod filters;
mod grants;
mod layout;
mod permitted;

pub use grants::{Grants, Lists, UnreadableFilter};
pub use layout::{InvalidRoot, Layout, Root};
pub use permitted::{Permitted, Reach};

use self::filters::{Filter, covered, covers, meet};

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Send to it.
    Publish {
        /// Whether the broker keeps the message for those who subscribe later.
        retain: bool,
    },
    /// Receive all that a filter matches, from now on.
    Subscribe {
        /// Whether the broker asks again, for [`Action::Receive`], before it delivers a message.
        /// Wildcards over devices are allowed only then, or to keys that admit every device.
        checks_deliveries: bool,
    },
    /// Receive one message.
    Receive,
}

/// What a device is to a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Relation {
    /// The device that has the session.
    Itself,
    /// A peripheral that this gateway speaks for.
    Peripheral,
    /// Another device that the session's key admits.
    Admitted,
    /// Any other device.
    Other,
}

/// Who asks for a topic.
pub struct Asker<'a, R> {
    /// How topics are laid out here.
    pub layout: &'a Layout,
    /// The namespace of the session's key.
    pub namespace: &'a str,
    /// The ID of the session's device.
    pub device_id: &'a str,
    /// What the session's key grants outside the topic root.
    pub grants: &'a Grants,
    /// Whether the session's key admits every device.
    pub admits_all: bool,
    /// What the device with this ID is to the session.
    pub relation: R,
}

impl<R: Fn(&str) -> Relation> Asker<'_, R> {
    /// Whether this may be done. `topic` is a topic, or a filter to subscribe to.
    pub fn may(&self, action: Action, topic: &str) -> bool {
        let Some(asked) = asked(action, topic) else {
            return false;
        };
        let reserved = self.layout.reserved();
        let inside = meet(&asked, &reserved);
        inside.is_none_or(|inside| self.may_inside(action, &inside))
            && (covers(&reserved, &asked) || self.may_outside(action, &asked, reserved))
    }

    /// `asked` has no more than what lies under the topic root.
    fn may_inside(&self, action: Action, asked: &[&str]) -> bool {
        let Some([device, kind]) = self.layout.below_root(self.namespace, asked) else {
            return false;
        };
        let Some(kind) = Kind::of(kind) else {
            return false;
        };
        match (*device, action) {
            ("+", Action::Subscribe { checks_deliveries }) => self.admits_all || checks_deliveries,
            _ => kind.is_open_to((self.relation)(device), action),
        }
    }

    /// Whether all of `asked` is granted that is not reserved.
    fn may_outside<'f>(&'f self, action: Action, asked: &[&'f str], reserved: Filter<'f>) -> bool {
        let own = self.layout.custom(self.namespace, "#");
        let listed = |list: &'f [Box<str>]| {
            let list = list.iter();
            list.map(|filter| grants::for_device(filter, self.device_id))
                .collect::<Vec<_>>()
        };
        match self.grants {
            Grants::None => false,
            Grants::All => covered(&[own, reserved], asked),
            Grants::AllowList(lists) => {
                let listed = listed(lists.of(action));
                let granted = listed.iter();
                let mut granted: Vec<_> = granted
                    .map(|filter| self.layout.custom(self.namespace, filter))
                    .collect();
                granted.push(reserved);
                covered(&granted, asked)
            }
            Grants::DenyList(lists) => {
                let listed = listed(lists.of(action));
                let is_refused = |filter: &String| {
                    let refused = self.layout.custom(self.namespace, filter);
                    meet(asked, &refused).is_some_and(|both| !covers(&reserved, &both))
                };
                !listed.iter().any(is_refused) && covered(&[own, reserved], asked)
            }
        }
    }
}

/// The two topics of a device.
#[derive(Clone, Copy)]
enum Kind {
    State,
    Command,
}

impl Kind {
    fn of(level: &str) -> Option<Kind> {
        match level {
            "state" => Some(Kind::State),
            "command" => Some(Kind::Command),
            _ => None,
        }
    }

    /// The table above. A command that is retained would outlive its sender's rights.
    fn is_open_to(self, who: Relation, action: Action) -> bool {
        match (action, self, who) {
            (_, _, Relation::Other) => false,
            (Action::Subscribe { .. } | Action::Receive, ..) => true,
            (Action::Publish { .. }, Kind::State, who) => who != Relation::Admitted,
            (Action::Publish { retain }, Kind::Command, who) => !retain && who != Relation::Itself,
        }
    }
}

/// The levels of what a client asks for; none if that is never granted. `*` and `>` are wildcards of
/// other protocols that a broker may translate, and are taken for such.
fn asked(action: Action, topic: &str) -> Option<Filter<'_>> {
    let topic = match action {
        Action::Subscribe { .. } => without_share(topic)?,
        Action::Publish { .. } | Action::Receive => topic,
    };
    let is_lawful =
        (1..=MAX_TOPIC).contains(&topic.len()) && !topic.starts_with('$') && !topic.contains('\0');
    let levels: Filter<'_> = topic.split('/').collect();
    let last = levels.len() - 1;
    let levels = levels.into_iter().enumerate().map(|(at, level)| {
        let is_literal = !level.contains(['+', '#', '*', '>']);
        match (action, level) {
            _ if is_literal => Some(level),
            (Action::Subscribe { .. }, "+" | "*") => Some("+"),
            (Action::Subscribe { .. }, "#" | ">") if at == last => Some("#"),
            _ => None,
        }
    });
    levels.collect::<Option<_>>().filter(|_| is_lawful)
}

/// The filter of a shared subscription, `$share/<group>/<filter>`.
fn without_share(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, filter) = shared.split_once('/')?;
    let is_lawful = !group.is_empty() && !group.contains(['+', '#', '*', '>']);
    is_lawful.then_some(filter)
}

/// Bytes of the longest topic that MQTT can carry.
const MAX_TOPIC: usize = 65535;

#[cfg(test)]
mod tests;
