//! RabbitMQ: its HTTP backend (`rabbitmq_auth_backend_http`), which asks about devices that connect by MQTT.
//!
//! | RabbitMQ asks | here | of whom |
//! |---|---|---|
//! | `user` | may this device have a session? | client ID, key, secret |
//! | `vhost` | may it be in this virtual host? | client ID, key, and the tag that `user` gave |
//! | `resource` | may it use this queue, this exchange? | the same |
//! | `topic` | may it send to, or receive from, this routing key? | the same |
//!
//! A session carries the issue of the key that admitted it as a tag (`keyward-2`), so that what it asks for ends with that.
//! What it does not ask for again (it receives what it has subscribed to, and RabbitMQ remembers a dozen answers for as
//! long as a session is busy) ends with the session: see [`cutting`] and [`sent`], and [`queues`] for what outlives it.
//!
//! - RabbitMQ speaks of topics as AMQP does: `/` has become `.`, `+` has become `*`, and what was `.` or `*` before cannot
//!   be told from these. So is it delivered, too, and so it is judged: a `*` is a wildcard, and `a.b/c` is `a/b/c`.
//! - It does not ask again for a delivery: a wildcard over devices is only for keys that admit all.
//! - It does not say whether a message is retained.
//! - An empty client ID has become one that RabbitMQ made up, which looks as if a device might have it: so is refused who
//!   looks like that and was never named, neither by a Device nor by the restrictions of its key.
//! - A login by AMQP has no client ID, and is no device's.
//! - Only `vhost` tells the client's address, and only once the secret was checked: keys that are limited to some addresses
//!   are refused.

pub mod args;
pub mod certificates;
pub mod closing;
pub mod cutting;
pub mod judging;
pub mod management;
pub mod queues;
pub mod sent;
pub mod sessions;
pub mod since;
pub mod way;

use serde::Deserialize;
use zeroize::Zeroizing;

use self::management::Management;
use self::sent::Sent;
use crate::clock::Clock;
use crate::gateway::{Authenticator, Credentials};
use crate::policy::{Decision, Reason, Session};
use crate::topics::Action;

/// The only virtual host that devices may be in.
const VHOST: &str = "/";

/// Where MQTT messages go, and come from.
const EXCHANGE: &str = "amq.topic";

/// It asks nothing when it delivers.
const SUBSCRIBE: Action = Action::Subscribe {
    checks_deliveries: false,
};

/// It does not say what is retained.
const PUBLISH: Action = Action::Publish { retain: false };

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
}

/// RabbitMQ, where sessions can be ended.
#[derive(Clone)]
pub struct Broker {
    /// How.
    pub management: Management,
    /// What they may send to, as they were told.
    pub sent: Sent,
    clock: Clock,
}

impl Broker {
    /// Of which nobody has asked anything yet.
    pub fn new(management: Management, clock: Clock) -> Broker {
        Broker {
            management,
            sent: Sent::default(),
            clock,
        }
    }
}

/// May this device have a session? What it would inherit is looked at if there is a way to.
pub async fn user(authenticator: &Authenticator, broker: Option<&Broker>, asked: &User) -> Answer {
    let client_id = asked.client_id.as_deref().unwrap_or_default();
    let credentials = Credentials::new(client_id, &asked.username, &asked.password);
    let decision = match (authenticator.consider(&credentials).await, broker) {
        (Decision::Allow(session), _)
            if is_made_up(client_id) && !authenticator.is_named(&session) =>
        {
            Decision::Deny(Reason::Malformed)
        }
        (Decision::Allow(session), Some(broker)) => {
            queues::inherit(authenticator, &broker.management, client_id, session).await
        }
        (decision, _) => decision,
    };
    authenticator.told(&credentials, &decision);
    match decision {
        Decision::Allow(session) => Answer::Allow(Some(tag(&session))),
        Decision::Deny(_) => Answer::Deny,
        Decision::Unavailable => Answer::NotNow,
    }
}

/// May it be in this virtual host?
pub fn vhost(authenticator: &Authenticator, asked: &Vhost) -> Answer {
    asked.who.may(authenticator, None, asked.vhost == VHOST)
}

/// May it use this queue, or this exchange? What is sent and received there is asked about on its own.
pub fn resource(authenticator: &Authenticator, asked: &Resource) -> Answer {
    let client_id = asked.who.client_id.as_deref();
    let own = |id: &str| queues::of(id).contains(&asked.name);
    let is_its = match &*asked.resource {
        "queue" => client_id.is_some_and(own),
        "exchange" => asked.name == EXCHANGE,
        _ => false,
    };
    let is_ours = asked.vhost == VHOST && is_its;
    asked.who.may(authenticator, None, is_ours)
}

/// May it send to this routing key, or receive from it?
pub fn topic(authenticator: &Authenticator, broker: Option<&Broker>, asked: &Topic) -> Answer {
    let (key, client_id) = (&*asked.username, asked.client_id.as_deref());
    let client_id = client_id.unwrap_or_default();
    let action = match &*asked.permission {
        "read" => Some(SUBSCRIBE),
        "write" => Some(PUBLISH),
        _ => None,
    };
    let has_room = broker.is_none_or(|broker| broker.sent.has_room(key, client_id));
    let is_there = asked.vhost == VHOST && asked.name == EXCHANGE;
    let topic = mqtt(&asked.routing_key);
    let act = action.map(|action| (action, &*topic));
    let is_ours = is_there && has_room && action.is_some();
    let answer = asked.who().may(authenticator, act, is_ours);
    if let (Some(Action::Publish { .. }), Answer::Allow(_), Some(broker)) =
        (action, &answer, broker)
    {
        let now = broker.clock.coarse();
        broker.sent.may(key, client_id, &topic, now);
    }
    answer
}

impl Topic {
    fn who(&self) -> Who {
        Who {
            username: self.username.clone(),
            tags: self.tags.clone(),
            client_id: self.client_id.clone(),
        }
    }
}

impl Who {
    /// Decides, once, if there is such a thing here.
    fn may(
        &self,
        authenticator: &Authenticator,
        act: Option<(Action, &str)>,
        is_ours: bool,
    ) -> Answer {
        let session = self.session(authenticator).filter(|_| is_ours);
        let decision = match (session, act) {
            (Some(session), Some((action, topic))) => {
                authenticator.authorize(&session, action, topic)
            }
            (Some(session), None) => authenticator.stands(&session),
            (None, _) => {
                let client_id = self.client_id.as_deref().unwrap_or_default();
                authenticator.refuse_to_act(client_id, &self.username)
            }
        };
        match decision {
            Decision::Allow(()) => Answer::Allow(None),
            Decision::Deny(_) => Answer::Deny,
            Decision::Unavailable => Answer::NotNow,
        }
    }

    /// The session that `user` admitted, if it did.
    fn session(&self, authenticator: &Authenticator) -> Option<Session> {
        let mut tags = self.tags.split([' ', ',']);
        let revision = tags.find_map(|tag| tag.strip_prefix(TAG))?;
        let session = authenticator.session_of(self.client_id.as_deref()?, &self.username)?;
        Some(Session {
            revision: Some(revision.parse().ok()?),
            ..session
        })
    }
}

/// Whether RabbitMQ may have made up this ID, for a client that has none: 16 random bytes as base64url.
fn is_made_up(client_id: &str) -> bool {
    let is_one_of_four = client_id.ends_with(['A', 'Q', 'g', 'w']);
    client_id.len() == 22 && is_one_of_four
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
    fn an_id_that_was_made_up_is_known_by_its_looks() {
        assert!(is_made_up("-wFUi1TWEtOa3EG3WCNVWA"));
        assert!(!is_made_up("-wFUi1TWEtOa3EG3WCNVWB"));
        assert!(!is_made_up("-wFUi1TWEtOa3EG3WCNVA"));
        assert!(!is_made_up(""));
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
