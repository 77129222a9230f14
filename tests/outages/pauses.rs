//! A controller stands still for longer than every deadline, and then goes on as if nothing had been.

use std::time::Duration;

use tokio::time::sleep;

use super::fleet::{Fleet, PATIENCE};
use crate::support::history::Seen;

/// Longer than the grace.
const PAUSE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_in_the_midst_of_its_work_a_controller_does_no_harm_later() {
    stop_while_another_works("paused", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn stopped_again_and_again_a_controller_does_no_harm_later() {
    stop_while_another_works("paused-often", 12).await;
}

async fn stop_while_another_works(purpose: &'static str, rounds: u64) {
    let mut fleet = Fleet::shared(purpose).await;
    let first = fleet.controller().await;
    fleet.issue(12).await;
    fleet.consume(2).await;
    for round in 0..rounds {
        // Each time a little later in its work.
        let begun = fleet.history.seen().statuses + 3 + 2 * round;
        fleet.ask(20, 8).await;
        let works = |seen: &Seen| seen.statuses >= begun;
        fleet.history.until("it works", PATIENCE, works).await;
        first.pause();
        let second = fleet.controller().await;
        sleep(PAUSE).await;
        fleet.is_done().await;
        // Those that the other one has issued are taken before it looks again.
        fleet.consume(4).await;
        first.resume();
        fleet.ask(4, 4).await;
        fleet.is_done().await;
        let ended = second.end(Duration::from_secs(15)).await;
        assert!(ended.success(), "{ended}");
        // It works as before.
        fleet.ask(4, 4).await;
        fleet.is_whole().await;
    }
    println!(
        "measured: {rounds} pauses: {}",
        fleet.history.seen().summary()
    );
    let late = first
        .log_text()
        .matches("no answer from the API server within")
        .count();
    println!("measured: {late} answers were found after their deadline, or none");
}
