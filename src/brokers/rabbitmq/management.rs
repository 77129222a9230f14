//! RabbitMQ's management API: what it takes to see sessions, and to end them. Its user needs the tag `administrator`, or
//! it may not close connections, and may configure `^mqtt-subscription-`, or it may not delete queues.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use futures::try_join;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::sessions::Lists;
use crate::cause::innermost;

/// A device, or a session that is to end, waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked about all sessions, of which there may be many, takes no longer.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is not used is kept for so long, which is less than RabbitMQ keeps it.
const IDLE: Duration = Duration::from_secs(20);

/// Bytes of the longest list.
const LONGEST: usize = 256 << 20;

/// RabbitMQ logs why a connection was closed.
const REASON: &str = "x-reason";

/// Where the API is; and who asks, perhaps.
#[derive(Clone)]
pub struct Address(Zeroizing<String>);

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Address, Infallible> {
        Ok(Address(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

/// A way to the API. Clones share its connections.
#[derive(Clone)]
pub struct Management(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>,
    base: String,
    login: Login,
}

/// User and password, with a colon between.
enum Login {
    Given(Zeroizing<String>),
    /// Read whenever it is used.
    File(PathBuf),
}

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
    /// The API at this URL. User and password are in it, or in a file.
    ///
    /// # Errors
    /// When it is no such URL, or user and password are in neither or both.
    pub fn of(address: &Address, credentials: Option<PathBuf>) -> Result<Management, SetUpError> {
        let uri: Uri = address.0.parse().map_err(|_| SetUpError::Url)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(SetUpError::Url);
        };
        if !matches!(scheme, "http" | "https") || uri.query().is_some() {
            return Err(SetUpError::Url);
        }
        let (given, host) = match authority.as_str().rsplit_once('@') {
            Some((given, host)) => (Some(decoded(given).ok_or(SetUpError::Url)?), host),
            None => (None, authority.as_str()),
        };
        let login = match (given, credentials) {
            (Some(given), None) if is_login(&given) => Login::Given(given),
            (None, Some(file)) => Login::File(file),
            _ => return Err(SetUpError::Credentials),
        };
        login.read().map_err(SetUpError::Unusable)?;
        let path = uri.path().trim_end_matches('/');
        Ok(Management(Arc::new(Inner {
            client: client(scheme == "https").map_err(SetUpError::Tls)?,
            base: format!("{scheme}://{host}{path}/api"),
            login,
        })))
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
        match self.ask(Method::GET, &path, None, PATIENCE).await {
            Ok(bindings) => read(&bindings),
            Err(ManagementError::Answer(StatusCode::NOT_FOUND)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
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
        match self.ask(Method::DELETE, path, why, PATIENCE).await {
            Ok(_) => Ok(true),
            Err(ManagementError::Answer(StatusCode::NOT_FOUND)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ManagementError> {
        read(&self.ask(Method::GET, path, None, LIST_PATIENCE).await?)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        why: Option<&str>,
        patience: Duration,
    ) -> Result<bytes::Bytes, ManagementError> {
        let Inner {
            client,
            base,
            login,
        } = &*self.0;
        let request = Request::builder()
            .method(method)
            .uri(format!("{base}/{path}"))
            .header(AUTHORIZATION, login.header()?);
        let request = match why {
            Some(why) => request.header(REASON, why),
            None => request,
        };
        let request = request.body(Empty::new());
        let request = request.map_err(|error| ManagementError::Failed(error.to_string()))?;
        let answered = async {
            let answer = client.request(request).await;
            let answer = answer.map_err(|error| ManagementError::failed(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| ManagementError::failed(&*error))?;
            match status.is_success() {
                true => Ok(body.to_bytes()),
                false => Err(ManagementError::Answer(status)),
            }
        };
        timeout(patience, answered)
            .await
            .unwrap_or(Err(ManagementError::Late(patience.as_secs())))
    }
}

impl Login {
    fn read(&self) -> Result<Zeroizing<String>, ManagementError> {
        let file = match self {
            Self::Given(login) => return Ok(login.clone()),
            Self::File(file) => file,
        };
        let unusable = |cause: String| ManagementError::Credentials {
            file: file.clone(),
            cause,
        };
        let text = std::fs::read_to_string(file).map(Zeroizing::new);
        let text = text.map_err(|error| unusable(error.to_string()))?;
        let login = text.trim_end_matches(['\r', '\n']);
        match is_login(login) {
            true => Ok(Zeroizing::new(login.to_owned())),
            false => Err(unusable("it must hold one line, USER:PASSWORD".to_owned())),
        }
    }

    fn header(&self) -> Result<HeaderValue, ManagementError> {
        let login = self.read()?;
        let basic = format!("Basic {}", Base64::encode_string(login.as_bytes()));
        let header = HeaderValue::try_from(basic);
        let mut header = header.map_err(|error| ManagementError::Failed(error.to_string()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

fn client(
    is_secure: bool,
) -> Result<Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| error.to_string())?;
    let tls = match is_secure {
        true => tls.with_native_roots().map_err(|error| error.to_string())?,
        false => tls.with_root_certificates(RootCertStore::empty()),
    };
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector))
}

fn is_login(text: &str) -> bool {
    text.contains(':') && !text.contains(['\r', '\n'])
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

fn decoded(login: &str) -> Option<Zeroizing<String>> {
    let text = percent_decode_str(login).decode_utf8().ok()?;
    Some(Zeroizing::new(text.into_owned()))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ManagementError> {
    serde_json::from_slice(body).map_err(|_| ManagementError::Unreadable)
}

/// Why the API cannot be used.
#[derive(Debug, Error)]
pub enum SetUpError {
    /// What is there is no URL of it.
    #[error(
        "--rabbitmq-url must be the URL of RabbitMQ's management API, such as http://127.0.0.1:15672"
    )]
    Url,
    /// Nothing says who asks, or too much does.
    #[error(
        "--rabbitmq-url needs a user and a password: in a file, --rabbitmq-credentials, or in the URL, not in both"
    )]
    Credentials,
    /// The file cannot be used.
    #[error(transparent)]
    Unusable(ManagementError),
    /// TLS cannot be spoken.
    #[error("--rabbitmq-url cannot be asked by https: {0}")]
    Tls(String),
}

/// Why something was not told, or done.
#[derive(Debug, Error)]
pub enum ManagementError {
    /// Who asks cannot be read.
    #[error("cannot use {} (--rabbitmq-credentials): {cause}", file.display())]
    Credentials {
        /// Where it stands.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// RabbitMQ was not reached.
    #[error("RabbitMQ's management API (--rabbitmq-url) cannot be asked: {0}")]
    Failed(String),
    /// It took too long.
    #[error("RabbitMQ's management API (--rabbitmq-url) did not answer within {0} s")]
    Late(u64),
    /// It refused.
    #[error("RabbitMQ's management API (--rabbitmq-url) answered {0}{hint}", hint = hint(*.0))]
    Answer(StatusCode),
    /// It said something else.
    #[error("RabbitMQ's management API (--rabbitmq-url) answered what cannot be read")]
    Unreadable,
}

impl ManagementError {
    fn failed(error: &(dyn std::error::Error + 'static)) -> ManagementError {
        ManagementError::Failed(innermost(error))
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": its user needs the right password, the tag administrator, and to be allowed to configure ^mqtt-subscription-"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_perhaps_who() {
        let of = |url: &str| Management::of(&url.parse().expect("a text"), None);
        let management = of("http://a:p%3Aq@host:15672/prefix/").expect("a URL");
        assert_eq!(management.0.base, "http://host:15672/prefix/api");
        let header = management.0.login.header().expect("a header");
        assert_eq!(header, "Basic YTpwOnE=");
        assert!(header.is_sensitive());
        for wrong in ["host:15672", "/x", "ftp://a:b@host", "http://a:b@host/?x"] {
            assert!(matches!(of(wrong), Err(SetUpError::Url)), "{wrong}");
        }
        assert!(matches!(of("http://host"), Err(SetUpError::Credentials)));
        assert!(matches!(of("http://a@host"), Err(SetUpError::Credentials)));
    }

    #[test]
    fn names_are_parts_of_a_path() {
        assert_eq!(
            encoded("[::1]:5 -> a/b"),
            "%5B%3A%3A1%5D%3A5%20%2D%3E%20a%2Fb"
        );
    }
}
