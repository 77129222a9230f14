//! HTTP clients that cost little themselves: a thread a connection, and requests that are made before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::plant::Issued;

/// Bytes that are sent as they are.
pub type Request = Vec<u8>;

/// A reverse proxy asks whether a token is good.
pub fn forward_auth(token: &str) -> Request {
    // What nginx passes on of a small request.
    let request = format!(
        "GET /forward-auth HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: device/1.0\r\naccept: */*\r\n\
         x-original-uri: /api/readings\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    request.into_bytes()
}

/// A device asks for a token.
pub fn auth_device(issued: &Issued, secret: &str) -> Request {
    let body =
        json!({ "deviceId": issued.device, "key": issued.key, "secret": secret }).to_string();
    let request = format!(
        "POST /auth/device HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    request.into_bytes()
}

/// One that is kept alive.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Opens it.
    pub fn to(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Connection {
            stream,
            answer: Vec::new(),
        }
    }

    /// The status of the answer.
    pub fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).expect("it is sent");
        self.answer.clear();
        let mut chunk = [0; 4096];
        loop {
            let read = self.stream.read(&mut chunk).expect("an answer");
            assert_ne!(read, 0, "the server goes on");
            self.answer.extend_from_slice(&chunk[..read]);
            if let Some(status) = whole(&self.answer) {
                return status;
            }
        }
    }
}

/// The status, once all has come.
fn whole(answer: &[u8]) -> Option<u16> {
    let end = head(answer)?;
    let head = std::str::from_utf8(&answer[..end]).expect("text");
    let (_, length) = head.split_once("content-length: ").expect("a length");
    let (length, _) = length.split_once("\r\n").expect("a length");
    let length: usize = length.parse().expect("a length");
    (answer.len() >= end + length).then(|| head[9..12].parse().expect("a status"))
}

fn head(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Asks on so many connections, each again as soon as it is answered. How many were answered?
pub fn as_fast_as_they_go(
    address: SocketAddr,
    connections: usize,
    until: &(impl Fn() -> bool + Sync),
    request: &(impl Fn(usize) -> Request + Sync),
) -> usize {
    let ask = |first: usize| {
        let mut connection = Connection::to(address);
        let mut asked = 0;
        while !until() {
            connection.ask(&request(first + asked * connections));
            asked += 1;
        }
        asked
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|first| scope.spawn(move || ask(first)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    })
}

/// What came of requests that were sent at their times, whatever became of others.
#[derive(Default)]
pub struct Served {
    /// Milliseconds, of those that were allowed.
    pub latencies: Vec<f64>,
    pub asked: usize,
}

/// Connections that carry requests at a rate.
const CONNECTIONS: usize = 32;

/// Asks so many times a second.
pub fn at_rate(address: SocketAddr, rate: usize, time: Duration, requests: &[Request]) -> Served {
    let begin = Instant::now() + Duration::from_millis(50);
    let ask = |first: usize| {
        let mut connection = Connection::to(address);
        let mut served = Served::default();
        for number in (first..).step_by(CONNECTIONS) {
            let due = Duration::from_secs_f64(number as f64 / rate as f64);
            if due > time {
                return served;
            }
            let due = begin + due;
            let waits = due.saturating_duration_since(Instant::now());
            thread::sleep(waits);
            // What waits for the answer before counts as late.
            let since = if waits.is_zero() { due } else { Instant::now() };
            served.asked += 1;
            if connection.ask(&requests[number % requests.len()]) == 200 {
                served
                    .latencies
                    .push(since.elapsed().as_secs_f64() * 1000.0);
            }
        }
        served
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|first| scope.spawn(move || ask(first)))
            .collect();
        threads
            .into_iter()
            .fold(Served::default(), |mut all, thread| {
                let served = thread.join().expect("no panic");
                all.latencies.extend(served.latencies);
                all.asked += served.asked;
                all
            })
    })
}

/// Whether it is time to stop.
#[derive(Default)]
pub struct Stop(AtomicBool);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it when this goes out of scope, also if something panics.
    pub fn at_the_end(&self) -> AtTheEnd<'_> {
        AtTheEnd(self)
    }
}

pub struct AtTheEnd<'a>(&'a Stop);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
