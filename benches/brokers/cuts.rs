//! From the API server's answer to the patch that makes a key inactive to the end of its session.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::json;

use super::fleet::{Fleet, comes};
use super::measure::{Row, quantile, scaled};
use super::rivals::with_plugin;

/// Sessions, each of a key of its own.
const SESSIONS: usize = 200;

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    let broker = with_plugin(fleet).await;
    let devices = fleet.one_of_each(scaled(SESSIONS));
    let sessions = stream::iter(&devices).map(|device| comes(device, broker.at));
    let sessions: Vec<_> = sessions.buffered(32).collect().await;
    let mut times = Vec::new();
    for (number, mut session) in sessions.into_iter().enumerate() {
        let inactive = json!({ "spec": { "state": "Inactive" } });
        fleet.plant.change(&format!("key-{number}"), inactive).await;
        let answered = Instant::now();
        assert!(session.is_closed().await);
        times.push(answered.elapsed().as_secs_f64() * 1e3);
    }
    let p99 = quantile(times.clone(), 0.99);
    println!(
        "  ms to the end of {} sessions, one after another: p50 {:.0}, p99 {p99:.0}, longest {:.0}",
        times.len(),
        quantile(times.clone(), 0.5),
        quantile(times, 1.0)
    );
    vec![Row {
        goal: "B3",
        what: "p99 to cut a session, 250 ms",
        own: format!("{p99:.0} ms"),
        other: "250 ms".to_owned(),
        figure: p99 / 250.0,
        most: 1.0,
        holds: true,
    }]
}
