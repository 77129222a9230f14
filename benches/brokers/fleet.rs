//! Devices, ten to a key, and one that may see and command all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::json;
use tokio::time::sleep;

use super::measure::scaled;
use super::mqtt::{Connect, Session, Version};
use super::support::plant::{Issued, Plant};

/// How many keys there are.
const KEYS: usize = 1000;

/// How many devices each admits.
const DEVICES: usize = 10;

/// All that the benches need of a cluster.
pub struct Fleet {
    /// Where the keys are.
    pub plant: Plant,
    /// Each admits ten devices.
    pub keys: Vec<Issued>,
    /// Admits all devices.
    pub all: Issued,
}

impl Fleet {
    /// Has the keys issued.
    pub async fn issued() -> Fleet {
        let plant = Plant::new().await;
        let begin = Instant::now();
        let keys = stream::iter(0..scaled(KEYS)).map(async |number| {
            let ids: Vec<String> = (0..DEVICES).map(|device| id(number, device)).collect();
            let restrictions = json!({ "deviceIds": ids });
            plant.issue(&format!("key-{number}"), restrictions).await
        });
        let keys = keys.buffered(32).collect().await;
        let all = plant.issue("all", json!({ "allDevices": true })).await;
        println!(
            "{} keys issued in {:.0} s",
            scaled(KEYS),
            begin.elapsed().as_secs_f64()
        );
        Fleet { plant, keys, all }
    }

    /// So many devices, of as few keys as can be.
    pub fn devices(&self, many: usize) -> Vec<Connect> {
        let devices = self.keys.iter().enumerate().flat_map(|(number, key)| {
            (0..DEVICES).map(move |device| Connect::new(Version::V311, &id(number, device), key))
        });
        devices.take(many).collect()
    }

    /// One device of each key.
    pub fn one_of_each(&self) -> Vec<Connect> {
        let keys = self.keys.iter().enumerate();
        let connect = |(number, key)| Connect::new(Version::V311, &id(number, 0), key);
        keys.map(connect).collect()
    }

    /// The one that may see and command all.
    pub fn chief(&self) -> Connect {
        Connect::new(Version::V311, "chief", &self.all)
    }
}

/// Comes until it is let in.
pub async fn comes(device: &Connect, at: SocketAddr) -> Session {
    loop {
        if let Ok(session) = device.to(at).await {
            return session;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a session is there: what it sends is acknowledged.
pub async fn lives(session: &mut Session, id: &str) -> bool {
    let state = format!("devices/{id}/state");
    session.publish(&state, "on", false).await == Some(0)
}

fn id(key: usize, device: usize) -> String {
    format!("device-{key}-{device}")
}
