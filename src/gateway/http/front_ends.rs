//! Front ends ask about each request of a device: what they ask at `/forward-auth` goes past the router, on which it would
//! spend more time than on the answer. At `/ext-authz`, where any path may follow, it does not.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use futures::future::Either;
use tower::Service;

use super::{Api, forward};
use crate::listener::{Peer, Routes};

/// Answers as the routes do that it stands before, and `/forward-auth` sooner.
#[derive(Clone)]
pub struct FrontEnds {
    api: Api,
    routes: Router,
    /// Not yet, where no connection is served.
    peer: Option<Peer>,
}

impl FrontEnds {
    pub(super) fn before(routes: Router, api: Api) -> FrontEnds {
        FrontEnds {
            api,
            routes,
            peer: None,
        }
    }
}

impl Routes for FrontEnds {
    type OfOne = FrontEnds;

    fn of_one(&self, peer: Peer) -> FrontEnds {
        FrontEnds {
            peer: Some(peer),
            ..self.clone()
        }
    }
}

impl Service<Request> for FrontEnds {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As it is of the router.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let peer = self.peer.or_else(|| request.extensions().get().copied());
        if request.uri().path() == "/forward-auth" {
            let answer = forward::answer(&self.api, &request, peer);
            return Either::Left(ready(Ok(answer)));
        }
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        Either::Right(self.routes.call(request))
    }
}
