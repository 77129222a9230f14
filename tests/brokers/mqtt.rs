//! MQTT clients that see each answer: rumqttc's packets, 3.1.1 and 5, on a socket of one's own.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use rumqttc::mqttbytes::{QoS, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::gateway::PATIENCE;
use crate::support::plant::Issued;

const LARGEST: usize = 1 << 20;

/// Which MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    V311,
    V5,
}

/// A message.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Message {
    pub topic: String,
    pub payload: String,
}

impl Message {
    pub fn new(topic: &str, payload: &str) -> Message {
        Message {
            topic: topic.to_owned(),
            payload: payload.to_owned(),
        }
    }
}

/// How a connection that was asked for ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The broker said so, by this code.
    Code(u8),
    /// It said nothing.
    Closed,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub id: String,
    pub login: Option<(String, String)>,
    pub is_clean: bool,
    pub will: Option<Message>,
}

impl Connect {
    pub fn new(version: Version, id: &str, issued: &Issued) -> Connect {
        Connect {
            version,
            id: id.to_owned(),
            login: Some((issued.key.clone(), issued.secret.clone())),
            is_clean: true,
            will: None,
        }
    }

    /// Its subscriptions are kept.
    pub fn staying(self) -> Connect {
        Connect {
            is_clean: false,
            ..self
        }
    }

    pub fn with_will(self, will: Message) -> Connect {
        Connect {
            will: Some(will),
            ..self
        }
    }

    /// Connects.
    pub async fn to(&self, broker: SocketAddr) -> Result<Session, Refused> {
        let stream = TcpStream::connect(broker).await.expect("it listens");
        stream.set_nodelay(true).expect("an option");
        let mut session = Session {
            version: self.version,
            stream,
            read: BytesMut::new(),
            messages: VecDeque::new(),
            last_number: 0,
            was_there: false,
        };
        session.send(self.packet()).await;
        match session.next().await {
            Some(Heard::Connected { code: 0, was_there }) => {
                session.was_there = was_there;
                Ok(session)
            }
            Some(Heard::Connected { code, .. }) => Err(Refused::Code(code)),
            None => Err(Refused::Closed),
            Some(other) => panic!("{other:?} is no answer to CONNECT"),
        }
    }

    fn packet(&self) -> BytesMut {
        match self.version {
            Version::V311 => {
                let mut connect = v4::Connect::new(&*self.id);
                connect.keep_alive = 600;
                connect.clean_session = self.is_clean;
                let will = self.will.as_ref();
                connect.last_will = will.map(|will| {
                    v4::LastWill::new(&*will.topic, &*will.payload, QoS::AtLeastOnce, false)
                });
                let login = self.login.as_ref();
                connect.login = login.map(|(key, secret)| v4::Login::new(&**key, &**secret));
                encode_311(v4::Packet::Connect(connect))
            }
            Version::V5 => {
                let connect = v5::Connect {
                    keep_alive: 600,
                    client_id: self.id.clone(),
                    clean_start: self.is_clean,
                    properties: (!self.is_clean).then(|| v5::ConnectProperties {
                        session_expiry_interval: Some(3600),
                        ..v5::ConnectProperties::new()
                    }),
                };
                let will = self.will.as_ref();
                let will = will.map(|will| {
                    v5::LastWill::new(&*will.topic, &*will.payload, QoS5::AtLeastOnce, false, None)
                });
                let login = self.login.as_ref();
                let login = login.map(|(key, secret)| v5::Login::new(&**key, &**secret));
                encode_5(v5::Packet::Connect(connect, will, login))
            }
        }
    }
}

fn encode_311(packet: v4::Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, LARGEST).expect("it fits");
    bytes
}

fn encode_5(packet: v5::Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).expect("it fits");
    bytes
}

/// What a broker says.
#[derive(Debug)]
enum Heard {
    Connected { code: u8, was_there: bool },
    Subscribed(bool),
    Acknowledged { code: u8 },
    Message(Message),
    Other,
}

/// A connection.
pub struct Session {
    version: Version,
    stream: TcpStream,
    read: BytesMut,
    messages: VecDeque<Message>,
    last_number: u16,
    /// Whether the broker had kept a session.
    pub was_there: bool,
}

impl Session {
    /// Whether the broker lets it subscribe; none if it closed the connection.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Option<bool> {
        let pkid = self.number();
        self.send(match self.version {
            Version::V311 => {
                let mut subscribe = v4::Subscribe::new(
                    filter,
                    if qos == 0 {
                        QoS::AtMostOnce
                    } else {
                        QoS::AtLeastOnce
                    },
                );
                subscribe.pkid = pkid;
                encode_311(v4::Packet::Subscribe(subscribe))
            }
            Version::V5 => {
                let filter = v5::Filter::new(
                    filter,
                    if qos == 0 {
                        QoS5::AtMostOnce
                    } else {
                        QoS5::AtLeastOnce
                    },
                );
                let mut subscribe = v5::Subscribe::new(filter, None);
                subscribe.pkid = pkid;
                encode_5(v5::Packet::Subscribe(subscribe))
            }
        })
        .await;
        self.until(|heard| match heard {
            Heard::Subscribed(granted) => Some(*granted),
            _ => None,
        })
        .await
    }

    /// Sends a message at least once, and gives how the broker acknowledges it; none if it closed the connection.
    pub async fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> Option<u8> {
        let pkid = self.number();
        self.send(self.publication(topic, payload, retain, pkid))
            .await;
        self.until(|heard| match heard {
            Heard::Acknowledged { code } => Some(*code),
            _ => None,
        })
        .await
    }

    /// Sends a message at most once.
    pub async fn throw(&mut self, topic: &str, payload: &str) {
        let packet = self.publication(topic, payload, false, 0);
        self.send(packet).await;
    }

    fn publication(&self, topic: &str, payload: &str, retain: bool, pkid: u16) -> BytesMut {
        match self.version {
            Version::V311 => {
                let qos = if pkid == 0 {
                    QoS::AtMostOnce
                } else {
                    QoS::AtLeastOnce
                };
                let mut publish = v4::Publish::new(topic, qos, payload.to_owned());
                (publish.pkid, publish.retain) = (pkid, retain);
                encode_311(v4::Packet::Publish(publish))
            }
            Version::V5 => {
                let qos = if pkid == 0 {
                    QoS5::AtMostOnce
                } else {
                    QoS5::AtLeastOnce
                };
                let mut publish = v5::Publish::new(topic, qos, payload.to_owned(), None);
                (publish.pkid, publish.retain) = (pkid, retain);
                encode_5(v5::Packet::Publish(publish))
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            let heard = self
                .next()
                .await
                .expect("the broker does not close the connection");
            self.keep(heard);
        }
    }

    /// Whether the broker closes the connection, in time; messages that it sends before it does are lost.
    pub async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, async { while self.next().await.is_some() {} })
            .await
            .is_ok()
    }

    /// Ends the connection without a word, as a device does that loses its power.
    pub fn vanish(self) {
        // Dropped.
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Heard) -> Option<T>) -> Option<T> {
        loop {
            let heard = self.next().await?;
            if let Some(found) = wanted(&heard) {
                return Some(found);
            }
            self.keep(heard);
        }
    }

    fn keep(&mut self, heard: Heard) {
        match heard {
            Heard::Message(message) => self.messages.push_back(message),
            Heard::Other => {}
            heard => panic!("nobody has asked for {heard:?}"),
        }
    }

    fn number(&mut self) -> u16 {
        self.last_number += 1;
        self.last_number
    }

    async fn send(&mut self, bytes: BytesMut) {
        // Whether it has arrived says the answer.
        self.stream.write_all(&bytes).await.ok();
    }

    /// The next that the broker says; none if it closed the connection.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.parsed().await {
                return Some(heard);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            match read.expect("the broker says something in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn parsed(&mut self) -> Option<Heard> {
        let (heard, acknowledge) = match self.version {
            Version::V311 => match v4::Packet::read(&mut self.read, LARGEST) {
                Ok(packet) => heard_311(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => return None,
                Err(error) => panic!("the broker says what is no MQTT 3.1.1: {error}"),
            },
            Version::V5 => match v5::Packet::read(&mut self.read, None) {
                Ok(packet) => heard_5(packet),
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => return None,
                Err(error) => panic!("the broker says what is no MQTT 5: {error}"),
            },
        };
        if let Some(packet) = acknowledge {
            self.send(packet).await;
        }
        Some(heard)
    }
}

fn heard_311(packet: v4::Packet) -> (Heard, Option<BytesMut>) {
    match packet {
        v4::Packet::ConnAck(connected) => {
            let (code, was_there) = (connected.code as u8, connected.session_present);
            (Heard::Connected { code, was_there }, None)
        }
        v4::Packet::SubAck(subscribed) => {
            let granted = matches!(
                subscribed.return_codes[..],
                [v4::SubscribeReasonCode::Success(_)]
            );
            (Heard::Subscribed(granted), None)
        }
        v4::Packet::PubAck(_) => (Heard::Acknowledged { code: 0 }, None),
        v4::Packet::Publish(publish) => {
            let payload = String::from_utf8(publish.payload.to_vec()).expect("text");
            let acknowledge = (publish.pkid != 0)
                .then(|| encode_311(v4::Packet::PubAck(v4::PubAck::new(publish.pkid))));
            (
                Heard::Message(Message::new(&publish.topic, &payload)),
                acknowledge,
            )
        }
        _ => (Heard::Other, None),
    }
}

fn heard_5(packet: v5::Packet) -> (Heard, Option<BytesMut>) {
    match packet {
        v5::Packet::ConnAck(connected) => {
            let (code, was_there) = (code_of(connected.code), connected.session_present);
            (Heard::Connected { code, was_there }, None)
        }
        v5::Packet::SubAck(subscribed) => {
            let granted = matches!(
                subscribed.return_codes[..],
                [v5::SubscribeReasonCode::Success(_)]
            );
            (Heard::Subscribed(granted), None)
        }
        v5::Packet::PubAck(acknowledged) => {
            let is_good = matches!(
                acknowledged.reason,
                v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers
            );
            (
                Heard::Acknowledged {
                    code: if is_good { 0 } else { 0x87 },
                },
                None,
            )
        }
        v5::Packet::Publish(publish) => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let acknowledge = (publish.pkid != 0)
                .then(|| encode_5(v5::Packet::PubAck(v5::PubAck::new(publish.pkid, None))));
            (
                Heard::Message(Message::new(&text(&publish.topic), &text(&publish.payload))),
                acknowledge,
            )
        }
        _ => (Heard::Other, None),
    }
}

/// rumqttc numbers them otherwise than MQTT does.
fn code_of(code: v5::ConnectReturnCode) -> u8 {
    match code {
        v5::ConnectReturnCode::Success => 0,
        v5::ConnectReturnCode::UnspecifiedError => 0x80,
        v5::ConnectReturnCode::NotAuthorized => 0x87,
        other => panic!("nobody is to be told {other:?}"),
    }
}
