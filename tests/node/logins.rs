//! Devices that log in all the time, some of them with a wrong secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::inside::{PATIENCE, PLANT};
use crate::support::gateway::send;
use crate::support::keys::some_secret;
use crate::support::plant::Issued;
use crate::support::wait::found_within;

/// Logins that go on until they are asked for what came of them.
pub struct Logins {
    devices: JoinSet<()>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    right: AtomicU64,
    wrong: AtomicU64,
    unanswered: AtomicU64,
}

/// How many logins ended how.
#[derive(Debug)]
pub struct Outcome {
    /// As they should.
    pub right: u64,
    /// Refused though they should not, or the other way round.
    pub wrong: u64,
    /// Without an answer.
    pub unanswered: u64,
}

impl Outcome {
    /// For the figures.
    pub fn print(&self, when: &str) {
        let Outcome {
            right,
            wrong,
            unanswered,
        } = self;
        println!(
            "measured: logins while {when}: {right} right, {wrong} wrong, {unanswered} unanswered"
        );
    }
}

impl Logins {
    /// Eight devices, of which two have a wrong secret, each on a new connection for each login.
    pub fn begin(at: SocketAddr, issued: &Issued) -> Logins {
        let seen = Arc::<Seen>::default();
        let mut devices = JoinSet::new();
        for number in 0..8 {
            let is_right = number % 4 != 0;
            let secret = match is_right {
                true => issued.secret.clone(),
                false => some_secret(),
            };
            let body = json!({ "deviceId": format!("{PLANT}.device-{number}"), "key": issued.key, "secret": secret });
            let seen = seen.clone();
            let expected = if is_right { 200 } else { 401 };
            devices.spawn(async move {
                while !seen.is_over.load(Ordering::Relaxed) {
                    seen.login(at, &body.to_string(), expected).await;
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Logins { devices, seen }
    }

    /// Waits until all gateways are reached and have heard of a key.
    pub async fn are_right(at: SocketAddr, issued: &Issued) {
        found_within(PATIENCE, "all logins are right", async || {
            let logins = Logins::begin(at, issued);
            logins.some_more().await;
            let outcome = logins.end().await;
            (outcome.wrong == 0 && outcome.unanswered == 0).then_some(())
        })
        .await;
    }

    /// Waits for another hundred that are answered rightly.
    pub async fn some_more(&self) {
        let before = self.right_so_far();
        found_within(PATIENCE, "devices log in", async || {
            (self.right_so_far() >= before + 100).then_some(())
        })
        .await;
    }

    fn right_so_far(&self) -> u64 {
        self.seen.right.load(Ordering::Relaxed)
    }

    /// Ends them.
    pub async fn end(mut self) -> Outcome {
        self.seen.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.devices.join_next().await {
            ended.expect("a device ends");
        }
        Outcome {
            right: self.seen.right.load(Ordering::Relaxed),
            wrong: self.seen.wrong.load(Ordering::Relaxed),
            unanswered: self.seen.unanswered.load(Ordering::Relaxed),
        }
    }
}

impl Seen {
    async fn login(&self, at: SocketAddr, body: &str, expected: u16) {
        let answer = send(at, "POST /auth/device", &[], body);
        let count = match timeout(Duration::from_secs(5), answer).await {
            Ok(Ok((status, _))) if status == expected => &self.right,
            // It says that it cannot tell, which is no answer.
            Ok(Ok((429 | 503, _))) | Ok(Err(_)) | Err(_) => &self.unanswered,
            Ok(Ok(_)) => &self.wrong,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
