//! The processor time of a CONNECT whose secret is known; and how long one that is connected waits for its messages while
//! 1,000 devices come whose secrets are not.

use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};

use super::fleet::{Fleet, comes};
use super::measure::{
    Compared, ROUNDS, Row, median, processor_time, quantile, scaled, scaled_time,
};
use super::mqtt::Connect;
use super::rivals::{Plain, with_plugin};

/// Connect at the same time.
const AT_ONCE: usize = 32;

/// Of each arm, in each round.
const TIME: Duration = Duration::from_secs(3);

/// So often a broker without anything in its caches is started.
const STARTS: usize = 3;

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    let (own, plain) = (with_plugin(fleet).await, Plain::start(fleet).await);
    let devices = fleet.devices(scaled(1000));
    println!("  us of processor time a CONNECT: with the plugin, with files");
    let known = stream::iter(&devices).map(|device| comes(device, own.at));
    known.buffer_unordered(AT_ONCE).count().await;
    let mut compared = Compared::default();
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let own = as_they_go(own.at, own.child(), &devices).await;
        let plain = as_they_go(plain.at, &plain.child, &devices).await;
        compared.add(own.micros, plain.micros);
        rates.0.push(own.rate);
        rates.1.push(plain.rate);
    }
    println!(
        "  a second: {:.0} and {:.0}",
        median(rates.0),
        median(rates.1)
    );
    drop((own, plain));
    for_who_is_there(fleet).await;
    vec![compared.row("B1", "CONNECT, a password file", "us", 1.0)]
}

struct Connects {
    micros: f64,
    rate: f64,
}

/// All connect and leave, again and again.
async fn as_they_go(at: SocketAddr, broker: &Child, devices: &[Connect]) -> Connects {
    let (begin, before) = (Instant::now(), processor_time(broker));
    let time = scaled_time(TIME);
    let devices = devices.iter().cycle();
    let devices = devices.take_while(|_| begin.elapsed() < time);
    let connects = stream::iter(devices).map(|device| device.to(at));
    let connects = connects.buffer_unordered(AT_ONCE);
    let all = connects.fold(0, async |many, connected| {
        connected.expect("it is admitted");
        many + 1
    });
    let many = f64::from(all.await);
    Connects {
        micros: (processor_time(broker) - before) * 1e6 / many,
        rate: many / begin.elapsed().as_secs_f64(),
    }
}

/// How long one waits that is connected.
async fn for_who_is_there(fleet: &Fleet) {
    let devices = fleet.devices(scaled(1000));
    println!(
        "  ms that a message takes while {} devices come for the first time:",
        devices.len()
    );
    for _ in 0..STARTS {
        let own = with_plugin(fleet).await;
        waits("with the plugin", fleet, own.at, &devices).await;
        let plain = Plain::start(fleet).await;
        waits("with files", fleet, plain.at, &devices).await;
    }
}

async fn waits(what: &str, fleet: &Fleet, at: SocketAddr, devices: &[Connect]) {
    let mut there = fleet.chief().to(at).await.expect("it is admitted");
    let topic = "devices/chief/state";
    assert_eq!(there.subscribe(topic, 0).await, Some(true));
    let begin = Instant::now();
    let all_in = async {
        let coming = stream::iter(devices).map(|device| comes(device, at));
        coming.buffer_unordered(AT_ONCE).count().await;
        begin.elapsed()
    };
    tokio::pin!(all_in);
    let mut times = Vec::new();
    let all_in = loop {
        let begin = Instant::now();
        let once = async {
            there.throw(topic, "on").await;
            there.message().await;
            begin.elapsed()
        };
        tokio::pin!(once);
        tokio::select! {
            all_in = &mut all_in => break all_in,
            time = &mut once => times.push(time.as_secs_f64() * 1e3),
        }
    };
    println!(
        "  {what}: p50 {:.2}, p99 {:.2}, longest {:.1}; all are in after {:.2} s",
        quantile(times.clone(), 0.5),
        quantile(times.clone(), 0.99),
        quantile(times, 1.0),
        all_in.as_secs_f64(),
    );
}
