//! Further issues, the mark that one leaves, the sweep, and retiring verifiers.

use super::*;

#[test]
fn a_rotation_inspects_before_it_commits() {
    Walk::from(view(2).accepting(1, 1)).stands_at(&read(false));
}

#[test]
fn an_issue_under_way_is_finished_for_its_own_revision_first() {
    let walk = inspected(view(3).trying(&[1]), ours(Bytes::Read), Some(1));
    let confirmed = walk.observed.view.clone().accepting(1, 1).at(30);
    walk.sees(confirm(1, false), Answer::Written(confirmed))
        .stands_at(&read(false));
}

#[test]
fn a_rotation_waits_for_the_sweep_and_the_sweep_for_the_grace() {
    let marked = view(2).accepting(1, 1).unsettled(&[2]);
    let walk = Walk::from(marked.clone());
    assert_eq!(walk.step(), wakes(Situation::AwaitingSweep, GRACE));
    walk.after(GRACE).stands_at(&read(false));
}

#[test]
fn a_mark_alone_shows_nowhere_and_wakes_after_the_grace() {
    let marked = view(1).accepting(1, 1).unsettled(&[]);
    assert_eq!(Walk::from(marked).step(), wakes(Situation::Settled, GRACE));
}

#[test]
fn the_mark_of_another_issue_of_the_same_revision_is_a_new_one() {
    let marked = view(1).accepting(1, 1).unsettled(&[2]);
    let memory = Walk::from(marked).observed.memory;
    let again = view(1).accepting(1, 3).unsettled(&[4]);
    let later = Moment::default() + GRACE;
    let seen = Observed::cached(again, memory, later);
    let timing = Timing::with_grace(GRACE);
    assert_eq!(seen.until_sweep(later, &timing), Some(GRACE));
}

#[test]
fn a_sweep_deletes_only_what_it_looks_for() {
    let marked = || view(1).accepting(1, 1).unsettled(&[2]);
    let rows = [
        ("the lost attempt", ours(Bytes::Read), Some(2), delete()),
        (
            "the accepted one",
            ours(Bytes::Read),
            Some(1),
            Step::ClearMark,
        ),
        ("an edited one", ours(Bytes::Read), None, Step::ClearMark),
        ("a foreign one", foreign(), None, Step::ClearMark),
        (
            "none",
            SecretSeen::Absent(Moment::default()),
            None,
            Step::ClearMark,
        ),
    ];
    for (case, secret, holds, expected) in rows {
        let secret = seen_after(GRACE, secret);
        assert_eq!(
            inspected_at(GRACE, marked(), secret, holds).step(),
            expected,
            "{case}"
        );
    }
}

#[test]
fn a_sweep_starts_over_if_the_key_changed_while_the_secret_was_read() {
    let marked = view(1).accepting(1, 1).unsettled(&[2]);
    let memory = Walk::from(marked.clone()).observed.memory;
    Walk::resumed(marked.clone(), memory)
        .after(GRACE)
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(marked.at(8), None))
        .stands_at(&Step::StartOver);
}

#[test]
fn verifiers_retire_when_their_overlap_is_over() {
    let rotated = view(2).accepting(1, 1).rotated(2, 2, DAY);
    let walk = Walk::from(rotated);
    assert_eq!(walk.step(), wakes(Situation::Settled, DAY.unsigned_abs()));
    walk.after(DAY.unsigned_abs()).stands_at(&Step::Retire);
}

#[test]
fn suspend_stops_everything_but_an_issue_under_way() {
    let suspended = |view: View| View {
        suspended: true,
        ..view
    };
    Walk::from(suspended(view(1))).ends(Situation::Suspended);
    Walk::from(suspended(view(2).accepting(1, 1))).ends(Situation::Suspended);
    inspected(suspended(view(1).trying(&[1])), ours(Bytes::Read), Some(1))
        .stands_at(&confirm(1, false));
}
