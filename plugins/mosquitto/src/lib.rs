//! Keyward inside mosquitto: a plugin (version 5 of its interface, mosquitto 2.0.11 and later) that admits devices, asks
//! about each message, and cuts sessions.
//!
//! ```text
//!   mosquitto's thread                        a thread of ours
//!   ------------------                        ----------------
//!   abi: BASIC_AUTH, ACL_CHECK ---> Adapter <--- feed: watches AccessKeys and Devices
//!        DISCONNECT           --->    |     <--- holds sessions against what is known
//!        TICK   <--- whom to cut -----'
//! ```
//!
//! What is decided stands in `keyward::brokers::mosquitto`. Here is what speaks with the broker: [`abi`], which is the
//! only unsafe code of Keyward; what is read of `mosquitto.conf` ([`settings`]); what goes into the broker's log
//! ([`log`]); and the thread that keeps up with the API server ([`worker`]).

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod abi;
mod log;
mod plugin;
mod settings;
mod worker;
