//! Listeners: plain or by TLS, until the process is to end.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::AddExtension;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use axum::{Extension, Router};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tower::util::Either;
use tower::{Layer, Service};
use tracing::{debug, warn};

use crate::shutdown::Shutdown;
use crate::tls::Tls;

/// What is under way has so long to end.
const DRAIN: Duration = Duration::from_secs(20);

/// A client has so long for its part of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections with their handshake done that wait to be served.
const MOST_WAITING: usize = 64;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What answers, on all connections.
pub trait Routes: Clone + Send + Sync + 'static {
    /// What answers on one of them.
    type OfOne: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static;

    /// The same, which knows the other end.
    fn of_one(&self, peer: Peer) -> Self::OfOne;
}

/// Handlers find the [`Peer`] among the extensions of the request.
impl Routes for Router {
    type OfOne = AddExtension<Router, Peer>;

    fn of_one(&self, peer: Peer) -> Self::OfOne {
        Extension(peer).layer(self.clone())
    }
}

impl<A: Routes, B: Routes> Routes for Either<A, B> {
    type OfOne = Either<A::OfOne, B::OfOne>;

    fn of_one(&self, peer: Peer) -> Self::OfOne {
        match self {
            Either::Left(one) => Either::Left(one.of_one(peer)),
            Either::Right(other) => Either::Right(other.of_one(peer)),
        }
    }
}

/// Opens a listener; port 0 takes a free one. `flag` is what a person would have to change. Gives the
/// address in use, too.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn bind(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let refused = |cause| BindError {
        address,
        flag,
        cause,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({flag}): {cause}")]
pub struct BindError {
    address: SocketAddr,
    flag: &'static str,
    cause: io::Error,
}

/// Serves until `shutdown` resolves and what is under way then has ended, or its time is over.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: impl Routes,
    shutdown: Shutdown,
) {
    let routes = Connections(routes);
    let end = shutdown.wait();
    let served = async {
        match tls {
            Some(tls) => {
                let listener = SecureListener::start(listener, tls);
                let serve = axum::serve(listener, routes);
                serve.with_graceful_shutdown(end).await
            }
            None => {
                let serve = axum::serve(Plain(listener), routes);
                serve.with_graceful_shutdown(end).await
            }
        }
    };
    let cut_off = async {
        shutdown.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = served => served.unwrap_or_else(|error| warn!("a listener failed: {error}")),
        () = cut_off => warn!("some requests had not ended {DRAIN:?} after the end, and were cut off"),
    }
}

/// Makes what answers on each connection.
struct Connections<R>(R);

impl<R: Routes, L: Listener<Addr = SocketAddr>> Service<IncomingStream<'_, L>> for Connections<R> {
    type Response = R::OfOne;
    type Error = Infallible;
    type Future = Ready<Result<R::OfOne, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, stream: IncomingStream<'_, L>) -> Self::Future {
        ready(Ok(self.0.of_one(Peer(*stream.remote_addr()))))
    }
}

/// Small answers go out at once.
struct Plain(TcpListener);

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        stream.set_nodelay(true).ok();
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Hands out connections once their handshake is done. A slow client keeps nobody waiting.
struct SecureListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: io::Result<SocketAddr>,
    accepting: tokio::task::JoinHandle<Infallible>,
}

impl SecureListener {
    fn start(listener: TcpListener, tls: Tls) -> SecureListener {
        let (sender, ready) = mpsc::channel(MOST_WAITING);
        let address = listener.local_addr();
        let mut listener = Plain(listener);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await;
                let (acceptor, sender) = (tls.acceptor(), sender.clone());
                tokio::spawn(async move {
                    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => _ = sender.send((stream, peer)).await,
                        Ok(Err(error)) => debug!(%peer, "no TLS: {error}"),
                        Err(_) => debug!(%peer, "no TLS in time"),
                    }
                });
            }
        });
        SecureListener {
            ready,
            address,
            accepting,
        }
    }
}

impl Drop for SecureListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for SecureListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(error.kind().into()),
        }
    }
}
