use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::*;
use crate::brokers::rabbitmq::certificates::Certificates;
use crate::brokers::rabbitmq::management::Management;
use crate::brokers::rabbitmq::way::Way;
use crate::gateway::metrics::Metrics;
use crate::gateway::{Object, Options};
use crate::key::{Check, Secret};
use crate::policy::KeyRecord;
use crate::verifier::{HashProfile, Verifier};

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const SECRET: &str = "kws_00000000000000000000000000000000000000000002XkAl1";

/// RabbitMQ's management API, which never comes to an end with the list of all connections. Each is named as its device.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    devices: BTreeSet<String>,
    /// So often it was asked which there are, and of which key.
    lists: usize,
    /// About so many it was asked what they are.
    details: usize,
}

impl Api {
    /// Where these are connected; and a way to it.
    async fn of(devices: &[String]) -> (Api, Way) {
        let api = Api::default();
        api.known(|known| known.devices.extend(devices.iter().cloned()));
        let routes = Router::new()
            .route("/api/connections", get(all))
            .route("/api/connections/username/{user}", get(of_user))
            .route("/api/connections/{name}", get(details).delete(close))
            .route("/api/queues/{vhost}/{queue}/bindings", get(bindings))
            .with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let url = format!("http://keyward:password@{at}").parse();
        let way = Way::to(&url.expect("a text"), None, Certificates::default());
        (api, way.expect("a way"))
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until these are left.
    async fn leaves(&self, devices: &[&str]) {
        self.until(|known| known.devices.iter().eq(devices)).await;
    }

    /// Waits until it has listed connections so often.
    async fn has_listed(&self, times: usize) {
        self.until(|known| known.lists == times).await;
    }

    async fn until(&self, holds: impl Fn(&Known) -> bool) {
        let waiting = async {
            while !self.known(|known| holds(known)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(20), waiting).await;
        waited.expect("it comes to that");
    }
}

async fn all(State(api): State<Api>) {
    api.known(|known| known.lists += 1);
    pending().await
}

async fn of_user(State(api): State<Api>, Path(user): Path<String>) -> String {
    let named = |name: &String| json!({ "name": name, "user": user });
    let names: Vec<Value> = api.known(|known| {
        known.lists += 1;
        known.devices.iter().map(named).collect()
    });
    json!(names).to_string()
}

async fn details(State(api): State<Api>, Path(name): Path<String>) -> String {
    api.known(|known| known.details += 1);
    let details = json!({
        "name": name, "user": KEY, "protocol": "MQTT 3.1.1", "connected_at": 1_000,
        "client_properties": { "client_id": name },
    });
    details.to_string()
}

async fn bindings(Path((_, queue)): Path<(String, String)>) -> String {
    let own = json!({ "source": "", "destination": queue, "routing_key": queue });
    let watched = json!({
        "source": "amq.topic", "destination": queue, "routing_key": "devices.pump-9.state",
    });
    let bindings = match queue.contains("watcher") {
        true => json!([own, watched]),
        false => json!([own]),
    };
    bindings.to_string()
}

async fn close(State(api): State<Api>, Path(name): Path<String>) -> StatusCode {
    match api.known(|known| known.devices.remove(&name)) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

/// A gateway that knows one key, which admits all until it is told otherwise.
struct Gateway {
    authenticator: Authenticator,
    version: u64,
}

impl Gateway {
    /// One, and what cuts for it.
    fn at(way: Way) -> (Gateway, Cutter) {
        let clock = Clock::system();
        let options = Options::of_namespace("plant");
        let made = Authenticator::new(options, clock.clone(), Metrics::new());
        let authenticator = made.expect("entropy");
        let mut gateway = Gateway {
            authenticator: authenticator.clone(),
            version: 0,
        };
        let watched = authenticator.expect_watch();
        gateway.apply(json!({ "allDevices": true }), "Active");
        watched.listed(watched.now(), 1);
        let broker = Broker::new(Management::at(way), clock.clone());
        (gateway, Cutter::new(authenticator, clock, broker, 100))
    }

    fn apply(&mut self, restrictions: Value, state: &str) {
        let secret = Secret::parse(SECRET).expect("well formed");
        let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
        let key = serde_json::from_value(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": "fleet", "namespace": "plant" },
            "spec": { "restrictions": restrictions, "state": state },
            "status": { "key": KEY, "verifiers": [{
                "revision": 1, "verifier": verifier.as_str(), "check": Check::of(KEY, &secret).as_str(),
                "issuedAt": "2026-01-01T00:00:00Z",
            }] },
        }));
        let record = KeyRecord::of(&key.expect("an AccessKey")).expect("readable");
        self.version += 1;
        let object = Object {
            namespace: "plant",
            name: "fleet",
            created: Timestamp::UNIX_EPOCH,
            version: self.version,
        };
        self.authenticator
            .apply_key(object, record.expect("issued"));
    }
}

/// Has this happen while sessions are cut.
async fn while_cutting(cutter: Cutter, happens: impl Future<Output = ()>) {
    tokio::select! {
        () = cutter.keep_cutting() => panic!("it never ends"),
        () = happens => {}
    }
}

#[tokio::test]
async fn sessions_of_a_key_that_changes_end_however_long_it_takes_to_look_at_all() {
    let devices = ["pump-1", "pump-2", "watcher"].map(str::to_owned);
    let (api, way) = Api::of(&devices).await;
    let (mut gateway, cutter) = Gateway::at(way);
    while_cutting(cutter, async {
        api.has_listed(1).await;
        let mut admits = |ids: &[&str], state| gateway.apply(json!({ "deviceIds": ids }), state);
        admits(&["pump-1", "pump-9", "watcher"], "Active");
        api.leaves(&["pump-1", "watcher"]).await;
        admits(&["pump-1", "watcher"], "Active");
        api.leaves(&["pump-1"]).await;
        admits(&["pump-1"], "Inactive");
        api.leaves(&[]).await;
    })
    .await;
}

#[tokio::test]
async fn many_sessions_are_not_asked_about_one_by_one_unless_all_are_to_end() {
    let devices: Vec<String> = (0..40).map(|number| format!("pump-{number:02}")).collect();
    let (api, way) = Api::of(&devices).await;
    let (mut gateway, cutter) = Gateway::at(way);
    while_cutting(cutter, async {
        api.has_listed(1).await;
        gateway.apply(json!({ "deviceIds": ["pump-00"] }), "Active");
        api.has_listed(2).await;
        gateway.apply(json!({ "allDevices": true }), "Inactive");
        api.leaves(&[]).await;
    })
    .await;
    let known = api.known(|known| (known.lists, known.details));
    assert_eq!(known, (3, devices.len()));
}
