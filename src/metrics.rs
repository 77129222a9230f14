//! What the process counts, for Prometheus.
//!
//! No metric has a label that grows with the number of keys or devices: every label is an enum, text that stands in the
//! source, or, where keys are counted, their namespace.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Shows which version is running.
pub fn register_build(to: &mut Registry) {
    let version = env!("CARGO_PKG_VERSION");
    let build = Info::new([("version", version)]);
    to.register("build", "The version that is running, as a label", build);
}

/// The metrics of one process; clones count into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `keyward_keys_issued_total`
    pub keys_issued: Counter,
    /// `keyward_issue_seconds`
    pub issue_seconds: Histogram,
    /// `keyward_keys{namespace,state}`, and what else is known of them.
    pub census: Late,
    /// `keyward_hashes_total`
    pub hashes: Counter,
    /// `keyward_hash_seconds`
    pub hash_seconds: Histogram,
    /// `keyward_reconciles_total{outcome}`; see [`Metrics::reconciled`].
    pub reconciles: Family<OutcomeLabel, Counter>,
    /// `keyward_reconcile_seconds`
    pub reconcile_seconds: Histogram,
    /// `keyward_active_reconciles`; see [`Metrics::reconciling`].
    pub active_reconciles: Gauge,
    /// `keyward_api_requests_total{step}`; see [`Metrics::requested`].
    pub api_requests: Family<StepLabel, Counter>,
    /// `keyward_events_dropped_total`
    pub events_dropped: Counter,
    /// `keyward_backoff_objects`
    pub backoff_objects: Gauge,
}

impl Metrics {
    /// New metrics, all at zero, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            keys_issued: Counter::default(),
            issue_seconds: Histogram::new(ISSUE_SECONDS),
            census: Late::default(),
            hashes: Counter::default(),
            hash_seconds: Histogram::new(HASH_SECONDS),
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
            active_reconciles: Gauge::default(),
            api_requests: Family::default(),
            events_dropped: Counter::default(),
            backoff_objects: Gauge::default(),
        };
        // A series that appears with its first increase hides that increase from rate().
        for outcome in Outcome::ALL {
            let _ = metrics.reconciles.get_or_create(&OutcomeLabel { outcome });
        }
        let registry = metrics.registry();
        (metrics, registry)
    }

    /// Counts one reconcile.
    pub fn reconciled(&self, outcome: Outcome) {
        self.reconciles
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// Counts one reconcile as under way, until what it gives goes out of scope.
    pub fn reconciling(&self) -> UnderWay {
        self.active_reconciles.inc();
        UnderWay(self.active_reconciles.clone())
    }

    /// Counts one request to the API server, as part of `step`.
    pub fn requested(&self, step: &'static str) {
        self.api_requests.get_or_create(&StepLabel { step }).inc();
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("keyward");
        let to = &mut registry;
        self.register_work(to);
        self.register_reconciles(to);
        register_build(to);
        registry
    }

    fn register_work(&self, to: &mut Registry) {
        to.register(
            "keys_issued",
            "Secrets issued: confirmed in the status of their AccessKey, rotations included",
            self.keys_issued.clone(),
        );
        to.register_with_unit(
            "issue",
            "How long a secret was waited for: from when its AccessKey was made, or a rotation was begun, until it was \
             confirmed",
            Unit::Seconds,
            self.issue_seconds.clone(),
        );
        to.register_collector(Box::new(self.census.clone()));
        to.register(
            "hashes",
            "Secrets hashed with argon2id, to make a verifier or to check one; none on a restart",
            self.hashes.clone(),
        );
        to.register_with_unit(
            "hash",
            "How long one argon2id hash took",
            Unit::Seconds,
            self.hash_seconds.clone(),
        );
        to.register(
            "events_dropped",
            "Kubernetes Events that were not sent because too many were waiting, or sending failed",
            self.events_dropped.clone(),
        );
    }

    fn register_reconciles(&self, to: &mut Registry) {
        to.register(
            "reconciles",
            "Looks at one AccessKey, by outcome: settled (nothing left to do), waiting (for a time, \
             an answer or its next try), stalled (needs a person), failed (retried with backoff), unreadable \
             (skipped)",
            self.reconciles.clone(),
        );
        to.register_with_unit(
            "reconcile",
            "How long one look at an AccessKey took, its requests included",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        to.register(
            "active_reconciles",
            "Looks at AccessKeys that are under way; at most --concurrency",
            self.active_reconciles.clone(),
        );
        to.register(
            "api_requests",
            "Requests sent to the API server, by the step they belong to",
            self.api_requests.clone(),
        );
        to.register(
            "backoff_objects",
            "Objects that failed last time and wait for their next try; above zero for long means \
             that something is wrong",
            self.backoff_objects.clone(),
        );
    }
}

/// What is found out at each scrape, by whoever knows it.
#[derive(Clone, Debug, Default)]
pub struct Late(Arc<OnceLock<Box<dyn Collector>>>);

impl Late {
    /// From now on this one is asked; the first stays.
    pub fn set(&self, collector: impl Collector) {
        self.0.set(Box::new(collector)).ok();
    }
}

impl Collector for Late {
    fn encode(&self, to: DescriptorEncoder<'_>) -> fmt::Result {
        self.0
            .get()
            .map_or(Ok(()), |collector| collector.encode(to))
    }
}

/// Something that is counted as long as it lasts.
#[derive(Debug)]
#[must_use]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How one reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing is left to do.
    Settled,
    /// Something is left to do, later.
    Waiting,
    /// A person has to act.
    Stalled,
    /// It is tried again, with backoff.
    Failed,
    /// The object cannot be read, and is skipped.
    Unreadable,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Settled,
        Self::Waiting,
        Self::Stalled,
        Self::Failed,
        Self::Unreadable,
    ];

    /// Its name, as the label and the logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Waiting => "waiting",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.name().encode(encoder)
    }
}

/// The label of [`Metrics::reconciles`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// How the reconcile ended.
    pub outcome: Outcome,
}

/// The label of [`Metrics::api_requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    /// Text from the source, never from an object.
    pub step: &'static str,
}

// From what an API server at rest takes to what waits for a person.
const ISSUE_SECONDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0,
];

// Around the cost of the two profiles on a small and on a busy core.
const HASH_SECONDS: [f64; 9] = [0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.28];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_metric_is_shown_under_its_documented_name() {
        let (metrics, registry) = Metrics::new();
        metrics.requested("commit");
        metrics.reconciled(Outcome::Settled);
        let text = shown(&registry);
        for line in [
            "keyward_keys_issued_total 0",
            "keyward_issue_seconds_count 0",
            "keyward_hashes_total 0",
            "keyward_hash_seconds_count 0",
            "keyward_reconciles_total{outcome=\"settled\"} 1",
            "keyward_reconciles_total{outcome=\"unreadable\"} 0",
            "keyward_reconcile_seconds_count 0",
            "keyward_active_reconciles 0",
            "keyward_api_requests_total{step=\"commit\"} 1",
            "keyward_events_dropped_total 0",
            "keyward_backoff_objects 0",
            "keyward_build_info{version=\"0.1.0\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_says_what_it_is() {
        let (metrics, registry) = Metrics::new();
        metrics.requested("commit");
        let text = shown(&registry);
        let types = text.lines().filter(|l| l.starts_with("# TYPE")).count();
        let helps = text.lines().filter(|l| l.starts_with("# HELP")).count();
        assert_eq!((types, helps), (11, 11), "{text}");
    }

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }
}
