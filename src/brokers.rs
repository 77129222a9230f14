//! Brokers: one file each, which translates between a broker and an
//! [`Authenticator`](crate::gateway::Authenticator). What is decided stands elsewhere.
//!
//! A broker does not drop a session because its mind was changed: somebody has to tell it. See [`looks`].

pub mod goauth;
pub mod looks;
pub mod mosquitto;
pub mod nats;
pub mod pace;
pub mod rabbitmq;
