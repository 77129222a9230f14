//! From the API server's answer to the patch that makes a key inactive to the end of its session.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::json;

use super::chosen;
use super::fleet::{Fleet, comes, lives};
use super::measure::{Row, quantile, scaled};
use super::mqtt::{Connect, Session};
use super::served::{ALL, Served};

/// Sessions, each of a key of its own; and as many that are not to end.
const SESSIONS: usize = 200;

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    println!(
        "  ms to the end of {} sessions, one after another:\n  | broker | p50 | p99 | longest | of as many others ended \
         |\n  |---|--:|--:|--:|--:|",
        scaled(SESSIONS)
    );
    let mut rows = Vec::new();
    for (turn, (name, start)) in chosen(&ALL).into_iter().enumerate() {
        let served = start(fleet).await;
        rows.push(cuts(name, turn, fleet, &served).await);
    }
    rows
}

/// Keys of the turns before are inactive.
async fn cuts(name: &str, turn: usize, fleet: &Fleet, served: &Served) -> Row {
    let devices = fleet.one_of_each();
    let mut devices = devices.chunks(scaled(SESSIONS));
    let others = devices.next_back().expect("keys");
    let chosen = devices.nth(turn).expect("keys");
    let mut others = sessions(others, served).await;
    let mut times = Vec::new();
    for (number, (_, mut session)) in sessions(chosen, served).await.into_iter().enumerate() {
        let key = format!("key-{}", turn * scaled(SESSIONS) + number);
        let inactive = json!({ "spec": { "state": "Inactive" } });
        fleet.plant.change(&key, inactive).await;
        let answered = Instant::now();
        assert!(session.is_closed().await);
        times.push(answered.elapsed().as_secs_f64() * 1e3);
    }
    let mut ended = 0;
    for (id, session) in &mut others {
        ended += usize::from(!lives(session, id).await);
    }
    let p99 = quantile(times.clone(), 0.99);
    println!(
        "  | {name} | {:.0} | {p99:.0} | {:.0} | {ended} |",
        quantile(times.clone(), 0.5),
        quantile(times, 1.0)
    );
    Row {
        goal: "B3",
        what: format!("p99 to cut a session, {name}, 250 ms"),
        own: format!("{p99:.0} ms"),
        other: "250 ms".to_owned(),
        figure: p99 / 250.0,
        most: 1.0,
        holds: ended == 0,
    }
}

/// Of these devices.
async fn sessions<'a>(devices: &'a [Connect], served: &Served) -> Vec<(&'a str, Session)> {
    let coming = async |device: &'a Connect| (&*device.id, comes(device, served.at).await);
    stream::iter(devices)
        .map(coming)
        .buffered(32)
        .collect()
        .await
}
