//! `keyward controller`: flags, and what has to stand before the first run.

use std::time::Duration;

use clap::Args;
use kube::Config;
use thiserror::Error;
use tokio::sync::broadcast;
use tracing::info;

use super::hasher::Hasher;
use super::run::Tools;
use super::step::Timing;
use super::{Controller, client, devices};
use crate::admin::{self, Readiness, Ready};
use crate::api::GoDuration;
use crate::clock::Clock;
use crate::flags::{Operation, Served};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::verifier::HashProfile;

/// Issues the secrets that AccessKeys ask for.
///
/// With --all-namespaces, Secrets are delivered where deploy/namespace.yaml or
/// deploy/all-namespaces.yaml is applied.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    #[command(flatten)]
    served: Served,

    #[command(flatten)]
    operation: Operation,

    /// How dear the hash of a new secret is: fleet (0.4 ms and 1 MiB) or owasp (20 ms and 19 MiB).
    #[arg(long, env = "KEYWARD_HASH_PROFILE", value_enum, default_value_t)]
    pub hash_profile: HashProfile,

    /// Work on as many AccessKeys at once.
    #[arg(long, value_name = "N", env = "KEYWARD_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// Longer than any request can live, on its way included: at least five times
    /// --request-timeout.
    #[arg(
        long,
        value_name = "DURATION",
        env = "KEYWARD_GRACE",
        default_value = "5m"
    )]
    pub grace: GoDuration,
}

/// Why the controller did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A grace that a request could outlive.
    #[error(
        "--grace {grace:?} is too short: give at least five times --request-timeout, {least:?}"
    )]
    GraceTooShort {
        /// What was given.
        grace: Duration,
        /// What is needed.
        least: Duration,
    },
    /// No way to the API server is configured.
    #[error(
        "no cluster is configured: set KUBECONFIG, or run in a Pod with a ServiceAccount token: {0}"
    )]
    NoCluster(#[from] kube::config::InferConfigError),
    /// The configuration of the way to the API server cannot be used.
    #[error("the configuration of the cluster cannot be used: {0}")]
    Client(#[from] kube::Error),
    /// The admin listener cannot be opened.
    #[error(transparent)]
    Admin(#[from] admin::ListenError),
}

/// Runs until `shutdown`, and lets the runs under way end.
///
/// # Errors
/// When it cannot start: one sentence that says what to change.
pub async fn run(args: ControllerArgs, shutdown: Shutdown) -> Result<(), StartError> {
    let timing = timing(&args)?;
    let client = client(patient(
        Config::infer().await?,
        args.operation.request_timeout.0,
    ))?;
    let (metrics, mut registry) = Metrics::new();
    let readiness = Readiness::default();
    let keys_listed = readiness.waits_for("AccessKeys are listed");
    registry.register_collector(Box::new(Ready {
        part: "controller",
        readiness: readiness.clone(),
    }));
    let listener = admin::listen(
        args.operation.admin_listen,
        args.operation.address_file.as_deref(),
    )
    .await?;
    let admin = admin::serve(listener, readiness, registry, shutdown.wait());
    let namespaces = args.served.namespaces();
    info!(
        ?namespaces,
        version = env!("CARGO_PKG_VERSION"),
        "keyward controller starts"
    );

    let request_timeout = args.operation.request_timeout.0;
    let clock = Clock::system();
    let hasher = Hasher::new(args.hash_profile, metrics.clone());
    let devices = devices::run(
        client.clone(),
        namespaces.clone(),
        request_timeout,
        clock.clone(),
        shutdown.wait(),
    );
    let tools = Tools {
        client,
        request_timeout,
        timing,
        clock,
        hasher,
        metrics,
    };
    let (nudges, _) = broadcast::channel(1);
    let controller = Controller {
        tools,
        namespaces,
        concurrency: args.concurrency,
        nudges,
    };
    tokio::join!(
        admin,
        devices,
        controller.run(shutdown, move || keys_listed.set())
    );
    info!("keyward controller ends");
    Ok(())
}

/// A connection on which nothing comes for longer than any request may take is dropped: the other end
/// may be gone without a word. Watches say something more often.
fn patient(mut config: Config, request_timeout: Duration) -> Config {
    config.read_timeout = Some(request_timeout.max(LONGEST_SILENCE));
    // Counted from the request, not from when the connection went idle before it.
    config.reset_reader_on_write = true;
    config
}

const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Rule 1: plaintext lives a fifth of the grace, and the request that publishes it may take its
/// whole deadline.
fn timing(args: &ControllerArgs) -> Result<Timing, StartError> {
    let (grace, least) = (
        args.grace.0,
        args.operation.request_timeout.0.saturating_mul(5),
    );
    if grace < least || grace.is_zero() {
        return Err(StartError::GraceTooShort { grace, least });
    }
    Ok(Timing::with_grace(grace))
}
