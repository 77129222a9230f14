//! What the tests share. Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod cluster;
pub mod controller;
pub mod manifests;
