//! From a commit to its confirmation, and what may come between.

use super::*;

#[test]
fn a_first_issue_is_three_writes_and_no_read() {
    let begin = view(1);
    let committed = begin.clone().trying(&[1]).at(2);
    let confirmed = committed.clone().accepting(1, 1).at(3);
    Walk::from(begin)
        .sees(commit(), Answer::Committed(committed, AttemptId(1)))
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(confirm(1, true), Answer::Written(confirmed))
        .ends(Situation::Settled);
}

#[test]
fn after_a_failed_commit_the_run_is_over_and_nothing_is_held() {
    for answer in [Answer::Conflict, Answer::Failed] {
        assert_eq!(Walk::from(view(1)).breaks_off(commit(), answer).held, None);
    }
}

#[test]
fn a_publish_that_is_refused_for_its_name_inspects_at_once() {
    Walk::committed()
        .sees(publish(1), Answer::Conflict)
        .sees(read(false), Answer::Secret(foreign()))
        .sees(Step::ReadKey, Answer::Key(view(1).trying(&[1]).at(2), None))
        .ends(Situation::SecretExists);
}

#[test]
fn a_publish_without_an_answer_is_inspected_by_the_next_run_and_confirmed_with_a_sweep() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
        .sees(read(true), Answer::Secret(ours(Bytes::Read)))
        .sees(Step::ReadKey, Answer::Key(trying, Some(AttemptId(1))))
        .stands_at(&confirm(1, false));
}

#[test]
fn a_publish_that_never_arrived_is_sent_again_and_still_needs_a_sweep() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(trying.clone(), None))
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
        .sees(read(true), Answer::Secret(ours(Bytes::Read)))
        .sees(Step::ReadKey, Answer::Key(trying, Some(AttemptId(1))))
        .stands_at(&confirm(1, false));
}

#[test]
fn plaintext_older_than_a_fifth_of_the_grace_is_not_published() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .after(GRACE / 5 + Duration::from_millis(1))
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(trying, None))
        .stands_at(&commit());
}

#[test]
fn a_confirm_that_lost_against_an_edit_is_decided_again_on_the_live_key() {
    let edited = view(1).trying(&[1]).at(7);
    Walk::committed()
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(confirm(1, true), Answer::Conflict)
        .sees(Step::ReadKey, Answer::Key(edited, None))
        .stands_at(&confirm(1, true));
}

#[test]
fn a_confirm_of_one_of_several_attempts_asks_for_a_sweep() {
    inspected(view(1).trying(&[1, 2]), ours(Bytes::Read), Some(2)).stands_at(&confirm(2, false));
}

#[test]
fn what_is_decided_on_secret_and_key() {
    let rotation = || view(2).accepting(1, 1);
    let rotating = || rotation().trying(&[5]);
    let over = || Some((uid("secret"), Version(9)));
    let absent = || SecretSeen::Absent(Moment::default());
    let rows: Vec<(&str, View, SecretSeen, Option<u64>, Step)> = vec![
        (
            "absent, nothing held: a new attempt",
            view(1).trying(&[1]),
            absent(),
            None,
            commit(),
        ),
        (
            "absent, a rotation is due: a first attempt",
            rotation(),
            absent(),
            None,
            commit(),
        ),
        (
            "under way: confirmed, whoever made it",
            view(1).trying(&[1]),
            ours(Bytes::Read),
            Some(1),
            confirm(1, false),
        ),
        (
            "an older accepted one: commit, to replace it",
            rotation(),
            ours(Bytes::Read),
            Some(1),
            commit(),
        ),
        (
            "an older one, an attempt of another process open",
            rotating(),
            ours(Bytes::Read),
            Some(1),
            commit(),
        ),
        (
            "the attempt of a rotation",
            rotating(),
            ours(Bytes::Read),
            Some(5),
            confirm(5, false),
        ),
        (
            "foreign",
            view(1).trying(&[1]),
            foreign(),
            None,
            rests(Situation::SecretExists),
        ),
        (
            "foreign, during a rotation",
            rotating(),
            foreign(),
            None,
            rests(Situation::SecretExists),
        ),
        (
            "of the AccessKey's predecessor",
            view(1).trying(&[1]),
            predecessor(),
            None,
            rests(Situation::PredecessorSecret),
        ),
        (
            "ours by its owner, by its bytes nobody's",
            view(1).trying(&[1]),
            ours(Bytes::Read),
            None,
            Step::Recheck,
        ),
        (
            "ours, edited, during a rotation",
            rotating(),
            ours(Bytes::Read),
            None,
            Step::Recheck,
        ),
    ];
    for (case, view, secret, holds, expected) in rows {
        let walk = inspected(view, secret, holds);
        assert_eq!(walk.step(), expected, "{case}");
        if let (Step::Commit { .. }, SecretSeen::Present(_)) =
            (&expected, walk.observed.secret.clone().unwrap())
        {
            let trying = walk.observed.view.clone().also_trying(6).at(20);
            walk.sees(commit(), Answer::Committed(trying, AttemptId(6)))
                .stands_at(&Step::Publish {
                    attempt: AttemptId(6),
                    over: over(),
                });
        }
    }
}

#[test]
fn a_person_is_called_only_if_the_secret_stays_as_it_is() {
    let same = ours(Bytes::Unread);
    let changed = present("secret", 10, Some("key"), Bytes::Unread);
    let replaced = present("other", 9, Some("key"), Bytes::Unread);
    let absent = SecretSeen::Absent(Moment::default());
    let suspect = |view: View| inspected(view, ours(Bytes::Read), None);
    suspect(view(1).trying(&[1]))
        .sees(Step::Recheck, Answer::Secret(same.clone()))
        .ends(Situation::SecretExists);
    suspect(view(2).accepting(1, 1))
        .sees(Step::Recheck, Answer::Secret(same))
        .ends(Situation::SecretModified);
    for seen in [changed, replaced, absent] {
        suspect(view(1).trying(&[1])).breaks_off(Step::Recheck, Answer::Secret(seen));
    }
}

#[test]
fn a_dead_attempt_of_ours_is_taken_back() {
    let other_won = view(1).trying(&[1]).accepting(1, 2).at(5);
    let inspected = |holds| {
        let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
        Walk::resumed(view(1).trying(&[1]).at(2), memory)
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(ours(Bytes::Read)))
            .sees(Step::ReadKey, Answer::Key(other_won.clone(), holds))
    };
    let gone = inspected(Some(AttemptId(1))).breaks_off(delete(), Answer::Done);
    assert_eq!(gone.held, None);
    assert_eq!(
        inspected(Some(AttemptId(2)))
            .breaks_off(Step::StartOver, Answer::Done)
            .held,
        None
    );
}

#[test]
fn the_ninth_attempt_waits_until_one_is_older_than_the_grace() {
    let eight = || view(1).trying(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let absent_at = |elapsed| SecretSeen::Absent(Moment::default() + elapsed);
    let young = inspected_at(
        GRACE,
        eight(),
        absent_at(GRACE - Duration::from_millis(1)),
        None,
    );
    young.ends(Situation::TooManyAttempts);
    let old = inspected_at(GRACE, eight(), absent_at(GRACE), None);
    let all = (1..=8).map(AttemptId).collect();
    old.stands_at(&Step::Commit { outlived: all });
}

#[test]
fn attempts_to_replace_a_secret_are_dropped_once_they_are_older_than_the_grace() {
    let rotating = view(2).accepting(1, 1).trying(&[2, 3, 4, 5, 6, 7, 8, 9]);
    let read_at = |elapsed| match ours(Bytes::Read) {
        SecretSeen::Present(secret) => SecretSeen::Present(PresentSecret {
            at: Moment::default() + elapsed,
            ..secret
        }),
        absent => absent,
    };
    let young = read_at(GRACE - Duration::from_millis(1));
    inspected_at(GRACE, rotating.clone(), young, Some(1)).ends(Situation::TooManyAttempts);
    let outlived = (2..=9).map(AttemptId).collect();
    inspected_at(GRACE, rotating, read_at(GRACE), Some(1)).stands_at(&Step::Commit { outlived });
}

#[test]
fn a_secret_of_the_revision_under_way_is_not_an_older_one() {
    let mut forged = view(1).accepting(1, 1);
    forged.ledger.issuance = Some(Issuance {
        revision: 1,
        attempts: Vec::new(),
    });
    inspected(forged, ours(Bytes::Read), Some(1)).stands_at(&Step::Recheck);
}

#[test]
fn another_process_is_given_a_moment_for_its_issue() {
    let opened = view(1).trying(&[1]);
    let fresh = Walk::from(opened.clone());
    assert_eq!(
        fresh.step(),
        wakes(Situation::Issuing, Duration::from_secs(2))
    );
    fresh.after(Duration::from_secs(2)).stands_at(&read(false));
}

#[test]
fn a_finished_issue_is_left_alone_whatever_became_of_its_secret() {
    Walk::from(view(1).accepting(1, 1)).ends(Situation::Settled);
}
