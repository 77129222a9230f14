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

/// Answers as the routes do that it stands before, and `/forward-auth` sooner.
#[derive(Clone)]
pub struct FrontEnds {
    api: Api,
    routes: Router,
}

impl FrontEnds {
    pub(super) fn before(routes: Router, api: Api) -> FrontEnds {
        FrontEnds { api, routes }
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

    fn call(&mut self, request: Request) -> Self::Future {
        match request.uri().path() {
            "/forward-auth" => Either::Left(ready(Ok(forward::answer(&self.api, &request)))),
            _ => Either::Right(self.routes.call(request)),
        }
    }
}
