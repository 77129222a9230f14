//! G6: memory while 400 secrets wait to be hashed at the dear profile, against what the hashes that may run at once take.

use std::thread::available_parallelism;

use futures::future::join_all;
use keyward::policy::Decision;
use keyward::verifier::HashProfile;

use super::child::Other;
use super::measure::{ROUNDS, Row, median, memory};
use super::plant::{Common, Issued, Plant};

const WAITING: usize = 400;

/// MiB of one hash at the dear profile.
const A_HASH: f64 = 19.0;

/// MiB that may come on top.
const BESIDE: f64 = 10.0;

pub fn run() -> Vec<Row> {
    let grown = (0..ROUNDS).map(|_| {
        let grown = Other::start(&format!("misses {WAITING}")).number() / 1024.0;
        println!("  {grown:.1} MiB more with {WAITING} waiting");
        grown
    });
    let figure = median(grown.collect());
    let permits = available_parallelism().map_or(1, usize::from) as f64;
    let most = permits * A_HASH + BESIDE;
    vec![Row {
        goal: "G6",
        what: "memory while 400 secrets wait for a hash".to_owned(),
        own: format!("{figure:.1} MiB"),
        other: format!("{permits} x {A_HASH} + {BESIDE} MiB"),
        figure,
        most,
        holds: true,
    }]
}

/// In a process of its own: KiB that it grows by.
pub fn queue(waiting: usize) {
    let common = Common::new(HashProfile::Owasp);
    let (plant, fleet) = Plant::of(waiting, |number| Issued::with(number, &common));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The hash that was made here has left its memory behind: what it took counts as grown, too.
    let before = memory("VmRSS") - A_HASH * 1024.0;
    let asked = fleet.iter().map(async |issued| {
        plant
            .authenticator
            .authenticate(&issued.credentials())
            .await
    });
    let answers = runtime.block_on(join_all(asked));
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Decision::Allow(_)))
    );
    println!("{}", memory("VmHWM") - before);
}
