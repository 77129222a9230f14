//! Answers that the API server did not give, or not so.

use std::io;

use axum::body::{Body, to_bytes};
use futures::stream;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::fault::Fault;
use super::proxy::Asked;

/// Gives an answer in a worse state.
pub(super) async fn spoil(answer: Response<Body>, fault: Fault) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = to_bytes(body, usize::MAX).await.expect("an answer");
    // Late enough that all data has come by then: metadata stands before it, and is long.
    let start = whole.slice(..whole.len().saturating_sub(3));
    parts.headers.remove(TRANSFER_ENCODING);
    parts.headers.remove(CONTENT_LENGTH);
    let body = match fault {
        Fault::BreakOff => {
            let lost = io::Error::from(io::ErrorKind::ConnectionReset);
            Body::from_stream(stream::iter([Ok(start), Err(lost)]))
        }
        Fault::Corrupt => Body::from(corrupted(&whole)),
        _ => Body::from(start),
    };
    Response::from_parts(parts, body)
}

/// With bytes in it that no text has.
pub(super) fn corrupted(whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for part in 1..4 {
        let at = bytes.len() * part / 4;
        if let Some(byte) = bytes.get_mut(at) {
            *byte = 0xff;
        }
    }
    bytes
}

/// A refusal of this code. Only a conflict names the object: that somebody else has just written it,
/// or that it is there, is said often enough without being so. That an object is absent cannot be
/// told from the truth if it names the object.
pub(super) fn status(code: u16, asked: &Asked) -> Response<Body> {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if asked.method == Method::POST => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "refused for a test", "reason": reason, "code": code,
    });
    if code == 409 {
        body["details"] = details(asked);
    }
    let answer = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json");
    let answer = if code == 429 {
        answer.header(header::RETRY_AFTER, "1")
    } else {
        answer
    };
    answer
        .body(Body::from(body.to_string()))
        .expect("an answer")
}

/// Which object a request is about.
fn details(asked: &Asked) -> Value {
    let path = asked.path.split('?').next().unwrap_or_default();
    let (above, below) = path.split_once("/namespaces/").unwrap_or_default();
    let group = above.strip_prefix("/apis/").unwrap_or_default();
    let group = group.split('/').next().unwrap_or_default();
    let mut parts = below.split('/').skip(1);
    let kind = parts.next().unwrap_or_default();
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let name = parts
        .next()
        .map_or(body["metadata"]["name"].clone(), Value::from);
    json!({ "name": name, "group": group, "kind": kind })
}

/// A refusal of this code by something that knows nothing of Kubernetes.
pub(super) fn page(code: u16) -> Response<Body> {
    let code = StatusCode::from_u16(code).expect("a code");
    let body = format!("<html><body><h1>{code}</h1></body></html>");
    let answer = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "text/html");
    answer.body(Body::from(body)).expect("an answer")
}
