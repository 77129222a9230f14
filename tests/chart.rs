//! The charts: that the manifests are what they render, what each value does, and what is refused.

#![allow(clippy::unwrap_used)]

mod brokers;
mod definitions;
mod hardening;
mod made;
mod manifests;
mod mosquitto;
mod parts;
mod refused;
mod switches;
mod values;
mod versions;
