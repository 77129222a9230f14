//! The flags of `keyward gateway` that are about RabbitMQ.

use std::path::PathBuf;

use clap::Args;

use super::Broker;
use super::certificates::Certificates;
use super::management::Management;
use super::way::{Address, SetUpError, Way};
use crate::clock::Clock;

/// How RabbitMQ is reached.
#[derive(Args, Clone, Debug)]
pub struct RabbitMqArgs {
    /// RabbitMQ's management API, such as http://127.0.0.1:15672: to end sessions there, and to see what they would
    /// inherit. Its user needs the tag administrator.
    #[arg(
        long,
        value_name = "URL",
        env = "KEYWARD_RABBITMQ_URL",
        hide_env_values = true
    )]
    rabbitmq_url: Option<Address>,

    /// A file with user and password for it, USER:PASSWORD, unless the URL holds them. Read whenever it is used.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_RABBITMQ_CREDENTIALS",
        requires = "rabbitmq_url"
    )]
    rabbitmq_credentials: Option<PathBuf>,

    /// Authorities that have signed its certificate, in PEM, instead of those that the system knows. Read again when
    /// it changes.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_RABBITMQ_CA",
        requires = "rabbitmq_url"
    )]
    rabbitmq_ca: Option<PathBuf>,

    /// The certificate chain to show it, in PEM. Read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_RABBITMQ_CERT",
        requires_all = ["rabbitmq_url", "rabbitmq_key"]
    )]
    rabbitmq_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "KEYWARD_RABBITMQ_KEY",
        requires = "rabbitmq_cert"
    )]
    rabbitmq_key: Option<PathBuf>,
}

impl RabbitMqArgs {
    /// RabbitMQ; none if there is no way to it.
    ///
    /// # Errors
    /// When it cannot be reached so.
    pub fn broker(&self, clock: &Clock) -> Result<Option<Broker>, SetUpError> {
        let Some(url) = &self.rabbitmq_url else {
            return Ok(None);
        };
        let certificates = Certificates {
            ca: self.rabbitmq_ca.clone(),
            own: self.rabbitmq_cert.clone().zip(self.rabbitmq_key.clone()),
        };
        let way = Way::to(url, self.rabbitmq_credentials.clone(), certificates)?;
        Ok(Some(Broker::new(Management::at(way), clock.clone())))
    }
}
