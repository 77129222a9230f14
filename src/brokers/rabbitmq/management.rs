//! RabbitMQ's management API: what it takes to see sessions, and to end them. Its user needs the tag `administrator`, or
//! it may not close connections, and may configure `^mqtt-subscription-`, or it may not delete queues.

use std::sync::Arc;
use std::time::Duration;

use futures::try_join;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::sessions::Lists;
use super::way::{ManagementError, Way, encoded};

/// A device, or a session that is to end, waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked about all sessions, of which there may be many, takes no longer.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

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
        let details =
            "connections?columns=name,user,protocol,connected_at,client_properties.client_id";
        let bindings = "exchanges/%2F/amq.topic/bindings/source?columns=destination,routing_key";
        let (details, bindings) = try_join!(self.list(details), self.list(bindings))?;
        Ok(Lists {
            connections,
            details,
            bindings,
        })
    }

    /// The bindings of a queue; none if there is no such queue.
    ///
    /// # Errors
    /// When they were not told.
    pub async fn bindings_of(&self, queue: &str) -> Result<Vec<Binding>, ManagementError> {
        let path = format!("queues/%2F/{}/bindings", encoded(queue));
        self.one_or(Vec::new(), &path).await
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
