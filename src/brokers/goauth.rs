//! The HTTP contract of mosquitto-go-auth, which others speak, too (amqtt's `contrib.http`): may this client connect, may
//! it do this with a topic?
//!
//! Every question names the client; none says by which issue of its key it was admitted, nor from where it comes. So a
//! session lasts as long as any secret of the key does, and keys that are limited to some addresses are refused.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::gateway::{Authenticator, Credentials};
use crate::policy::Decision;
use crate::topics::Action;

/// A login.
#[derive(Deserialize)]
pub struct User {
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    #[serde(default, alias = "client_id")]
    clientid: String,
}

/// Something that a client wants to do with a topic.
#[derive(Debug, Deserialize)]
pub struct Acl {
    username: String,
    #[serde(default, alias = "client_id")]
    clientid: String,
    topic: String,
    acc: u8,
}

/// May this client connect?
pub async fn user(authenticator: &Authenticator, asked: &User) -> Decision<()> {
    let credentials = Credentials::new(&asked.clientid, &asked.username, &asked.password);
    match authenticator.authenticate(&credentials).await {
        Decision::Allow(_) => Decision::Allow(()),
        Decision::Deny(reason) => Decision::Deny(reason),
        Decision::Unavailable => Decision::Unavailable,
    }
}

/// May it do this with the topic?
pub fn acl(authenticator: &Authenticator, asked: &Acl) -> Decision<()> {
    let session = authenticator.session_of(&asked.clientid, &asked.username);
    match (session, action(asked.acc)) {
        (Some(session), Some(action)) => authenticator.authorize(&session, action, &asked.topic),
        _ => authenticator.refuse_to_act(&asked.clientid, &asked.username),
    }
}

/// mosquitto's numbers. It is asked for each delivery.
fn action(access: u8) -> Option<Action> {
    match access {
        1 => Some(Action::Receive),
        2 => Some(Action::Publish { retain: false }),
        4 => Some(Action::Subscribe {
            checks_deliveries: true,
        }),
        _ => None,
    }
}
