//! An API server that cuts some of its answers short, in front of the real one.
//!
//! It speaks HTTP without TLS, on the loopback interface, and with the rights of the client that it
//! is given.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    },
    response::{IntoResponse, Response},
};
use kube::Client;
use tokio::{net::TcpListener, task::JoinHandle};

/// Passes requests on. Once it is told to, it cuts the first answer to each kind of request about
/// each Secret.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    rules: Arc<Rules>,
    task: JoinHandle<()>,
}

struct Rules {
    client: Client,
    cut: Mutex<Option<HashSet<String>>>,
}

impl Proxy {
    /// Starts one.
    pub async fn start(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let rules = Arc::new(Rules {
            client,
            cut: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&rules));
        let task = tokio::spawn(async {
            axum::serve(listener, router).await.expect("served");
        });
        Self {
            address,
            rules,
            task,
        }
    }

    /// Which answers were cut: the verb, what was asked for in which form, and the path.
    pub fn cuts(&self) -> HashSet<String> {
        self.rules.cuts().clone().unwrap_or_default()
    }

    /// Cuts from now on.
    pub fn cut(&self) {
        *self.rules.cuts() = Some(HashSet::new());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rules {
    fn cuts(&self) -> MutexGuard<'_, Option<HashSet<String>>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_to_cut(&self, request: &Request) -> bool {
        let path = request.uri().path();
        let accept = request.headers().get("accept");
        let form = match accept.and_then(|accept| accept.to_str().ok()) {
            Some(accept) if accept.contains("PartialObjectMetadata") => "metadata",
            _ => "object",
        };
        let what = format!("{} {form} {path}", request.method());
        let mut cuts = self.cuts();
        path.contains("/secrets") && cuts.as_mut().is_some_and(|cuts| cuts.insert(what))
    }
}

async fn pass(State(rules): State<Arc<Rules>>, request: Request) -> Response {
    let cut = rules.is_to_cut(&request);
    // By the name of the Secret or of the object in the request: both kinds happen to every verb.
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a request");
    let broken = parts.uri.path().contains("broken")
        || String::from_utf8_lossy(&body).contains(r#""name":"broken"#);
    let path = parts.uri.path_and_query().expect("a path").as_str();
    let mut passed = Request::builder().method(parts.method).uri(path);
    let own = [HOST, AUTHORIZATION, CONNECTION, CONTENT_LENGTH];
    for (name, value) in &parts.headers {
        if !own.contains(name) {
            passed = passed.header(name, value);
        }
    }
    let passed = passed.body(Vec::from(body).into()).expect("a request");
    let Ok(answer) = rules.client.send(passed).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (mut parts, body) = answer.into_parts();
    let body = Body::new(body);
    if !cut {
        return Response::from_parts(parts, body);
    }
    let whole = to_bytes(body, usize::MAX).await.expect("an answer");
    // Late enough that all data has come by then: metadata stands before it, and is long.
    let start = whole.slice(..whole.len().saturating_sub(3));
    parts.headers.remove(TRANSFER_ENCODING);
    parts.headers.remove(CONTENT_LENGTH);
    let body = if broken {
        // The connection breaks in the middle of the answer.
        let lost = io::Error::from(io::ErrorKind::ConnectionReset);
        let pieces: [io::Result<Bytes>; 2] = [Ok(start), Err(lost)];
        Body::from_stream(futures::stream::iter(pieces))
    } else {
        // The answer is complete, and no JSON.
        Body::from(start)
    };
    Response::from_parts(parts, body)
}
