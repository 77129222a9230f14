//! The admin listener: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` says that the process answers, and no more. It is answered by the same runtime that does
//! the work, so a runtime that is stuck fails it and is restarted. An API server that is away does
//! not: a restart would not bring it back, and would lose what the process has in hand.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tracing::info;

use crate::listener::{self, BindError};

/// Opens the admin listener; port 0 takes a free one. The address in use is logged, and written to
/// `address_file` if there is one.
///
/// # Errors
/// When the address cannot be listened on, or the file not be written.
pub async fn listen(
    address: SocketAddr,
    address_file: Option<&Path>,
) -> Result<TcpListener, ListenError> {
    let (listener, admin) = listener::bind(address, "--admin-listen").await?;
    let addresses = Addresses {
        devices: None,
        brokers: None,
        admin,
    };
    addresses.tell(address_file)?;
    Ok(listener)
}

/// Answers until `shutdown` resolves. What is being answered then is cut off: it is a probe or a
/// scrape, and neither may hold up the end of the process.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    registry: Registry,
    shutdown: impl Future<Output = ()>,
) {
    let routes = Router::new()
        .route("/livez", get("ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(Arc::new(registry)));
    tokio::select! {
        served = axum::serve(listener, routes) => if let Err(error) = served {
            tracing::error!("the admin listener failed: {error}");
        },
        () = shutdown => {}
    }
}

/// Why the admin listener cannot be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address is in use, say.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address file cannot be written.
    #[error(transparent)]
    AddressFile(#[from] AddressFileError),
}

/// Why the addresses cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {} (--address-file): {cause}", file.display())]
pub struct AddressFileError {
    file: PathBuf,
    cause: io::Error,
}

/// What has to happen before the process is ready; clones are the same list. Name it all before
/// [`serve`]: with nothing on the list, the process is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<Flag>>>);

impl Readiness {
    /// Puts `what` on the list, in words that complete "waiting until ...".
    pub fn waits_for(&self, what: &'static str) -> Flag {
        let flag = Flag {
            what,
            is_set: Arc::default(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(flag.clone());
        flag
    }

    /// What is still missing, in the order it was named.
    pub fn missing(&self) -> Vec<&'static str> {
        let flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = flags.iter().filter(|flag| !flag.is_set());
        unset.map(|flag| flag.what).collect()
    }
}

/// Shows whether a process is ready as a metric, `keyward_ready{part}`.
#[derive(Debug)]
pub struct Ready {
    /// Which part of Keyward it is.
    pub part: &'static str,
    /// What it waits for.
    pub readiness: Readiness,
}

impl Collector for Ready {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let ready = ConstGauge::new(u64::from(self.readiness.missing().is_empty()));
        let mut to = encoder.encode_descriptor(
            "ready",
            "1 if the process is ready, and 0 before it knows all that it has to know",
            None,
            ready.metric_type(),
        )?;
        ready.encode(to.encode_family(&[("part", self.part)])?)
    }
}

/// One thing that [`Readiness`] waits for.
#[derive(Clone, Debug)]
pub struct Flag {
    what: &'static str,
    is_set: Arc<AtomicBool>,
}

impl Flag {
    /// It has happened.
    pub fn set(&self) {
        self.is_set.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }
}

/// The addresses that the process listens on.
#[derive(Debug, Serialize)]
pub struct Addresses {
    /// For devices, where there is such a listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<SocketAddr>,
    /// For brokers, proxies and services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brokers: Option<SocketAddr>,
    /// For probes and metrics.
    pub admin: SocketAddr,
}

impl Addresses {
    /// Logs them, and writes them to `file` if there is one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tell(&self, file: Option<&Path>) -> Result<(), AddressFileError> {
        if let Some(devices) = self.devices {
            info!(address = %devices, "devices listener: /auth/device, /oauth/token, /.well-known");
        }
        if let Some(brokers) = self.brokers {
            info!(address = %brokers, "brokers listener: /forward-auth, /ext-authz, /authorize, /introspect");
        }
        info!(address = %self.admin, "admin listener: /livez, /readyz, /metrics");
        let Some(file) = file else { return Ok(()) };
        self.replace(file).map_err(|cause| AddressFileError {
            file: file.to_owned(),
            cause,
        })
    }

    /// Whoever waits for the file to appear never reads half of it.
    fn replace(&self, file: &Path) -> io::Result<()> {
        let mut draft = file.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        std::fs::File::create(&draft)?.write_all(&json)?;
        std::fs::rename(&draft, file)
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let sentence = format!("Not ready: waiting until {}.\n", missing.join(" and "));
    (StatusCode::SERVICE_UNAVAILABLE, sentence)
}

/// In OpenMetrics for whoever asks for it, as Prometheus does, and otherwise in the older format that everything reads.
async fn metrics(
    State(registry): State<Arc<Registry>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, StatusCode> {
    const OPEN_METRICS: &str = "application/openmetrics-text";
    let accepted = headers.get_all(ACCEPT).iter();
    let mut accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    let is_open = accepted.any(|accepted| accepted.contains(OPEN_METRICS));
    // Beside the runtime's threads: where there are very many keys, they take a while to count.
    let encoded = spawn_blocking(move || {
        let mut text = String::new();
        let encoded = match is_open {
            true => text::encode(&mut text, &registry),
            false => prometheus_text::encode(&mut text, &registry),
        };
        encoded.map(|()| text)
    });
    let encoded = encoded.await.ok().and_then(Result::ok);
    let text = encoded.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let type_ = match is_open {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => prometheus_text::CONTENT_TYPE,
    };
    Ok(([(CONTENT_TYPE, type_)], text))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::metrics::Metrics;
    use crate::shutdown::Shutdown;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn not_ready_until_everything_named_has_happened() {
        let readiness = Readiness::default();
        let keys = readiness.waits_for("AccessKeys are listed");
        let devices = readiness.waits_for("Devices are listed");
        let (address, _trigger) = start(readiness).await;

        let both = "Not ready: waiting until AccessKeys are listed and Devices are listed.";
        assert!(ask(address, "/readyz").await.contains(both));
        keys.set();
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("waiting until Devices are listed."));
        devices.set();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn alive_and_measured_before_it_is_ready() {
        let readiness = Readiness::default();
        let _never = readiness.waits_for("the end of time comes");
        let (address, _trigger) = start(readiness).await;

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4"));
        assert!(answer.contains("\nkeyward_hashes_total 0\n"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_are_in_open_metrics_for_whoever_asks_for_it() {
        let (address, _trigger) = start(Readiness::default()).await;
        // As Prometheus does.
        let accept =
            "accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4\r\n";
        let answer = ask_with(address, "/metrics", accept).await;
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(
            answer.contains("\n# TYPE keyward_hashes counter\n"),
            "{answer}"
        );
        assert!(answer.trim_end().ends_with("# EOF"));
    }

    #[test]
    fn a_metric_says_whether_the_process_is_ready() {
        let readiness = Readiness::default();
        let keys = readiness.waits_for("AccessKeys are listed");
        let mut registry = Registry::with_prefix("keyward");
        let ready = Ready {
            part: "controller",
            readiness,
        };
        registry.register_collector(Box::new(ready));
        let shows = |line: &str| {
            let mut text = String::new();
            prometheus_text::encode(&mut text, &registry).unwrap();
            text.ends_with(line)
        };
        assert!(shows("\nkeyward_ready{part=\"controller\"} 0\n"));
        keys.set();
        assert!(shows("\nkeyward_ready{part=\"controller\"} 1\n"));
    }

    #[tokio::test]
    async fn ends_although_a_client_stays_connected() {
        let (listener, (trigger, shutdown)) =
            (listen(ANY, None).await.unwrap(), Shutdown::manual());
        let address = listener.local_addr().unwrap();
        let (_, registry) = Metrics::new();
        let served = tokio::spawn(serve(listener, Readiness::default(), registry, shutdown));
        let _idle = TcpStream::connect(address).await.unwrap();
        trigger.pull();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = listen(ANY, None).await.unwrap();
        let taken = first.local_addr().unwrap();
        let error = listen(taken, None).await.unwrap_err().to_string();
        let beginning = format!("cannot listen on {taken} (--admin-listen): ");
        assert!(error.starts_with(&beginning), "{error}");
    }

    #[tokio::test]
    async fn the_address_in_use_is_written_to_a_file() {
        let folder = std::env::temp_dir().join(format!("keyward-admin-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("addresses.json");
        let listener = listen(ANY, Some(&file)).await.unwrap();

        let text = std::fs::read_to_string(&file).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(text, format!("{{\"admin\":\"{address}\"}}\n"));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);

        let nowhere = folder.join("missing/addresses.json");
        let error = listen(ANY, Some(&nowhere)).await.unwrap_err().to_string();
        assert!(
            error.contains("missing/addresses.json (--address-file)"),
            "{error}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    async fn start(readiness: Readiness) -> (SocketAddr, crate::shutdown::Trigger) {
        let listener = listen(ANY, None).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = Shutdown::manual();
        let (_, registry) = Metrics::new();
        tokio::spawn(serve(listener, readiness, registry, shutdown));
        (address, trigger)
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        ask_with(address, path, "").await
    }

    async fn ask_with(address: SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
