//! RabbitMQ's management API: what it takes to see sessions, and to end them. Its user needs the tag `administrator`, or
//! it may not close connections, and may configure `^mqtt-subscription-`, or it may not delete queues.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream, try_join};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::sessions::Lists;
use super::way::{ManagementError, Way, encoded};
use super::{EXCHANGE, queues};

/// A device, or a session that is to end, waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked about all sessions, of which there may be many, takes no longer.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// Questions about single sessions that are asked at a time.
pub const AT_ONCE: usize = 8;

/// Of a connection, what is said of what it is.
const DETAILS: &str = "columns=name,user,protocol,connected_at,client_properties.client_id";

/// The API. Clones share its connections.
#[derive(Clone)]
pub struct Management(Arc<Way>);

/// What ties a queue to an exchange.
#[derive(Debug, Deserialize)]
pub struct Binding {
    /// The exchange.
    pub source: String,
    /// The routing key.
    pub routing_key: String,
}

#[derive(Deserialize)]
struct User {
    name: String,
}

impl Management {
    /// The API to which this is a way.
    pub fn at(way: Way) -> Management {
        Management(Arc::new(way))
    }

    /// Uses files anew that change. Never ends.
    pub async fn keep_up(&self) {
        self.0.keep_up().await;
    }

    /// All connections and subscriptions.
    ///
    /// # Errors
    /// When not all were told.
    pub async fn lists(&self) -> Result<Lists, ManagementError> {
        // First those that there are: of those that come meanwhile nothing is missed but what the next look shows.
        let connections = "connections?disable_stats=true&columns=name,user";
        let connections = self.list(connections).await?;
        let details = format!("connections?{DETAILS}");
        let bindings = "exchanges/%2F/amq.topic/bindings/source?columns=destination,routing_key";
        let (details, bindings) = try_join!(self.list(&details), self.list(bindings))?;
        Ok(Lists {
            connections,
            details,
            bindings,
        })
    }

    /// The connections of a user: name and user. This takes no longer if there are many others.
    ///
    /// # Errors
    /// When they were not told.
    pub async fn connections_of(&self, user: &str) -> Result<Vec<Value>, ManagementError> {
        let path = format!("connections/username/{}?columns=name,user", encoded(user));
        self.one_or(Vec::new(), &path).await
    }

    /// What is known of these connections, and their subscriptions if they matter.
    ///
    /// # Errors
    /// When that was not told.
    pub async fn lists_of(
        &self,
        connections: &[Value],
        with_bindings: bool,
    ) -> Result<Lists, ManagementError> {
        let names = connections.iter().filter_map(|one| one["name"].as_str());
        let details = stream::iter(names).map(async |name| {
            let path = format!("connections/{}?{DETAILS}", encoded(name));
            // There is nothing yet of a young one.
            self.one_or(Value::Null, &path).await
        });
        let details: Vec<Value> = details.buffer_unordered(AT_ONCE).try_collect().await?;
        let ids = details.iter().filter(|_| with_bindings);
        let ids = ids.filter_map(|one| one["client_properties"]["client_id"].as_str());
        let queues = stream::iter(ids.flat_map(queues::of));
        let bindings = queues.map(async |queue| self.tied_to(&queue).await);
        let bindings: Vec<Vec<Value>> = bindings.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut bindings = bindings.concat();
        bindings.retain(|binding| binding["source"] == EXCHANGE);
        Ok(Lists {
            connections: connections.to_vec(),
            details,
            bindings,
        })
    }

    /// The bindings of a queue; none if there is no such queue.
    ///
    /// # Errors
    /// When they were not told.
    pub async fn bindings_of(&self, queue: &str) -> Result<Vec<Binding>, ManagementError> {
        self.tied_to(queue).await
    }

    /// Users that RabbitMQ knows by itself.
    ///
    /// # Errors
    /// When they were not told.
    pub async fn users(&self) -> Result<Vec<String>, ManagementError> {
        let users: Vec<User> = self.list("users?columns=name").await?;
        Ok(users.into_iter().map(|user| user.name).collect())
    }

    /// Closes a connection. Whether there was one.
    ///
    /// # Errors
    /// When that was not confirmed.
    pub async fn close(&self, connection: &str, why: &str) -> Result<bool, ManagementError> {
        // Of a connection that is some seconds young there are no statistics, and it would not be found among these.
        let path = format!("connections/{}?disable_stats=true", encoded(connection));
        self.delete(&path, Some(why)).await
    }

    /// Deletes a queue, and all that waits there. Whether there was one.
    ///
    /// # Errors
    /// When that was not confirmed.
    pub async fn delete_queue(&self, queue: &str) -> Result<bool, ManagementError> {
        let path = format!("queues/%2F/{}", encoded(queue));
        self.delete(&path, None).await
    }

    async fn tied_to<T: DeserializeOwned>(&self, queue: &str) -> Result<Vec<T>, ManagementError> {
        let path = format!("queues/%2F/{}/bindings", encoded(queue));
        self.one_or(Vec::new(), &path).await
    }

    async fn delete(&self, path: &str, why: Option<&str>) -> Result<bool, ManagementError> {
        let asked = self.0.ask(Method::DELETE, path, why, PATIENCE);
        found(asked.await.map(drop)).map(|done| done.is_some())
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ManagementError> {
        read(&self.0.ask(Method::GET, path, None, LIST_PATIENCE).await?)
    }

    /// What is there, or this if nothing is.
    async fn one_or<T: DeserializeOwned>(&self, none: T, path: &str) -> Result<T, ManagementError> {
        let asked = self.0.ask(Method::GET, path, None, PATIENCE).await;
        match found(asked)? {
            Some(body) => read(&body),
            None => Ok(none),
        }
    }
}

/// The answer, if it is not that there is no such thing.
fn found<T>(answer: Result<T, ManagementError>) -> Result<Option<T>, ManagementError> {
    match answer {
        Err(ManagementError::Answer(StatusCode::NOT_FOUND)) => Ok(None),
        answer => answer.map(Some),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ManagementError> {
    serde_json::from_slice(body).map_err(|_| ManagementError::Unreadable)
}
