//! What mosquitto costs with Keyward's plugin, against mosquitto with a password file and an ACL file of its own; and, of
//! each broker, how soon sessions are cut, and 10,000 devices that come at once.
//!
//! Arms take turns, round by round, and a ratio is the median of the rounds' ratios. Brokers, and the gateways that they
//! ask, are processes of their own, on the last processor; clients have the first.
//!
//! `make bench BENCHES=brokers` runs all. Some of them, while `KUBECONFIG` names a cluster with `crds/` and
//! `deploy/install.yaml` applied: `cargo bench --features cluster-tests --bench brokers -- storm cuts nats`.
//!
//! `KEYWARD_BENCH_SCALE=0.01` makes everything smaller, to try the benches themselves.

#[path = "../../tests/brokers/broker.rs"]
mod broker;
mod connects;
mod cuts;
mod fleet;
#[path = "../gateway/measure.rs"]
#[allow(dead_code)]
mod measure;
mod messages;
#[path = "../../tests/brokers/mqtt.rs"]
mod mqtt;
#[path = "../../tests/nats/broker.rs"]
mod nats;
#[path = "../../tests/rabbitmq/broker.rs"]
mod rabbitmq;
mod rivals;
mod served;
mod storm;
#[path = "../../tests/support/mod.rs"]
mod support;

use futures::future::LocalBoxFuture;
use measure::{Core, Row, load_average, show, stay_on};
use tokio::runtime::Builder;

use fleet::Fleet;

type Part = for<'a> fn(&'a Fleet) -> LocalBoxFuture<'a, Vec<Row>>;

const PARTS: [(&str, Part); 4] = [
    ("connects", |fleet| Box::pin(connects::run(fleet))),
    ("messages", |fleet| Box::pin(messages::run(fleet))),
    ("storm", |fleet| Box::pin(storm::run(fleet))),
    ("cuts", |fleet| Box::pin(cuts::run(fleet))),
];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    println!("load average at the start {}", load_average());
    let runtime = Builder::new_current_thread().enable_all().build();
    let rows = runtime.expect("a runtime").block_on(async {
        let fleet = Fleet::issued().await;
        stay_on(Core::First);
        let mut rows = Vec::new();
        for (name, run) in chosen(&PARTS) {
            println!("\n{name}");
            rows.extend(run(&fleet).await);
        }
        rows
    });
    println!("\nload average at the end {}", load_average());
    show(&rows);
}

/// Those that the command line names, or all if it names none of them.
fn chosen<T: Copy>(of: &[(&'static str, T)]) -> Vec<(&'static str, T)> {
    let is_named = |(name, _): &(&str, T)| std::env::args().any(|argument| argument == *name);
    let named: Vec<_> = of.iter().copied().filter(is_named).collect();
    if named.is_empty() { of.to_vec() } else { named }
}
