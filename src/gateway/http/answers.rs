//! Answers. Whoever is refused is told no reason: each protocol has one refusal.

use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

/// JSON that nobody keeps.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("JSON");
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

/// JSON that is public, and stays as it is for a while.
pub(super) fn kept(body: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, body).into_response()
}

/// An error as Losant shapes it.
pub(super) fn losant(status: StatusCode, kind: &str, message: &str) -> Response {
    json(status, &json!({ "type": kind, "message": message }))
}

/// A body that could not be read, mostly because it is too large.
pub(super) fn unread(rejection: &BytesRejection) -> Response {
    let message = "The body must come whole and have at most 16384 bytes.";
    losant(rejection.status(), "Validation", message)
}

/// An error of RFC 6749.
pub(super) fn oauth(status: StatusCode, error: &str) -> Response {
    let mut answer = json(status, &json!({ "error": error }));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"keyward\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// To be tried again in a second.
pub(super) fn soon(mut answer: Response) -> Response {
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
