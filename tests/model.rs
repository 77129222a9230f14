//! The issuing protocol, explored: every interleaving of two controllers, crashes, lost and late requests and a user,
//! within a budget.

#[path = "model/world.rs"]
mod world;

use stateright::{Checker, Model};
use world::{Budget, Issuing};

fn explore(budget: Budget) {
    let checker = Issuing(budget).checker().threads(2).spawn_bfs().join();
    println!(
        "{budget:?}: {} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

#[test]
fn no_fault() {
    explore(Budget {
        attempts: 2,
        ..Budget::default()
    });
}

#[test]
fn two_controllers_one_crash_one_fault() {
    explore(Budget {
        attempts: 3,
        crashes: 1,
        faults: 1,
        ..Budget::default()
    });
}

#[test]
fn two_controllers_a_fault_and_a_rotation() {
    explore(Budget {
        attempts: 3,
        faults: 1,
        rotations: 1,
        deletions: 1,
        ..Budget::default()
    });
}

#[test]
fn a_recreated_key() {
    explore(Budget {
        attempts: 3,
        faults: 1,
        recreations: 1,
        ..Budget::default()
    });
}

#[test]
fn a_stale_cache() {
    explore(Budget {
        attempts: 3,
        faults: 1,
        stale: 1,
        edits: 1,
        ..Budget::default()
    });
}
