//! When a key begins or ceases to be usable, and where it stands in a rotation: each turn is an Event once.

use crate::api::{AccessKeyStatus, EffectiveState};

/// What a status says that the one before did not.
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
    /// A new secret is made for it, and it had one.
    RotationStarted,
    /// It was time for a new secret, and its Secret had been taken away.
    RotationSkipped,
    /// A secret of it is accepted no more, for newer ones.
    Retired,
    /// The Secret in which it was delivered is gone.
    Consumed,
    /// It was made elsewhere, and its secret is accepted from now on.
    TakenOver,
}

impl Turn {
    /// From one status to the next. The first issue is none: that is an Event of its own. Nor is a
    /// rotation that is skipped, of which a status shows no more than its new time.
    pub fn between(
        before: &AccessKeyStatus,
        after: &AccessKeyStatus,
    ) -> impl Iterator<Item = Turn> + use<> {
        let opened = before.issuance.is_none() && after.issuance.is_some();
        let started = opened && !after.verifiers.is_empty();
        let retired = before.verifiers.iter().any(|old| {
            let mut kept = after.verifiers.iter();
            !kept.any(|kept| kept.verifier == old.verifier)
        });
        let gone = |status: &AccessKeyStatus| {
            let delivered = status.secret.as_ref();
            delivered.is_some_and(|secret| secret.consumed_at.is_some())
        };
        let turns = [
            (gone(after) && !gone(before)).then_some(Turn::Consumed),
            Turn::of_use(before, after),
            started.then_some(Turn::RotationStarted),
            retired.then_some(Turn::Retired),
        ];
        turns.into_iter().flatten()
    }

    fn of_use(before: &AccessKeyStatus, after: &AccessKeyStatus) -> Option<Turn> {
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
            Turn::RotationStarted => "RotationStarted",
            Turn::RotationSkipped => "RotationSkipped",
            Turn::Retired => "Retired",
            Turn::Consumed => "Consumed",
            Turn::TakenOver => "TakenOver",
        }
    }

    /// Whether somebody may have to do something.
    pub fn is_warning(self) -> bool {
        matches!(
            self,
            Turn::ExpiringSoon | Turn::Expired | Turn::RotationSkipped
        )
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::{AcceptedVerifier, Issuance};
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
                assert_eq!(Turn::of_use(&before, &after), turn, "{was:?} to {is:?}");
            }
        }
    }

    #[test]
    fn that_a_key_expires_soon_is_told_once() {
        use EffectiveState::{Active, Expired};
        let valid = status(Some(Active), "Active");
        let soon = status(Some(Active), EXPIRING_SOON);
        let expired = status(Some(Expired), "Expired");
        assert_eq!(Turn::of_use(&valid, &soon), Some(Turn::ExpiringSoon));
        assert_eq!(Turn::of_use(&soon, &soon), None);
        assert_eq!(Turn::of_use(&soon, &valid), None, "it was extended");
        assert_eq!(Turn::of_use(&soon, &expired), Some(Turn::Expired));
        assert_eq!(Turn::of_use(&expired, &soon), Some(Turn::Activated));
    }
    fn status_of(verifiers: &[i32], issuance: Option<i32>) -> AccessKeyStatus {
        let attempt = |revision: &i32| AcceptedVerifier {
            revision: *revision,
            verifier: format!("verifier {revision}"),
            check: None,
            issued_at: Time(Timestamp::UNIX_EPOCH),
            valid_until: None,
        };
        AccessKeyStatus {
            verifiers: verifiers.iter().map(attempt).collect(),
            issuance: issuance.map(|revision| Issuance {
                revision,
                attempts: Vec::new(),
            }),
            ..AccessKeyStatus::default()
        }
    }

    #[test]
    fn a_rotation_is_told_when_it_starts_and_what_it_retires_when_it_does() {
        let rows = [
            ("a first issue", (&[][..], None), (&[][..], Some(1)), vec![]),
            ("its confirm", (&[], Some(1)), (&[1], None), vec![]),
            (
                "a rotation",
                (&[1], None),
                (&[1], Some(2)),
                vec![Turn::RotationStarted],
            ),
            ("another attempt", (&[1], Some(2)), (&[1], Some(2)), vec![]),
            ("its confirm", (&[1], Some(2)), (&[1, 2], None), vec![]),
            (
                "the end of an overlap",
                (&[1, 2], None),
                (&[2], None),
                vec![Turn::Retired],
            ),
            (
                "a confirm without one",
                (&[1], Some(2)),
                (&[2], None),
                vec![Turn::Retired],
            ),
        ];
        for (case, before, after, turns) in rows {
            let (before, after) = (status_of(before.0, before.1), status_of(after.0, after.1));
            let found: Vec<Turn> = Turn::between(&before, &after).collect();
            assert_eq!(found, turns, "{case}");
        }
    }
}
