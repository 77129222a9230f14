//! Keys that are deleted, made again under their name, or restored.

use super::*;

#[test]
fn a_deleted_key_is_left_alone() {
    let deleted = View {
        deleted: true,
        ..view(1).trying(&[1])
    };
    Walk::from(deleted).ends(Situation::Deleted);
    Walk::from(view(1).trying(&[1]))
        .after(Duration::from_secs(2))
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Gone)
        .ends(Situation::Deleted);
}

#[test]
fn a_recreated_key_begins_anew() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let again = View {
        uid: uid("again"),
        ..view(1).at(20)
    };
    let walk = Walk::resumed(again, memory);
    assert_eq!(walk.observed.memory.held, None);
    walk.stands_at(&commit());
}

#[test]
fn a_first_issue_creates_and_replaces_nothing_that_was_seen_before() {
    let lost = view(2).at(20);
    let again = View {
        uid: uid("again"),
        ..view(1).at(20)
    };
    for blank in [lost, again] {
        let walk = Walk::from(view(2).accepting(1, 1))
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(ours(Bytes::Read)))
            .sees(Step::ReadKey, Answer::Key(blank.clone(), None));
        let committed = blank.also_trying(5).at(21);
        walk.sees(commit(), Answer::Committed(committed, AttemptId(5)))
            .stands_at(&publish(5));
    }
}

#[test]
fn a_restored_key_waits_for_its_status_and_keeps_its_secret() {
    let bare = View {
        restored: true,
        ..view(1)
    };
    let walk = Walk::from(bare);
    assert_eq!(walk.step(), wakes(Situation::AwaitingRestore, GRACE));
    walk.after(GRACE).stands_at(&commit());

    let moved = || View {
        uid: uid("restored"),
        ..view(1).accepting(1, 1)
    };
    let adopt = Step::Adopt {
        uid: uid("secret"),
        version: Version(9),
    };
    inspected(moved(), ours(Bytes::Read), Some(1))
        .sees(adopt, Answer::Done)
        .stands_at(&Step::Rebind);
    for (secret, holds) in [
        (ours(Bytes::Read), None),
        (foreign(), None),
        (SecretSeen::Absent(Moment::default()), None),
    ] {
        inspected(moved(), secret, holds).stands_at(&Step::Rebind);
    }
}

#[test]
fn a_status_without_its_verifiers_is_not_reissued_by_itself() {
    let mut lost = view(1).accepting(1, 1);
    lost.ledger.accepted.clear();
    Walk::from(lost.clone()).ends(Situation::VerifierLost);
    Walk::from(View { wanted: 2, ..lost }).stands_at(&read(false));
}
