//! What the gateway costs, against its goals: one file a goal, each with both arms in one run.
//!
//! Arms take turns, round by round, and a ratio is the median of the rounds' ratios: what else happens on the machine
//! weighs on both. Servers are processes of their own, on the last processor; clients have the first.
//!
//! `make bench` runs all, and tells at the end which goals are met. Some of them, while `KUBECONFIG` names a cluster
//! with `crds/` and `deploy/install.yaml` applied if `revocation` or `lives` is among them:
//! `cargo bench --features cluster-tests --bench gateway -- decision served`.
//!
//! `KEYWARD_BENCH_SCALE=0.01` makes everything smaller, to try the benches themselves.

mod child;
mod decision;
mod deployed;
mod flood;
mod follow;
mod hashes;
mod lives;
mod load;
mod measure;
mod misses;
mod plant;
mod records;
mod refusals;
mod revocation;
mod served;
#[path = "../../tests/support/mod.rs"]
mod support;

use measure::{Row, load_average, show};

/// By its name, and what it measures.
type Part = (&'static str, fn() -> Vec<Row>);

const PARTS: [Part; 9] = [
    ("decision", decision::run),
    ("hashes", hashes::run),
    ("records", records::run),
    ("misses", misses::run),
    ("served", served::run),
    ("flood", flood::run),
    ("refusals", refusals::run),
    ("revocation", revocation::run),
    ("lives", lives::run),
];

fn main() {
    deployed::as_it_is();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(part) = child::wanted() {
        return child::run(&part);
    }
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&String> = chosen
        .iter()
        .filter(|name| !name.starts_with('-'))
        .collect();
    println!("load average at the start {}", load_average());
    let mut rows = Vec::new();
    for (name, run) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name) {
            println!("\n{name}");
            rows.extend(run());
        }
    }
    println!("\nload average at the end {}", load_average());
    show(&rows);
}
