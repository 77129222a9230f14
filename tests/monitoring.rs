//! What Prometheus scrapes of controller and gateway, and the alerts and the dashboard that are made of it, held against
//! Prometheus's own tool.

#![allow(clippy::unwrap_used)]

mod pods;
mod promtool;
mod rules;
mod served;
