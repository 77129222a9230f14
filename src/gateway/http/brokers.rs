//! For brokers that ask over HTTP, each in its own words: see [`crate::brokers`].

use std::sync::Once;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::warn;

use super::Api;
use super::answers::{json, losant, soon, unread};
use crate::brokers::{goauth, rabbitmq};
use crate::policy::Decision;

type Body = Result<Bytes, BytesRejection>;

/// Said once.
static UNCUT: Once = Once::new();

pub(super) async fn rabbitmq_user(State(api): State<Api>, body: Body) -> Response {
    match form(body) {
        Ok(asked) => {
            let broker = api.0.rabbitmq.as_ref();
            if broker.is_none() {
                UNCUT.call_once(|| {
                    warn!("no --rabbitmq-url: RabbitMQ asks, and its sessions are not cut");
                });
            }
            rabbitmq(&rabbitmq::user(&api.0.authenticator, broker, &asked).await)
        }
        Err(answer) => *answer,
    }
}

pub(super) async fn rabbitmq_vhost(State(api): State<Api>, body: Body) -> Response {
    match form(body) {
        Ok(asked) => rabbitmq(&rabbitmq::vhost(&api.0.authenticator, &asked)),
        Err(answer) => *answer,
    }
}

pub(super) async fn rabbitmq_resource(State(api): State<Api>, body: Body) -> Response {
    match form(body) {
        Ok(asked) => rabbitmq(&rabbitmq::resource(&api.0.authenticator, &asked)),
        Err(answer) => *answer,
    }
}

pub(super) async fn rabbitmq_topic(State(api): State<Api>, body: Body) -> Response {
    match form(body) {
        Ok(asked) => {
            let broker = api.0.rabbitmq.as_ref();
            rabbitmq(&rabbitmq::topic(&api.0.authenticator, broker, &asked))
        }
        Err(answer) => *answer,
    }
}

/// What is asked, or what to answer.
fn form<T: DeserializeOwned>(body: Body) -> Result<T, Box<Response>> {
    let body = body.map_err(|rejection| Box::new(unread(&rejection)))?;
    serde_urlencoded::from_bytes(&body).map_err(|_| {
        let message = "The body must be a form as rabbitmq_auth_backend_http sends it by POST.";
        Box::new(losant(StatusCode::BAD_REQUEST, "Validation", message))
    })
}

fn rabbitmq(answer: &rabbitmq::Answer) -> Response {
    match answer.text() {
        Some(text) => {
            let headers = [(CONTENT_TYPE, "text/plain"), (CACHE_CONTROL, "no-store")];
            (headers, text).into_response()
        }
        // With Retry-After, RabbitMQ would ask again, on and on, and the device hear nothing.
        None => unavailable(),
    }
}

pub(super) async fn goauth_user(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match form_or_json(&headers, body) {
        Ok(asked) => goauth(&goauth::user(&api.0.authenticator, &asked).await),
        Err(answer) => *answer,
    }
}

pub(super) async fn goauth_acl(State(api): State<Api>, headers: HeaderMap, body: Body) -> Response {
    match form_or_json(&headers, body) {
        Ok(asked) => goauth(&goauth::acl(&api.0.authenticator, &asked)),
        Err(answer) => *answer,
    }
}

fn form_or_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Box<Response>> {
    let body = body.map_err(|rejection| Box::new(unread(&rejection)))?;
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |kind| kind.as_bytes());
    let read = match kind.starts_with(b"application/x-www-form-urlencoded") {
        true => serde_urlencoded::from_bytes(&body).ok(),
        false => serde_json::from_slice(&body).ok(),
    };
    read.ok_or_else(|| {
        let message = "The body must be JSON or a form as mosquitto-go-auth sends it by POST.";
        Box::new(losant(StatusCode::BAD_REQUEST, "Validation", message))
    })
}

/// As go-auth reads it, by the status or by the body.
fn goauth(decision: &Decision<()>) -> Response {
    match decision {
        Decision::Allow(()) => json(StatusCode::OK, &json!({ "ok": true, "error": "" })),
        Decision::Deny(_) => refused(),
        Decision::Unavailable => try_again(),
    }
}

fn refused() -> Response {
    json(
        StatusCode::FORBIDDEN,
        &json!({ "ok": false, "error": "refused" }),
    )
}

fn try_again() -> Response {
    soon(unavailable())
}

fn unavailable() -> Response {
    losant(
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "Try again later.",
    )
}
