//! What the tests share. Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod answers;
pub mod canary;
pub mod certificates;
pub mod check;
pub mod cluster;
pub mod controller;
pub mod fault;
pub mod gateway;
pub mod helm;
pub mod history;
pub mod instance;
pub mod keys;
pub mod manifests;
pub mod plant;
pub mod policy;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod splitter;
pub mod stream;
pub mod tools;
pub mod wait;
pub mod wire;
