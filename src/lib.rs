//! Keyward: device access keys for Kubernetes.

pub mod admin;
pub mod api;
mod cause;
pub mod check;
pub mod clock;
pub mod conditions;
pub mod controller;
pub mod crds;
pub mod devices;
pub mod key;
pub mod metrics;
pub mod policy;
pub mod shutdown;
pub mod telemetry;
pub mod verifier;
