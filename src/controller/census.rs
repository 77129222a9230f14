//! How many AccessKeys there are of each kind, counted in the cache whenever somebody asks. Counts that are kept from
//! event to event can go wrong and stay so, and outlive what they counted; these are as right as the cache.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::turn::EXPIRING_SOON;
use super::watching::Guarded;
use crate::api::{AccessKey, EffectiveState};
use crate::clock::Clock;

/// Counts what is in these caches.
pub struct Census {
    /// The caches.
    pub stores: Vec<Store<Guarded>>,
    /// What is over is over by this clock.
    pub clock: Clock,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

/// The AccessKeys of one namespace, by what they are. What there is none of is not there.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Tally<'a> {
    /// All of them, by their state.
    pub states: BTreeMap<&'static str, u64>,
    /// Those that need a person, by the reason.
    pub stalled: BTreeMap<&'a str, u64>,
    /// Those that are worked on, by the reason.
    pub reconciling: BTreeMap<&'a str, u64>,
    /// Those whose Secret is known to be gone.
    pub consumed: u64,
    /// Those that may be used, but not for long.
    pub expiring_soon: u64,
    /// Those whose time is over, which their status does not say yet.
    pub past_expiry: u64,
    /// When the next of those that may be used ends.
    pub next_expiry: Option<Timestamp>,
}

/// By namespace.
pub type Tallies<'a> = BTreeMap<&'a str, Tally<'a>>;

/// Counts them.
pub fn count<'a>(objects: impl IntoIterator<Item = &'a Guarded>, now: Timestamp) -> Tallies<'a> {
    let mut tallies = Tallies::new();
    for object in objects {
        let meta = object.meta();
        if meta.deletion_timestamp.is_some() {
            continue;
        }
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let tally = tallies.entry(namespace).or_default();
        match &object.0 {
            Ok(key) => tally.add(key, now),
            Err(_) => one_more(&mut tally.states, UNREADABLE),
        }
    }
    tallies
}

/// Among the states: an AccessKey that cannot be read, of which nothing else is known.
const UNREADABLE: &str = "Unreadable";

impl<'a> Tally<'a> {
    fn add(&mut self, key: &'a AccessKey, now: Timestamp) {
        let state = key.status.as_ref().and_then(|status| status.state);
        let state = state.unwrap_or(EffectiveState::Pending);
        one_more(&mut self.states, name(state));
        self.consumed += u64::from(is_consumed(key));
        for condition in key.status.iter().flat_map(|status| &status.conditions) {
            self.add_condition(condition);
        }
        let end = key.spec.expires_at.as_ref().map(|end| end.0);
        match end.filter(|_| state == EffectiveState::Active) {
            Some(end) if end <= now => self.past_expiry += 1,
            Some(end) => {
                self.next_expiry = Some(self.next_expiry.map_or(end, |next| next.min(end)))
            }
            None => {}
        }
    }

    fn add_condition(&mut self, condition: &'a Condition) {
        if condition.status != "True" {
            return;
        }
        let reason = condition.reason.as_str();
        match condition.type_.as_str() {
            "Stalled" => one_more(&mut self.stalled, reason),
            "Reconciling" => one_more(&mut self.reconciling, reason),
            "Active" if reason == EXPIRING_SOON => self.expiring_soon += 1,
            _ => {}
        }
    }
}

fn is_consumed(key: &AccessKey) -> bool {
    let mut delivered = key.status.iter().flat_map(|status| &status.secret);
    delivered.any(|secret| secret.consumed_at.is_some())
}

fn one_more<'a>(counts: &mut BTreeMap<&'a str, u64>, of: &'a str) {
    *counts.entry(of).or_default() += 1;
}

fn name(state: EffectiveState) -> &'static str {
    match state {
        EffectiveState::Pending => "Pending",
        EffectiveState::Active => "Active",
        EffectiveState::Inactive => "Inactive",
        EffectiveState::NotYetValid => "NotYetValid",
        EffectiveState::Expired => "Expired",
    }
}

impl Collector for Census {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let objects: Vec<_> = self.stores.iter().flat_map(Store::state).collect();
        let tallies = count(objects.iter().map(AsRef::as_ref), self.clock.wall());
        show(&tallies, encoder)
    }
}

/// The counts of all namespaces, each with its labels.
fn by<'a>(
    label: &'static str,
    tallies: &'a Tallies<'a>,
    counts: impl Fn(&'a Tally<'a>) -> &'a BTreeMap<&'a str, u64>,
) -> impl Iterator<Item = ([(&'static str, &'a str); 2], u64)> {
    tallies.iter().flat_map(move |(namespace, tally)| {
        let counts = counts(tally).iter();
        counts.map(|(of, count)| ([("namespace", *namespace), (label, *of)], *count))
    })
}

/// The same for what is one number.
fn alone<'a>(
    tallies: &'a Tallies<'a>,
    count: impl Fn(&'a Tally<'a>) -> u64,
) -> impl Iterator<Item = ([(&'static str, &'a str); 1], u64)> {
    let counts = tallies
        .iter()
        .map(move |(namespace, tally)| ([("namespace", *namespace)], count(tally)));
    counts.filter(|(_, count)| *count > 0)
}

fn show<'a>(tallies: &'a Tallies<'a>, mut to: DescriptorEncoder<'_>) -> fmt::Result {
    gauges(
        &mut to,
        "keys",
        "AccessKeys, by what their status says: Pending, Active, Inactive, NotYetValid, Expired; Unreadable if it \
         cannot be read",
        None,
        by("state", tallies, |tally| &tally.states),
    )?;
    gauges(
        &mut to,
        "keys_stalled",
        "AccessKeys that need a person, by the reason of their condition Stalled",
        None,
        by("reason", tallies, |tally| &tally.stalled),
    )?;
    gauges(
        &mut to,
        "keys_reconciling",
        "AccessKeys that are worked on, or wait for it, by the reason of their condition Reconciling",
        None,
        by("reason", tallies, |tally| &tally.reconciling),
    )?;
    gauges(
        &mut to,
        "keys_consumed",
        "AccessKeys whose Secret is known to be gone: somebody took it, or its deleteAfter was over",
        None,
        alone(tallies, |tally| tally.consumed),
    )?;
    gauges(
        &mut to,
        "keys_expiring_soon",
        "AccessKeys that may be used, and are in the last tenth of their life, or its last week",
        None,
        alone(tallies, |tally| tally.expiring_soon),
    )?;
    gauges(
        &mut to,
        "keys_past_expiry",
        "AccessKeys whose time is over and whose status still says Active: the controller is behind; gateways refuse \
         them all the same",
        None,
        alone(tallies, |tally| tally.past_expiry),
    )?;
    let ends = tallies.iter().filter_map(|(namespace, tally)| {
        Some(([("namespace", *namespace)], tally.next_expiry?.as_second()))
    });
    gauges(
        &mut to,
        "next_expiry_timestamp",
        "When the next of the AccessKeys that may be used expires",
        Some(&Unit::Seconds),
        ends,
    )
}

fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = (L, N)>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
