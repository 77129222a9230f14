//! From where a request comes: the address of its connection, or what a trusted proxy says of it.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::Api;
use crate::listener::Peer;
use crate::sources::contain;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address; none if it is not known.
pub(super) struct Client(pub Option<IpAddr>);

impl FromRequestParts<Api> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Client, Infallible> {
        let peer = parts.extensions.get().copied();
        Ok(Client::of(api, &parts.headers, peer))
    }
}

impl Client {
    /// Of a request with these headers, on a connection with this other end.
    pub fn of(api: &Api, headers: &HeaderMap, peer: Option<Peer>) -> Client {
        let peer = peer.map(|Peer(peer)| peer.ip().to_canonical());
        Client(peer.map(|peer| client(peer, headers, &api.0.trusted_proxies)))
    }
}

/// The client whose connection `peer` has, or passes on. Each proxy appends who speaks to it, so what
/// stands before the last address that is no trusted proxy's is only claimed.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let forwarded = headers.get_all(&FORWARDED_FOR);
    let forwarded: Vec<&str> = forwarded
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .collect();
    for claimed in forwarded.into_iter().rev() {
        if !contain(trusted, client) {
            break;
        }
        match claimed.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            // It is unknown who is behind it.
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed_and_only_about_whom_they_see() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a range")];
        let rows: [(&str, &[&str], &str); 9] = [
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                &["203.0.113.9", "198.51.100.7, 10.0.0.2"],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            let peer = peer.parse::<IpAddr>().expect("an address").to_canonical();
            assert_eq!(
                client(peer, &headers, &trusted).to_string(),
                expected,
                "{forwarded:?}"
            );
        }
    }
}
