//! How long each kind of refusal takes, beside the two kinds of admission: the decision alone, and all of
//! `/auth/device` over the loopback interface. No goals: the table is for the README, which says why the differences
//! give nothing away.

use std::net::SocketAddr;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use keyward::api::Device;
use keyward::gateway::{Authenticator, Credentials, Options};
use keyward::listener;
use keyward::policy::{Decision, DeviceRecord, Reason};
use keyward::shutdown::Shutdown;
use keyward::verifier::HashProfile;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::load::{Connection, auth_device};
use super::measure::{Core, Row, quantile, scaled, stay_anywhere, stay_on};
use super::plant::{Common, Issued, NAMESPACE, Plant, another_secret};
use super::served;

/// Each kind is measured in turn, so many times.
const TURNS: usize = 20;

/// So many in one turn.
const ASKED: usize = 100;

pub fn run() -> Vec<Row> {
    stay_on(Core::First);
    let turns = scaled(TURNS);
    let (plant, kinds) = kinds(turns * ASKED);
    // The processor that is left is the server's.
    stay_on(Core::Last);
    let server = Runtime::new().expect("a runtime");
    let at = server.block_on(serve(&plant));
    stay_on(Core::First);
    let mut times: Vec<Times> = kinds.iter().map(|_| Times::default()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut connection = Connection::to(at);
    let mut measure = |kind: &Kind, times: &mut Times, number| {
        times
            .decided
            .push(runtime.block_on(kind.decide(&plant.authenticator, number)));
        times.answered.push(kind.ask(&mut connection, number));
    };
    // Whoever is throttled is so for some seconds only.
    let (first, rest) = (kinds.len() - 1, ..kinds.len() - 1);
    (0..turns * ASKED).for_each(|number| measure(&kinds[first], &mut times[first], number));
    for turn in 0..turns {
        for (kind, times) in kinds[rest].iter().zip(&mut times[rest]) {
            (turn * ASKED..(turn + 1) * ASKED).for_each(|number| measure(kind, times, number));
        }
    }
    show(&kinds, times);
    stay_anywhere();
    Vec::new()
}

/// What is asked, the answer, and how.
struct Kind {
    what: &'static str,
    expected: Option<Reason>,
    /// One after the other, again and again.
    asked: Vec<Issued>,
}

#[derive(Default)]
struct Times {
    decided: Vec<f64>,
    answered: Vec<f64>,
}

impl Kind {
    /// Microseconds.
    async fn decide(&self, authenticator: &Authenticator, number: usize) -> f64 {
        let issued = &self.asked[2 * number % self.asked.len()];
        let credentials = from_here(issued);
        let begin = Instant::now();
        let decision = authenticator.authenticate(&credentials).await;
        let time = begin.elapsed().as_secs_f64() * 1e6;
        let reason = match decision {
            Decision::Allow(_) => None,
            Decision::Deny(reason) => Some(reason),
            Decision::Unavailable => panic!("{}: nobody can tell", self.what),
        };
        assert_eq!(reason, self.expected, "{}", self.what);
        time
    }

    /// The same, of the whole answer.
    fn ask(&self, connection: &mut Connection, number: usize) -> f64 {
        let issued = &self.asked[(2 * number + 1) % self.asked.len()];
        let request = auth_device(issued, &issued.secret);
        let begin = Instant::now();
        let status = connection.ask(&request);
        let time = begin.elapsed().as_secs_f64() * 1e6;
        let expected = if self.expected.is_some() { 401 } else { 200 };
        assert_eq!(status, expected, "{}", self.what);
        time
    }
}

async fn serve(plant: &Plant) -> SocketAddr {
    let address = "127.0.0.1:0".parse().expect("an address");
    let (listener, at) = listener::bind(address, "").await.expect("a listener");
    let routes = served::api(plant).devices();
    let (never, shutdown) = Shutdown::manual();
    tokio::spawn(async move {
        listener::serve(listener, None, routes, shutdown).await;
        drop(never);
    });
    at
}

/// A plant that has something of each kind; the last one has to be measured at once. Kinds that cost a hash need enough
/// keys, or secrets, for each to be new.
fn kinds(asked: usize) -> (Plant, Vec<Kind>) {
    let mut plant = Plant::new(Options::of_namespace(NAMESPACE));
    let mut numbers = 0..;
    let mut next = || numbers.next().expect("a number");
    let (common, other) = (
        Common::new(HashProfile::Fleet),
        Common::new(HashProfile::Fleet),
    );
    let mut issued = || Issued::with(next(), &common);
    let mut kinds = Vec::new();
    let mut add = |what, expected, asked| {
        kinds.push(Kind {
            what,
            expected,
            asked,
        })
    };

    let known = issued();
    plant.apply(known.manifest());
    learn(&plant, &known);
    add("admitted, the secret is known", None, vec![known.clone()]);
    let cold: Vec<Issued> = (0..2 * asked).map(|_| issued()).collect();
    cold.iter().for_each(|one| plant.apply(one.manifest()));
    add("admitted, the secret is hashed", None, cold);

    let device_id = Issued {
        device: "pump/1".to_owned(),
        ..known.clone()
    };
    add(
        "the device ID is not well formed",
        Some(Reason::Malformed),
        vec![device_id],
    );
    let typo = Issued {
        secret: typo(&known.secret),
        ..known.clone()
    };
    add(
        "the secret is not well formed",
        Some(Reason::Malformed),
        vec![typo],
    );
    add("no such key", Some(Reason::UnknownKey), vec![issued()]);

    let inactive = issued();
    plant.apply(changed(&inactive, "/spec/state", json!("Inactive")));
    add(
        "the key is inactive",
        Some(Reason::Inactive),
        vec![inactive],
    );
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let expired = issued();
    let ended = json!(now - hour);
    plant.apply(changed(&expired, "/spec/expiresAt", ended));
    add("the key has expired", Some(Reason::Expired), vec![expired]);
    let sourced = issued();
    let sources = json!({ "filter": "AllowList", "cidrs": ["192.0.2.0/24"] });
    plant.apply(changed(&sourced, "/spec/sources", sources));
    add("from another address", Some(Reason::Source), vec![sourced]);
    let peripheral = issued();
    plant.apply(peripheral.manifest());
    register(
        &plant,
        json!({ "deviceId": peripheral.device, "class": "Peripheral" }),
    );
    add(
        "the device is a peripheral",
        Some(Reason::DeviceClass),
        vec![peripheral],
    );
    let disabled = issued();
    plant.apply(disabled.manifest());
    register(
        &plant,
        json!({ "deviceId": disabled.device, "disabled": true }),
    );
    add(
        "the device is disabled",
        Some(Reason::DeviceDisabled),
        vec![disabled],
    );
    let out = Issued {
        device: "pump-1".to_owned(),
        ..known.clone()
    };
    register(&plant, json!({ "deviceId": "pump-1" }));
    add(
        "the key is not for the device",
        Some(Reason::OutOfScope),
        vec![out.clone()],
    );
    let unknown = Issued {
        device: "pump-2".to_owned(),
        ..out
    };
    add(
        "the same, and no Device has its ID",
        Some(Reason::OutOfScope),
        vec![unknown],
    );

    let wrong = Some(Reason::BadSecret);
    add(
        "wrong secret, the right one is known",
        wrong,
        vec![with_secret(&known, another_secret())],
    );
    let unseen = issued();
    plant.apply(unseen.manifest());
    add(
        "wrong secret, none was seen",
        wrong,
        vec![with_secret(&unseen, another_secret())],
    );
    // As if one in 2^32 had been found: the check of a secret that is not the one that was hashed.
    let colliding = Issued {
        verifier: Issued::with(0, &other).verifier,
        ..issued()
    };
    plant.apply(colliding.manifest());
    add("wrong secret, its check is right", wrong, vec![colliding]);

    let mut taken_over = || issued().taken_over();
    let guessed: Vec<Issued> = (0..asked.div_ceil(100)).map(|_| taken_over()).collect();
    guessed.iter().for_each(|one| plant.apply(one.manifest()));
    let guesses = (0..2 * asked)
        .map(|number| with_secret(&guessed[number % guessed.len()], format!("guess-{number}")));
    add("taken over: wrong secret", wrong, guesses.collect());
    let again = taken_over();
    plant.apply(again.manifest());
    add(
        "taken over: the same one again",
        wrong,
        vec![with_secret(&again, "guess".to_owned())],
    );
    let dear = Common::dearest();
    let throttled = Issued::with(usize::MAX, &dear).taken_over();
    plant.apply(throttled.manifest());
    learn(&plant, &with_secret(&throttled, "guess".to_owned()));
    let guesses = (0..2 * asked).map(|number| with_secret(&throttled, format!("guess-{number}")));
    add(
        "taken over: too many were tried",
        Some(Reason::Throttled),
        guesses.collect(),
    );
    (plant, kinds)
}

/// Lets the gateway hash a secret.
fn learn(plant: &Plant, issued: &Issued) {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(plant.authenticator.authenticate(&from_here(issued)));
}

fn from_here(issued: &Issued) -> Credentials<'_> {
    Credentials {
        source: Some([127, 0, 0, 1].into()),
        ..issued.credentials()
    }
}

fn register(plant: &Plant, spec: Value) {
    let name = spec["deviceId"].as_str().expect("an ID").to_owned();
    let device: Device = serde_json::from_value(json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
        "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
    }))
    .expect("a Device");
    plant
        .authenticator
        .apply_device(plant.object(&name), DeviceRecord::of(&device));
}

fn changed(issued: &Issued, pointer: &str, value: Value) -> Value {
    let mut manifest = issued.manifest();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    manifest.pointer_mut(parent).expect("a parent")[field] = value;
    manifest
}

fn with_secret(issued: &Issued, secret: String) -> Issued {
    Issued {
        secret,
        ..issued.clone()
    }
}

/// The last character is another.
fn typo(secret: &str) -> String {
    let (rest, last) = secret.split_at(secret.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

fn show(kinds: &[Kind], times: Vec<Times>) {
    println!("| us | decision, median | p99 | /auth/device, median | p99 |\n|---|--:|--:|--:|--:|");
    for (kind, times) in kinds.iter().zip(times) {
        let both = |times: Vec<f64>| (quantile(times.clone(), 0.5), quantile(times, 0.99));
        let ((decided, decided_99), (answered, answered_99)) =
            (both(times.decided), both(times.answered));
        println!(
            "| {} | {decided:.1} | {decided_99:.1} | {answered:.0} | {answered_99:.0} |",
            kind.what
        );
    }
}
