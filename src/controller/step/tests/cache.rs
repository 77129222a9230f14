//! What a cache shows that is behind.

use super::*;

#[test]
fn a_cache_that_is_behind_is_waited_for_and_then_passed_by() {
    let mut memory = Memory::default();
    memory.wrote(&view(1).accepting(1, 1).at(7), Moment::default());
    let stale = Walk::resumed(view(1).trying(&[1]).at(6), memory);
    assert_eq!(
        stale.step(),
        wakes(Situation::Behind, Duration::from_secs(5))
    );
    let memory = stale.rests();
    Walk::resumed(view(1).trying(&[1]).at(6), memory)
        .after(Duration::from_secs(5))
        .sees(
            Step::ReadKey,
            Answer::Key(view(1).accepting(1, 1).at(7), None),
        )
        .ends(Situation::Settled);
}

#[test]
fn a_cache_that_stays_behind_does_not_put_off_a_sweep() {
    let marked = || view(1).accepting(1, 1).unsettled(&[]).at(7);
    let stale = || view(1).at(6);
    let mut memory = Memory::default();
    memory.wrote(&marked(), Moment::default());
    let memory = Walk::resumed(stale(), memory).rests();
    Walk::resumed(stale(), memory)
        .after(GRACE)
        .sees(Step::ReadKey, Answer::Key(marked(), None))
        .stands_at(&read(false));
}

#[test]
fn a_cache_by_which_a_write_was_refused_is_behind() {
    let memory = Walk::from(view(1).at(6)).breaks_off(commit(), Answer::Conflict);
    let stale = Walk::resumed(view(1).at(6), memory);
    assert_eq!(
        stale.step(),
        wakes(Situation::Behind, Duration::from_secs(5))
    );
    let memory = stale.rests();
    Walk::resumed(view(1).at(6), memory.clone())
        .after(Duration::from_secs(5))
        .stands_at(&Step::ReadKey);
    Walk::resumed(view(1).at(7), memory).stands_at(&commit());
}

#[test]
fn an_answer_of_ours_is_forgotten_when_the_live_key_is_older_too() {
    let mut memory = Memory::default();
    memory.wrote(&view(1).accepting(1, 1).at(7), Moment::default());
    let restored = view(1).at(3);
    let memory = Walk::resumed(restored.clone(), memory).rests();
    Walk::resumed(restored.clone(), memory)
        .after(Duration::from_secs(5))
        .sees(Step::ReadKey, Answer::Key(restored, None))
        .stands_at(&commit());
}
