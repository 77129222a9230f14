//! From where a key may be used: addresses, and ranges of them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use crate::api::{self, SourceFilter};

/// The addresses that a key may be used from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Sources {
    /// All.
    #[default]
    All,
    /// Those in one of these ranges.
    AllowList(Box<[IpNet]>),
    /// All but those in one of these ranges.
    DenyList(Box<[IpNet]>),
}

impl Sources {
    /// Reads what an AccessKey says.
    ///
    /// # Errors
    /// When it is not such as the API server accepts.
    pub fn of(sources: &api::Sources) -> Result<Sources, UnreadableSources> {
        let ranges = sources.cidrs.iter().map(|text| range(text));
        let ranges: Box<[IpNet]> = ranges.collect::<Result<_, _>>()?;
        match (sources.filter, ranges.is_empty()) {
            (SourceFilter::All, true) => Ok(Sources::All),
            (SourceFilter::AllowList, false) => Ok(Sources::AllowList(ranges)),
            (SourceFilter::DenyList, false) => Ok(Sources::DenyList(ranges)),
            (SourceFilter::All, false) => Err(UnreadableSources::Unused),
            (SourceFilter::AllowList | SourceFilter::DenyList, true) => {
                Err(UnreadableSources::Empty)
            }
        }
    }

    /// Whether a client at this address may use the key. One whose address is not known may if all
    /// may.
    pub fn admit(&self, client: Option<IpAddr>) -> bool {
        let is_listed = |ranges: &[IpNet]| client.map(|client| contain(ranges, client));
        match self {
            Sources::All => true,
            Sources::AllowList(ranges) => is_listed(ranges) == Some(true),
            Sources::DenyList(ranges) => is_listed(ranges) == Some(false),
        }
    }
}

/// Whether the address lies in one of these ranges; an IPv4 address as IPv6 sockets show it too.
pub fn contain(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.iter().any(|range| range.contains(&address))
}

/// Reads an address or a range. What a range says beyond its prefix is dropped.
///
/// # Errors
/// When it is neither.
pub fn range(text: &str) -> Result<IpNet, UnreadableSources> {
    let address = || text.parse().map(IpAddr::into);
    let range: IpNet = text
        .parse()
        .or_else(|_| address())
        .map_err(|_| UnreadableSources::Range(text.to_owned()))?;
    Ok(canonical(range.trunc()))
}

/// Ranges of IPv4 addresses that are written as IPv6 ones.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(mapped) = range else {
        return range;
    };
    let v4 = mapped.addr().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(MAPPED_BITS);
    match (v4, length) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(range, IpNet::V4),
        _ => range,
    }
}

/// Bits of `::ffff:0:0/96`.
const MAPPED_BITS: u8 = (Ipv6Addr::BITS - 32) as u8;

/// Why what an AccessKey says about sources cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UnreadableSources {
    /// A list that is asked for and not there.
    #[error("sources.cidrs is empty: an AllowList or DenyList needs an address")]
    Empty,
    /// A list that would have no effect.
    #[error("sources.cidrs needs sources.filter AllowList or DenyList")]
    Unused,
    /// Neither an address nor a range.
    #[error("{0:?} is neither an IP address nor a range such as 10.0.0.0/8")]
    Range(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(filter: SourceFilter, cidrs: &[&str]) -> Result<Sources, UnreadableSources> {
        let cidrs = cidrs.iter().map(|text| (*text).to_owned()).collect();
        Sources::of(&api::Sources { filter, cidrs })
    }

    #[test]
    fn addresses_are_listed_by_what_they_are_and_not_by_how_they_are_written() {
        let list = [
            "10.1.2.3/8",
            "192.0.2.7",
            "2001:db8::/32",
            "::ffff:198.51.100.0/120",
            "0.0.0.0/32",
        ];
        let rows = [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("198.51.100.9", true),
            ("198.51.101.9", false),
            ("::ffff:198.51.100.9", true),
            ("::c000:0207", false),
            ("::", false),
            ("0.0.0.0", true),
        ];
        let allow = sources(SourceFilter::AllowList, &list).expect("a list");
        let deny = sources(SourceFilter::DenyList, &list).expect("a list");
        for (address, is_listed) in rows {
            let address = Some(address.parse().expect("an address"));
            assert_eq!(allow.admit(address), is_listed, "{address:?}");
            assert_eq!(deny.admit(address), !is_listed, "{address:?}");
        }
    }

    #[test]
    fn a_client_without_a_known_address_is_admitted_only_where_all_are() {
        for filter in [SourceFilter::AllowList, SourceFilter::DenyList] {
            assert!(
                !sources(filter, &["0.0.0.0/0", "::/0"])
                    .expect("a list")
                    .admit(None)
            );
        }
        assert!(sources(SourceFilter::All, &[]).expect("all").admit(None));
    }

    #[test]
    fn what_the_api_server_would_refuse_is_not_read() {
        use SourceFilter::{All, AllowList, DenyList};
        assert_eq!(sources(AllowList, &[]), Err(UnreadableSources::Empty));
        assert_eq!(sources(DenyList, &[]), Err(UnreadableSources::Empty));
        assert_eq!(sources(All, &["10.0.0.1"]), Err(UnreadableSources::Unused));
        for wrong in [
            "",
            "10.0.0",
            "10.0.0.1/33",
            "::1/129",
            "fe80::1%eth0",
            "10.0.0.1/",
            "a/8",
            " 10.0.0.1",
        ] {
            let read = sources(DenyList, &[wrong]);
            assert_eq!(read, Err(UnreadableSources::Range(wrong.to_owned())));
        }
    }
}
