//! For devices: a token for a secret. `/auth/device` is Losant's contract, `/oauth/token` that of
//! RFC 6749, section 4.4.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use base64ct::{Base64, Encoding};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Api;
use super::address::Client;
use super::answers::{json, kept, losant, oauth, soon, unread};
use super::{given, scopes};
use crate::api::DeviceClass;
use crate::gateway::token::{self, Claims, DEFAULT_TTL, LONGEST_TTL, Named};
use crate::gateway::{Credentials, Granted};
use crate::policy::{Decision, Session};
use crate::topics::Grants;

/// Losant's `deviceCredentials`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeviceCredentials {
    device_id: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    secret: Zeroizing<String>,
    #[serde(rename = "tokenTTL", default, deserialize_with = "whole")]
    token_ttl: Option<u32>,
    #[serde(default, deserialize_with = "given")]
    requested_scopes: Option<Vec<String>>,
}

/// A whole number, however it is written: in JSON 60 and 60.0 are the same.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        return Ok(Some(number as u32));
    }
    Err(D::Error::custom("no whole number"))
}

pub(super) async fn auth_device(
    State(api): State<Api>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let malformed = |what| losant(StatusCode::BAD_REQUEST, "Validation", what);
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return unread(&rejection),
    };
    let Ok(asked) = serde_json::from_slice::<DeviceCredentials>(&body) else {
        return malformed(
            "The body must be a JSON object with deviceId, key and secret, and at most tokenTTL and \
             requestedScopes beside them.",
        );
    };
    let ttl = asked.token_ttl.unwrap_or(DEFAULT_TTL);
    if !(1..=LONGEST_TTL).contains(&ttl) {
        return malformed("tokenTTL must be 1 to 86400 seconds.");
    }
    let scopes = asked.requested_scopes.iter().flatten().map(String::as_str);
    let Some(scopes) = scopes::normal(scopes) else {
        return malformed("requestedScopes has a scope that is not known.");
    };
    let credentials = Credentials {
        device_id: &asked.device_id,
        key: &asked.key,
        secret: &asked.secret,
        source: client.0,
    };
    match api.issue(&credentials, ttl, &scopes).await {
        Issued::Token(issued) => json(StatusCode::OK, &authed(&issued)),
        Issued::Refused => losant(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "Device authentication failed.",
        ),
        Issued::Later => soon(losant(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "Try again later.",
        )),
    }
}

/// Losant's `authedDevice`.
fn authed(issued: &IssuedToken) -> Value {
    let id = &*issued.session.device_id;
    let (filter, lists) = match &issued.granted.grants {
        Grants::None => ("none", None),
        Grants::All => ("all", None),
        Grants::AllowList(lists) => ("whitelist", Some(lists)),
        Grants::DenyList(lists) => ("blacklist", Some(lists)),
    };
    json!({
        "applicationId": &*issued.session.namespace,
        "deviceId": issued.claims.sub,
        "deviceClass": match issued.session.class {
            DeviceClass::Gateway => "gateway",
            _ => "standalone",
        },
        "token": issued.token,
        "filterType": filter,
        "pubTopics": lists.map(|lists| lists.publish_for(id)).unwrap_or_default(),
        "subTopics": lists.map(|lists| lists.subscribe_for(id)).unwrap_or_default(),
    })
}

/// The parameters of a request for a token.
#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    #[serde(default)]
    device_id: String,
    scope: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Zeroizing<String>>,
}

pub(super) async fn oauth_token(
    State(api): State<Api>,
    client: Client,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return oauth(rejection.status(), "invalid_request"),
    };
    let Ok(asked) = serde_urlencoded::from_bytes::<TokenRequest>(&body) else {
        return oauth(StatusCode::BAD_REQUEST, "invalid_request");
    };
    if asked.grant_type != "client_credentials" {
        return oauth(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let scopes = asked.scope.iter().flat_map(|scope| scope.split(' '));
    let Some(scopes) = scopes::normal(scopes.filter(|scope| !scope.is_empty())) else {
        return oauth(StatusCode::BAD_REQUEST, "invalid_scope");
    };
    // What has no value counts as left out: RFC 6749, section 3.2.
    let in_body = (
        asked.client_id.filter(|key| !key.is_empty()),
        asked.client_secret.filter(|secret| !secret.is_empty()),
    );
    let (key, secret) = match (basic(&headers), in_body) {
        (Some(own), (None, None)) => own,
        (None, (Some(key), Some(secret))) => (key, secret),
        (None, _) => return oauth(StatusCode::UNAUTHORIZED, "invalid_client"),
        (Some(_), _) => return oauth(StatusCode::BAD_REQUEST, "invalid_request"),
    };
    let credentials = Credentials {
        device_id: &asked.device_id,
        key: &key,
        secret: &secret,
        source: client.0,
    };
    match api.issue(&credentials, DEFAULT_TTL, &scopes).await {
        Issued::Token(issued) => {
            let answer = json!({
                "access_token": issued.token,
                "token_type": "Bearer",
                "expires_in": issued.claims.exp - issued.claims.iat,
                "scope": issued.claims.scope,
            });
            json(StatusCode::OK, &answer)
        }
        Issued::Refused => oauth(StatusCode::UNAUTHORIZED, "invalid_client"),
        Issued::Later => soon(oauth(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
        )),
    }
}

/// User and password of HTTP Basic. RFC 6749 has both form-encoded inside, which changes no key and no
/// generated secret.
pub fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(Base64::decode_vec(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), Zeroizing::new(password.to_owned())))
}

pub(super) async fn jwks(State(api): State<Api>) -> Response {
    let keys = api.0.keyring.published();
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    kept(json!({ "keys": keys }).to_string())
}

/// RFC 8414.
pub(super) async fn metadata(State(api): State<Api>) -> Response {
    let issuer = &api.0.issuer;
    let base = issuer.trim_end_matches('/');
    let answer = json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/oauth/token"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": scopes::KNOWN,
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    });
    json(StatusCode::OK, &answer)
}

/// What becomes of the wish for a token.
enum Issued {
    Token(Box<IssuedToken>),
    Refused,
    Later,
}

struct IssuedToken {
    token: String,
    claims: Claims,
    session: Session,
    granted: Granted,
}

impl Api {
    async fn issue(&self, credentials: &Credentials<'_>, ttl: u32, scopes: &str) -> Issued {
        let Some(signer) = self.0.keyring.signer() else {
            return Issued::Later;
        };
        let authenticator = &self.0.authenticator;
        let session = match authenticator.authenticate(credentials).await {
            Decision::Allow(session) => session,
            Decision::Deny(_) => return Issued::Refused,
            Decision::Unavailable => return Issued::Later,
        };
        // It may have changed since.
        let Some(granted) = authenticator.granted(&session) else {
            return Issued::Refused;
        };
        let (Some(claims), session) = (self.claims_for(&session, &granted, ttl, scopes), session)
        else {
            return Issued::Later;
        };
        match signer.sign(&claims) {
            Ok(token) => Issued::Token(Box::new(IssuedToken {
                token,
                claims,
                session,
                granted,
            })),
            Err(error) => {
                tracing::error!("cannot sign a token: {error}");
                Issued::Later
            }
        }
    }

    fn claims_for(
        &self,
        session: &Session,
        granted: &Granted,
        ttl: u32,
        scopes: &str,
    ) -> Option<Claims> {
        let now = self.0.clock.wall().as_second();
        let ends = granted.ends.map_or(i64::MAX, |ends| ends.as_second());
        Some(Claims {
            iss: self.0.issuer.as_str().into(),
            aud: self.0.audience.as_str().into(),
            sub: self.0.authenticator.presented_id(session).into(),
            client_id: session.key.clone(),
            iat: now,
            exp: ends.min(now + i64::from(ttl)),
            jti: token::number().ok()?,
            scope: scopes.to_owned(),
            keyward: Named {
                namespace: session.namespace.clone(),
                device: session.device_id.clone(),
                verifier: granted.verifier,
            },
        })
    }
}
