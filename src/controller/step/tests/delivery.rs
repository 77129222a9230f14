//! Rule 6: the Secret that was delivered is noticed to be gone, and withdrawn once the spec says so.

use super::*;

fn delivered() -> View {
    view(1).accepting(1, 1)
}

fn with_news(view: View) -> View {
    View { news: true, ..view }
}

/// Delivered at the beginning of time, to be withdrawn a day later.
fn withdrawn_in_a_day(view: View) -> View {
    View {
        withdrawal: Some(Timestamp::UNIX_EPOCH + DAY),
        ..view
    }
}

fn consumed(mut view: View) -> View {
    view.ledger.consumed = true;
    View {
        withdrawal: None,
        ..view
    }
}

fn a_day() -> Duration {
    DAY.unsigned_abs()
}

fn absent() -> Answer {
    Answer::Secret(SecretSeen::Absent(Moment::default()))
}

fn seen(secret: SecretSeen) -> Answer {
    Answer::Secret(secret)
}

#[test]
fn nobody_looks_for_a_secret_without_a_reason() {
    Walk::from(delivered()).ends(Situation::Settled);
    Walk::from(with_news(consumed(delivered()))).ends(Situation::Settled);
}

#[test]
fn when_the_spec_changes_it_is_looked_once() {
    let there = seen(ours(Bytes::Unread));
    Walk::from(with_news(delivered()))
        .sees(Step::Look, there)
        .ends(Situation::Settled);
    Walk::from(with_news(delivered()))
        .sees(Step::Look, Answer::Failed)
        .ends(Situation::Settled);
}

#[test]
fn a_secret_that_is_gone_or_another_is_recorded() {
    let another = seen(present("another", 9, Some("key"), Bytes::Unread));
    for found in [absent(), another, seen(foreign())] {
        Walk::from(with_news(delivered()))
            .sees(Step::Look, found)
            .sees(Step::Consume, Answer::Written(consumed(delivered()).at(2)))
            .ends(Situation::Settled);
    }
}

#[test]
fn that_somebody_else_was_quicker_starts_over() {
    Walk::from(with_news(delivered()))
        .sees(Step::Look, absent())
        .breaks_off(Step::Consume, Answer::Conflict);
}

#[test]
fn it_is_withdrawn_when_its_time_has_come_and_not_before() {
    let view = withdrawn_in_a_day(delivered());
    let second = Duration::from_secs(1);
    Walk::from(view.clone())
        .after(a_day() - second)
        .stands_at(&wakes(Situation::Settled, second));
    let (uid, version) = (uid("secret"), Version(9));
    Walk::from(view.clone())
        .after(a_day())
        .sees(read(false), seen(ours(Bytes::Unread)))
        .sees(Step::ReadKey, Answer::Key(view, None))
        .sees(Step::Withdraw { uid, version }, Answer::Done)
        .sees(Step::Consume, Answer::Written(consumed(delivered()).at(2)))
        .ends(Situation::Settled);
}

#[test]
fn nothing_but_what_was_delivered_is_withdrawn() {
    let view = withdrawn_in_a_day(delivered());
    let another = seen(present("another", 9, Some("key"), Bytes::Unread));
    for found in [absent(), another, seen(foreign())] {
        Walk::from(view.clone())
            .after(a_day())
            .sees(read(false), found)
            .sees(Step::ReadKey, Answer::Key(view.clone(), None))
            .stands_at(&Step::Consume);
    }
}

/// What the Secret holds then may be a newer one, which is not confirmed yet.
#[test]
fn nothing_is_withdrawn_while_a_secret_is_issued() {
    let rotating = withdrawn_in_a_day(delivered().trying(&[2]));
    let walk = Walk::from(withdrawn_in_a_day(delivered()))
        .after(a_day())
        .sees(read(false), seen(ours(Bytes::Unread)))
        .sees(Step::ReadKey, Answer::Key(rotating, None));
    let patience = Timing::with_grace(GRACE).patience;
    walk.stands_at(&wakes(Situation::Issuing, patience));
}

#[test]
fn a_suspended_key_keeps_its_secret() {
    let view = View {
        suspended: true,
        ..withdrawn_in_a_day(delivered())
    };
    Walk::from(view).after(a_day()).ends(Situation::Suspended);
}

/// A request that was late may have made one since.
#[test]
fn what_was_seen_before_the_grace_was_over_sweeps_nothing() {
    let second = Duration::from_secs(1);
    let view = with_news(delivered().unsettled(&[2]));
    Walk::from(view.clone())
        .after(GRACE - second)
        .sees(Step::Look, absent())
        .after(second)
        .sees(Step::ReadKey, Answer::Key(view, None))
        .stands_at(&Step::StartOver);
}

/// The name is taken until nothing can turn up any more.
#[test]
fn nothing_is_withdrawn_before_the_sweep() {
    let view = View {
        withdrawal: Some(Timestamp::UNIX_EPOCH),
        ..delivered().unsettled(&[2])
    };
    Walk::from(view).stands_at(&wakes(Situation::Settled, GRACE));
}
