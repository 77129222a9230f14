//! G1: the processor time of a request whose answer is known, against a bare axum server that allows everything.
//!
//! The request is what a front end sends for each request of a device: `/forward-auth` with a token. The gateway is a
//! process with the listener, routes and directory of `keyward gateway`, told of 100,000 keys by this program instead
//! of by an API server. The bare server reads the same bytes and answers with the same status and headers.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::serve::ListenerExt;
use http::Request as HttpRequest;
use keyward::gateway::http::{Api, Shared};
use keyward::gateway::keyring::Keyring;
use keyward::listener;
use keyward::shutdown::Shutdown;
use keyward::verifier::HashProfile;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::child::{Other, until_the_end};
use super::load::{Request, as_fast_as_they_go, auth_device, forward_auth};
use super::measure::{
    Compared, Core, ROUNDS, Row, median, processor_time, scaled, scaled_time, stay_anywhere,
    stay_on,
};
use super::plant::{Common, Issued, Plant};

const LOOPBACK: &str = "127.0.0.1:0";
const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(3);
/// So often the arms take turns in each round.
const TURNS: u32 = 10;

pub fn run() -> Vec<Row> {
    let gateway = Gateway::start(scaled(100_000), scaled(10_000), 0);
    let mut bare = Other::start("bare");
    let bare_at = bare.line().parse().expect("an address");
    stay_on(Core::First);
    let asks: Vec<Request> = gateway
        .fleet
        .iter()
        .map(|(_, token)| forward_auth(token))
        .collect();
    println!(
        "  us of processor time a request: gateway with {} keys, bare",
        scaled(100_000)
    );
    let own = |time| spent(&gateway.other, gateway.brokers, &asks, time);
    let bare = |time| spent(&bare, bare_at, &asks, time);
    // Each token is read for the first time, which its device has to do but once an hour.
    own(TIME);
    let mut compared = Compared::default();
    for _ in 0..ROUNDS {
        // In short turns, so that both see the same of what else happens.
        let turns = (0..TURNS).map(|_| (own(TIME / TURNS), bare(TIME / TURNS)));
        let (own, bare): (Vec<Spent>, Vec<Spent>) = turns.unzip();
        compared.add(micros_a_request(&own), micros_a_request(&bare));
    }
    let tokens: Vec<Request> = gateway
        .fleet
        .iter()
        .map(|(issued, _)| auth_device(issued, &issued.secret))
        .collect();
    let token = |_| micros_a_request(&[spent(&gateway.other, gateway.devices, &tokens, TIME)]);
    let token = (0..3).map(token);
    println!(
        "  for comparison, to issue a token: {:.1} us",
        median(token.collect())
    );
    stay_anywhere();
    vec![compared.row("G1", "/forward-auth, bare axum", "us", 1.10)]
}

/// What some requests took.
struct Spent {
    seconds: f64,
    requests: usize,
}

fn spent(server: &Other, at: SocketAddr, requests: &[Request], time: Duration) -> Spent {
    let (begin, before) = (Instant::now(), processor_time(&server.process));
    let time = scaled_time(time);
    let is_over = || begin.elapsed() > time;
    let request = |number: usize| requests[number % requests.len()].clone();
    let answered = as_fast_as_they_go(at, CONNECTIONS, &is_over, &request);
    Spent {
        seconds: processor_time(&server.process) - before,
        requests: answered,
    }
}

fn micros_a_request(all: &[Spent]) -> f64 {
    let seconds: f64 = all.iter().map(|spent| spent.seconds).sum();
    let requests: usize = all.iter().map(|spent| spent.requests).sum();
    seconds * 1e6 / requests as f64
}

/// A gateway in a process of its own, on one processor.
pub struct Gateway {
    pub other: Other,
    pub devices: SocketAddr,
    pub brokers: SocketAddr,
    /// Some of the keys, with a token of each.
    pub fleet: Vec<(Issued, String)>,
    /// Keys that were made elsewhere, whose hashes are dear.
    pub taken_over: Vec<Issued>,
}

impl Gateway {
    /// With so many keys, tokens of so many of them, and so many keys that were taken over.
    pub fn start(keys: usize, tokens: usize, taken_over: usize) -> Gateway {
        let mut other = Other::start(&format!("gateway {keys} {tokens} {taken_over}"));
        let mut read = |_| {
            let line = other.line();
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let [device, key, secret, token] = words.try_into().expect("four words");
            (
                Issued {
                    key,
                    device,
                    secret,
                    verifier: String::new(),
                    check: None,
                },
                token,
            )
        };
        let fleet = (0..tokens).map(&mut read).collect();
        let taken_over = (0..taken_over).map(|number| read(number).0).collect();
        let mut address = || other.line().parse().expect("an address");
        Gateway {
            devices: address(),
            brokers: address(),
            other,
            fleet,
            taken_over,
        }
    }
}

/// The process.
pub fn gateway(keys: usize, tokens: usize, taken_over: usize) {
    stay_on(Core::Last);
    let (mut plant, fleet) = Plant::of(keys, Issued::cheaply);
    let common = Common::new(HashProfile::Owasp);
    let others = (keys..keys + taken_over).map(|number| Issued::with(number, &common).taken_over());
    let others: Vec<Issued> = others.collect();
    others
        .iter()
        .for_each(|other| plant.apply(other.manifest()));
    Runtime::new().expect("a runtime").block_on(async {
        let api = api(&plant);
        let (devices, devices_at) = listen().await;
        let (brokers, brokers_at) = listen().await;
        // Any of them, wherever they lie.
        let routes = api.devices();
        for issued in fleet.iter().step_by((keys / tokens).max(1)).take(tokens) {
            say(issued, &token(&routes, issued).await);
        }
        others.iter().for_each(|other| say(other, "-"));
        tell(&format!("{devices_at}\n{brokers_at}"));
        let (_never, shutdown) = Shutdown::manual();
        tokio::spawn(listener::serve(devices, None, routes, shutdown.clone()));
        tokio::spawn(listener::serve(brokers, None, api.front_ends(), shutdown));
        tokio::task::spawn_blocking(until_the_end).await.ok();
    });
}

/// What answers, as `keyward gateway` puts it together.
pub fn api(plant: &Plant) -> Api {
    Api::of(Shared {
        authenticator: plant.authenticator.clone(),
        keyring: Keyring::ephemeral(plant.clock.clone()).expect("entropy"),
        issuer: "http://127.0.0.1:8081".to_owned(),
        audience: "http://127.0.0.1:8081".to_owned(),
        trusted_proxies: Vec::new(),
        clock: plant.clock.clone(),
        rabbitmq: None,
    })
}

async fn token(routes: &Router, issued: &Issued) -> String {
    let request = String::from_utf8(auth_device(issued, &issued.secret)).expect("text");
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let request = HttpRequest::post("/auth/device").body(Body::from(body.to_owned()));
    let answer = routes
        .clone()
        .oneshot(request.expect("a request"))
        .await
        .expect("an answer");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 16)
        .await
        .expect("a body");
    let said: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    said["token"].as_str().expect("a token").to_owned()
}

fn say(issued: &Issued, token: &str) {
    tell(&format!(
        "{} {} {} {token}",
        issued.device, issued.key, issued.secret
    ));
}

fn tell(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody listens");
}

async fn listen() -> (TcpListener, SocketAddr) {
    let address = LOOPBACK.parse().expect("an address");
    listener::bind(address, "").await.expect("a listener")
}

/// The server that allows everything.
pub fn bare() {
    stay_on(Core::Last);
    Runtime::new().expect("a runtime").block_on(async {
        let (listener, at) = listen().await;
        let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
        let routes = Router::new().route("/forward-auth", axum::routing::any(allow));
        tell(&at.to_string());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        tokio::task::spawn_blocking(until_the_end).await.ok();
    });
}

/// Headers of the same lengths.
async fn allow() -> [(&'static str, &'static str); 4] {
    [
        ("x-keyward-device", "device-50000"),
        ("x-keyward-key", "kwk_0123456789abcdefghjkmnpqrs"),
        ("x-keyward-namespace", "plant"),
        ("x-keyward-class", "Standalone"),
    ]
}
