//! `keyward gateway`: flags, and what has to stand before the first request.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use thiserror::Error;
use tracing::{info, warn};

use super::audit::Audit;
use super::callers::{self, Callers};
use super::http::{Api, Shared};
use super::keyring::{KeyFileError, Keyring};
use super::metrics::{self, Metrics};
use super::{Authenticator, Options, Staleness, feed};
use crate::admin::{self, Addresses, Readiness};
use crate::brokers::nats::{self, Nats, NatsArgs};
use crate::brokers::rabbitmq::args::RabbitMqArgs;
use crate::brokers::rabbitmq::cutting::Cutter;
use crate::brokers::rabbitmq::way::SetUpError;
use crate::clock::Clock;
use crate::flags::{Operation, Served};
use crate::key::EntropyError;
use crate::listener::{self, BindError};
use crate::shutdown::Shutdown;
use crate::sources::{UnreadableSources, range};
use crate::tls::{Tls, TlsError};
use crate::topics::{InvalidRoot, Root};

/// Answers for devices: may they, with this key and secret, do this, now?
///
/// With exactly one --namespace, device IDs stand alone; otherwise they are presented as NS.ID.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    #[command(flatten)]
    served: Served,

    #[command(flatten)]
    operation: Operation,

    /// Serve devices here: /auth/device, /oauth/token, /.well-known and /openapi.json. Port 0 takes a
    /// free one.
    #[arg(
        long,
        value_name = "ADDR",
        env = "KEYWARD_DEVICES_LISTEN",
        default_value = "127.0.0.1:8081"
    )]
    pub devices_listen: SocketAddr,

    /// Serve brokers, proxies and services here; on another than the loopback interface they have to
    /// say who they are.
    #[arg(
        long,
        value_name = "ADDR",
        env = "KEYWARD_BROKERS_LISTEN",
        default_value = "127.0.0.1:8082"
    )]
    pub brokers_listen: SocketAddr,

    /// The topics of devices lie below this: ROOT/ID/state and ROOT/ID/command. With several
    /// namespaces it has to hold {namespace}.
    #[arg(
        long,
        value_name = "ROOT",
        env = "KEYWARD_TOPIC_ROOT",
        default_value = "devices"
    )]
    pub topic_root: Root,

    /// How long known keys go on working without proof that nothing has changed: 24 hours
    /// (best-effort) or 60 seconds (strict).
    #[arg(long, env = "KEYWARD_STALENESS", value_enum, default_value_t)]
    pub staleness: Staleness,

    /// Admit only devices that have a Device object.
    #[arg(long, env = "KEYWARD_REQUIRE_REGISTERED_DEVICES")]
    pub require_registered_devices: bool,

    /// A P-256 key in PKCS#8 PEM; may be given several times. The first signs tokens, all are
    /// published. Read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_SIGNING_KEY",
        value_delimiter = ','
    )]
    pub signing_key: Vec<PathBuf>,

    /// Sign tokens with a key that is made at the start and kept by nobody: for one replica only.
    #[arg(
        long,
        env = "KEYWARD_EPHEMERAL_SIGNING_KEY",
        conflicts_with = "signing_key"
    )]
    pub ephemeral_signing_key: bool,

    /// Who issues tokens: the URL of the devices listener, as devices see it.
    #[arg(long, value_name = "URL", env = "KEYWARD_ISSUER")]
    pub issuer: Option<String>,

    /// For whom tokens are: the same by default.
    #[arg(long, value_name = "NAME", env = "KEYWARD_AUDIENCE")]
    pub audience: Option<String>,

    /// A file with the tokens that brokers, proxies and services authenticate with, one a line. Read
    /// again when it changes.
    #[arg(long, value_name = "FILE", env = "KEYWARD_CALLER_TOKEN_FILE")]
    pub caller_token_file: Option<PathBuf>,

    /// Proxies whose word about a client's address counts: an address or a range; may be given
    /// several times.
    #[arg(long, value_name = "CIDR", env = "KEYWARD_TRUSTED_PROXY", value_delimiter = ',', value_parser = proxy)]
    pub trusted_proxy: Vec<IpNet>,

    /// Serve devices and brokers by TLS, with this certificate chain in PEM. Read again when it
    /// changes.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_TLS_CERT",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_TLS_KEY",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Brokers, proxies and services authenticate with certificates of these authorities, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_BROKERS_CLIENT_CA",
        requires = "tls_cert"
    )]
    pub brokers_client_ca: Option<PathBuf>,

    /// Write a line of JSON about every decision to standard output.
    #[arg(long, env = "KEYWARD_AUDIT")]
    pub audit: bool,

    /// Cut no more sessions a second than this of those that may come back at once.
    #[arg(
        long,
        value_name = "N",
        env = "KEYWARD_CUT_RATE",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub cut_rate: u32,

    #[command(flatten)]
    rabbitmq: RabbitMqArgs,

    #[command(flatten)]
    nats: NatsArgs,
}

fn proxy(text: &str) -> Result<IpNet, UnreadableSources> {
    range(text)
}

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The topic root would mix namespaces.
    #[error("--topic-root cannot be used: {0}")]
    Root(#[from] InvalidRoot),
    /// Anybody could ask.
    #[error(
        "--brokers-listen {0} is not on the loopback interface: say who may ask there, by \
         --caller-token-file or --brokers-client-ca"
    )]
    Unguarded(SocketAddr),
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] feed::ConnectError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The addresses cannot be written.
    #[error(transparent)]
    Addresses(#[from] admin::AddressFileError),
    /// A signing key cannot be used.
    #[error(transparent)]
    SigningKey(#[from] KeyFileError),
    /// Who may ask cannot be read.
    #[error(transparent)]
    Callers(#[from] callers::CallersError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// RabbitMQ cannot be asked.
    #[error(transparent)]
    RabbitMq(#[from] SetUpError),
    /// NATS cannot be served.
    #[error(transparent)]
    Nats(#[from] nats::StartError),
    /// Nothing random is to be had.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Runs until `shutdown`, and answers what was asked by then.
///
/// # Errors
/// When it cannot start: one sentence that says what to change.
pub async fn run(args: GatewayArgs, shutdown: Shutdown) -> Result<(), StartError> {
    let clock = Clock::system();
    let metrics = Metrics::new();
    let options = options(&args)?;
    let guard = guard(&args)?;
    let tls = args.tls_cert.as_ref().zip(args.tls_key.as_ref());
    let tls = |client_ca| {
        tls.map(|(cert, key)| Tls::of_files(cert, key, client_ca))
            .transpose()
    };
    let (devices_tls, brokers_tls) = (tls(None)?, tls(args.brokers_client_ca.as_deref())?);
    let keyring = keyring(&args, &clock)?;
    let rabbitmq = args.rabbitmq.broker(&clock)?;
    let client = feed::connect().await?;
    let audit = args.audit.then(Audit::to_standard_output);
    let authenticator = Authenticator::new(options, clock.clone(), metrics.clone())?.audited(audit);

    let nats = args.nats.serve(&authenticator, &clock, args.cut_rate)?;

    let (devices, devices_at) = listener::bind(args.devices_listen, "--devices-listen").await?;
    let (brokers, brokers_at) = listener::bind(args.brokers_listen, "--brokers-listen").await?;
    let (admin, admin_at) = listener::bind(args.operation.admin_listen, "--admin-listen").await?;
    let addresses = Addresses {
        devices: Some(devices_at),
        brokers: Some(brokers_at),
        admin: admin_at,
    };
    addresses.tell(args.operation.address_file.as_deref())?;
    let issuer = issuer(&args, devices_at);
    let api = Api::of(Shared {
        authenticator: authenticator.clone(),
        keyring: keyring.clone(),
        audience: args.audience.clone().unwrap_or_else(|| issuer.clone()),
        issuer,
        trusted_proxies: args.trusted_proxy.clone(),
        clock: clock.clone(),
        rabbitmq: rabbitmq.clone(),
    });
    let cut = async {
        match rabbitmq {
            Some(broker) => {
                let management = broker.management.clone();
                let cutter = Cutter::new(authenticator.clone(), clock, broker, args.cut_rate);
                tokio::join!(cutter.keep_cutting(), management.keep_up());
            }
            None => std::future::pending().await,
        }
    };
    let namespaces = args.served.namespaces();
    info!(
        ?namespaces,
        version = env!("CARGO_PKG_VERSION"),
        "keyward gateway starts"
    );

    let pace = feed::Pace {
        request_timeout: args.operation.request_timeout.0,
        ..feed::Pace::default()
    };
    let feed = feed::run(client, &namespaces, pace, authenticator.clone());
    let readiness = Readiness::default();
    let listed = readiness.waits_for("AccessKeys and Devices are listed");
    let ready = async {
        authenticator.until_ready().await;
        listed.set();
        info!("all AccessKeys and Devices are listed");
    };
    let registry = metrics::registry(&metrics, &authenticator, &readiness);
    let admin = admin::serve(admin, readiness, registry, shutdown.wait());
    let serve = async {
        tokio::join!(
            listener::serve(devices, devices_tls.clone(), api.devices(), shutdown.wait()),
            listener::serve(
                brokers,
                brokers_tls.clone(),
                guard.before(api.front_ends()),
                shutdown.wait()
            ),
            answer_nats(nats.as_ref(), shutdown.wait()),
        );
    };
    tokio::select! {
        _ = async { tokio::join!(admin, serve) } => {}
        _ = async { tokio::join!(feed, ready, cut, keyring.keep_up(), guard.keep_up(), keep_up(devices_tls.clone()), keep_up(brokers_tls.clone()), keep_cutting(nats.as_ref())) } => {}
    }
    info!("keyward gateway ends");
    Ok(())
}

async fn answer_nats(nats: Option<&Nats>, shutdown: Shutdown) {
    if let Some(nats) = nats {
        nats.answer_until(shutdown).await;
    }
}

async fn keep_cutting(nats: Option<&Nats>) {
    match nats {
        Some(nats) => nats.keep_cutting().await,
        None => std::future::pending().await,
    }
}

async fn keep_up(tls: Option<Tls>) {
    match tls {
        Some(tls) => tls.keep_up().await,
        None => std::future::pending().await,
    }
}

fn options(args: &GatewayArgs) -> Result<Options, StartError> {
    let namespaces = args.served.namespaces();
    Ok(Options {
        requires_registration: args.require_registered_devices,
        staleness: args.staleness,
        ..Options::of(&namespaces, args.topic_root.clone())?
    })
}

/// Who may ask at the brokers' listener.
fn guard(args: &GatewayArgs) -> Result<Callers, StartError> {
    let callers = match &args.caller_token_file {
        Some(file) => Callers::of_file(file.clone())?,
        None => Callers::anybody(),
    };
    let is_guarded = args.caller_token_file.is_some() || args.brokers_client_ca.is_some();
    if !is_guarded && !args.brokers_listen.ip().is_loopback() {
        return Err(StartError::Unguarded(args.brokers_listen));
    }
    Ok(callers)
}

fn keyring(args: &GatewayArgs, clock: &Clock) -> Result<Keyring, StartError> {
    if args.ephemeral_signing_key {
        return Ok(Keyring::ephemeral(clock.clone())?);
    }
    if args.signing_key.is_empty() {
        warn!("no --signing-key: the token endpoints answer 503");
        return Ok(Keyring::empty(clock.clone()));
    }
    Ok(Keyring::of_files(args.signing_key.clone(), clock.clone())?)
}

fn issuer(args: &GatewayArgs, devices: SocketAddr) -> String {
    let scheme = if args.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let own = || format!("{scheme}://{devices}");
    args.issuer.clone().unwrap_or_else(own)
}
