//! The `keyward` command.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keyward::check::{self, CheckArgs};
use keyward::controller;
use keyward::controller::command::{self, ControllerArgs};
use keyward::crds;
use keyward::gateway;
use keyward::gateway::command::GatewayArgs;
use keyward::hash::{self, HashArgs};
use keyward::shutdown::Shutdown;
use keyward::telemetry::{self, LogArgs};

fn main() -> ExitCode {
    // Whichever TLS connection came first would panic without it. It fails if one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    forbid_core_dumps();
    let cli = Cli::parse();
    let failure = cli.command.failure();
    telemetry::init(&cli.log)
        .map_err(Box::from)
        .and_then(|()| cli.command.run())
        .unwrap_or_else(|error| {
            // With standard error closed, the exit code says it.
            let _ = writeln!(io::stderr(), "keyward: {error}");
            failure
        })
}

/// Device access keys for Kubernetes.
#[derive(Parser)]
#[command(name = "keyward", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Issue the secrets that AccessKeys ask for, until told to end (SIGTERM or Ctrl-C).
    ///
    /// The cluster is the one of KUBECONFIG, or the one that this Pod runs in. Two controllers at
    /// once are safe.
    #[command(
        after_help = "Example:\n  keyward controller --namespace plant-1 --namespace plant-2"
    )]
    Controller(ControllerArgs),

    /// Answer for devices: may they, with this key and secret, do this, now?
    ///
    /// Watches AccessKeys and Devices, and never reads a Secret. Any number of gateways may run.
    #[command(after_help = "Example:\n  keyward gateway --namespace plant --ephemeral-signing-key")]
    Gateway(Box<GatewayArgs>),

    /// Tell whether a gateway would admit a device, with this key and secret.
    ///
    /// The secret is read from standard input, or asked for at a terminal. The exit code is 0 for
    /// yes, 1 for no, and 2 if it cannot tell.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(CheckArgs),

    /// Make a verifier from a secret, to take over a key that devices have already.
    ///
    /// The secret is read from standard input, or asked for at a terminal. What is printed goes to
    /// spec.existing.verifier of an AccessKey.
    #[command(after_help = "Example:\n  printf %s \"$SECRET\" | keyward hash")]
    Hash(HashArgs),

    /// Print the CustomResourceDefinitions, as YAML.
    #[command(after_help = "Example:\n  keyward crds | kubectl apply -f -")]
    Crds,
}

impl Command {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self {
            Self::Controller(args) => run(args),
            Self::Gateway(args) => serve(*args),
            Self::Check(args) => answer(args),
            Self::Hash(args) => Ok(hash::run(&args).map(|()| ExitCode::SUCCESS)?),
            Self::Crds => print_crds(),
        }
    }

    /// The exit code where something keeps it from its work. That of a check must not be 1, which
    /// says that the device is refused.
    fn failure(&self) -> ExitCode {
        match self {
            Self::Check(_) => ExitCode::from(2),
            Self::Controller(_) | Self::Gateway(_) | Self::Hash(_) | Self::Crds => {
                ExitCode::FAILURE
            }
        }
    }
}

const CHECK_EXAMPLE: &str = "Example:
  kubectl get secret -n plant pump -o jsonpath='{.data.secret}' | base64 -d |
    keyward check --namespace plant --device pump-1 --key kwk_...";

fn run(args: ControllerArgs) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signal()?;
        command::run(args, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn serve(args: GatewayArgs) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signal()?;
        gateway::command::run(args, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn answer(args: CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let client = async {
        let config = kube::Config::infer().await?;
        controller::client(config).map_err(Box::<dyn Error>::from)
    };
    Ok(runtime.block_on(check::run(args, client)))
}

fn print_crds() -> Result<ExitCode, Box<dyn Error>> {
    let definitions = crds::yaml()?;
    let documents: Vec<String> = definitions.into_iter().map(|(_, yaml)| yaml).collect();
    match io::stdout().write_all(documents.join("---\n").as_bytes()) {
        // `keyward crds | head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A core dump would hold the plaintext in memory, and key material of TLS beside it. Where the
/// system pipes core dumps to a program the limit alone does not stop it, so on Linux the process
/// also becomes undumpable, which bars other processes of this user from reading its memory too.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Neither fails on a sound system, and neither is worth refusing to start for.
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
