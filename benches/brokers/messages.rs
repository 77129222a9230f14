//! The processor time of a message, where 1,000 devices each have one subscription.

use std::fs;
use std::net::SocketAddr;
use std::process::Child;
use std::time::Instant;

use futures::stream::{self, StreamExt};

use super::fleet::{Fleet, comes};
use super::measure::{Compared, Row, median, scaled};
use super::mqtt::{Connect, Session};
use super::rivals::{Plain, with_plugin};

/// Rounds, each of them short: what else goes on here then falls on both arms.
const ROUNDS: usize = 60;
/// Each device gets so many, in each round.
const EACH: usize = 10;

pub async fn run(fleet: &Fleet) -> Vec<Row> {
    let (own, plain) = (with_plugin(fleet).await, Plain::start(fleet).await);
    let mut own = Arm::at(fleet, own.at, own.child()).await;
    let mut plain = Arm::at(fleet, plain.at, &plain.child).await;
    println!("  us of processor time a message: with the plugin, with files");
    own.round().await;
    plain.round().await;
    let mut compared = Compared::default();
    let mut rates = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Neither always goes first.
        let (own, plain) = if round % 2 == 0 {
            let own = own.round().await;
            (own, plain.round().await)
        } else {
            let plain = plain.round().await;
            (own.round().await, plain)
        };
        compared.add(own.micros, plain.micros);
        rates.0.push(own.rate);
        rates.1.push(plain.rate);
    }
    println!(
        "  a second: {:.0} and {:.0}",
        median(rates.0),
        median(rates.1)
    );
    vec![compared.row("B2", "a message, an ACL file", "us", 1.05)]
}

/// A broker, who sends, and who receives.
struct Arm<'a> {
    broker: &'a Child,
    sender: Session,
    devices: Vec<(String, Session)>,
}

struct Messages {
    micros: f64,
    rate: f64,
}

impl Arm<'_> {
    async fn at<'a>(fleet: &Fleet, at: SocketAddr, broker: &'a Child) -> Arm<'a> {
        let devices = fleet.devices(scaled(1000));
        let devices = stream::iter(devices).map(|device| subscribed(device, at));
        Arm {
            broker,
            sender: fleet.chief().to(at).await.expect("it is admitted"),
            devices: devices.buffer_unordered(32).collect().await,
        }
    }

    /// All get a message, and the next once all have it.
    async fn round(&mut self) -> Messages {
        let (begin, before) = (Instant::now(), processor_time(self.broker));
        for _ in 0..EACH {
            for (topic, _) in &self.devices {
                self.sender.throw(topic, "open the valve").await;
            }
            for (topic, session) in &mut self.devices {
                assert_eq!(session.message().await.topic, *topic);
            }
        }
        let many = (EACH * self.devices.len()) as f64;
        Messages {
            micros: (processor_time(self.broker) - before) * 1e6 / many,
            rate: many / begin.elapsed().as_secs_f64(),
        }
    }
}

/// A device that receives its commands, and their topic.
async fn subscribed(device: Connect, at: SocketAddr) -> (String, Session) {
    let mut session = comes(&device, at).await;
    let topic = format!("devices/{}/command", device.id);
    assert_eq!(session.subscribe(&topic, 0).await, Some(true));
    (topic, session)
}

/// The processor time that the threads of a process have taken, in seconds, to the nanosecond: see `schedstat` in the
/// documentation of the kernel's scheduler.
fn processor_time(of: &Child) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", of.id())).expect("it lives");
    let times = threads.map(|thread| {
        let path = thread.expect("a thread").path().join("schedstat");
        let text = fs::read_to_string(path).unwrap_or_default();
        let time = text.split(' ').next().expect("a field");
        time.parse().unwrap_or(0.0)
    });
    times.sum::<f64>() / 1e9
}
