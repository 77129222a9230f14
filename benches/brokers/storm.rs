//! 10,000 devices of 1,000 keys come at once to a broker that has just started, and among them some with a wrong secret.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::chosen;
use super::fleet::{Fleet, lives};
use super::measure::{Row, scaled};
use super::mqtt::{Connect, Refused, Session};
use super::served::{ALL, Served};
use super::support::keys::some_secret;

/// That have not been answered yet.
const AT_ONCE: usize = 500;

/// One in so many shows a wrong secret.
const WRONG: usize = 50;

/// Who was not answered comes again after this time.
const AGAIN: Duration = Duration::from_secs(1);

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    println!(
        "  | broker | all are in after | tries of each | wrong secrets let in | good ones refused | MiB of the broker \
         | of the gateway |\n  |---|--:|--:|--:|--:|--:|--:|"
    );
    let mut rows = Vec::new();
    for (name, start) in chosen(&ALL) {
        let served = start(fleet).await;
        rows.push(storm(name, fleet, &served).await);
    }
    rows
}

async fn storm(name: &str, fleet: &Fleet, served: &Served) -> Row {
    let before = served.memory();
    let devices = fleet.devices(scaled(10_000));
    let wrong = devices.iter().step_by(WRONG).map(|device| Connect {
        login: device.login.clone().map(|(key, _)| (key, some_secret())),
        ..device.clone()
    });
    let wrong: Vec<Connect> = wrong.collect();
    let begin = Instant::now();
    let refused = stream::iter(&wrong).map(|device| is_refused(device, served.at));
    let admitted = stream::iter(&devices).map(|device| comes(device, served.at));
    let refused = refused.buffer_unordered(AT_ONCE / WRONG).collect();
    let admitted = admitted.buffer_unordered(AT_ONCE).collect();
    let (refused, mut admitted): (Vec<bool>, Vec<Admitted>) = tokio::join!(refused, admitted);
    let time = begin.elapsed();
    let after = served.memory();
    let let_in = refused.iter().filter(|refused| !**refused).count();
    let turned_away: usize = admitted.iter().map(|one| one.refusals).sum();
    let tries: usize = admitted.iter().map(|one| one.tries).sum();
    let of_gateway = before.1.zip(after.1).map(between);
    println!(
        "  | {name} | {:.1} s | {:.3} | {let_in} of {} | {turned_away} | {} | {} |",
        time.as_secs_f64(),
        tries as f64 / devices.len() as f64,
        wrong.len(),
        between((before.0, after.0)),
        of_gateway.unwrap_or_default(),
    );
    let all = stream::iter(&mut admitted).map(|one| lives(&mut one.session, one.id));
    Row {
        goal: "B4",
        what: format!("wrong answers in a storm, {name}, none"),
        own: (let_in + turned_away).to_string(),
        other: "0".to_owned(),
        figure: (let_in + turned_away) as f64,
        most: 0.0,
        holds: all
            .buffer_unordered(AT_ONCE)
            .all(|lives| async move { lives })
            .await,
    }
}

fn between((before, after): (f64, f64)) -> String {
    format!("{before:.0} to {after:.0}")
}

/// A device that was let in.
struct Admitted<'a> {
    id: &'a str,
    session: Session,
    /// So often it came.
    tries: usize,
    /// So often it was told that its secret is not good, though it is.
    refusals: usize,
}

/// Comes until it is let in.
async fn comes(device: &Connect, at: SocketAddr) -> Admitted<'_> {
    let (mut tries, mut refusals) = (1, 0);
    loop {
        match device.to(at).await {
            Ok(session) => {
                return Admitted {
                    id: &device.id,
                    session,
                    tries,
                    refusals,
                };
            }
            Err(refused) => refusals += usize::from(refused != Refused::Closed),
        }
        tries += 1;
        sleep(AGAIN).await;
    }
}

/// Comes until it is answered; is that a refusal?
async fn is_refused(device: &Connect, at: SocketAddr) -> bool {
    loop {
        match device.to(at).await {
            Ok(_) => return false,
            Err(Refused::Code(_)) => return true,
            Err(Refused::Closed) => sleep(AGAIN).await,
        }
    }
}
