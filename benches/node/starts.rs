//! How long each part takes until it is ready, from when its Pod is there.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use tokio::time::{Instant, sleep};

use crate::PARTS;
use crate::inside::Inside;

const ROUNDS: usize = 7;

/// Has each part replaced a few times, and says how long that took.
pub async fn measure(inside: &Inside) {
    println!(
        "\nfrom a Pod that is there to one that is ready, in ms, and from the start of its container (to 1 s)"
    );
    println!(
        "{:12} {:>8} {:>8} {:>8} {:>10}",
        "", "least", "median", "most", "container"
    );
    for part in PARTS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(replaced(inside, part).await);
        }
        rounds.sort();
        let at = |place: usize| rounds[place].0.as_millis();
        let mut of_container: Vec<_> = rounds.iter().map(|round| round.1).collect();
        of_container.sort();
        let of_container = of_container[ROUNDS / 2];
        println!(
            "{part:12} {:>8} {:>8} {:>8} {of_container:>8} s",
            at(0),
            at(ROUNDS / 2),
            at(ROUNDS - 1)
        );
    }
}

/// One Pod of the part is deleted; how long its successor takes, and how long of that its container.
async fn replaced(inside: &Inside, part: &str) -> (Duration, i64) {
    let before = inside.pods(part).await;
    let known: Vec<String> = before.iter().map(ResourceExt::name_any).collect();
    let at_once = DeleteParams::default().grace_period(0);
    let deleted = inside.system_pods().delete(&known[0], &at_once).await;
    deleted.expect("deleted");
    let mut seen = None;
    loop {
        let pods = inside.pods(part).await;
        if let Some(pod) = pods.iter().find(|pod| !known.contains(&pod.name_any())) {
            let seen = *seen.get_or_insert_with(Instant::now);
            if let Some((started, ready)) = times(pod) {
                inside.is_rolled_out(&format!("keyward-{part}")).await;
                return (seen.elapsed(), (ready - started).get_seconds());
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// When the container started, and when the Pod was ready.
fn times(pod: &Pod) -> Option<(Timestamp, Timestamp)> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.find(|it| it.type_ == "Ready" && it.status == "True")?;
    let container = status.container_statuses.as_ref()?.first()?;
    let running = container.state.as_ref()?.running.as_ref()?;
    Some((
        running.started_at.as_ref()?.0,
        ready.last_transition_time.as_ref()?.0,
    ))
}
