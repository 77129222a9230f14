//! Connections to NATS, which come back by themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ServerAddr};
use thiserror::Error;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// An answer of a server that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct Way {
    /// The servers of a cluster, or one of them.
    pub urls: Vec<ServerAddr>,
    /// Authorities that have signed the servers' certificates, instead of those that the system knows.
    pub ca: Option<PathBuf>,
    /// A certificate, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Way {
    /// A connection as the user whose name and password are in this file, which is read each time it is made. One that
    /// cannot be made yet is tried again.
    /// None if it never can, which is logged.
    pub async fn connect(&self, whose: &'static str, login: &Path) -> Option<Client> {
        let file: Arc<Path> = login.into();
        let options = ConnectOptions::with_auth_callback(move |_| {
            let login = read(&file);
            async move {
                let Login { user, password } = login.map_err(AuthError::new)?;
                let mut auth = Auth::new();
                auth.username = Some(user);
                auth.password = Some(password.to_string());
                Ok(auth)
            }
        });
        let options = options
            .name(format!("keyward gateway: {whose}"))
            .require_tls(self.is_by_tls())
            .retry_on_initial_connect()
            .request_timeout(Some(PATIENCE))
            .reconnect_delay_callback(delay)
            .event_callback(move |event| async move { told(whose, &event) });
        let options = match &self.ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        };
        let options = match self.certificate.clone() {
            Some((certificate, key)) => options.add_client_certificate(certificate, key),
            None => options,
        };
        let connected = options.connect(&*self.urls).await;
        connected
            .inspect_err(|error| warn!("there is no way to NATS as {whose}: {error}"))
            .ok()
    }

    /// Otherwise whoever is between could say that there is no TLS, and be shown the password; and servers tell of others
    /// by addresses that say nothing of it.
    fn is_by_tls(&self) -> bool {
        let is_said = self.urls.iter().any(ServerAddr::tls_required);
        is_said || self.ca.is_some() || self.certificate.is_some()
    }
}

/// Soon, and then once a second.
fn delay(attempts: usize) -> Duration {
    let millis = 20_u64.saturating_mul(1 << attempts.min(10));
    Duration::from_millis(millis).min(Duration::from_secs(1))
}

fn told(whose: &str, event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS as {whose}"),
        Event::Disconnected => warn!("the connection to NATS as {whose} is lost"),
        Event::ServerError(error) => warn!("NATS says to {whose}: {error}"),
        Event::ClientError(error) => warn!("no connection to NATS as {whose}: {error}"),
        Event::SlowConsumer(_) => warn!("requests of NATS are lost: {whose} is too slow"),
        _ => {}
    }
}

struct Login {
    user: String,
    password: Zeroizing<String>,
}

fn read(file: &Path) -> Result<Login, UnreadableLogin> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| UnreadableLogin::File(file.to_owned(), error))?;
    let both = text.trim().split_once(':');
    let (user, password) = both.ok_or_else(|| UnreadableLogin::Shape(file.to_owned()))?;
    Ok(Login {
        user: user.to_owned(),
        password: Zeroizing::new(password.to_owned()),
    })
}

/// Whether there is a login.
///
/// # Errors
/// When there is none.
pub fn check_login(file: &Path) -> Result<(), UnreadableLogin> {
    read(file).map(drop)
}

/// Why there is no login.
#[derive(Debug, Error)]
pub enum UnreadableLogin {
    /// The file cannot be read.
    #[error("the NATS login file {0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// It holds something else.
    #[error("the NATS login file {0} has to hold USER:PASSWORD and nothing else")]
    Shape(PathBuf),
}
