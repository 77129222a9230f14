//! What the tests of hostile input share: ways to spoil a JSON document, and a place to see what comes of it.
#![allow(dead_code)]

pub mod arena;
pub mod corruption;
