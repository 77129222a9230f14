//! Runs with three to ten faults wherever chance puts them, by impatient users. One that goes wrong
//! is made as small as it gets while it still goes wrong.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::campaign::{all, judge};
use super::field::Field;
use super::plan::Line;
use super::run::Outcome;
use super::support::fault::{AT_BEGIN, At, Fault, Planned, WatchFault};
use super::workload::Workload;

/// As many attempts to make a run smaller.
const SHRINKS: usize = 60;

/// Does as many runs, which follow from the seed.
pub async fn campaign(runs: usize, seed: u64) {
    let field = Field::new().await;
    println!("faults by chance: KEYWARD_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let lines = lines();
    let mut trees = Vec::new();
    for _ in 0..runs {
        trees.push(lines.new_tree(&mut runner).expect("a line"));
    }
    let outcomes = all(&field, trees.iter().map(ValueTree::current).collect()).await;
    let wrong = outcomes
        .iter()
        .position(|outcome| !outcome.violations.is_empty());
    if let Some(wrong) = wrong {
        let smallest = shrink(&field, &mut trees[wrong], outcomes[wrong].clone()).await;
        println!(
            "the first that went wrong, made smaller: {}: {:?}, after {:#?}",
            smallest.line, smallest.violations, smallest.asked
        );
    }
    judge("faults by chance", &outcomes);
}

/// The one in `KEYWARD_SEED`, if any.
pub fn seed() -> Option<u64> {
    let seed = std::env::var("KEYWARD_SEED").ok()?;
    Some(seed.parse().expect("KEYWARD_SEED is a number"))
}

async fn shrink(
    field: &Arc<Field>,
    tree: &mut impl ValueTree<Value = Line>,
    mut smallest: Outcome,
) -> Outcome {
    for _ in 0..SHRINKS {
        if !tree.simplify() {
            break;
        }
        let outcome = field.run(&tree.current()).await;
        if outcome.violations.is_empty() {
            if !tree.complicate() {
                break;
            }
        } else {
            smallest = outcome;
        }
    }
    smallest
}

fn lines() -> impl Strategy<Value = Line> {
    // A namespace that ends takes long, and has campaigns of its own.
    let workloads = Workload::ALL.into_iter();
    let workloads: Vec<_> = workloads
        .filter(|workload| *workload != Workload::EndNamespace)
        .collect();
    let lines = (select(workloads), any::<u64>(), vec(faults(), 3..=10));
    lines.prop_map(|(workload, seed, mut faults)| {
        for fault in &mut faults {
            fault.controller %= workload.controllers();
        }
        Line {
            workload,
            seed,
            faults,
        }
    })
}

fn faults() -> impl Strategy<Value = Planned> {
    let at = prop_oneof![
        8 => (1..20_u32, select(Fault::ALL.to_vec())).prop_map(|(n, fault)| At::Request(n, fault)),
        1 => (1..3_u32, select(Fault::ALL.to_vec())).prop_map(|(n, fault)| At::Event(n, fault)),
        1 => (1..5_u32, select(AT_BEGIN.to_vec())).prop_map(|(n, fault)| At::Begin(n, fault)),
        3 => (1..12_u32, select(WatchFault::ALL.to_vec())).prop_map(|(n, fault)| At::Watch(n, fault)),
    ];
    (0..2_usize, at).prop_map(|(controller, at)| Planned { controller, at })
}
