//! Flags that controller and gateway share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::api::GoDuration;

/// What is served: some namespaces, or all.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Served {
    /// Serve this namespace; may be given several times.
    #[arg(
        long,
        value_name = "NS",
        env = "KEYWARD_NAMESPACE",
        value_delimiter = ','
    )]
    namespace: Vec<String>,

    /// Serve all namespaces.
    #[arg(long, env = "KEYWARD_ALL_NAMESPACES")]
    all_namespaces: bool,
}

impl Served {
    /// The namespaces, each once; none where all are served.
    pub fn namespaces(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let given = self.namespace.iter();
        let unique = given.filter(|namespace| seen.insert(*namespace));
        unique.cloned().collect()
    }
}

/// How the process is watched, and how it speaks with the API server.
#[derive(Args, Clone, Debug)]
pub struct Operation {
    /// Serve /livez, /readyz and /metrics here; port 0 takes a free one.
    #[arg(
        long,
        value_name = "ADDR",
        env = "KEYWARD_ADMIN_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub admin_listen: SocketAddr,

    /// Write the addresses in use to this file, as JSON.
    #[arg(long, value_name = "FILE", env = "KEYWARD_ADDRESS_FILE")]
    pub address_file: Option<PathBuf>,

    /// Give up on a request to the API server after this long.
    #[arg(
        long,
        value_name = "DURATION",
        env = "KEYWARD_REQUEST_TIMEOUT",
        default_value = "10s"
    )]
    pub request_timeout: GoDuration,
}
