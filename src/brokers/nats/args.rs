//! The flags of `keyward gateway` that are about NATS.

use std::path::PathBuf;
use std::sync::Mutex;

use async_nats::ServerAddr;
use clap::Args;
use thiserror::Error;

use super::connection::{UnreadableLogin, Way, check_login};
use super::nkey::{Kind, Seed, Signer, UnreadableSeed};
use super::xkey::Xkey;
use super::{Nats, Servers};
use crate::clock::Clock;
use crate::gateway::Authenticator;

/// How NATS is served.
#[derive(Args, Clone, Debug)]
#[group(requires = "nats_url")]
pub struct NatsArgs {
    /// Decide for NATS, whose server or servers are here: nats://HOST:PORT or tls://HOST:PORT; may be
    /// given several times. With one tls:// all are only talked to by TLS.
    #[arg(
        long,
        env = "KEYWARD_NATS_URL",
        value_name = "URL",
        value_delimiter = ',',
        requires_all = ["nats_login", "nats_system_login", "nats_issuer", "nats_account"]
    )]
    nats_url: Vec<ServerAddr>,

    /// A file with USER:PASSWORD of one of the auth_users. Read again for each connection.
    #[arg(long, env = "KEYWARD_NATS_LOGIN", value_name = "FILE")]
    nats_login: Option<PathBuf>,

    /// The same of a user of the system account, which cuts sessions.
    #[arg(long, env = "KEYWARD_NATS_SYSTEM_LOGIN", value_name = "FILE")]
    nats_system_login: Option<PathBuf>,

    /// A file with the seed (SA...) of the account key that auth_callout names as issuer.
    #[arg(long, env = "KEYWARD_NATS_ISSUER", value_name = "FILE")]
    nats_issuer: Option<PathBuf>,

    /// A file with the seed (SX...) of the key that auth_callout names as xkey, if it does.
    #[arg(long, env = "KEYWARD_NATS_XKEY", value_name = "FILE")]
    nats_xkey: Option<PathBuf>,

    /// The account that devices are placed in.
    #[arg(long, env = "KEYWARD_NATS_ACCOUNT", value_name = "NAME")]
    nats_account: Option<String>,

    /// Authorities that have signed the certificates of NATS's servers, in PEM, instead of those that the
    /// system knows. Read again for each connection, which is by TLS.
    #[arg(long, env = "KEYWARD_NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,

    /// A certificate to show to NATS, in PEM, and those up to its authority. Read again for each
    /// connection, which is by TLS.
    #[arg(
        long,
        env = "KEYWARD_NATS_CERT",
        value_name = "FILE",
        requires = "nats_key"
    )]
    nats_cert: Option<PathBuf>,

    /// Its key, in PEM.
    #[arg(
        long,
        env = "KEYWARD_NATS_KEY",
        value_name = "FILE",
        requires = "nats_cert"
    )]
    nats_key: Option<PathBuf>,
}

/// Why NATS cannot be served.
#[derive(Debug, Error)]
pub enum StartError {
    /// A seed cannot be used.
    #[error(transparent)]
    Seed(#[from] UnreadableSeed),
    /// A login cannot be used.
    #[error(transparent)]
    Login(#[from] UnreadableLogin),
    /// A login would stand where all can see it.
    #[error("--nats-url must not hold user and password: write them to the file of --nats-login")]
    LoginInUrl,
    /// Device IDs would hold a dot.
    #[error(
        "--nats-url needs exactly one --namespace: with several, client IDs would hold a dot, which \
         NATS refuses"
    )]
    Namespaces,
}

impl NatsArgs {
    /// What serves NATS; none if it is not asked for. Sessions that may come back are cut at this rate.
    ///
    /// # Errors
    /// When it cannot be served so.
    pub fn serve(
        &self,
        authenticator: &Authenticator,
        clock: &Clock,
        cut_rate: u32,
    ) -> Result<Option<Nats>, StartError> {
        let NatsArgs {
            nats_url: urls,
            nats_login: Some(login),
            nats_system_login: Some(system_login),
            nats_issuer: Some(issuer),
            nats_account: Some(account),
            nats_xkey,
            nats_ca,
            nats_cert,
            nats_key,
        } = self
        else {
            return Ok(None);
        };
        if urls.iter().any(ServerAddr::has_user_pass) {
            return Err(StartError::LoginInUrl);
        }
        if authenticator.namespace().is_none() {
            return Err(StartError::Namespaces);
        }
        for login in [login, system_login] {
            check_login(login)?;
        }
        let xkey = nats_xkey.as_ref();
        let xkey = xkey.map(|file| Seed::in_file(file, Kind::Curve));
        Ok(Some(Nats {
            authenticator: authenticator.clone(),
            clock: clock.clone(),
            signer: Signer::of(&Seed::in_file(issuer, Kind::Account)?),
            xkey: xkey.transpose()?.as_ref().map(Xkey::of),
            account: account.clone(),
            cut_rate,
            way: Way {
                urls: urls.clone(),
                ca: nats_ca.clone(),
                certificate: nats_cert.clone().zip(nats_key.clone()),
            },
            login: login.clone(),
            system_login: system_login.clone(),
            reaches: Mutex::default(),
            known: Mutex::default(),
            servers: Servers::default(),
        }))
    }
}
