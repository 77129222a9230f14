//! The events of one watch, on their way through the proxy.

use std::io;
use std::sync::Arc;

use axum::body::{BodyDataStream, Bytes};
use futures::stream::{self, Stream, StreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::watch;

use super::answers::corrupted;
use super::fault::WatchFault;
use super::proxy::Shared;

type Piece = io::Result<Bytes>;

/// Delivers what comes, but for what the rules say; ends when nobody reads it any more.
pub(super) fn deliver(
    upstream: BodyDataStream,
    shared: Arc<Shared>,
) -> impl Stream<Item = Piece> + Send + 'static {
    let (to, from) = mpsc::unbounded_channel();
    let watching = shared.watching();
    tokio::spawn(async move {
        let _watching = watching;
        let mut delivery = Delivery {
            lines: Lines {
                upstream,
                rest: Vec::new(),
            },
            to: to.clone(),
            requests: shared.requests.subscribe(),
            releases: shared.releases.subscribe(),
            abandons: shared.abandons.subscribe(),
            first: None,
            shared,
        };
        tokio::select! {
            () = delivery.run() => {}
            () = to.closed() => {}
        }
    });
    stream::unfold(from, |mut from| async { Some((from.recv().await?, from)) })
}

struct Delivery {
    lines: Lines,
    to: mpsc::UnboundedSender<Piece>,
    requests: watch::Receiver<u64>,
    releases: watch::Receiver<u64>,
    abandons: watch::Receiver<u64>,
    /// The first event that was delivered.
    first: Option<Bytes>,
    shared: Arc<Shared>,
}

impl Delivery {
    async fn run(&mut self) {
        while let Some(line) = self.lines.next().await {
            let fault = if is_change(&line) {
                self.shared.rules().event()
            } else {
                None
            };
            let Some(fault) = fault else {
                self.give(line);
                continue;
            };
            if !self.fail(fault, line).await {
                return;
            }
        }
    }

    /// Does the watch go on?
    async fn fail(&mut self, fault: WatchFault, line: Bytes) -> bool {
        match fault {
            WatchFault::Delay(requests) => {
                self.next_request_but(requests).await;
                self.give(line);
            }
            WatchFault::Lose => {}
            WatchFault::Duplicate => {
                self.give(line.clone());
                self.give(line);
            }
            WatchFault::Reorder => {
                self.releases.mark_unchanged();
                let next = tokio::select! {
                    next = self.lines.next() => next,
                    _ = self.releases.changed() => None,
                };
                next.into_iter().for_each(|next| self.give(next));
                self.give(line);
            }
            WatchFault::Close => return false,
            WatchFault::BreakOff => {
                self.give(line.slice(..line.len() / 2));
                let lost = io::ErrorKind::ConnectionReset.into();
                self.to.send(Err(lost)).ok();
                return false;
            }
            WatchFault::Corrupt => {
                let mut bytes = corrupted(&line[..line.len() - 1]);
                bytes.push(b'\n');
                self.give(bytes.into());
            }
            WatchFault::Gone => {
                self.give(gone());
                return false;
            }
            WatchFault::GoBack => {
                let first = self.first.clone().unwrap_or_else(|| line.clone());
                self.give(line);
                self.give(first);
            }
            WatchFault::Silence => {
                self.abandons.mark_unchanged();
                self.abandons.changed().await.ok();
                // Who gives up a watch sees no end of it, but an error of his own.
                self.to.send(Err(io::ErrorKind::TimedOut.into())).ok();
                return false;
            }
        }
        true
    }

    fn give(&mut self, line: Bytes) {
        if self.first.is_none() && is_change(&line) {
            self.first = Some(line.clone());
        }
        self.to.send(Ok(line)).ok();
    }

    /// Or until what is held is released.
    async fn next_request_but(&mut self, requests: u8) {
        self.releases.mark_unchanged();
        let wanted = *self.requests.borrow() + u64::from(requests) + 1;
        tokio::select! {
            _ = self.requests.wait_for(|count| *count >= wanted) => {}
            _ = self.releases.changed() => {}
        }
    }
}

/// One event is one line.
struct Lines {
    upstream: BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(line.into());
            }
            self.rest.extend(self.upstream.next().await?.ok()?);
        }
    }
}

/// Bookmarks and errors are no changes.
fn is_change(line: &[u8]) -> bool {
    [
        &b"{\"type\":\"ADDED\""[..],
        b"{\"type\":\"MODIFIED\"",
        b"{\"type\":\"DELETED\"",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn gone() -> Bytes {
    let status = json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }});
    format!("{status}\n").into()
}
