//! What `mosquitto.conf` says: `plugin_opt_<name> <value>`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use keyward::api::GoDuration;
use keyward::gateway::Staleness;
use keyward::topics::Root;
use thiserror::Error;

/// What the plugin was told.
#[derive(Debug)]
pub struct Settings {
    /// `namespace`: those that are served, separated by commas; none where all are.
    pub namespaces: Vec<String>,
    /// `topic_root`
    pub root: Root,
    /// `staleness`
    pub staleness: Staleness,
    /// `require_registered_devices`
    pub requires_registration: bool,
    /// `auto_id_prefix`: as the broker's own.
    pub made_up: String,
    /// `admin_listen`: where metrics are served, if anywhere.
    pub admin: Option<SocketAddr>,
    /// `request_timeout`
    pub request_timeout: Duration,
    /// `audit`: whether a line about each decision goes to standard output.
    pub audit: bool,
    /// `log_level`
    pub log_level: String,
}

/// The names of them all, for who misspells one.
const NAMES: [&str; 10] = [
    "namespace",
    "all_namespaces",
    "topic_root",
    "staleness",
    "require_registered_devices",
    "auto_id_prefix",
    "admin_listen",
    "request_timeout",
    "audit",
    "log_level",
];

impl Settings {
    /// Reads options, by their names without `plugin_opt_`.
    ///
    /// # Errors
    /// When one cannot be read, is unknown, or is missing.
    pub fn read(options: &[(String, String)]) -> Result<Settings, InvalidOption> {
        let mut settings = Settings::default();
        let mut serves_all = false;
        for (name, value) in options {
            match name.as_str() {
                "namespace" => settings
                    .namespaces
                    .extend(value.split(',').map(str::trim).map(str::to_owned)),
                "all_namespaces" => serves_all = switch(name, value)?,
                "topic_root" => settings.root = parsed(name, value)?,
                "staleness" => settings.staleness = staleness(value)?,
                "require_registered_devices" => {
                    settings.requires_registration = switch(name, value)?
                }
                "auto_id_prefix" => settings.made_up.clone_from(value),
                "admin_listen" => settings.admin = Some(parsed(name, value)?),
                "request_timeout" => {
                    settings.request_timeout = parsed::<GoDuration>(name, value)?.0
                }
                "audit" => settings.audit = switch(name, value)?,
                "log_level" => settings.log_level.clone_from(value),
                _ => return Err(InvalidOption::Unknown(name.clone())),
            }
        }
        settings
            .namespaces
            .retain(|namespace| !namespace.is_empty());
        match (settings.namespaces.is_empty(), serves_all) {
            (true, false) => Err(InvalidOption::NothingServed),
            (false, true) => Err(InvalidOption::Both),
            _ => Ok(settings),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            namespaces: Vec::new(),
            root: Root::default(),
            staleness: Staleness::default(),
            requires_registration: false,
            made_up: "auto-".to_owned(),
            admin: None,
            request_timeout: Duration::from_secs(10),
            audit: false,
            log_level: "info".to_owned(),
        }
    }
}

fn switch(name: &str, value: &str) -> Result<bool, InvalidOption> {
    parsed(name, value)
}

fn staleness(value: &str) -> Result<Staleness, InvalidOption> {
    match value {
        "best-effort" => Ok(Staleness::BestEffort),
        "strict" => Ok(Staleness::Strict),
        _ => Err(InvalidOption::Staleness(value.to_owned())),
    }
}

fn parsed<T: FromStr<Err: ToString>>(name: &str, value: &str) -> Result<T, InvalidOption> {
    value
        .parse()
        .map_err(|error: T::Err| InvalidOption::Unreadable {
            name: name.to_owned(),
            value: value.to_owned(),
            cause: error.to_string(),
        })
}

/// Why the plugin does not start.
#[derive(Debug, Error)]
pub enum InvalidOption {
    /// There is none of this name.
    #[error("mosquitto.conf: there is no plugin_opt_{0}: there are {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// Its value is no such thing.
    #[error("mosquitto.conf: plugin_opt_{name} cannot be {value:?}: {cause}")]
    Unreadable {
        /// Which.
        name: String,
        /// What it was set to.
        value: String,
        /// Why not.
        cause: String,
    },
    /// It is none of the two.
    #[error("mosquitto.conf: plugin_opt_staleness cannot be {0:?}: it is best-effort or strict")]
    Staleness(String),
    /// Neither.
    #[error(
        "mosquitto.conf: set plugin_opt_namespace to the namespace of the devices, or plugin_opt_all_namespaces to true"
    )]
    NothingServed,
    /// Both.
    #[error(
        "mosquitto.conf: set one of plugin_opt_namespace and plugin_opt_all_namespaces, not both"
    )]
    Both,
}
