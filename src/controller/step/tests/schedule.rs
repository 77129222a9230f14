//! Rotations that are due by themselves: when, once each, and what is left out.

use super::*;

const EVERY: SignedDuration = SignedDuration::from_hours(100);

/// Its schedule began with its first issue, a moment ago.
fn scheduled() -> View {
    let mut view = view(1).accepting(1, 1);
    view.rotation.every = Some(EVERY);
    view.ledger.next_rotation = Some(after(EVERY));
    view
}

fn after(time: SignedDuration) -> Timestamp {
    Timestamp::UNIX_EPOCH + time
}

fn due(view: View, secret: SecretSeen, holds: Option<u64>) -> Walk {
    inspected_at(EVERY.unsigned_abs(), view, secret, holds)
}

fn absent() -> SecretSeen {
    SecretSeen::Absent(Moment::default())
}

fn schedule(next: Option<SignedDuration>) -> Step {
    Step::Schedule {
        next: next.map(after),
        skips: false,
    }
}

#[test]
fn the_controller_wakes_when_a_rotation_is_due_and_inspects_before_it_commits() {
    let walk = Walk::from(scheduled());
    assert_eq!(walk.step(), wakes(Situation::Settled, EVERY.unsigned_abs()));
    walk.after(EVERY.unsigned_abs()).stands_at(&read(false));
    due(scheduled(), ours(Bytes::Read), Some(1)).stands_at(&commit());
}

#[test]
fn one_due_time_is_one_issue() {
    let View { ledger, .. } = scheduled();
    let opened = ledger.commit(AttemptId(2), &[], &uid("key"), 1);
    assert_eq!(opened.next_rotation, None);
    let again = opened.commit(AttemptId(3), &[AttemptId(2)], &uid("key"), 1);
    assert_eq!(again.next_rotation, None);
    let now = after(EVERY * 3);
    let rotation = scheduled().rotation;
    let confirmed = again.confirm(AttemptId(3), &uid("secret"), true, &rotation, now);
    assert_eq!(confirmed.next_rotation, Some(now + EVERY));
    assert_eq!((confirmed.revision, confirmed.requested), (2, 1));
}

#[test]
fn a_clock_that_is_turned_back_makes_no_second_one() {
    let now = after(EVERY);
    let ledger = scheduled().trying(&[2]).ledger.confirm(
        AttemptId(2),
        &uid("secret"),
        true,
        &scheduled().rotation,
        now,
    );
    let rotated = View {
        ledger,
        ..scheduled()
    };
    // On the clock of this walk it is as early as when the schedule began: what happens next is the
    // end of the overlap.
    let walk = Walk::from(rotated);
    let overlap = (EVERY + DAY).unsigned_abs();
    assert_eq!(walk.step(), wakes(Situation::Settled, overlap));
    walk.after(overlap).stands_at(&Step::Retire);
}

#[test]
fn a_secret_that_was_taken_away_is_not_made_again() {
    let skip = Step::Schedule {
        next: Some(after(EVERY + EVERY)),
        skips: true,
    };
    due(scheduled(), absent(), None).stands_at(&skip);
    let asked = View {
        wanted: 2,
        ..scheduled()
    };
    due(asked, absent(), None).stands_at(&commit());
}

#[test]
fn what_was_skipped_is_over() {
    let mut skipped = scheduled();
    skipped.ledger = skipped.ledger.skip(Some(after(EVERY + EVERY)));
    let walk = Walk::from(skipped).after(EVERY.unsigned_abs());
    assert_eq!(walk.step(), wakes(Situation::Settled, EVERY.unsigned_abs()));
}

#[test]
fn another_controller_may_have_been_faster() {
    let walk = Walk::from(scheduled()).after(EVERY.unsigned_abs());
    let rotated = View {
        ledger: scheduled().ledger.skip(Some(after(EVERY + EVERY))),
        ..scheduled()
    };
    let walk = walk
        .sees(read(false), Answer::Secret(absent()))
        .sees(Step::ReadKey, Answer::Key(rotated, None));
    assert_eq!(walk.step(), wakes(Situation::Settled, EVERY.unsigned_abs()));
}

#[test]
fn a_secret_that_was_absent_before_it_was_made_was_not_taken_away() {
    let first = view(1).trying(&[1]);
    Walk::from(first)
        .after(Duration::from_secs(2))
        .sees(read(false), Answer::Secret(absent()))
        .after(EVERY.unsigned_abs())
        .sees(Step::ReadKey, Answer::Key(scheduled().at(9), None))
        .stands_at(&Step::StartOver);
}

#[test]
fn a_secret_that_is_no_longer_ours_or_was_edited_is_left_alone() {
    due(scheduled(), foreign(), None).ends(Situation::SecretExists);
    due(scheduled(), predecessor(), None).ends(Situation::PredecessorSecret);
    due(scheduled(), ours(Bytes::Read), None).stands_at(&Step::Recheck);
}

#[test]
fn a_schedule_is_set_when_it_is_added_changed_or_removed() {
    let with = |every: Option<SignedDuration>, next: Option<SignedDuration>| {
        let mut view = scheduled();
        view.rotation.every = every;
        view.ledger.next_rotation = next.map(after);
        Walk::from(view)
    };
    with(Some(EVERY), None).stands_at(&schedule(Some(EVERY)));
    with(Some(EVERY * 2), Some(EVERY)).stands_at(&schedule(Some(EVERY * 2)));
    with(Some(EVERY), Some(EVERY * 2)).stands_at(&schedule(Some(EVERY)));
    with(None, Some(EVERY)).stands_at(&schedule(None));
    with(None, None).ends(Situation::Settled);
    // Though it is due by what was said before.
    with(Some(EVERY * 2), Some(EVERY))
        .after(EVERY.unsigned_abs())
        .stands_at(&schedule(Some(EVERY * 2)));
    with(None, Some(EVERY))
        .after(EVERY.unsigned_abs())
        .stands_at(&schedule(None));
}

/// Two controllers whose clocks are hours apart would write the status in turn, as fast as they can.
#[test]
fn a_time_that_another_moves_back_is_left_alone_for_a_while() {
    let other = |version: u64, next: SignedDuration| {
        let mut view = scheduled().at(version);
        view.ledger.next_rotation = Some(after(next));
        view
    };
    let walk = Walk::from(other(1, EVERY * 2))
        .sees(schedule(Some(EVERY)), Answer::Written(scheduled().at(2)));
    let memory = walk.rests();
    assert!(!memory.is_idle(Version(2)));

    for wrong in [EVERY * 2, -EVERY] {
        let walk = Walk::resumed(other(3, wrong), memory.clone());
        assert_eq!(walk.step(), wakes(Situation::Settled, GRACE), "{wrong}");
        walk.after(GRACE).stands_at(&schedule(Some(EVERY)));
    }
    let asked = View {
        news: true,
        ..other(3, EVERY * 2)
    };
    Walk::resumed(asked, memory).stands_at(&schedule(Some(EVERY)));
}

#[test]
fn a_revision_that_is_asked_for_goes_first_and_serves_both() {
    let mut asked = view(2).accepting(1, 1);
    asked.rotation.every = Some(EVERY);
    Walk::from(asked).stands_at(&read(false));
    let mut both = scheduled();
    both.wanted = 2;
    due(both.clone(), ours(Bytes::Read), Some(1)).stands_at(&commit());
    let opened = both.ledger.commit(AttemptId(2), &[], &uid("key"), 2);
    assert_eq!((opened.requested, opened.next_rotation), (2, None));
}

#[test]
fn an_issue_under_way_is_finished_though_the_schedule_changes() {
    let mut open = scheduled().trying(&[2]);
    open.ledger.next_rotation = None;
    due(open.clone(), ours(Bytes::Read), Some(2)).stands_at(&confirm(2, false));
    open.rotation.every = None;
    due(open, ours(Bytes::Read), Some(2)).stands_at(&confirm(2, false));
}

#[test]
fn a_schedule_waits_for_the_sweep_of_the_issue_before() {
    let mut due = scheduled().unsettled(&[2]);
    due.ledger.next_rotation = Some(Timestamp::UNIX_EPOCH);
    due.ledger.accepted[0].at = Timestamp::UNIX_EPOCH - EVERY;
    assert_eq!(
        Walk::from(due).step(),
        wakes(Situation::AwaitingSweep, GRACE)
    );
}

#[test]
fn while_the_key_is_suspended_or_may_not_be_used_nothing_is_due() {
    let suspended = View {
        suspended: true,
        ..scheduled()
    };
    Walk::from(suspended)
        .after(EVERY.unsigned_abs())
        .ends(Situation::Suspended);
    let mut inactive = scheduled();
    inactive.rotation.life = None;
    Walk::from(inactive.clone())
        .after(EVERY.unsigned_abs())
        .ends(Situation::Settled);
    // It is overdue once it may be used again.
    Walk::from(scheduled())
        .after(EVERY.unsigned_abs() * 7)
        .stands_at(&read(false));
}

#[test]
fn each_rotation_keeps_its_own_overlap_and_none_is_none_for_all() {
    let hour = SignedDuration::from_hours(1);
    let rotated = |ledger: &Ledger, attempt: u64, overlap: SignedDuration, now: Timestamp| {
        let rotation = Rotation {
            overlap,
            ..scheduled().rotation
        };
        let opened = ledger.commit(AttemptId(attempt), &[], &uid("key"), 1);
        opened.confirm(AttemptId(attempt), &uid("secret"), true, &rotation, now)
    };
    let ends = |ledger: &Ledger| -> Vec<Option<SignedDuration>> {
        let accepted = ledger.accepted.iter();
        let end = |until: Timestamp| until.duration_since(Timestamp::UNIX_EPOCH);
        accepted.map(|accepted| accepted.until.map(end)).collect()
    };
    let second = rotated(&scheduled().ledger, 2, DAY, after(hour));
    let third = rotated(&second, 3, hour, after(hour * 2));
    assert_eq!(ends(&third), [Some(DAY + hour), Some(hour * 3), None]);
    let fourth = rotated(&third, 4, DAY * 3, after(hour * 3));
    assert_eq!(
        ends(&fourth),
        [Some(DAY + hour), Some(DAY * 3 + hour * 3), None]
    );
    let last = rotated(&fourth, 5, SignedDuration::ZERO, after(hour * 4));
    assert_eq!(ends(&last), [None]);
}
