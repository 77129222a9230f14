//! A client for lists and watches, whose answers are complete in time or break off.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Frame;
use kube::client::Body;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// The API server ends a watch after so many seconds; the next one goes on from there.
pub const LONGEST_WATCH: u32 = 20;

/// A watch that has not ended this long after it was asked for is given up: the way to the API server
/// is broken, or lets nothing through.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Any other answer has this long, or less if the controller is told so.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// A client that goes the way of `client`.
pub fn client(client: &Client, request_timeout: Duration) -> Client {
    let (inner, request_timeout) = (client.clone(), request_timeout.min(LONGEST_REQUEST));
    let service = tower::service_fn(move |request: Request<Body>| {
        let patience = if is_watch(&request) {
            PATIENCE
        } else {
            request_timeout
        };
        send(inner.clone(), request, patience)
    });
    Client::new(service, client.default_namespace())
}

/// The objects of these namespaces, or of all if none is named, to be listed and watched in time.
pub fn apis<K>(of: &Client, namespaces: &[String], request_timeout: Duration) -> Vec<Api<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let client = client(of, request_timeout);
    if namespaces.is_empty() {
        return vec![Api::all(client)];
    }
    namespaces
        .iter()
        .map(|namespace| Api::namespaced(client.clone(), namespace))
        .collect()
}

async fn send(
    client: Client,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Answer>, AnyError> {
    let end = Instant::now() + patience;
    let late = Late(patience);
    let answer = timeout_at(end, client.send(request))
        .await
        .map_err(|_| late)??;
    Ok(answer.map(|body| Answer {
        body,
        end: Box::pin(sleep_until(end)),
        late,
    }))
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

type AnyError = Box<dyn Error + Send + Sync>;

/// An answer is not complete in time.
#[derive(Clone, Copy, Debug, Error)]
#[error("no complete answer within {0:?}")]
struct Late(Duration);

/// The body of an answer, up to the end of its time.
struct Answer {
    body: Body,
    end: Pin<Box<Sleep>>,
    late: Late,
}

impl http_body::Body for Answer {
    type Data = <Body as http_body::Body>::Data;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, AnyError>>> {
        // First, so that an answer that trickles breaks off, too.
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(self.late.into())));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map_err(AnyError::from)
    }
}
