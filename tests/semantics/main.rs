//! Who is admitted, and who sees whom: row by row (`table.md`), and a million times against a second reading of the
//! specification that shares nothing with the first (`oracle.rs`).

mod agreement;
mod chance;
mod gateway;
mod manifests;
mod oracle;
mod questions;
mod table;
mod world;
