//! The real gateway while it starts, while its certificates change, and while its API server goes back in time; and
//! the one of `examples/`.

#![allow(clippy::unwrap_used)]

mod example;
mod first_list;
mod restored;
mod tls;
