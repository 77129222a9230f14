//! The sessions of devices, put together from what RabbitMQ lists.
//!
//! - Which connections there are, it knows at once; what they are, only some seconds later.
//! - Others than devices are connected, too, by MQTT or otherwise.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{mqtt, queues};

/// What RabbitMQ lists.
#[derive(Debug, Default)]
pub struct Lists {
    /// All connections: name and user.
    pub connections: Vec<Value>,
    /// What is known of them.
    pub details: Vec<Value>,
    /// Subscriptions.
    pub bindings: Vec<Value>,
}

/// A connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// What RabbitMQ calls it.
    pub name: String,
    /// The user, who may be a key.
    pub user: String,
    /// What it is.
    pub client: Client,
}

/// What a connection is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Client {
    /// It is too young for that to be known.
    Unknown,
    /// It speaks MQTT.
    Device {
        /// The client ID.
        id: String,
        /// When it was connected.
        since: Timestamp,
        /// What it has subscribed to.
        filters: Vec<String>,
    },
    /// It speaks something else.
    Other,
}

impl Lists {
    /// The connections, each once.
    pub fn connections(&self) -> Vec<Connection> {
        let mut bindings: HashMap<&str, Vec<String>> = HashMap::new();
        for binding in &self.bindings {
            if let (Some(queue), Some(routing_key)) =
                (text(&binding["destination"]), text(&binding["routing_key"]))
            {
                bindings.entry(queue).or_default().push(mqtt(routing_key));
            }
        }
        let details = self.details.iter();
        let details: HashMap<_, _> = details
            .filter_map(|details| Some((named(details)?, details)))
            .collect();
        let mut seen = HashSet::new();
        let connections = self.connections.iter().filter_map(named);
        connections
            .filter(|connection| seen.insert(*connection))
            .map(|(name, user)| Connection {
                name: name.to_owned(),
                user: user.to_owned(),
                client: details
                    .get(&(name, user))
                    .map_or(Client::Unknown, |details| client(details, &bindings)),
            })
            .collect()
    }
}

fn client(details: &Value, bindings: &HashMap<&str, Vec<String>>) -> Client {
    let Some(protocol) = text(&details["protocol"]) else {
        return Client::Unknown;
    };
    let id = text(&details["client_properties"]["client_id"]);
    let since = details["connected_at"].as_i64();
    let since = since.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    match (id, since) {
        // Also "Web MQTT 3.1.1".
        (Some(id), Some(since)) if protocol.contains("MQTT") => Client::Device {
            id: id.to_owned(),
            since,
            filters: queues::of(id)
                .iter()
                .flat_map(|queue| bindings.get(&**queue).into_iter().flatten().cloned())
                .collect(),
        },
        _ => Client::Other,
    }
}

fn named(connection: &Value) -> Option<(&str, &str)> {
    Some((text(&connection["name"])?, text(&connection["user"])?))
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn connections_are_what_their_details_say_once_there_are_any() {
        let mqtt = |name: &str, id: &str| {
            json!({
                "name": name, "user": "AK", "protocol": "MQTT 3.1.1", "connected_at": 1_000,
                "client_properties": { "client_id": id },
            })
        };
        let lists = Lists {
            connections: ["a", "b", "c", "d", "a"]
                .iter()
                .map(|name| json!({ "name": name, "user": "AK" }))
                .collect(),
            details: vec![
                mqtt("a", "pump-1"),
                json!({ "name": "b", "user": "AK", "protocol": "AMQP 0-9-1", "connected_at": 1_000,
                        "client_properties": { "client_id": "pump-2" } }),
                mqtt("gone", "pump-3"),
                json!({ "name": "c" }),
            ],
            bindings: vec![
                json!({ "destination": "mqtt-subscription-pump-1qos0", "routing_key": "devices.*.state" }),
                json!({ "destination": "mqtt-subscription-pump-1qos1", "routing_key": "#" }),
                json!({ "destination": "mqtt-subscription-pump-10qos1", "routing_key": "x" }),
            ],
        };
        let connection = |name: &str, client| Connection {
            name: name.to_owned(),
            user: "AK".to_owned(),
            client,
        };
        let device = Client::Device {
            id: "pump-1".to_owned(),
            since: Timestamp::from_second(1).expect("a time"),
            filters: vec!["devices/+/state".to_owned(), "#".to_owned()],
        };
        assert_eq!(
            lists.connections(),
            [
                connection("a", device),
                connection("b", Client::Other),
                connection("c", Client::Unknown),
                connection("d", Client::Unknown),
            ]
        );
    }
}
