//! Keyward: device access keys for Kubernetes.

pub mod api;
pub mod check;
pub mod crds;
pub mod devices;
pub mod key;
pub mod policy;
pub mod verifier;
