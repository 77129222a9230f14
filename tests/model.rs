//! The issuing protocol, explored: every interleaving of two controllers, crashes, lost and late requests and a user,
//! within a budget.

#[path = "model/budget.rs"]
mod budget;
#[path = "model/mutant.rs"]
mod mutant;
#[path = "model/mutation.rs"]
mod mutation;
#[path = "model/process.rs"]
mod process;
#[path = "model/reach.rs"]
mod reach;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/server.rs"]
mod server;
#[path = "model/shared.rs"]
mod shared;
#[path = "model/user.rs"]
mod user;
#[path = "model/world.rs"]
mod world;

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Instant;

use budget::{Budget, alone, attempts};
use mutant::{Mutant, NEEDED, SPARING};
use reach::Graph;
use stateright::{Checker, Model};
use world::Issuing;

#[test]
fn a_crash_and_a_lost_or_late_request() {
    explore(attempts(3).crashes(1).faults(1));
}

#[test]
fn a_secret_taken_away_and_a_fault() {
    explore(attempts(3).deletions(1).faults(1));
}

#[test]
fn a_rotation_and_a_fault() {
    explore(attempts(2).rotations(1).faults(1));
}

#[test]
fn a_rotation_that_needs_three_attempts() {
    explore(alone(3).rotations(1).faults(1).deletions(1));
}

#[test]
fn a_rotation_that_comes_due_and_a_fault() {
    explore(attempts(2).dues(1).faults(1));
}

#[test]
fn a_rotation_that_comes_due_once_the_secret_is_taken_away() {
    explore(alone(2).dues(2).deletions(1).faults(1));
    explore(attempts(2).dues(1).deletions(1));
}

#[test]
fn a_rotation_that_comes_due_beside_a_revision_that_is_raised() {
    explore(alone(3).dues(1).rotations(1).faults(1));
}

#[test]
fn a_rotation_that_comes_due_by_clocks_that_differ() {
    explore(attempts(2).dues(1).behind(1));
}

#[test]
fn a_schedule_that_is_removed_and_added() {
    explore(alone(2).dues(1).changes(2).faults(1));
    explore(attempts(2).dues(1).changes(1));
}

#[test]
fn a_secret_that_is_withdrawn_and_a_fault() {
    explore(attempts(2).withdraws().faults(1));
    explore(alone(2).withdraws().deletions(1).faults(1).crashes(1));
}

#[test]
fn a_secret_that_is_withdrawn_beside_a_rotation() {
    explore(attempts(2).withdraws().rotations(1));
    explore(alone(2).withdraws().rotations(1).faults(1));
}

/// A controller that is paused for longer than the grace exactly between commit and publish can leave a Secret that
/// was never accepted. Nothing else breaks: it admits nobody.
#[test]
fn the_hole_that_is_left_admits_nobody() {
    explore(attempts(2).pauses(1).faults(1));
    explore(attempts(2).pauses(1).deletions(1));
    explore(alone(2).pauses(1).deletions(1).crashes(1));
    explore(alone(3).pauses(1).rotations(1).crashes(1));
}

#[test]
fn a_recreated_key_and_a_fault() {
    explore(attempts(2).recreations(1).faults(1));
}

#[test]
fn a_recreated_key_and_a_stale_cache() {
    explore(attempts(2).recreations(1).stale(1));
}

#[test]
fn an_edit_and_a_fault() {
    explore(attempts(2).edits(1).faults(1));
}

#[test]
fn a_forged_secret_and_a_fault() {
    explore(attempts(2).forgeries(1).faults(1));
}

#[test]
fn a_lost_status_and_a_fault() {
    explore(attempts(2).losses(1).faults(1));
}

#[test]
fn a_key_that_is_taken_over_and_a_fault() {
    explore(attempts(2).existing(1).rotations(1).faults(1));
    explore(attempts(1).existing(1).rotations(1).crashes(1).stale(1));
    explore(alone(2).existing(1).rotations(1).losses(1).faults(1));
}

/// From every state the controllers can come to rest, and need no more attempts for it than these.
#[test]
fn rest_is_in_reach_from_everywhere() {
    for budget in [
        attempts(3),
        attempts(6).crashes(1),
        attempts(6).faults(1),
        attempts(4).stale(1),
        attempts(5).edits(1),
        attempts(3).forgeries(1),
        attempts(0).existing(1).crashes(1).faults(1),
    ] {
        let starved = reach(budget);
        assert_eq!(starved, 0, "{budget}: a controller needs more attempts");
    }
}

/// The same where more attempts may be needed than can be explored: a controller that needs another one counts as at
/// rest.
#[test]
fn rest_is_in_reach_as_long_as_there_are_attempts() {
    for budget in [
        attempts(3).deletions(1),
        attempts(2).rotations(1),
        attempts(2).dues(1),
        attempts(1).withdraws(),
        attempts(2).recreations(1),
        attempts(2).losses(1),
    ] {
        reach(budget);
    }
}

/// Each rule is needed: without it an invariant breaks, or a state at rest is out of reach.
#[test]
fn without_any_rule_an_invariant_breaks() {
    let mut unnoticed = Vec::new();
    for (mutant, rule, budget) in NEEDED.iter().copied() {
        let model = Issuing {
            asked: Some(rule),
            ..Issuing::new(budget, mutant)
        };
        let graph = Graph::of(&model);
        let name = format!("{mutant:?}");
        match graph.counter_example() {
            Some((broken, way)) if broken == rule => {
                let steps = way.len();
                println!("measured: mutant {name:<26} {rule:<58} {steps:>2} steps, {budget}");
            }
            _ => unnoticed.push(name),
        }
    }
    assert_eq!(unnoticed, [""; 0]);
}

/// Should one of these turn out to be needed, it belongs to the others.
#[test]
fn without_a_rule_that_says_a_thing_twice_no_invariant_breaks() {
    for (mutant, budget) in SPARING.iter().copied() {
        let graph = Graph::of(&Issuing::new(budget, mutant));
        println!("{mutant:?} | {budget} | {} states", graph.states());
        assert_eq!(graph.counter_example(), None, "{mutant:?}");
    }
}

// More of the same, for `make prove`: one after the other, on all cores.

#[test]
#[ignore = "23 million states; `make prove` runs it"]
fn more_of_everything_in_a_rotation() {
    prove(attempts(3).rotations(1).crashes(1).faults(1));
}

#[test]
#[ignore = "millions of states; `make prove` runs it"]
fn more_crashes_and_faults() {
    prove(attempts(3).crashes(2).faults(1));
    prove(attempts(3).crashes(1).faults(2));
    prove(attempts(4).crashes(1).faults(1));
}

#[test]
#[ignore = "millions of states; `make prove` runs it"]
fn more_rotations_that_come_due() {
    prove(attempts(3).dues(2));
    prove(attempts(2).dues(2).deletions(1).faults(1));
    prove(attempts(2).dues(1).behind(1).faults(1));
    prove(attempts(3).dues(1).rotations(1));
    prove(attempts(2).dues(1).changes(1).faults(1));
}

#[test]
#[ignore = "millions of states; `make prove` runs it"]
fn more_that_a_user_does_to_the_secret() {
    prove(attempts(3).deletions(1).crashes(1).faults(1));
    prove(attempts(3).deletions(2).faults(1));
    prove(attempts(3).rotations(1).deletions(1));
    prove(attempts(3).forgeries(1).crashes(1).faults(1));
}

#[test]
#[ignore = "millions of states; `make prove` runs it"]
fn more_that_a_user_does_to_the_key() {
    prove(attempts(2).rotations(1).crashes(1));
    prove(attempts(2).rotations(1).edits(1));
    prove(attempts(3).recreations(1).deletions(1));
    prove(attempts(2).recreations(1).crashes(1).faults(1));
    prove(attempts(2).recreations(1).stale(1).faults(1));
    prove(attempts(3).edits(1).faults(1));
    prove(attempts(3).losses(1).faults(1));
}

#[test]
#[ignore = "millions of states; `make prove` runs it"]
fn rest_is_in_reach_after_more() {
    reach(attempts(8).crashes(1).faults(1));
    reach(attempts(5).rotations(1));
    reach(attempts(3).deletions(1).faults(1));
    reach(attempts(3).losses(1));
}

/// Every state that the product can reach keeps the rules.
fn explore(budget: Budget) {
    explore_on(1, budget);
}

fn prove(budget: Budget) {
    explore_on(available_parallelism().map_or(1, NonZero::get), budget);
}

fn explore_on(cores: usize, budget: Budget) {
    let begun = Instant::now();
    let mutant = Mutant::None;
    let model = Issuing::new(budget, mutant).checker();
    let checker = model.threads(cores).spawn_bfs().join();
    println!(
        "measured: model {budget}: {} states, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed(),
    );
    if let Some(path) = checker.discovery("no rule is broken") {
        let broken = path.last_state().history.broken.expect("a broken rule");
        panic!("{broken}\n{:?}", path.into_actions());
    }
    checker.assert_properties();
}

/// How many states there are in which a controller needs another attempt than the budget has.
fn reach(budget: Budget) -> usize {
    let begun = Instant::now();
    let mutant = Mutant::None;
    let graph = Graph::of(&Issuing::new(budget, mutant));
    println!(
        "measured: model {budget}: {} states, {} at rest, {} restless, {} in need of an attempt, {:.1?}",
        graph.states(),
        graph.resting(),
        graph.restless().len(),
        graph.starved,
        begun.elapsed(),
    );
    assert_eq!(graph.counter_example(), None, "{budget}");
    graph.starved
}
