//! Through which the API server is asked.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::cluster;
use crate::support::fault::{Fault, WatchFault};
use crate::support::proxy::{Asked, Proxy, Rules};
use crate::support::wait::found;

/// After a minute a gateway with `--staleness=strict` admits nobody any more, and once the API server is back it may take
/// most of another until it has the proof that it has missed nothing.
pub const STALENESS: Duration = Duration::from_secs(100);

/// It is shut at first, or whoever asks is answered otherwise than it should be.
#[derive(Clone)]
pub struct Door(Arc<Mutex<State>>);

struct State {
    fault: Option<Fault>,
    /// How often it was asked since this began.
    asked: u32,
}

impl Default for Door {
    fn default() -> Door {
        let fault = Some(Fault::Reset);
        Door(Arc::new(Mutex::new(State { fault, asked: 0 })))
    }
}

impl Door {
    pub fn open(&self) {
        self.set(None);
    }

    pub fn close(&self) {
        self.set(Some(Fault::Reset));
    }

    /// From now on this becomes of what is asked. Waits until something was.
    pub async fn spoil(&self, fault: Fault) {
        self.set(Some(fault));
        found("the API server is asked", async || {
            (self.0.lock().expect("a state").asked > 0).then_some(())
        })
        .await;
    }

    /// The API server as it is seen through this, by a gateway.
    pub async fn proxy(&self) -> Proxy {
        let client = cluster::service_account(cluster::SYSTEM, cluster::GATEWAY).await;
        Proxy::start(client, self.clone()).await
    }

    fn set(&self, fault: Option<Fault>) {
        *self.0.lock().expect("a state") = State { fault, asked: 0 };
    }
}

impl Rules for Door {
    fn request(&self, _: &Asked) -> Option<Fault> {
        let mut state = self.0.lock().expect("a state");
        state.asked += 1;
        state.fault
    }

    fn event(&self) -> Option<WatchFault> {
        let state = self.0.lock().expect("a state");
        state.fault.map(|_| WatchFault::Close)
    }
}
