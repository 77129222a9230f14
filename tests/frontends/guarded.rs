//! What front ends guard: a service that answers with the request as it got it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Debug, Deserialize, Serialize)]
pub struct Arrived {
    pub method: String,
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Arrived {
    /// What it says of the device, under all names that a service could take for Keyward's.
    pub fn claims(&self) -> Vec<(String, String)> {
        let headers = self.headers.iter();
        let mut claims: Vec<_> = headers
            .map(|(name, value)| (name.replace('_', "-"), value.clone()))
            .filter(|(name, _)| name.starts_with("x-keyward"))
            .collect();
        claims.sort_unstable();
        claims
    }
}

/// The service. It ends with the test.
pub struct Guarded {
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Guarded {
    pub async fn start() -> Guarded {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicU64::new(0));
        let routes = Router::new()
            .fallback(repeat)
            .with_state(Arc::clone(&asked));
        tokio::spawn(async { axum::serve(listener, routes).await });
        Guarded { address, asked }
    }

    /// How many requests have arrived.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// With the status that the path asks for, as `/status/429`.
async fn repeat(
    State(asked): State<Arc<AtomicU64>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let status = uri.path().strip_prefix("/status/");
    let status = status.map(|status| status.parse().expect("a status"));
    let headers = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.to_string(), value.into_owned())
    });
    let arrived = Arrived {
        method: method.to_string(),
        uri: uri.to_string(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let body = serde_json::to_vec(&arrived).expect("JSON");
    (status.unwrap_or(StatusCode::OK), body).into_response()
}
