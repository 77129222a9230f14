//! What a controller sends to the API server: noted, and stopped at a chosen request. Its watches can be held back.
//!
//! A request is named by what RBAC would call it: `create secrets`, `update accesskeys/status`,
//! `get secrets (metadata)`. Lists and watches are not noted.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, header};
use http_body::Frame;
use kube::Client;
use kube::client::Body as KubeBody;
use tokio::sync::{oneshot, watch};

/// For a rotation that replaces the Secret.
pub const IN_PLACE: [&str; 6] = [
    "get secrets (metadata)",
    "get secrets",
    "get accesskeys",
    "update accesskeys/status",
    "update secrets",
    "update accesskeys/status",
];

/// For an edit that asks for no secret: one write, and a look whether the Secret is still there.
pub const AFTER_AN_EDIT: [&str; 2] = ["get secrets (metadata)", "update accesskeys/status"];

/// What one controller sends.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sent: Vec<String>,
    trap: Option<Trap>,
    hold_at: Option<&'static str>,
    watches: watch::Sender<Flow>,
}

/// Do watches deliver?
#[derive(Clone, Copy, Default, PartialEq)]
enum Flow {
    #[default]
    Free,
    Held,
}

struct Trap {
    after: Option<&'static str>,
    at: &'static str,
    what: Happens,
    reached: oneshot::Sender<()>,
}

/// What happens to the request that a trap is set for.
#[derive(Clone, Copy, Debug)]
pub enum Happens {
    /// It is never sent, and never answered.
    Unsent,
    /// It is carried out, and never answered.
    Unanswered,
    /// It is carried out, and the connection breaks before the answer.
    AnswerLost,
}

impl Wire {
    /// A client whose requests go over this wire.
    pub fn of(&self, client: &Client, namespace: &str) -> Client {
        let (wire, client) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request| {
            let (wire, client) = (wire.clone(), client.clone());
            async move { wire.carry(client, request).await }
        });
        Client::new(service, namespace)
    }

    /// All requests so far but for Events, oldest first.
    pub fn sent(&self) -> Vec<String> {
        let state = self.state();
        let sent = state.sent.iter();
        sent.filter(|what| !what.ends_with("events"))
            .cloned()
            .collect()
    }

    /// How many requests of this name there were.
    pub fn count(&self, what: &str) -> usize {
        self.state()
            .sent
            .iter()
            .filter(|sent| *sent == what)
            .count()
    }

    /// How many requests there were that change something, but for Events.
    pub fn writes(&self) -> usize {
        let sent = self.sent();
        sent.iter().filter(|what| !what.starts_with("get")).count()
    }

    /// Begins to note anew.
    pub fn forget(&self) {
        self.state().sent.clear();
    }

    /// The next request of this name meets with that. Resolves when it has.
    pub fn trap(&self, at: &'static str, what: Happens) -> BoxFuture<'static, ()> {
        self.set(None, at, what)
    }

    /// The same, but not before there was a request of the name `after`.
    pub fn trap_after(
        &self,
        after: &'static str,
        at: &'static str,
        what: Happens,
    ) -> BoxFuture<'static, ()> {
        self.set(Some(after), at, what)
    }

    fn set(
        &self,
        after: Option<&'static str>,
        at: &'static str,
        what: Happens,
    ) -> BoxFuture<'static, ()> {
        let (reached, is_reached) = oneshot::channel();
        let trap = Trap {
            after,
            at,
            what,
            reached,
        };
        self.state().trap = Some(trap);
        async { is_reached.await.expect("the controller runs") }.boxed()
    }

    /// From the next request of this name on, watches deliver nothing: the controller's cache grows old.
    pub fn hold_watches_at(&self, at: &'static str) {
        self.state().hold_at = Some(at);
    }

    /// Watches deliver again, what was held first.
    pub fn release_watches(&self) {
        self.state().watches.send_replace(Flow::Free);
    }

    async fn carry(
        self,
        client: Client,
        request: Request<KubeBody>,
    ) -> Result<Response<Body>, kube::Error> {
        let watches = self.state().watches.subscribe();
        let flow = is_watch(&request).then_some(watches);
        let answer = self.answer(client, request).await?;
        Ok(answer.map(|inner| Body::new(inner, flow)))
    }

    async fn answer(
        self,
        client: Client,
        request: Request<KubeBody>,
    ) -> Result<Response<KubeBody>, kube::Error> {
        let what = name(&request);
        let trap = what.as_deref().and_then(|what| self.note(what));
        let Some(Trap { what, reached, .. }) = trap else {
            return client.send(request).await;
        };
        if !matches!(what, Happens::Unsent) {
            client.send(request).await?;
        }
        reached.send(()).ok();
        match what {
            Happens::AnswerLost => {
                let broken = io::Error::from(io::ErrorKind::ConnectionReset);
                Err(kube::Error::Service(broken.into()))
            }
            Happens::Unsent | Happens::Unanswered => pending().await,
        }
    }

    fn note(&self, what: &str) -> Option<Trap> {
        let mut state = self.state();
        state.sent.push(what.to_owned());
        if state.hold_at.take_if(|at| *at == what).is_some() {
            state.watches.send_replace(Flow::Held);
        }
        if let Some(trap) = &mut state.trap {
            trap.after = trap.after.filter(|after| *after != what);
        }
        state
            .trap
            .take_if(|trap| trap.after.is_none() && trap.at == what)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_watch(request: &Request<KubeBody>) -> bool {
    let query = request.uri().query();
    query.is_some_and(|query| query.contains("watch=true"))
}

/// A body that yields nothing while its watch is held.
struct Body {
    inner: KubeBody,
    flow: Option<watch::Receiver<Flow>>,
    /// Read before it is known whether it may be delivered.
    next: Option<Piece>,
    free: Option<BoxFuture<'static, ()>>,
}

type Piece = Result<Frame<<KubeBody as http_body::Body>::Data>, kube::Error>;

impl Body {
    fn new(inner: KubeBody, flow: Option<watch::Receiver<Flow>>) -> Body {
        Body {
            inner,
            flow,
            next: None,
            free: None,
        }
    }

    fn is_held(&self) -> bool {
        self.flow
            .as_ref()
            .is_some_and(|flow| *flow.borrow() == Flow::Held)
    }

    /// Resolves when the watch may deliver.
    fn freed(&self) -> BoxFuture<'static, ()> {
        let flow = self.flow.clone();
        async move {
            if let Some(mut flow) = flow {
                flow.wait_for(|flow| *flow == Flow::Free).await.ok();
            }
        }
        .boxed()
    }
}

impl http_body::Body for Body {
    type Data = <KubeBody as http_body::Body>::Data;
    type Error = kube::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if self.next.is_none() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                piece => self.next = piece,
            }
        }
        if self.free.is_none() && self.is_held() {
            self.free = Some(self.freed());
        }
        if let Some(free) = &mut self.free {
            ready!(free.poll_unpin(cx));
            self.free = None;
        }
        Poll::Ready(self.next.take())
    }
}

/// None for what is not noted.
fn name(request: &Request<KubeBody>) -> Option<String> {
    let path = request.uri().path();
    let (_, below) = path.split_once("/namespaces/")?;
    let parts: Vec<&str> = below.split('/').skip(1).collect();
    let resource = match parts.as_slice() {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => return None,
    };
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if parts.len() > 1 => "get",
        _ => return None,
    };
    let accept = request.headers().get(header::ACCEPT);
    let partial = accept.is_some_and(|accept| {
        accept
            .to_str()
            .is_ok_and(|accept| accept.contains("PartialObjectMetadata"))
    });
    let what = if verb == "get" && partial {
        " (metadata)"
    } else {
        ""
    };
    Some(format!("{verb} {resource}{what}"))
}
