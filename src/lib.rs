//! Keyward: device access keys for Kubernetes.

pub mod api;
pub mod key;
pub mod policy;
pub mod verifier;
