//! The real binary while something that it needs is away, stands still, or goes back in time. Whatever happens, it is
//! judged from outside: exactly one secret a revision was ever accepted, and it is the one that was delivered.
//!
//! `make test` runs a short form of each; `make prove` runs the long forms, too, which are ignored otherwise.

mod clock;
mod fleet;
mod pauses;
mod refusals;
mod restored;
mod servers;
