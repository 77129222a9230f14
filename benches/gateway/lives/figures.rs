//! What it took: requests, memory and time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::measure::quantile;
use super::super::support::process::Process;
use super::fleet::{Device, Fleet, Minute, Turn};

/// What the controller had taken before.
pub struct Begin {
    memory: u64,
    requests: BTreeMap<String, u64>,
}

impl Begin {
    /// What it has taken so far.
    pub async fn of(controller: &mut Process) -> Begin {
        Begin {
            memory: controller.memory("VmRSS"),
            requests: requests(controller).await,
        }
    }

    /// Prints what it has taken since, and the memory of a gateway.
    pub async fn show(self, controller: &mut Process, gateway: &Process) {
        let now = requests(controller).await;
        for (step, count) in now {
            let since = count - self.requests.get(&step).copied().unwrap_or_default();
            if since > 0 {
                println!("  requests, {step}: {since}");
            }
        }
        println!(
            "  MiB of memory of the controller: {:.1} before, {:.1} after, {:.1} at most; of a gateway {:.1} at most",
            self.memory as f64 / 1024.0,
            controller.memory("VmRSS") as f64 / 1024.0,
            peak(controller),
            peak(gateway),
        );
    }
}

/// MiB.
fn peak(of: &Process) -> f64 {
    of.memory("VmHWM") as f64 / 1024.0
}

/// How many the controller has sent, by step.
pub async fn requests(controller: &mut Process) -> BTreeMap<String, u64> {
    let (_, text) = controller.get("/metrics").await;
    let counts = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("keyward_api_requests_total{step=\"")?;
        let (step, count) = rest.split_once("\"} ")?;
        Some((step.to_owned(), count.parse().ok()?))
    });
    counts.collect()
}

/// Prints how long after their turns the statuses said so.
pub fn show_times(fleet: &Fleet, minute: &Minute) {
    let seconds = |of: &dyn Fn(&Device) -> Option<SignedDuration>| {
        let times = fleet.devices.iter().filter_map(of);
        times.map(|time| time.as_secs_f64()).collect::<Vec<_>>()
    };
    let after = |at: Option<Timestamp>, due: Timestamp| Some(at?.duration_since(due));
    show(
        "from the end of a key until its status says so",
        seconds(&|device| match device.turn {
            Turn::Expires(due) => after(device.done.get().copied(), due),
            Turn::Rotates(_) => None,
        }),
    );
    show(
        "from when a rotation is due until its secret is accepted",
        seconds(&|device| match device.turn {
            Turn::Rotates(due) => after(device.accepted.get().map(|accepted| accepted.at), due),
            Turn::Expires(_) => None,
        }),
    );
    show(
        "from the end of an overlap until the status says so",
        seconds(&|device| {
            let accepted = device.accepted.get()?;
            after(device.done.get().copied(), accepted.old_until)
        }),
    );
    let last = fleet
        .devices
        .iter()
        .filter_map(|device| device.done.get())
        .max();
    let all = after(last.copied(), minute.begin).expect("there are devices");
    println!(
        "  s, from the first turn until all is done: {:.0}",
        all.as_secs_f64()
    );
}

fn show(what: &str, times: Vec<f64>) {
    println!(
        "  s, {what}: p50 {:.1}, p99 {:.1}, at most {:.1}",
        quantile(times.clone(), 0.5),
        quantile(times.clone(), 0.99),
        quantile(times, 1.0),
    );
}
