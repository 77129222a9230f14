//! G8: how many hashes are run for many who ask at once, and for secrets that are wrong. Counts, and no times.

use std::sync::Arc;

use futures::future::join_all;
use keyward::policy::{Decision, Reason};
use keyward::verifier::HashProfile;

use super::measure::Row;
use super::plant::{Common, Issued, Plant, another_secret};

const ASKED: usize = 10_000;

pub fn run() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { vec![identical().await, wrong().await] })
}

async fn identical() -> Row {
    let common = Common::new(HashProfile::Fleet);
    let (plant, fleet) = Plant::of(1, |number| Issued::with(number, &common));
    let (plant, issued) = (Arc::new(plant), Arc::new(fleet[0].clone()));
    let asked = (0..ASKED).map(|_| {
        let (plant, issued) = (Arc::clone(&plant), Arc::clone(&issued));
        tokio::spawn(async move {
            plant
                .authenticator
                .authenticate(&issued.credentials())
                .await
        })
    });
    let answers = join_all(asked).await;
    let is_allow = |answer: &Result<Decision, _>| matches!(answer, Ok(Decision::Allow(_)));
    row(
        "hashes for misses that are alike",
        &plant,
        answers.iter().all(is_allow),
        1.0,
    )
}

async fn wrong() -> Row {
    let common = Common::new(HashProfile::Fleet);
    let (plant, fleet) = Plant::of(ASKED, |number| Issued::with(number, &common));
    let mut are_refused = true;
    for issued in &fleet {
        let wrong = another_secret();
        let answer = plant
            .authenticator
            .authenticate(&issued.with_secret(&wrong))
            .await;
        are_refused &= answer == Decision::Deny(Reason::BadSecret);
    }
    row(
        "hashes for secrets that are wrong",
        &plant,
        are_refused,
        0.0,
    )
}

fn row(what: &str, plant: &Plant, holds: bool, most: f64) -> Row {
    let hashes = plant.metrics.hashes.get();
    println!("  {what}: {hashes} for {ASKED}");
    Row {
        goal: "G8",
        what: what.to_owned(),
        own: hashes.to_string(),
        other: format!("{ASKED} asked"),
        figure: hashes as f64,
        most,
        holds: holds && hashes as f64 == most,
    }
}
