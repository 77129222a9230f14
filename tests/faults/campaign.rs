//! Many runs: which ones, and what came of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::field::{Field, PLACES};
use super::plan::Line;
use super::run::Outcome;
use super::support::canary;
use super::support::fault::{AT_BEGIN, At, Fault, Planned, WatchFault};
use super::workload::Workload;

/// Does these runs, so many at once, and says how they went, in their order.
pub async fn all(field: &Arc<Field>, lines: Vec<Line>) -> Vec<Outcome> {
    let runs = lines.into_iter().map(|line| {
        let field = Arc::clone(field);
        async move {
            let run = tokio::spawn(async move { field.run(&line).await });
            run.await.expect("a run does not panic")
        }
    });
    stream::iter(runs).buffered(2 * PLACES).collect().await
}

/// Every single fault at every place of a workload, with users of this patience.
pub async fn singles(field: &Arc<Field>, workload: Workload, seed: u64) -> Vec<Outcome> {
    let outcomes = all(field, single_lines(field, workload, seed).await).await;
    if seed == 0 && workload.controllers() == 1 {
        they_happened(&outcomes);
    }
    outcomes
}

/// The runs with every single fault.
pub async fn single_lines(field: &Arc<Field>, workload: Workload, seed: u64) -> Vec<Line> {
    let places = places(field, workload, seed).await;
    let lines = places.into_iter().map(|fault| Line {
        workload,
        seed,
        faults: vec![fault],
    });
    lines.collect()
}

/// What is planned at places that were reached without it must happen, nearly always: what comes
/// after an Event or a restart of a watch is a matter of chance.
fn they_happened(outcomes: &[Outcome]) {
    let happened = outcomes.iter().filter(|outcome| outcome.fired > 0);
    let happened: Vec<At> = happened.map(|outcome| outcome.line.faults[0].at).collect();
    let share = 100 * happened.len() / outcomes.len();
    assert!(share >= 95, "only {share} of 100 faults happened");
    for fault in Fault::ALL {
        let found = |at: &At| matches!(at, At::Request(_, other) if *other == fault);
        assert!(happened.iter().any(found), "{fault} never happened");
    }
    for fault in WatchFault::ALL {
        let found = |at: &At| matches!(at, At::Watch(_, other) if *other == fault);
        assert!(happened.iter().any(found), "{fault} never happened");
    }
}

/// Every single fault of a workload. Which of two controllers does what is a matter of chance, so
/// their places are those that were reached at most in several runs without a fault; of one, those
/// that are always reached.
async fn places(field: &Arc<Field>, workload: Workload, seed: u64) -> Vec<Planned> {
    let outcomes = without_a_fault(field, workload, seed).await;
    judge(&format!("{workload} without a fault"), &outcomes);
    let mut faults = Vec::new();
    for controller in 0..workload.controllers() {
        let reached = match workload.controllers() {
            1 => least(&outcomes),
            _ => KINDS.map(|kind| {
                counts(&outcomes, controller, kind)
                    .max()
                    .unwrap_or_default()
            }),
        };
        let all = faults_at(reached);
        faults.extend(all.into_iter().map(|at| Planned { controller, at }));
    }
    faults
}

/// Several runs. One controller asks more often while the garbage collector, or whatever else the
/// machine does, is slow, so it runs until it does not ask for less any more.
async fn without_a_fault(field: &Arc<Field>, workload: Workload, seed: u64) -> Vec<Outcome> {
    let calm = Line {
        workload,
        seed,
        faults: Vec::new(),
    };
    let mut outcomes = all(field, vec![calm.clone(); 4]).await;
    loop {
        let before = least(&outcomes);
        if workload.controllers() == 1 {
            outcomes.extend(all(field, vec![calm.clone(); 4]).await);
        }
        if least(&outcomes) == before {
            return outcomes;
        }
    }
}

/// See [`super::plan::Schedule::counts`].
const KINDS: [usize; 4] = [0, 1, 2, 3];

fn counts(outcomes: &[Outcome], controller: usize, kind: usize) -> impl Iterator<Item = u32> {
    let outcomes = outcomes.iter();
    outcomes.map(move |outcome| outcome.counts[controller][kind])
}

/// What the first controller reaches in each of these runs.
fn least(outcomes: &[Outcome]) -> [u32; 4] {
    KINDS.map(|kind| counts(outcomes, 0, kind).min().unwrap_or_default())
}

fn faults_at([requests, about_events, begun, watched]: [u32; 4]) -> Vec<At> {
    let at_requests = (1..=requests).flat_map(|n| Fault::ALL.map(|fault| At::Request(n, fault)));
    let at_events = (1..=about_events).flat_map(|n| Fault::ALL.map(|fault| At::Event(n, fault)));
    let at_begins = (1..=begun).flat_map(|n| AT_BEGIN.map(|fault| At::Begin(n, fault)));
    let watch = (1..=watched).flat_map(|n| WatchFault::ALL.map(|fault| At::Watch(n, fault)));
    at_requests
        .chain(at_events)
        .chain(at_begins)
        .chain(watch)
        .collect()
}

/// Every ordered pair of faults on one workload: the second is at a place that the run with the
/// first alone reached after it.
pub async fn pairs(field: &Arc<Field>, workload: Workload) -> Vec<Line> {
    let singles = singles(field, workload, 0).await;
    judge(&format!("single faults on {workload}"), &singles);
    singles.iter().flat_map(seconds).collect()
}

fn seconds(single: &Outcome) -> Vec<Line> {
    let first = single.line.faults[0];
    let [requests, _, _, watched] = single.counts_done[first.controller];
    let (request, event) = match first.at {
        At::Request(n, _) => (n + 1, 1),
        At::Watch(n, _) => (1, n + 1),
        // What becomes of Events changes nothing that could go wrong a second time, and a watch that
        // does not begin is one that ends at once.
        At::Event(..) | At::Begin(..) => return Vec::new(),
    };
    let requests = (request..=requests).flat_map(|n| Fault::ALL.map(|fault| At::Request(n, fault)));
    let watch = (event..=watched).flat_map(|n| WatchFault::ALL.map(|fault| At::Watch(n, fault)));
    requests
        .chain(watch)
        .map(|at| {
            let second = Planned {
                controller: first.controller,
                at,
            };
            Line {
                faults: vec![first, second],
                ..single.line.clone()
            }
        })
        .collect()
}

/// Panics if a run was not as it has to be, with the lines that replay those that were not.
pub fn judge(what: &str, outcomes: &[Outcome]) {
    let fired: u64 = outcomes.iter().map(|outcome| outcome.fired).sum();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut report = String::new();
    for outcome in outcomes {
        for violation in &outcome.violations {
            let (kind, _) = violation.split_once(':').unwrap_or(("?", ""));
            *kinds.entry(kind).or_default() += 1;
            report += &format!("\nKEYWARD_FAULTS=\"{}\": {violation}", outcome.line);
        }
    }
    let searched = canary::nothing_was_found();
    println!(
        "measured: {what}: {} runs, {fired} faults, {} violations, {} MB of logs searched",
        outcomes.len(),
        kinds.values().sum::<usize>(),
        searched >> 20,
    );
    assert!(!outcomes.is_empty(), "{what}: there were runs");
    assert!(kinds.is_empty(), "{what}: violations {kinds:?}:{report}");
}
