//! The thread that keeps up with the API server, holds the sessions against what is known, and serves metrics.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use keyward::admin::{self, Readiness};
use keyward::brokers::mosquitto::{Adapter, Connected};
use keyward::clock::Clock;
use keyward::gateway::audit::Audit;
use keyward::gateway::metrics::{self, Metrics};
use keyward::gateway::{Authenticator, Options, feed};
use keyward::key::EntropyError;
use keyward::listener::{self, BindError};
use keyward::telemetry::TelemetryError;
use keyward::topics::InvalidRoot;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tracing::info;

use crate::settings::{InvalidOption, Settings};

/// The thread, until it is [ended](Worker::end).
pub struct Worker {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Why the plugin did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// The level of the log is none.
    #[error("mosquitto.conf: plugin_opt_log_level: {0}")]
    Log(#[from] TelemetryError),
    /// The topic root would mix namespaces.
    #[error("mosquitto.conf: plugin_opt_topic_root cannot be used: {0}")]
    Root(#[from] InvalidRoot),
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] feed::ConnectError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Nothing random is to be had.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The system starts no thread.
    #[error("the system starts no thread for keyward: {0}")]
    Thread(#[from] io::Error),
}

impl Worker {
    /// Starts it, and gives the adapter that it feeds.
    ///
    /// # Errors
    /// When it cannot: one sentence that says what to change.
    pub fn start(settings: Settings) -> Result<(Arc<Adapter>, Worker), StartError> {
        // Whichever TLS connection came first would panic without it. It fails if one is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let options = Options {
            requires_registration: settings.requires_registration,
            staleness: settings.staleness,
            ..Options::of(&settings.namespaces, settings.root.clone())?
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(feed::connect())?;
        let admin = settings
            .admin
            .map(|address| runtime.block_on(listener::bind(address, "plugin_opt_admin_listen")));
        let admin = admin.transpose()?;
        let audit = settings.audit.then(Audit::to_standard_output);
        let authenticator =
            Authenticator::new(options, clock.clone(), metrics.clone())?.audited(audit);
        let adapter = Arc::new(Adapter::new(
            authenticator.clone(),
            clock,
            &settings.made_up,
        ));
        let work = Work {
            settings,
            client,
            admin: admin.map(|(listener, _)| listener),
            authenticator,
            adapter: Arc::clone(&adapter),
            metrics,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("keyward".to_owned());
        let thread = thread.spawn(move || work.run(&runtime, stopped))?;
        Ok((adapter, Worker { stop, thread }))
    }

    /// Ends the thread.
    pub fn end(self) {
        // It is not there any more, or has panicked, which it has logged.
        self.stop.send(()).ok();
        self.thread.join().ok();
    }
}

struct Work {
    settings: Settings,
    client: feed::Client,
    admin: Option<TcpListener>,
    authenticator: Authenticator,
    adapter: Arc<Adapter>,
    metrics: Metrics,
}

impl Work {
    fn run(self, runtime: &Runtime, stopped: oneshot::Receiver<()>) {
        runtime.block_on(async {
            tokio::select! {
                () = self.work() => {}
                // Nobody is left to stop it, or it is stopped.
                _ = stopped => {}
            }
        });
    }

    async fn work(self) {
        let namespaces = &self.settings.namespaces;
        info!(
            ?namespaces,
            version = env!("CARGO_PKG_VERSION"),
            "keyward starts"
        );
        let pace = feed::Pace {
            request_timeout: self.settings.request_timeout,
            ..feed::Pace::default()
        };
        let readiness = Readiness::default();
        let listed = readiness.waits_for("AccessKeys and Devices are listed");
        let ready = async {
            self.authenticator.until_ready().await;
            listed.set();
            info!("all AccessKeys and Devices are listed");
        };
        let mut registry = metrics::registry(&self.metrics, &self.authenticator, &readiness);
        registry.register_collector(Box::new(Connected(Arc::clone(&self.adapter))));
        let admin = async {
            match self.admin {
                Some(listener) => {
                    admin::serve(listener, readiness, registry, std::future::pending()).await
                }
                None => std::future::pending().await,
            }
        };
        let feed = feed::run(self.client, namespaces, pace, self.authenticator.clone());
        tokio::join!(feed, ready, self.adapter.keep_cutting(), admin);
    }
}
