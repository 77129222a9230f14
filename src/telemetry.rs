//! Logs, to standard error.
//!
//! Some libraries log what goes over the wire: kube's client logs the whole body of an answer that
//! it cannot read, at WARN, and that answer may be a Secret. So some targets have a limit, which holds
//! whatever level is asked for.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// How to log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Log for people (text), or one JSON object a line (json).
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "KEYWARD_LOG_FORMAT",
        default_value_t
    )]
    pub log_format: LogFormat,

    /// How much to log: error, warn, info, debug or trace, also by part: "info,kube=debug".
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "KEYWARD_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Logs from now on.
///
/// # Errors
/// When the level cannot be read, or logging has begun before.
pub fn init(args: &LogArgs) -> Result<(), TelemetryError> {
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(args, ansi, io::stderr)?.try_init()?;
    Ok(())
}

/// Logs to `writer` from now on, at most at this level: what is said and nothing else, for whoever puts time and level
/// before it.
///
/// # Errors
/// When the level cannot be read, or logging has begun before.
pub fn init_plain<W>(level: &str, writer: W) -> Result<(), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer()
        .with_ansi(false)
        .with_level(false)
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter_fn(is_within_limits))
        .with(filter(level)?)
        .with(lines.without_time().with_writer(writer))
        .try_init()?;
    Ok(())
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A word that is no level: read as the name of a part, it would silence everything else.
    #[error("--log-level: {0:?} is no level; give error, warn, info, debug, trace or PART=LEVEL")]
    NotALevel(String),
    /// No directive of the kind that logs understand.
    #[error("--log-level cannot be read: {0}")]
    Directive(#[from] ParseError),
    /// Another part of the process logs already.
    #[error("logging has begun before: {0}")]
    Twice(#[from] TryInitError),
}

/// The most that is ever logged of a target and what is below it; the first that fits counts.
///
/// Of kube's client, WARN and DEBUG repeat bodies, and ERROR says of a request that failed only that
/// one did, which whoever sent it says better. The others write no body today, but at TRACE they
/// write what they send and receive piece by piece, and headers with the token among it. What
/// async_nats says at INFO, whoever uses it says, too.
const LIMITS: [(&str, LevelFilter); 13] = [
    ("kube_client::client::tls", LevelFilter::WARN),
    ("kube_client::client", LevelFilter::OFF),
    ("kube_client", LevelFilter::DEBUG),
    ("kube_core", LevelFilter::DEBUG),
    ("async_nats", LevelFilter::WARN),
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::DEBUG),
    ("hyper_util", LevelFilter::DEBUG),
    ("hyper_rustls", LevelFilter::DEBUG),
    ("rustls", LevelFilter::INFO),
    ("tower_http", LevelFilter::DEBUG),
    ("tungstenite", LevelFilter::INFO),
    ("tokio_tungstenite", LevelFilter::INFO),
];

fn subscriber<W>(
    args: &LogArgs,
    ansi: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    Ok(tracing_subscriber::registry()
        .with(filter_fn(is_within_limits))
        .with(filter(&args.log_level)?)
        .with(lines(args.log_format, ansi, writer)))
}

/// May this be logged at all, whatever level is asked for?
pub fn is_within_limits(metadata: &Metadata<'_>) -> bool {
    let limit = LIMITS
        .iter()
        .find(|(prefix, _)| is_below(metadata.target(), prefix));
    limit.is_none_or(|(_, most)| metadata.level() <= most)
}

fn is_below(target: &str, prefix: &str) -> bool {
    let rest = target.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Directives for parts come on top of `info`, which a level of its own replaces.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let mut words = level.split(',').filter(|word| !word.contains('='));
    let is_level = |word: &str| word.trim().parse::<LevelFilter>().is_ok();
    if let Some(word) = words.find(|word| !is_level(word)) {
        return Err(TelemetryError::NotALevel(word.to_owned()));
    }
    Ok(EnvFilter::try_new(format!("info,{level}"))?)
}

fn lines<S, W>(format: LogFormat, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_timer(Clock);
    match format {
        LogFormat::Text => layer.with_target(false).with_ansi(ansi).compact().boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    }
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:.3}", Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, trace, warn};

    use super::*;

    #[test]
    fn no_directive_makes_kube_client_log_what_it_received() {
        for level in [
            "trace",
            "kube_client::client=trace",
            "kube_client=trace,kube_client::client=warn",
            "kube_client::client[request]=trace",
            "[request]=trace",
            "[{url}]=trace",
            "off,kube_client=error,kube_client::client=trace",
            "info,kube_client::client::builder=trace",
        ] {
            let log = logged(LogFormat::Text, level, || {
                let span = tracing::error_span!(target: "kube_client::client", "request", url = 1);
                let _entered = span.enter();
                warn!(target: "kube_client::client", "CANARY");
                debug!(target: "kube_client::client", "CANARY");
                trace!(target: "kube_client::client", "CANARY");
                warn!(target: "kube_client::client::builder", "CANARY");
                error!(target: "kube_client::client", "CANARY");
                error!(target: "kube_client::config", "told");
            });
            assert!(!log.contains("CANARY"), "{level}: {log}");
            assert!(log.contains("told"), "{level}: {log}");
        }
    }

    #[test]
    fn the_wire_is_not_logged_at_trace_while_the_rest_is() {
        let log = logged(
            LogFormat::Text,
            "trace,hyper=trace,rustls=trace,h2=trace",
            || {
                trace!(target: "hyper::proto::h1::io", "CANARY");
                trace!(target: "rustls::conn", "CANARY");
                debug!(target: "h2::codec", "CANARY");
                trace!(target: "tower_http::trace", "CANARY");
                trace!(target: "keyward::controller", "of ours");
                trace!(target: "kube_runtime::watcher", "of the watcher");
                trace!(target: "hyperbole", "of a namesake");
                debug!(target: "hyper_util::client", "of connections");
            },
        );
        assert!(!log.contains("CANARY"), "{log}");
        for told in [
            "of ours",
            "of the watcher",
            "of a namesake",
            "of connections",
        ] {
            assert!(log.contains(told), "{told} is not in {log}");
        }
    }

    #[test]
    fn parts_are_set_on_top_of_info() {
        let all = || {
            info!(target: "keyward", "one");
            debug!(target: "keyward", "two");
            debug!(target: "kube", "three");
        };
        for (level, told) in [
            ("info", vec!["one"]),
            ("", vec!["one"]),
            ("kube=debug", vec!["one", "three"]),
            ("warn,kube=debug", vec!["three"]),
            ("DEBUG", vec!["one", "two", "three"]),
            ("off", vec![]),
        ] {
            let log = logged(LogFormat::Text, level, all);
            let seen: Vec<&str> = log
                .lines()
                .filter_map(|l| l.split(' ').next_back())
                .collect();
            assert_eq!(seen, told, "{level}");
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused_in_a_sentence() {
        for level in ["verbose", "info,keyward", "keyward=loud", "a=b=c"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with("--log-level"), "{error}");
        }
    }

    #[test]
    fn a_text_line_is_short_and_has_no_control_characters() {
        let log = logged(LogFormat::Text, "info", || {
            info!(namespace = "plant", name = "\u{1b}[31m\n", "issued");
        });
        let (time, rest) = log.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{log}");
        assert_eq!(
            rest.trim_start(),
            "INFO issued namespace=\"plant\" name=\"\\u{1b}[31m\\n\"\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object() {
        let log = logged(LogFormat::Json, "info", || {
            info!(namespace = "plant", attempts = 2, "issued\nit");
        });
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(log.lines().count(), 1);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "issued\nit");
        assert_eq!(line["namespace"], "plant");
        assert_eq!(line["attempts"], 2);
    }

    fn logged(log_format: LogFormat, level: &str, act: impl FnOnce()) -> String {
        let args = LogArgs {
            log_format,
            log_level: level.to_owned(),
        };
        let buffer = Buffer::default();
        let copy = buffer.clone();
        let subscriber = subscriber(&args, false, move || copy.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
