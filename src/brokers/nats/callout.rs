//! What a server asks of each client that connects, and what it is told.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::jwt::{self, Issued};
use super::nkey::Signer;
use super::sessions::Connection;
use super::subjects::Permissions;
use crate::gateway::Credentials;

/// Who is it?
#[derive(Deserialize)]
pub struct Request {
    iss: String,
    sub: String,
    aud: String,
    nats: Asked,
}

#[derive(Deserialize)]
struct Asked {
    server_id: Server,
    user_nkey: String,
    client_info: Client,
    connect_opts: Shown,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Client {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    host: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "type")]
    protocol: String,
    #[serde(default)]
    mqtt_id: String,
}

/// The server says the password of an MQTT client once more, as a token.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    user: String,
    #[serde(default)]
    pass: Zeroizing<String>,
}

impl Issued for Request {
    fn issuer(&self) -> &str {
        &self.iss
    }
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// MQTT; its client ID is its device ID.
    Mqtt,
    /// NATS's own; the name of the connection is its device ID.
    Nats,
}

impl Protocol {
    fn connection_types(self) -> [&'static str; 2] {
        match self {
            Protocol::Mqtt => ["MQTT", "MQTT_WS"],
            Protocol::Nats => ["STANDARD", "WEBSOCKET"],
        }
    }
}

impl Request {
    /// Whether it comes from the server that it names, and is for this account.
    pub fn is_for(&self, account: &str) -> bool {
        self.aud == "nats-authorization-request"
            && self.sub == account
            && self.iss == self.nats.server_id.id
    }

    /// The server.
    pub fn server(&self) -> &str {
        &self.nats.server_id.id
    }

    /// What the client speaks; none if it is no client, but another server.
    pub fn protocol(&self) -> Option<Protocol> {
        let client = &self.nats.client_info;
        match (&*client.kind, &*client.protocol) {
            ("Client", "mqtt") => Some(Protocol::Mqtt),
            ("Client", "nats" | "websocket") => Some(Protocol::Nats),
            _ => None,
        }
    }

    /// As the server will list the client, if it is told this name.
    pub fn connection(&self, name: String) -> Connection {
        let client = &self.nats.client_info;
        Connection::of(client.id, &client.host, name)
    }

    /// What it shows.
    pub fn credentials(&self) -> Credentials<'_> {
        let Asked {
            client_info: client,
            connect_opts: shown,
            ..
        } = &self.nats;
        Credentials {
            device_id: match self.protocol() {
                Some(Protocol::Mqtt) => &client.mqtt_id,
                Some(Protocol::Nats) | None => &client.name,
            },
            key: &shown.user,
            secret: &shown.pass,
            source: client.host.parse::<IpAddr>().ok(),
        }
    }

    /// Whether the client ID looks like those that the server makes up for MQTT clients which have none.
    pub fn is_made_up(&self) -> bool {
        let id = &self.nats.client_info.mqtt_id;
        id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

/// Who a client is, and what it may.
pub struct User<'a> {
    /// Under this name the server lists it.
    pub name: String,
    /// The account that it is placed in.
    pub account: &'a str,
    /// What it speaks.
    pub protocol: Protocol,
    /// What it may.
    pub permissions: &'a Permissions,
    /// When it ends, in seconds since 1970.
    pub ends: Option<i64>,
}

/// The same for whatever reason.
const REFUSED: &str = "refused";

#[derive(Serialize)]
struct Claims<'a, T> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    nats: T,
}

#[derive(Serialize)]
struct Rights<'a> {
    r#type: &'static str,
    version: u8,
    #[serde(flatten)]
    permissions: &'a Permissions,
    subs: i64,
    data: i64,
    payload: i64,
    allowed_connection_types: [&'static str; 2],
}

#[derive(Serialize)]
struct Response<'a> {
    r#type: &'static str,
    version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// Tells the server who the client is, or that it is refused. `now` is in seconds since 1970.
pub fn answer(signer: &Signer, request: &Request, user: Option<&User<'_>>, now: i64) -> String {
    let subject = &*request.nats.user_nkey;
    let jwt = user.map(|user| {
        let rights = Rights {
            r#type: "user",
            version: 2,
            permissions: user.permissions,
            // No limit.
            subs: -1,
            data: -1,
            payload: -1,
            allowed_connection_types: user.protocol.connection_types(),
        };
        let claims = Claims {
            iss: &signer.public,
            sub: subject,
            aud: user.account,
            name: Some(&user.name),
            iat: now,
            exp: user.ends,
            nats: rights,
        };
        jwt::sign(signer, &claims)
    });
    let response = Response {
        r#type: "authorization_response",
        version: 2,
        jwt: jwt.as_deref(),
        error: jwt.is_none().then_some(REFUSED),
    };
    let claims = Claims {
        iss: &signer.public,
        sub: subject,
        aud: request.server(),
        name: None,
        iat: now,
        exp: None,
        nats: response,
    };
    jwt::sign(signer, &claims)
}
