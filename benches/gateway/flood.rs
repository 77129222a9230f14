//! G7: how long devices whose secrets are known wait while others flood the same endpoint with wrong ones.
//!
//! The gateway has one processor, the clients have the other. A thousand tokens a second are asked for at their times;
//! the flood is 32 connections that ask again as soon as they are answered, with secrets that are well formed. Those
//! for generated keys fail their check. Those for keys that were taken over are hashed, and wait for each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::load::{Request, Stop, as_fast_as_they_go, at_rate, auth_device};
use super::measure::{
    Compared, Core, ROUNDS, Row, quantile, scaled, scaled_time, stay_anywhere, stay_on,
};
use super::plant::another_secret;
use super::served::Gateway;

const RATE: usize = 1000;
const TIME: Duration = Duration::from_secs(4);
const CONNECTIONS: usize = 32;

/// The flood yields to the clients that are measured, as it would on a machine of its own.
const NICE: i32 = 10;

pub fn run() -> Vec<Row> {
    let gateway = Gateway::start(scaled(10_000), scaled(1000), scaled(10_000));
    stay_on(Core::First);
    let asks = gateway
        .fleet
        .iter()
        .map(|(issued, _)| auth_device(issued, &issued.secret));
    let asks: Vec<Request> = asks.collect();
    let generated = gateway
        .fleet
        .iter()
        .map(|(issued, _)| auth_device(issued, &another_secret()));
    let generated: Vec<Request> = generated.collect();
    let guesses = AtomicUsize::new(0);
    let guess = |_| {
        let number = guesses.fetch_add(1, Ordering::Relaxed);
        let key = &gateway.taken_over[number % gateway.taken_over.len()];
        auth_device(key, &format!("guess-{number}"))
    };
    let rows = vec![
        flooded(
            "p99 under a flood for generated keys, quiet",
            &gateway,
            &asks,
            &|number| generated[number % generated.len()].clone(),
        ),
        flooded(
            "p99 under a flood for taken over keys, quiet",
            &gateway,
            &asks,
            &guess,
        ),
    ];
    stay_anywhere();
    rows
}

fn flooded(
    what: &'static str,
    gateway: &Gateway,
    asks: &[Request],
    wrong: &(impl Fn(usize) -> Request + Sync),
) -> Row {
    println!("  ms: {what}");
    let (mut compared, mut fewest) = (Compared::default(), 1.0_f64);
    // The first is not counted: until then no secret is known.
    at_rate(gateway.devices, RATE, scaled_time(TIME), asks);
    for _ in 0..ROUNDS {
        let quiet = at_rate(gateway.devices, RATE, scaled_time(TIME), asks);
        let stop = Stop::default();
        let (flooded, refused) = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                rustix::process::nice(NICE).expect("it yields");
                as_fast_as_they_go(gateway.devices, CONNECTIONS, &|| stop.is_set(), wrong)
            });
            let end = stop.at_the_end();
            let flooded = at_rate(gateway.devices, RATE, scaled_time(TIME), asks);
            drop(end);
            (flooded, flood.join().expect("no panic"))
        });
        let served = flooded.latencies.len() as f64 / flooded.asked as f64;
        fewest = fewest.min(served);
        compared.add(
            quantile(flooded.latencies, 0.99),
            quantile(quiet.latencies, 0.99),
        );
        println!(
            "    {:.2} % served, beside {refused} of the flood",
            served * 100.0
        );
    }
    let mut row = compared.row("G7", what, "ms", 4.0);
    row.holds = fewest >= 0.99;
    row.own += &format!(", {:.1} % served", fewest * 100.0);
    row
}
