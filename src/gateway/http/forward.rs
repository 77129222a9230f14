//! For services: is this token good, and may its device do this?
//!
//! `/forward-auth` and `/ext-authz` answer reverse proxies by their status and by headers that name
//! the device. These are set in every answer, so that whatever a client sent under their names is
//! overwritten. A client may add to the question, and gains nothing by it: what is asked twice has to
//! be asked alike.

use std::collections::BTreeSet;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::address::Client;
use super::answers::{json, losant, soon, unread};
use super::scopes::Act;
use super::{Api, given};
use crate::api::DeviceClass;
use crate::gateway::token::Claims;
use crate::listener::Peer;
use crate::policy::{Decision, Session};

const DEVICE: HeaderName = HeaderName::from_static("x-keyward-device");
const KEY: HeaderName = HeaderName::from_static("x-keyward-key");
const NAMESPACE: HeaderName = HeaderName::from_static("x-keyward-namespace");
const CLASS: HeaderName = HeaderName::from_static("x-keyward-class");

/// What the device wants to do, and to which device.
static ACTION: HeaderName = HeaderName::from_static("x-keyward-action");
static TARGET: HeaderName = HeaderName::from_static("x-keyward-target");

pub(super) async fn forward_auth(State(api): State<Api>, request: Request) -> Response {
    answer(&api, &request, request.extensions().get().copied())
}

/// There is nothing to wait for.
pub(super) fn answer(api: &Api, request: &Request, peer: Option<Peer>) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let Some(token) = bearer(headers) else {
        return refused();
    };
    let client = Client::of(api, headers, peer);
    let (session, read) = match api.bearer(token, client.0) {
        Decision::Allow(known) => known,
        Decision::Deny(_) => return refused(),
        Decision::Unavailable => return soon(nobody(StatusCode::TOO_MANY_REQUESTS)),
    };
    match question(headers, uri) {
        Question::None => known(&session, &read.claims),
        Question::About(act, target) => match api.may(&session, &read.claims, act, &target) {
            Decision::Allow(()) => known(&session, &read.claims),
            Decision::Deny(_) => nobody(StatusCode::FORBIDDEN),
            Decision::Unavailable => soon(nobody(StatusCode::TOO_MANY_REQUESTS)),
        },
        Question::Confused => nobody(StatusCode::FORBIDDEN),
    }
}

/// The token of RFC 6750.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.as_bytes().split_at_checked(SCHEME.len())?;
    let is_bearer = values.next().is_none() && scheme.eq_ignore_ascii_case(SCHEME);
    is_bearer.then_some(token)
}

const SCHEME: &[u8] = b"Bearer ";

/// What is asked beside whether the token is good.
enum Question {
    None,
    About(Act, String),
    /// More than one thing, or half of one.
    Confused,
}

fn question(headers: &HeaderMap, uri: &Uri) -> Question {
    let (mut actions, mut targets) = (BTreeSet::new(), BTreeSet::new());
    let said = |name: &HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| value.to_str().unwrap_or("?").to_owned());
        values.filter(|value| !value.is_empty()).collect()
    };
    actions.extend(said(&ACTION));
    targets.extend(said(&TARGET));
    let query = uri.query().unwrap_or_default();
    let Ok(pairs) = serde_urlencoded::from_str::<Vec<(String, String)>>(query) else {
        return Question::Confused;
    };
    for (name, value) in pairs {
        match name.as_str() {
            "keyward_action" => _ = actions.insert(value),
            "keyward_target" => _ = targets.insert(value),
            _ => {}
        }
    }
    let only = |mut set: BTreeSet<String>| match set.len() {
        1 => set.pop_first(),
        _ => None,
    };
    if actions.is_empty() && targets.is_empty() {
        return Question::None;
    }
    match (only(actions), only(targets)) {
        (Some(action), Some(target)) => match Act::named(&action) {
            Some(act) => Question::About(act, target),
            None => Question::Confused,
        },
        _ => Question::Confused,
    }
}

impl Api {
    /// Whether the device of a token may do this to the device with the ID `target`, which is
    /// presented like its own.
    fn may(&self, session: &Session, claims: &Claims, act: Act, target: &str) -> Decision<()> {
        let authenticator = &self.0.authenticator;
        let topic = authenticator.device_topic(session, target, act.kind());
        match topic {
            Some(topic) if act.is_within(&claims.scope) => {
                authenticator.authorize(session, act.action(), &topic)
            }
            _ => Decision::Deny(crate::policy::Reason::Topic),
        }
    }
}

fn known(session: &Session, claims: &Claims) -> Response {
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    let class = HeaderValue::from_static(match session.class {
        DeviceClass::Gateway => "Gateway",
        _ => "Standalone",
    });
    let headers = [
        (DEVICE, value(&claims.sub)),
        (KEY, value(&session.key)),
        (NAMESPACE, value(&session.namespace)),
        (CLASS, class),
    ];
    (StatusCode::OK, headers).into_response()
}

fn nobody(status: StatusCode) -> Response {
    let names = [DEVICE, KEY, NAMESPACE, CLASS];
    (
        status,
        names.map(|name| (name, HeaderValue::from_static(""))),
    )
        .into_response()
}

fn refused() -> Response {
    let mut answer = nobody(StatusCode::UNAUTHORIZED);
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

#[derive(Deserialize)]
struct Introspected {
    token: Zeroizing<String>,
}

/// RFC 7662.
pub(super) async fn introspect(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return unread(&rejection),
    };
    let Ok(asked) = serde_urlencoded::from_bytes::<Introspected>(&body) else {
        return losant(
            StatusCode::BAD_REQUEST,
            "Validation",
            "The body must be a form with token.",
        );
    };
    // Where the device is nobody says here: a key that is limited to some addresses has no active
    // tokens.
    match api.bearer(asked.token.as_bytes(), None) {
        Decision::Allow((_, read)) => {
            let mut answer = serde_json::to_value(&read.claims).expect("JSON");
            answer["active"] = json!(true);
            answer["token_type"] = json!("Bearer");
            json(StatusCode::OK, &answer)
        }
        Decision::Deny(_) => json(StatusCode::OK, &json!({ "active": false })),
        Decision::Unavailable => soon(losant(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "Try again later.",
        )),
    }
}

/// A token, and what its device wants to do.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Authorize {
    token: Zeroizing<String>,
    action: String,
    device_id: String,
    #[serde(default, deserialize_with = "given")]
    source: Option<std::net::IpAddr>,
}

pub(super) async fn authorize(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let malformed = |what| losant(StatusCode::BAD_REQUEST, "Validation", what);
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return unread(&rejection),
    };
    let Ok(asked) = serde_json::from_slice::<Authorize>(&body) else {
        return malformed(
            "The body must be a JSON object with token, action and deviceId, and at most source \
             beside them.",
        );
    };
    let Some(act) = Act::named(&asked.action) else {
        return malformed("action must be sendState, sendCommand, getState or getCommand.");
    };
    let may = match api.bearer(asked.token.as_bytes(), asked.source) {
        Decision::Allow((session, read)) => api.may(&session, &read.claims, act, &asked.device_id),
        Decision::Deny(reason) => Decision::Deny(reason),
        Decision::Unavailable => Decision::Unavailable,
    };
    match may {
        Decision::Allow(()) => json(StatusCode::OK, &json!({ "allowed": true })),
        Decision::Deny(_) => json(StatusCode::OK, &json!({ "allowed": false })),
        Decision::Unavailable => soon(losant(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "Try again later.",
        )),
    }
}
