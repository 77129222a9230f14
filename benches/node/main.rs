//! Keyward as it is installed, on a node: how large its images are, how long each part takes until it is ready, how much
//! memory each takes without keys and with 10,000, and how many logins fail while gateways are replaced.
//!
//! Takes root, and `KEYWARD_IMAGES`, the folder of the images: `make bench BENCHES=node`. `KEYWARD_BENCH_NODE_KEYS`
//! changes the number of keys.

#[path = "../../tests/node/inside.rs"]
#[allow(dead_code)]
mod inside;
#[path = "../../tests/node/logins.rs"]
#[allow(dead_code)]
mod logins;
mod memory;
#[path = "../../tests/node/node.rs"]
#[allow(dead_code)]
mod node;
mod starts;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use inside::Inside;
use logins::Logins;
use node::Node;
use serde_json::json;

/// What the largest image may have, in bytes.
const LARGEST: u64 = 20_000_000;

/// The parts of Keyward, as their labels name them.
const PARTS: [&str; 3] = ["controller", "gateway", "mosquitto"];

fn main() {
    images();
    Node::start("bench").inside(async |inside| {
        inside.install();
        starts::measure(&inside).await;
        rollout(&inside).await;
        memory::measure(&inside).await;
    });
}

fn images() {
    let folder = std::env::var_os("KEYWARD_IMAGES").map(PathBuf::from);
    let folder =
        folder.expect("KEYWARD_IMAGES names the folder of images: run `make bench BENCHES=node`");
    println!("images, in bytes, as they are and compressed");
    for name in ["keyward", "keyward-mosquitto"] {
        let tar = folder.join(format!("{name}.tar"));
        let size = tar.metadata().expect("an image").len();
        let gzip = std::process::Command::new("gzip")
            .arg("-c")
            .arg(&tar)
            .output();
        let compressed = gzip.expect("gzip runs").stdout.len();
        println!("{name:20} {size:>12} {compressed:>12}");
        if name == "keyward" {
            let verdict = if size <= LARGEST {
                "at most"
            } else {
                "MORE THAN"
            };
            println!("{name}: {verdict} {LARGEST}");
        }
    }
}

/// As `kubectl rollout restart` does it, with devices that log in all the time.
async fn rollout(inside: &Inside) {
    inside
        .create("rollout", json!({ "restrictions": { "allDevices": true } }))
        .await;
    let issued = inside.issued("rollout", 1).await;
    let logins = Logins::begin(inside.service("keyward-gateway", "devices").await, &issued);
    inside.roll_out_gateways().await;
    logins.end().await.print("gateways were rolled out");
}
