//! What a gateway counts.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::Authenticator;
use crate::admin::{Readiness, Ready};
use crate::policy::{Decision, Reason};

/// The metrics of one gateway; clones count into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `keyward_decisions_total{asked,answer}`
    pub decisions: Family<DecisionLabels, Counter>,
    /// The same, by their places: no request has to look for them.
    counters: Arc<[[Counter; ANSWERS]; ASKED]>,
    /// `keyward_gateway_hashes_total`
    pub hashes: Counter,
    /// `keyward_gateway_remembered_total`
    pub remembered: Counter,
    /// `keyward_gateway_hash_seconds`
    pub hash_seconds: Histogram,
    /// `keyward_gateway_hashes_waiting`
    pub hashes_waiting: Gauge,
    /// `keyward_gateway_keys`
    pub keys: Gauge,
    /// `keyward_gateway_devices`
    pub devices: Gauge,
    /// `keyward_gateway_unreadable_total`
    pub unreadable: Counter,
}

impl Metrics {
    /// New metrics, all at zero.
    pub fn new() -> Metrics {
        let decisions = Family::<DecisionLabels, Counter>::default();
        // A series that appears with its first increase hides that increase from rate().
        let counter =
            |asked, answer| decisions.get_or_create_owned(&DecisionLabels { asked, answer });
        let counters = Asked::ALL.map(|asked| Answer::all().map(|answer| counter(asked, answer)));
        Metrics {
            decisions,
            counters: counters.into(),
            hashes: Counter::default(),
            remembered: Counter::default(),
            hash_seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 9)),
            hashes_waiting: Gauge::default(),
            keys: Gauge::default(),
            devices: Gauge::default(),
            unreadable: Counter::default(),
        }
    }

    /// Counts one decision.
    pub fn decided<T>(&self, asked: Asked, decision: &Decision<T>) {
        let answer = match decision {
            Decision::Allow(_) => Answer::Allow,
            Decision::Deny(reason) => Answer::Deny(*reason),
            Decision::Unavailable => Answer::Unavailable,
        };
        self.counters[asked as usize][answer.place()].inc();
    }

    /// How many decisions were counted.
    #[cfg(test)]
    pub(super) fn all_decided(&self) -> u64 {
        let counters = self.counters.iter().flatten();
        counters.map(|counter| counter.get()).sum()
    }

    /// Shows them.
    pub fn register(&self, to: &mut Registry) {
        to.register(
            "decisions",
            "Decisions, by what was asked (authenticate, authorize, cut) and the answer: allow, \
             unavailable, or why it was refused",
            self.decisions.clone(),
        );
        to.register(
            "gateway_hashes",
            "Secrets that were hashed to check them",
            self.hashes.clone(),
        );
        to.register(
            "gateway_remembered",
            "Devices that were admitted without a hash, their secret being one that is known to match",
            self.remembered.clone(),
        );
        to.register_with_unit(
            "gateway_hash",
            "How long one hash took",
            Unit::Seconds,
            self.hash_seconds.clone(),
        );
        to.register(
            "gateway_hashes_waiting",
            "Secrets that wait to be hashed",
            self.hashes_waiting.clone(),
        );
        to.register(
            "gateway_keys",
            "AccessKeys that are known, but for those that nothing was issued for",
            self.keys.clone(),
        );
        to.register(
            "gateway_devices",
            "Devices that are known",
            self.devices.clone(),
        );
        to.register(
            "gateway_unreadable",
            "Versions of AccessKeys and Devices that could not be read, and refuse",
            self.unreadable.clone(),
        );
    }
}

/// All that a gateway shows.
pub fn registry(
    metrics: &Metrics,
    authenticator: &Authenticator,
    readiness: &Readiness,
) -> Registry {
    let mut registry = Registry::with_prefix("keyward");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(Age(authenticator.clone())));
    registry.register_collector(Box::new(Ready {
        part: "gateway",
        readiness: readiness.clone(),
    }));
    crate::metrics::register_build(&mut registry);
    registry
}

/// Shows how old what is known is, at the time of each scrape, and how old it may be.
#[derive(Debug)]
pub struct Age(pub Authenticator);

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let age = self.0.age().map_or(f64::INFINITY, |age| age.as_secs_f64());
        let age = ConstGauge::new(age);
        let to = encoder.encode_descriptor(
            "gateway_freshness_age",
            "For how long nothing has proven that all changes are known",
            Some(&Unit::Seconds),
            age.metric_type(),
        )?;
        age.encode(to)?;
        let limit = self.0.0.options.staleness.limit();
        let limit = ConstGauge::new(limit.as_secs());
        let to = encoder.encode_descriptor(
            "gateway_freshness_limit",
            "How old what is known may become before nobody is admitted any more: see --staleness",
            Some(&Unit::Seconds),
            limit.metric_type(),
        )?;
        limit.encode(to)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Labels of `keyward_decisions_total`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct DecisionLabels {
    /// What was asked.
    pub asked: Asked,
    /// What was answered.
    pub answer: Answer,
}

/// What is asked of a gateway.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Asked {
    /// May this device have a session?
    Authenticate,
    /// May this session do this?
    Authorize,
    /// May this session go on? Counted if not.
    Cut,
}

impl Asked {
    const ALL: [Self; 3] = [Self::Authenticate, Self::Authorize, Self::Cut];

    /// As one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Cut => "cut",
        }
    }
}

/// What a gateway answers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Answer {
    /// Yes.
    Allow,
    /// No.
    Deny(Reason),
    /// Nobody can tell.
    Unavailable,
}

impl Answer {
    /// All of them, by their places.
    fn all() -> [Answer; ANSWERS] {
        std::array::from_fn(|place| match place {
            0 => Answer::Allow,
            1 => Answer::Unavailable,
            place => Answer::Deny(Reason::ALL[place - 2]),
        })
    }

    fn place(self) -> usize {
        match self {
            Answer::Allow => 0,
            Answer::Unavailable => 1,
            Answer::Deny(reason) => 2 + reason as usize,
        }
    }
}

const ANSWERS: usize = 2 + Reason::ALL.len();
const ASKED: usize = Asked::ALL.len();

impl EncodeLabelValue for Asked {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Answer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(
            &match self {
                Answer::Allow => "allow",
                Answer::Deny(reason) => reason.as_str(),
                Answer::Unavailable => "unavailable",
            },
            encoder,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_counted_under_its_own_labels() {
        let metrics = Metrics::new();
        let decisions = Reason::ALL.map(Decision::<()>::Deny);
        let decisions = [Decision::Allow(()), Decision::Unavailable]
            .into_iter()
            .chain(decisions);
        for (decision, answer) in decisions.zip(Answer::all()) {
            for asked in Asked::ALL {
                metrics.decided(asked, &decision);
                let labels = DecisionLabels { asked, answer };
                assert_eq!(
                    metrics.decisions.get_or_create(&labels).get(),
                    1,
                    "{labels:?}"
                );
            }
        }
    }
}
