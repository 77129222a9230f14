//! When a key begins or ceases to be usable, which is an Event once.

use crate::api::{AccessKeyStatus, EffectiveState};

/// What a status says of a key's use that the one before did not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// It may be used, and might not before.
    Activated,
    /// Its spec says that nobody may use it any more.
    Deactivated,
    /// Its time is nearly over.
    ExpiringSoon,
    /// Its time is over.
    Expired,
}

impl Turn {
    /// From one status to the next. The first issue is none: that is an Event of its own.
    pub fn between(before: &AccessKeyStatus, after: &AccessKeyStatus) -> Option<Turn> {
        use EffectiveState::{Active, Expired, Inactive, NotYetValid};
        match (before.state, after.state?) {
            (was, Expired) if was != Some(Expired) => Some(Turn::Expired),
            (Some(Inactive | NotYetValid | Expired), Active) => Some(Turn::Activated),
            (Some(Active | NotYetValid | Expired), Inactive) => Some(Turn::Deactivated),
            (_, Active) if expires_soon(after) && !expires_soon(before) => Some(Turn::ExpiringSoon),
            _ => None,
        }
    }

    /// The Event's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Turn::Activated => "Activated",
            Turn::Deactivated => "Deactivated",
            Turn::ExpiringSoon => EXPIRING_SOON,
            Turn::Expired => "Expired",
        }
    }

    /// Whether somebody may have to do something.
    pub fn is_warning(self) -> bool {
        matches!(self, Turn::ExpiringSoon | Turn::Expired)
    }
}

/// The reason of condition `Active` while the key's time is nearly over.
pub const EXPIRING_SOON: &str = "ExpiringSoon";

fn expires_soon(status: &AccessKeyStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| condition.type_ == "Active" && condition.reason == EXPIRING_SOON)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::conditions;

    fn status(state: Option<EffectiveState>, reason: &str) -> AccessKeyStatus {
        let mut status = AccessKeyStatus {
            state,
            ..AccessKeyStatus::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let holds = state == Some(EffectiveState::Active);
        conditions::set(&mut status.conditions, "Active", holds, reason, "", 1, now);
        status
    }

    #[test]
    fn each_turn_is_told_and_nothing_else_is() {
        use EffectiveState::{Active, Expired, Inactive, NotYetValid, Pending};
        let states = [
            None,
            Some(Pending),
            Some(Active),
            Some(Inactive),
            Some(NotYetValid),
            Some(Expired),
        ];
        let after = [Pending, Active, Inactive, NotYetValid, Expired];
        let (on, off, end) = (
            Some(Turn::Activated),
            Some(Turn::Deactivated),
            Some(Turn::Expired),
        );
        let table = [
            // To Pending, Active, Inactive, NotYetValid, Expired.
            [None, None, None, None, end],
            [None, None, None, None, end],
            [None, None, off, None, end],
            [None, on, None, None, end],
            [None, on, off, None, end],
            [None, on, off, None, None],
        ];
        for (was, row) in states.into_iter().zip(table) {
            for (is, turn) in after.into_iter().zip(row) {
                let (before, after) = (status(was, "before"), status(Some(is), "after"));
                assert_eq!(Turn::between(&before, &after), turn, "{was:?} to {is:?}");
            }
        }
    }

    #[test]
    fn that_a_key_expires_soon_is_told_once() {
        use EffectiveState::{Active, Expired};
        let valid = status(Some(Active), "Active");
        let soon = status(Some(Active), EXPIRING_SOON);
        let expired = status(Some(Expired), "Expired");
        assert_eq!(Turn::between(&valid, &soon), Some(Turn::ExpiringSoon));
        assert_eq!(Turn::between(&soon, &soon), None);
        assert_eq!(Turn::between(&soon, &valid), None, "it was extended");
        assert_eq!(Turn::between(&soon, &expired), Some(Turn::Expired));
        assert_eq!(Turn::between(&expired, &soon), Some(Turn::Activated));
    }
}
