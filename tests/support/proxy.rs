//! An API server that fails as it is told to, in front of the real one.
//!
//! It speaks HTTP without TLS, on the loopback interface, and with the rights of the client that it
//! is given. Requests that it has taken are carried out whatever becomes of whoever sent them.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::answers::{page, spoil, status};
use super::fault::{Answer, Fault, Later, WatchFault};
use super::process::Access;
use super::stream::deliver;

/// Says what goes wrong.
pub trait Rules: Send + Sync + 'static {
    /// With this request.
    fn request(&self, asked: &Asked) -> Option<Fault>;

    /// With the next event of a watch.
    fn event(&self) -> Option<WatchFault> {
        None
    }
}

/// A request.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    /// Does it begin a watch?
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// Is it about an Event?
    pub fn is_about_event(&self) -> bool {
        self.path.contains("/apis/events.k8s.io/")
    }

    /// Does it ask for metadata only?
    pub fn is_partial(&self) -> bool {
        let accept = self.headers.get(header::ACCEPT);
        accept.is_some_and(|accept| {
            let accept = accept.to_str().unwrap_or_default();
            accept.contains("PartialObjectMetadata")
        })
    }
}

/// Passes requests on, but for what its rules say.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Whom faults kill.
#[derive(Default)]
struct Victim {
    kill: Option<Box<dyn FnOnce() + Send>>,
    /// At the next request, or after a moment.
    soon: bool,
}

/// What all its connections share.
pub(super) struct Shared {
    client: Client,
    rules: Box<dyn Rules>,
    late: Mutex<Vec<(Later, Asked)>>,
    victim: Mutex<Victim>,
    /// How many requests have come, those about Events and the beginnings of watches apart.
    pub(super) requests: watch::Sender<u64>,
    /// How often what is held was released.
    pub(super) releases: watch::Sender<u64>,
    /// How often silent watches were ended.
    pub(super) abandons: watch::Sender<u64>,
    watches: AtomicUsize,
    /// Requests without an answer, but for watches.
    unanswered: AtomicUsize,
}

impl Proxy {
    /// Starts one.
    pub async fn start(client: Client, rules: impl Rules) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            client,
            rules: Box::new(rules),
            late: Mutex::default(),
            victim: Mutex::default(),
            requests: watch::Sender::default(),
            releases: watch::Sender::default(),
            abandons: watch::Sender::default(),
            watches: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy {
            address,
            shared,
            task,
        }
    }

    /// How to reach it.
    pub fn config(&self) -> kube::Config {
        let url = format!("http://{}", self.address);
        let mut config = kube::Config::new(url.parse().expect("a URL"));
        // It needs no certificates, and reading the machine's takes longer than all else in a run.
        config.root_cert = Some(Vec::new());
        config
    }

    /// The same, for processes.
    pub fn access(&self) -> Access {
        Access::at(&format!("http://{}", self.address))
    }

    /// How a fault kills; once, until there is somebody else to be killed.
    pub fn set_victim(&self, kill: impl FnOnce() + Send + 'static) {
        *lock(&self.shared.victim) = Victim {
            kill: Some(Box::new(kill)),
            soon: false,
        };
    }

    /// Is there nobody left to be killed?
    pub fn has_killed(&self) -> bool {
        lock(&self.shared.victim).kill.is_none()
    }

    /// Has the answer been given after which it kills?
    pub fn is_about_to_kill(&self) -> bool {
        lock(&self.shared.victim).soon
    }

    /// How many requests have come so far, those about Events and the beginnings of watches apart.
    pub fn requests(&self) -> u64 {
        *self.shared.requests.borrow()
    }

    /// Is a request still to be carried out?
    pub fn has_late_ones(&self) -> bool {
        !lock(&self.shared.late).is_empty()
    }

    /// Does a watch go on?
    pub fn has_watches(&self) -> bool {
        self.shared.watches.load(Ordering::SeqCst) > 0
    }

    /// Does nobody wait for an answer, but for those who watch?
    pub fn has_answered_all(&self) -> bool {
        self.shared.unanswered.load(Ordering::SeqCst) == 0
    }

    /// Carries out what is late.
    pub async fn release(&self) {
        self.shared.deliver_late(|_| true).await;
    }

    /// Lets watches deliver what they hold.
    pub fn release_watches(&self) {
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Ends the watches that have gone silent, as whoever waits for them would.
    pub fn abandon_silent_watches(&self) {
        self.shared.abandons.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.abandon_silent_watches();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&shared)));
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let stream = stream.into_std().expect("a socket");
    let socket = Arc::new(stream.try_clone().expect("a socket"));
    let stream = TcpStream::from_std(stream).expect("a socket");
    let serve = service_fn(move |request| {
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        async move { shared.serve(request, &socket).await }
    });
    let http = http1::Builder::new();
    http.serve_connection(TokioIo::new(stream), serve)
        .await
        .ok();
}

/// The connection ends without an answer.
type Cut = io::Error;

fn cut<T>() -> Result<T, Cut> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

impl Shared {
    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        socket: &StdStream,
    ) -> Result<Response<Body>, Cut> {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(Body::new(body), usize::MAX).await else {
            return cut();
        };
        let asked = asked(parts, body);
        let _unanswered = (!asked.is_watch()).then(|| Counted::one(&self, |s| &s.unanswered));
        if self.kill_if_due() {
            return cut();
        }
        if !asked.is_watch() && !asked.is_about_event() {
            self.deliver_late(|later| *later == Later::After(0)).await;
            self.count_down();
            self.requests.send_modify(|count| *count += 1);
        }
        match self.rules.request(&asked) {
            None if asked.is_watch() => self.watch(asked).await,
            None => self.forward(asked).await,
            Some(fault) => self.fail(fault, asked, socket).await,
        }
    }

    async fn fail(
        self: Arc<Self>,
        fault: Fault,
        asked: Asked,
        socket: &StdStream,
    ) -> Result<Response<Body>, Cut> {
        match fault {
            Fault::Drop => cut(),
            Fault::Reset => {
                set_socket_linger(socket, Some(Duration::ZERO)).expect("a socket");
                cut()
            }
            Fault::LoseAnswer => {
                self.forward(asked).await?;
                cut()
            }
            Fault::Hold => std::future::pending().await,
            Fault::HoldAnswer => {
                self.forward(asked).await?;
                std::future::pending().await
            }
            Fault::Late(later) => {
                lock(&self.late).push((later, asked));
                cut()
            }
            Fault::RestartLate(later) => {
                lock(&self.late).push((later, asked));
                self.kill();
                cut()
            }
            Fault::Twice(which) => {
                let first = self.forward(asked.clone()).await?;
                let second = self.forward(asked).await?;
                Ok(match which {
                    Answer::First => first,
                    Answer::Second => second,
                })
            }
            Fault::Truncate | Fault::BreakOff | Fault::Corrupt => {
                Ok(spoil(self.forward(asked).await?, fault).await)
            }
            Fault::Refuse(code) => Ok(status(code, &asked)),
            Fault::Page(code) => Ok(page(code)),
            Fault::Applied(code) => {
                self.forward(asked.clone()).await?;
                Ok(status(code, &asked))
            }
            Fault::KillBefore => {
                self.kill();
                cut()
            }
            Fault::KillAfter => {
                self.forward(asked).await?;
                self.kill();
                cut()
            }
            Fault::KillAnswered => {
                let answer = self.forward(asked).await?;
                self.kill_soon();
                Ok(answer)
            }
        }
    }

    /// In a task of its own, so that it goes on if the caller goes away.
    async fn forward(self: &Arc<Self>, asked: Asked) -> Result<Response<Body>, Cut> {
        let client = self.client.clone();
        let sent = tokio::spawn(async move {
            let answer = client.send(passed_on(asked)).await.ok()?;
            let (parts, body) = answer.into_parts();
            let whole = to_bytes(Body::new(body), usize::MAX).await.ok()?;
            Some(Response::from_parts(parts, Body::from(whole)))
        });
        sent.await.ok().flatten().map_or_else(cut, Ok)
    }

    async fn watch(self: Arc<Self>, asked: Asked) -> Result<Response<Body>, Cut> {
        let Ok(answer) = self.client.send(passed_on(asked)).await else {
            return cut();
        };
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.remove(CONTENT_LENGTH);
        let events = deliver(Body::new(body).into_data_stream(), self);
        Ok(Response::from_parts(parts, Body::from_stream(events)))
    }

    /// Counts a watch, until what it gives goes out of scope.
    pub(super) fn watching(self: &Arc<Self>) -> Counted {
        Counted::one(self, |shared| &shared.watches)
    }

    pub(super) fn rules(&self) -> &dyn Rules {
        &*self.rules
    }

    async fn deliver_late(self: &Arc<Self>, is_due: impl Fn(&Later) -> bool) {
        let due: Vec<_> = lock(&self.late)
            .extract_if(.., |(later, _)| is_due(later))
            .collect();
        for (_, asked) in due {
            self.forward(asked).await.ok();
        }
    }

    fn count_down(&self) {
        for (later, _) in lock(&self.late).iter_mut() {
            if let Later::After(requests) = later {
                *requests = requests.saturating_sub(1);
            }
        }
    }

    fn kill(&self) {
        lock(&self.victim).die();
    }

    /// At its next request, which is lost, or after a moment without one.
    fn kill_soon(self: &Arc<Self>) {
        lock(&self.victim).soon = true;
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            shared.kill_if_due();
        });
    }

    fn kill_if_due(&self) -> bool {
        let mut victim = lock(&self.victim);
        let is_due = victim.soon;
        if is_due {
            victim.die();
        }
        is_due
    }
}

impl Victim {
    fn die(&mut self) {
        self.soon = false;
        if let Some(kill) = self.kill.take() {
            kill();
        }
    }
}

/// Is counted for as long as it lives.
pub(super) struct Counted {
    shared: Arc<Shared>,
    count: fn(&Shared) -> &AtomicUsize,
}

impl Counted {
    fn one(shared: &Arc<Shared>, count: fn(&Shared) -> &AtomicUsize) -> Counted {
        count(shared).fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        Counted { shared, count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.shared).fetch_sub(1, Ordering::SeqCst);
    }
}

fn asked(parts: Parts, body: Bytes) -> Asked {
    let path = parts.uri.path_and_query().expect("a path");
    Asked {
        method: parts.method,
        path: path.to_string(),
        headers: parts.headers,
        body,
    }
}

fn passed_on(asked: Asked) -> Request<kube::client::Body> {
    let mut request = Request::builder().method(asked.method).uri(asked.path);
    let own = [HOST, AUTHORIZATION, CONNECTION, CONTENT_LENGTH];
    for (name, value) in &asked.headers {
        if !own.contains(name) {
            request = request.header(name, value);
        }
    }
    let body = Vec::from(asked.body).into();
    request.body(body).expect("a request")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
