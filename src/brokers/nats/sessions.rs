//! What a server tells of the clients that are connected to it.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use super::reaches::Digest;

/// The name under which a server lists a session: `pump-1/2/<digest>/kwk_...`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name<'a> {
    /// The device ID.
    pub device_id: &'a str,
    /// Which issue of the key has admitted it.
    pub revision: i32,
    /// What it reaches.
    pub digest: Digest,
    /// The key. One that was taken over may hold anything.
    pub key: &'a str,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name {
            device_id,
            revision,
            digest,
            key,
        } = self;
        write!(f, "{device_id}/{revision}/{}/{key}", digest.as_str())
    }
}

impl<'a> Name<'a> {
    /// Reads what is written so; others have other names.
    pub fn parse(text: &'a str) -> Option<Name<'a>> {
        let mut parts = text.splitn(4, '/');
        Some(Name {
            device_id: parts.next()?,
            revision: parts.next()?.parse().ok()?,
            digest: Digest::parse(parts.next()?)?,
            key: parts.next()?,
        })
    }
}

/// What a server answers to a request of the system account.
#[derive(Debug, Deserialize)]
pub struct Answer<T> {
    /// Who answers.
    pub server: Server,
    /// What it says,
    pub data: Option<T>,
    /// or why not.
    pub error: Option<Problem>,
}

/// A server.
#[derive(Debug, Deserialize)]
pub struct Server {
    /// Its public key.
    pub id: String,
}

/// What is wrong.
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// In words.
    pub description: String,
}

/// A part of the list.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// How many there are on all pages.
    pub total: usize,
    /// Those on this one.
    #[serde(default)]
    pub connections: Vec<Connection>,
}

/// A client.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    /// No other of the same server has this number, ever.
    pub cid: u64,
    /// Its address.
    #[serde(default)]
    pub ip: String,
    #[serde(default)]
    authorized_user: String,
}

impl Connection {
    /// As a server lists it that was told this name.
    pub fn of(cid: u64, ip: &str, name: String) -> Connection {
        Connection {
            cid,
            ip: ip.to_owned(),
            authorized_user: name,
        }
    }

    /// Who it is; none if it is nobody that was admitted here.
    pub fn name(&self) -> Option<Name<'_>> {
        Name::parse(&self.authorized_user)
    }

    /// From where it comes.
    pub fn source(&self) -> Option<IpAddr> {
        self.ip.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for key in ["kwk_0123456789abcdefghjkmnpqrs", "a/b/c", "", "a b"] {
            let name = Name {
                device_id: "pump-1",
                revision: -3,
                digest: Digest::parse(DIGEST).expect("a digest"),
                key,
            };
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in ["", "backend", "a/b/c/d", &format!("pump-1/1/{DIGEST}")] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_server_says_is_read() {
        let text = r#"{"server":{"name":"a","id":"NAB"},"data":{"total":2,"limit":1,"connections":[
            {"cid":8,"kind":"Client","type":"mqtt","ip":"127.0.0.1","authorized_user":"app"}]}}"#;
        let answer: Answer<Page> = serde_json::from_str(text).expect("an answer");
        let page = answer.data.expect("a page");
        assert_eq!((&*answer.server.id, page.total), ("NAB", 2));
        assert!(page.connections[0].name().is_none());
        assert_eq!(page.connections[0].source(), "127.0.0.1".parse().ok());
    }
}
