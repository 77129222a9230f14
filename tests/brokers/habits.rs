//! What brokers do otherwise than others. All else that the scenes say is so with each of them.
#![allow(dead_code)]

use crate::mqtt::{Refused, Version};

/// What a broker does.
pub struct Habits {
    /// The code by which it refuses a client, by MQTT 3.1.1.
    pub refusal: u8,
    /// Client IDs that it refuses by itself, and how.
    pub refuses_itself: &'static [(&'static str, &'static [Refused])],
    /// It may end a connection without a word, and means that the client is to try again.
    pub puts_off: bool,
    /// It ends the session of who subscribes to what it may not have, or sends what it may not send.
    pub sends_away: bool,
    /// It asks again when it delivers a message, so that filters may be wider than what is seen.
    pub filters_messages: bool,
    /// It keeps to what a session might do when it began: who is to do less has to come again.
    pub asks_once: bool,
    /// It grants shared subscriptions.
    pub shares: bool,
    /// To it a dot in a topic is a slash.
    pub has_dots_for_slashes: bool,
    /// It ends sessions when it is told to.
    pub cuts: bool,
    /// It sends the will of a client that is cut.
    pub sends_wills_of_the_cut: bool,
    /// A device that comes back without some of its rights, or by another key, finds what it may still have.
    pub keeps_what_remains: bool,
}

impl Habits {
    /// How all are refused.
    pub fn refusal(&self, version: Version) -> Refused {
        Refused::Code(match version {
            Version::V311 => self.refusal,
            Version::V5 => 0x87,
        })
    }

    /// The topic by which a message is delivered.
    pub fn delivers(&self, topic: &str) -> String {
        match self.has_dots_for_slashes {
            true => topic.replace('.', "/"),
            false => topic.to_owned(),
        }
    }
}

pub const MOSQUITTO: Habits = Habits {
    refusal: 5,
    refuses_itself: &[("", &[Refused::Code(2), Refused::Code(0x80)])],
    puts_off: true,
    sends_away: false,
    filters_messages: true,
    asks_once: false,
    shares: true,
    has_dots_for_slashes: false,
    cuts: true,
    sends_wills_of_the_cut: false,
    keeps_what_remains: true,
};

pub const NATS: Habits = Habits {
    refusal: 5,
    refuses_itself: &[("a.b", &[Refused::Code(2)])],
    puts_off: false,
    sends_away: false,
    filters_messages: false,
    asks_once: true,
    shares: false,
    has_dots_for_slashes: false,
    cuts: true,
    sends_wills_of_the_cut: true,
    keeps_what_remains: true,
};

pub const RABBITMQ: Habits = Habits {
    // As if by a wrong password.
    refusal: 4,
    refuses_itself: &[],
    puts_off: false,
    sends_away: true,
    filters_messages: false,
    asks_once: false,
    // It takes them for topics, to which nobody may send.
    shares: true,
    has_dots_for_slashes: true,
    cuts: true,
    sends_wills_of_the_cut: false,
    keeps_what_remains: false,
};

pub const AMQTT: Habits = Habits {
    refusal: 5,
    refuses_itself: &[("", &[Refused::Closed])],
    puts_off: false,
    sends_away: false,
    filters_messages: true,
    asks_once: false,
    shares: false,
    has_dots_for_slashes: false,
    cuts: false,
    sends_wills_of_the_cut: false,
    keeps_what_remains: true,
};
