//! RabbitMQ: its HTTP backend (`rabbitmq_auth_backend_http`), which asks about devices that connect by MQTT.
//!
//! | RabbitMQ asks | here | of whom |
//! |---|---|---|
//! | `user` | may this device have a session? | client ID, key, secret |
//! | `vhost` | may it be in this virtual host? | client ID, key, and the tag that `user` gave |
//! | `resource` | may it use this queue, this exchange? | the same |
//! | `topic` | may it send to, or receive from, this routing key? | the same |
//!
//! A session carries the issue of the key that admitted it as a tag (`keyward-2`), so that it ends with that.
//!
//! - RabbitMQ speaks of topics as AMQP does: `/` has become `.`, `+` has become `*`, and what was `.` or `*` before cannot
//!   be told from these. So is it delivered, too, and so it is judged: a `*` is a wildcard, and `a.b/c` is `a/b/c`.
//! - It does not ask again for a delivery: a wildcard over devices is only for keys that admit all.
//! - It does not say whether a message is retained.
//! - A login by AMQP has no client ID, and is no device's.
//! - Only `vhost` tells the client's address, and only once the secret was checked: keys that are limited to some addresses
//!   are refused.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::gateway::{Authenticator, Credentials};
use crate::policy::{Decision, Reason, Session};
use crate::topics::Action;

/// The only virtual host that devices may be in.
const VHOST: &str = "/";

/// Where MQTT messages go, and come from.
const EXCHANGE: &str = "amq.topic";

/// Before the number of an issue.
const TAG: &str = "keyward-";

/// A login.
#[derive(Deserialize)]
pub struct User {
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    client_id: Option<String>,
}

/// To be in a virtual host.
#[derive(Debug, Deserialize)]
pub struct Vhost {
    #[serde(flatten)]
    who: Who,
    vhost: String,
}

/// To use a queue or an exchange.
#[derive(Debug, Deserialize)]
pub struct Resource {
    #[serde(flatten)]
    who: Who,
    vhost: String,
    resource: String,
    name: String,
}

/// To send to a routing key, or to receive from it.
#[derive(Debug, Deserialize)]
pub struct Topic {
    username: String,
    #[serde(default)]
    tags: String,
    #[serde(rename = "variable_map.client_id")]
    client_id: Option<String>,
    vhost: String,
    name: String,
    permission: String,
    routing_key: String,
}

/// A device that has logged in.
#[derive(Debug, Deserialize)]
struct Who {
    username: String,
    #[serde(default)]
    tags: String,
    client_id: Option<String>,
}

/// What RabbitMQ is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Yes; and these tags from now on.
    Allow(Option<String>),
    /// No.
    Deny,
    /// Nobody can tell.
    NotNow,
}

impl Answer {
    /// As RabbitMQ reads it, with the status 200; none if it has to be told otherwise that nobody can tell.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Allow(Some(tags)) => Some(format!("allow {tags}")),
            Self::Allow(None) => Some("allow".to_owned()),
            Self::Deny => Some("deny".to_owned()),
            Self::NotNow => None,
        }
    }

    fn of(decision: &Decision<()>) -> Answer {
        match decision {
            Decision::Allow(()) => Self::Allow(None),
            Decision::Deny(_) => Self::Deny,
            Decision::Unavailable => Self::NotNow,
        }
    }
}

/// May this device have a session?
pub async fn user(authenticator: &Authenticator, asked: &User) -> Answer {
    let credentials = Credentials::new(
        asked.client_id.as_deref().unwrap_or_default(),
        &asked.username,
        &asked.password,
    );
    match authenticator.authenticate(&credentials).await {
        Decision::Allow(session) => Answer::Allow(Some(tag(&session))),
        Decision::Deny(_) => Answer::Deny,
        Decision::Unavailable => Answer::NotNow,
    }
}

/// May it be in this virtual host?
pub fn vhost(authenticator: &Authenticator, asked: &Vhost) -> Answer {
    let is_ours = asked.vhost == VHOST;
    stands(
        authenticator,
        asked.who.session(authenticator).filter(|_| is_ours),
    )
}

/// May it use this queue, or this exchange? What is sent and received there is asked about on its own.
pub fn resource(authenticator: &Authenticator, asked: &Resource) -> Answer {
    let own = |id: &str| {
        let queue = asked.name.strip_prefix("mqtt-subscription-");
        let queue = queue.and_then(|queue| queue.strip_prefix(id));
        matches!(queue, Some("qos0" | "qos1"))
    };
    let is_its = match &*asked.resource {
        "queue" => asked.who.client_id.as_deref().is_some_and(own),
        "exchange" => asked.name == EXCHANGE,
        _ => false,
    };
    let is_ours = asked.vhost == VHOST && is_its;
    stands(
        authenticator,
        asked.who.session(authenticator).filter(|_| is_ours),
    )
}

/// May it send to this routing key, or receive from it?
pub fn topic(authenticator: &Authenticator, asked: &Topic) -> Answer {
    let session = session(
        authenticator,
        &asked.username,
        asked.client_id.as_deref(),
        &asked.tags,
    );
    let action = match &*asked.permission {
        "read" => Some(Action::Subscribe {
            checks_deliveries: false,
        }),
        "write" => Some(Action::Publish { retain: false }),
        _ => None,
    };
    let is_ours = asked.vhost == VHOST && asked.name == EXCHANGE;
    match (session, action) {
        (Some(session), Some(action)) if is_ours => {
            Answer::of(&authenticator.authorize(&session, action, &mqtt(&asked.routing_key)))
        }
        _ => Answer::Deny,
    }
}

fn stands(authenticator: &Authenticator, session: Option<Session>) -> Answer {
    match session {
        Some(session) => Answer::of(&authenticator.confirm(&session)),
        None => Answer::of(&Decision::Deny(Reason::Malformed)),
    }
}

impl Who {
    fn session(&self, authenticator: &Authenticator) -> Option<Session> {
        session(
            authenticator,
            &self.username,
            self.client_id.as_deref(),
            &self.tags,
        )
    }
}

/// The session that `user` admitted, if it did.
fn session(
    authenticator: &Authenticator,
    key: &str,
    device_id: Option<&str>,
    tags: &str,
) -> Option<Session> {
    let revision = tags
        .split([' ', ','])
        .find_map(|tag| tag.strip_prefix(TAG))?;
    let session = authenticator.session_of(device_id?, key)?;
    Some(Session {
        revision: Some(revision.parse().ok()?),
        ..session
    })
}

fn tag(session: &Session) -> String {
    let revision = session.revision.unwrap_or_default();
    format!("{TAG}{revision}")
}

/// The topic, or the filter, that a routing key stands for.
pub fn mqtt(routing_key: &str) -> String {
    let levels = routing_key.split('.');
    let levels = levels.map(|level| level.replace('*', "+"));
    levels.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_keys_are_topics() {
        let rows = [
            ("devices.pump-1.state", "devices/pump-1/state"),
            ("devices.*.state", "devices/+/state"),
            ("#", "#"),
            (".a..b", "/a//b"),
            ("a.b*c", "a/b+c"),
            ("", ""),
        ];
        for (routing_key, topic) in rows {
            assert_eq!(mqtt(routing_key), topic);
        }
    }

    #[test]
    fn answers_are_as_the_backend_reads_them() {
        let allowed = Answer::Allow(Some("keyward-3".to_owned()));
        assert_eq!(allowed.text().as_deref(), Some("allow keyward-3"));
        assert_eq!(Answer::Allow(None).text().as_deref(), Some("allow"));
        assert_eq!(Answer::Deny.text().as_deref(), Some("deny"));
        assert_eq!(Answer::NotNow.text(), None);
    }

    #[test]
    fn questions_are_read_as_they_are_sent() {
        let user: User =
            serde_urlencoded::from_str("username=AK&password=s&vhost=%2F&client_id=dev-1")
                .expect("a form");
        assert_eq!(
            (&*user.username, user.client_id.as_deref()),
            ("AK", Some("dev-1"))
        );
        let vhost = "username=AK&vhost=%2F&ip=127.0.0.1&tags=keyward-1&client_id=dev-1";
        let vhost: Vhost = serde_urlencoded::from_str(vhost).expect("a form");
        assert_eq!((&*vhost.vhost, &*vhost.who.tags), ("/", "keyward-1"));
        let topic = "username=AK&vhost=%2F&resource=topic&name=amq.topic&permission=read&tags=&routing_key=a.%2A\
                     &variable_map.client_id=dev-1&variable_map.username=AK&variable_map.vhost=%2F";
        let topic: Topic = serde_urlencoded::from_str(topic).expect("a form");
        assert_eq!(
            (&*topic.routing_key, topic.client_id.as_deref()),
            ("a.*", Some("dev-1"))
        );
    }
}
