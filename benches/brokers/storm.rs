//! 10,000 devices of 1,000 keys come at once to a broker that has just started, and among them some with a wrong secret.

use std::fs;
use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};

use super::fleet::Fleet;
use super::measure::{Row, scaled};
use super::mqtt::{Connect, Refused, Session};
use super::rivals::with_plugin;
use super::support::keys::some_secret;

/// That have not been answered yet.
const AT_ONCE: usize = 500;

/// One in so many shows a wrong secret.
const WRONG: usize = 50;

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    let broker = with_plugin(fleet).await;
    let before = memory(broker.child());
    let devices = fleet.devices(scaled(10_000));
    let wrong = devices.iter().step_by(WRONG).map(|device| Connect {
        login: device.login.clone().map(|(key, _)| (key, some_secret())),
        id: device.id.clone(),
        ..device.clone()
    });
    let wrong: Vec<Connect> = wrong.collect();
    let begin = Instant::now();
    let refused = stream::iter(&wrong).map(|device| is_refused(device, broker.at));
    let admitted = stream::iter(&devices).map(|device| comes(device, broker.at));
    let refused = refused.buffer_unordered(AT_ONCE / WRONG).collect();
    let admitted = admitted.buffer_unordered(AT_ONCE).collect();
    let (refused, sessions): (Vec<bool>, Vec<(Session, usize)>) = tokio::join!(refused, admitted);
    let let_in = refused.iter().filter(|refused| !**refused).count();
    let time = begin.elapsed();
    let tries: usize = sessions.iter().map(|(_, tries)| tries).sum();
    println!(
        "  {} devices are in after {:.1} s, with {tries} tries; {} of {} wrong secrets were let in",
        sessions.len(),
        time.as_secs_f64(),
        let_in,
        wrong.len()
    );
    println!(
        "  the broker's memory: {:.0} MiB before, {:.0} MiB now",
        before / 1024.0,
        memory(broker.child()) / 1024.0
    );
    vec![Row {
        goal: "B4",
        what: "wrong answers in a storm, none",
        own: let_in.to_string(),
        other: "0".to_owned(),
        figure: let_in as f64,
        most: 0.0,
        holds: sessions.len() == devices.len(),
    }]
}

/// Comes until it is let in; after how many tries is it?
async fn comes(device: &Connect, at: SocketAddr) -> (Session, usize) {
    let mut tries = 1;
    loop {
        match device.to(at).await {
            Ok(session) => return (session, tries),
            Err(refused) => assert_eq!(refused, Refused::Closed, "{}", device.id),
        }
        tries += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Comes until it is answered; is that a refusal?
async fn is_refused(device: &Connect, at: SocketAddr) -> bool {
    loop {
        match device.to(at).await {
            Ok(_) => return false,
            Err(Refused::Code(_)) => return true,
            Err(Refused::Closed) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// The resident memory of a process, in KiB.
fn memory(of: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", of.id())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    value.expect("a number of KiB").parse().expect("a number")
}
