//! A way to RabbitMQ's management API: where it is, who asks, and how it is asked.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::certificates::Certificates;
use crate::cause::innermost;
use crate::tls::TlsError;
use crate::tls::kept::Kept;

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

/// How to ask.
pub struct Way {
    client: Kept<Option<Certificates>>,
    base: String,
    login: Login,
}

/// Has connections.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// User and password, with a colon between.
enum Login {
    Given(Zeroizing<String>),
    /// Read whenever it is used.
    File(PathBuf),
}

impl Way {
    /// The way to this URL. User and password are in it, or in a file.
    ///
    /// # Errors
    /// When it is no such URL, user and password are in neither or both, or certificates cannot be used.
    pub fn to(
        address: &Address,
        credentials: Option<PathBuf>,
        certificates: Certificates,
    ) -> Result<Way, SetUpError> {
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
        let is_secure = scheme == "https";
        if !is_secure && certificates != Certificates::default() {
            return Err(SetUpError::Certificates);
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Way {
            client: Kept::of(is_secure.then_some(certificates))?,
            base: format!("{scheme}://{host}{path}/api"),
            login,
        })
    }

    /// Uses certificates anew when they change. Never ends.
    pub async fn keep_up(&self) {
        self.client.keep_up().await;
    }

    /// Asks for what is at a path, or has it done, and gives the answer if it is a good one.
    ///
    /// # Errors
    /// When it is not, or there is none within `patience`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        why: Option<&str>,
        patience: Duration,
    ) -> Result<Bytes, ManagementError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.base))
            .header(AUTHORIZATION, self.login.header()?);
        let request = match why {
            Some(why) => request.header(REASON, why),
            None => request,
        };
        let request = request.body(Empty::new());
        let request = request.map_err(|error| ManagementError::Failed(error.to_string()))?;
        let client = self.client.made();
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

/// A client that speaks TLS so.
pub fn client(tls: ClientConfig) -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

/// As a part of a path.
pub fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

fn decoded(login: &str) -> Option<Zeroizing<String>> {
    let text = percent_decode_str(login).decode_utf8().ok()?;
    Some(Zeroizing::new(text.into_owned()))
}

fn is_login(text: &str) -> bool {
    text.contains(':') && !text.contains(['\r', '\n'])
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
    /// They would be of no use.
    #[error("--rabbitmq-url must begin with https for --rabbitmq-ca and --rabbitmq-cert")]
    Certificates,
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
        let with =
            |url: &str, certificates| Way::to(&url.parse().expect("a text"), None, certificates);
        let to = |url: &str| with(url, Certificates::default());
        let way = to("http://a:p%3Aq@host:15672/prefix/").expect("a URL");
        assert_eq!(way.base, "http://host:15672/prefix/api");
        let header = way.login.header().expect("a header");
        assert_eq!(header, "Basic YTpwOnE=");
        assert!(header.is_sensitive());
        for wrong in ["host:15672", "/x", "ftp://a:b@host", "http://a:b@host/?x"] {
            assert!(matches!(to(wrong), Err(SetUpError::Url)), "{wrong}");
        }
        assert!(matches!(to("http://host"), Err(SetUpError::Credentials)));
        assert!(matches!(to("http://a@host"), Err(SetUpError::Credentials)));
        let named = Certificates {
            ca: Some("ca.pem".into()),
            own: None,
        };
        let plain = with("http://a:b@host", named.clone());
        assert!(matches!(plain, Err(SetUpError::Certificates)));
        let missing = with("https://a:b@host", named);
        assert!(matches!(missing, Err(SetUpError::Tls(_))));
    }

    #[test]
    fn names_are_parts_of_a_path() {
        assert_eq!(
            encoded("[::1]:5 -> a/b"),
            "%5B%3A%3A1%5D%3A5%20%2D%3E%20a%2Fb"
        );
    }
}
