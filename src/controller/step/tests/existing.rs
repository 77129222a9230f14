//! Keys that were made elsewhere.

use super::*;

fn existing(wanted: u32) -> View {
    let existing = match wanted {
        1 => Existing::Usable(AttemptId(7)),
        _ => Existing::Unusable,
    };
    View {
        existing: Some(existing),
        ..view(wanted)
    }
}

fn taken_over() -> View {
    let view = existing(1);
    let ledger = view.ledger.take_over(
        AttemptId(7),
        &view.uid,
        1,
        &view.rotation,
        Timestamp::UNIX_EPOCH,
    );
    View { ledger, ..view }
}

fn take_over() -> Step {
    Step::TakeOver {
        attempt: AttemptId(7),
    }
}

#[test]
fn it_is_taken_over_with_one_write_and_no_read() {
    Walk::from(existing(1))
        .sees(take_over(), Answer::Written(taken_over().at(2)))
        .ends(Situation::Settled);
}

#[test]
fn a_write_that_failed_or_was_not_answered_is_decided_anew() {
    for answer in [Answer::Conflict, Answer::Failed] {
        let memory = Walk::from(existing(1)).breaks_off(take_over(), answer);
        assert_eq!(memory.held, None);
        Walk::resumed(existing(1).at(2), memory.clone()).stands_at(&take_over());
        Walk::resumed(taken_over().at(2), memory).ends(Situation::Settled);
    }
}

#[test]
fn a_higher_revision_rotates_it_as_any_other_key() {
    let rotating = View {
        wanted: 2,
        existing: existing(2).existing,
        ..taken_over()
    };
    let walk = Walk::from(rotating.clone())
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(rotating.clone(), None));
    let committed = rotating.also_trying(1).at(2);
    walk.sees(commit(), Answer::Committed(committed, AttemptId(1)))
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .stands_at(&confirm(1, true));
}

#[test]
fn a_secret_of_ours_that_holds_what_was_taken_over_is_replaced_by_a_rotation() {
    let rotating = View {
        wanted: 2,
        existing: existing(2).existing,
        ..taken_over()
    };
    inspected(rotating, ours(Bytes::Read), Some(7)).stands_at(&commit());
}

/// Whatever else the run has seen: a retired secret must not come back, nor a new one be made.
#[test]
fn a_status_that_was_lost_is_taken_over_again_unless_the_secret_was_replaced() {
    Walk::from(existing(1)).stands_at(&take_over());
    Walk::from(existing(2)).ends(Situation::NotTakenOver);
    let while_it_looked = |lost: View| {
        let rotating = View {
            wanted: 2,
            ..taken_over()
        };
        Walk::from(rotating)
            .sees(
                read(false),
                Answer::Secret(SecretSeen::Absent(Moment::default())),
            )
            .sees(Step::ReadKey, Answer::Key(lost.at(9), None))
    };
    while_it_looked(existing(1)).stands_at(&take_over());
    while_it_looked(existing(2)).ends(Situation::NotTakenOver);
}

#[test]
fn it_waits_for_a_restored_status_and_while_it_is_suspended() {
    let restored = View {
        restored: true,
        ..existing(1)
    };
    let walk = Walk::from(restored);
    assert_eq!(walk.step(), wakes(Situation::AwaitingRestore, GRACE));
    walk.after(GRACE).stands_at(&take_over());
    Walk::from(View {
        suspended: true,
        ..existing(1)
    })
    .ends(Situation::Suspended);
}

#[test]
fn a_key_that_another_has_is_left_as_it_is_but_an_issue_under_way_is_finished() {
    let beaten = |view: View| {
        let walk = Walk::from(view);
        Walk {
            observed: walk.observed.beaten(true),
            ..walk
        }
    };
    for view in [existing(1), existing(2), taken_over()] {
        beaten(view).ends(Situation::KeyConflict);
    }
    let rotation_due = View {
        wanted: 2,
        ..taken_over()
    };
    beaten(rotation_due).ends(Situation::KeyConflict);
    beaten(taken_over().also_trying(1))
        .after(Duration::from_secs(2))
        .stands_at(&read(false));
}
