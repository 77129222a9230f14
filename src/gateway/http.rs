//! The gateway's HTTP: for devices, and for those who accept connections from devices.
//!
//! Each listener serves the OpenAPI document of just what it answers, `/openapi.json`. The documents are
//! written by hand, since the handlers read and write JSON of their own; tests hold them against the
//! routes, and `tests/openapi.rs` against a gateway that runs.

mod address;
mod answers;
mod brokers;
mod device;
mod forward;
mod front_ends;
mod refusals;
mod scopes;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::Authenticator;
use super::keyring::Keyring;
use super::token::Claims;
use super::tokens::Read;
use crate::brokers::rabbitmq::Broker;
use crate::clock::Clock;
use crate::policy::{Decision, Reason, Session};

pub use device::basic;
pub use front_ends::FrontEnds;

/// Bytes of the largest body that is read.
const LARGEST_BODY: usize = 16 * 1024;

/// What is asked for, and by which methods.
type Paths = Vec<(&'static str, MethodRouter<Api>)>;

fn devices() -> Paths {
    vec![
        ("/auth/device", post(device::auth_device)),
        ("/oauth/token", post(device::oauth_token)),
        ("/.well-known/jwks.json", get(device::jwks)),
        (
            "/.well-known/oauth-authorization-server",
            get(device::metadata),
        ),
        (DOCUMENT, get(|| document(FOR_DEVICES))),
    ]
}

fn brokers() -> Paths {
    vec![
        ("/introspect", post(forward::introspect)),
        ("/forward-auth", any(forward::forward_auth)),
        ("/ext-authz", any(forward::forward_auth)),
        // A wildcard matches no empty path.
        ("/ext-authz/", any(forward::forward_auth)),
        ("/ext-authz/{*path}", any(forward::forward_auth)),
        ("/authorize", post(forward::authorize)),
        ("/rabbitmq/user", post(brokers::rabbitmq_user)),
        ("/rabbitmq/vhost", post(brokers::rabbitmq_vhost)),
        ("/rabbitmq/resource", post(brokers::rabbitmq_resource)),
        ("/rabbitmq/topic", post(brokers::rabbitmq_topic)),
        ("/goauth/user", post(brokers::goauth_user)),
        ("/goauth/acl", post(brokers::goauth_acl)),
        (DOCUMENT, get(|| document(FOR_BROKERS))),
    ]
}

/// Where a listener's document is. Devices get theirs without a secret: it is the same at every
/// gateway, and says nothing of this one.
const DOCUMENT: &str = "/openapi.json";

const FOR_DEVICES: &str = include_str!("http/devices.json");
const FOR_BROKERS: &str = include_str!("http/brokers.json");

async fn document(text: &'static str) -> Response {
    answers::kept(text)
}

/// What may be left out, but not be null.
fn given<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// What all endpoints share.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What an [`Api`] is made of.
pub struct Shared {
    /// Decides.
    pub authenticator: Authenticator,
    /// Signs tokens.
    pub keyring: Keyring,
    /// Who issues tokens: a URL.
    pub issuer: String,
    /// For whom tokens are.
    pub audience: String,
    /// Proxies whose word about a client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Tells the time to tokens.
    pub clock: Clock,
    /// RabbitMQ, where sessions are ended.
    pub rabbitmq: Option<Broker>,
}

impl Api {
    /// Of these parts.
    pub fn of(parts: Shared) -> Api {
        Api(Arc::new(parts))
    }

    /// What devices ask for.
    pub fn devices(&self) -> Router {
        self.router(devices())
            .layer(map_response(refusals::held_back))
    }

    /// What is asked by those who accept connections from devices.
    pub fn brokers(&self) -> Router {
        self.router(brokers())
    }

    /// The same, and `/forward-auth` sooner.
    pub fn front_ends(&self) -> FrontEnds {
        FrontEnds::before(self.brokers(), self.clone())
    }

    fn router(&self, paths: Paths) -> Router {
        let paths = paths.into_iter();
        paths
            .fold(Router::new(), |router, (path, methods)| {
                router.route(path, methods)
            })
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(self.clone())
    }

    /// What a token says, if it was issued here and has not ended.
    fn read(&self, token: &[u8]) -> Option<Arc<Read>> {
        let Shared {
            issuer, audience, ..
        } = &*self.0;
        let is_ours = |claims: &Claims| claims.are_for(issuer, audience);
        let read = self.0.keyring.read(token, is_ours)?;
        let has_ended = read.claims.have_ended(self.0.clock.wall());
        (!has_ended).then_some(read)
    }

    /// The session that a token stands for.
    fn session(&self, claims: &Claims, source: Option<std::net::IpAddr>) -> Decision<Session> {
        let named = super::Resumed {
            namespace: &claims.keyward.namespace,
            key: &claims.client_id,
            device_id: &claims.keyward.device,
            verifier: claims.keyward.verifier,
            source,
        };
        self.0.authenticator.resume(&named)
    }

    /// The same, of the token itself.
    fn bearer(
        &self,
        token: &[u8],
        source: Option<std::net::IpAddr>,
    ) -> Decision<(Session, Arc<Read>)> {
        let Some(read) = self.read(token) else {
            return match self.0.authenticator.is_ready() {
                true => Decision::Deny(Reason::Malformed),
                false => Decision::Unavailable,
            };
        };
        match self.session(&read.claims, source) {
            Decision::Allow(session) => Decision::Allow((session, read)),
            Decision::Deny(reason) => Decision::Deny(reason),
            Decision::Unavailable => Decision::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests;
