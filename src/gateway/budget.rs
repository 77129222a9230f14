//! How much hashing one address may cause for one key. Secrets that were taken over may be guessed,
//! and cost a hash each: without a bound, whoever tries them keeps the processors busy.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::clock::Moment;

/// In KiB times passes. Twenty hashes at the cost that OWASP asks for at once, two a second later.
const MOST: f64 = 20.0 * OWASP;
const A_SECOND: f64 = 2.0 * OWASP;
const OWASP: f64 = 19456.0 * 2.0;

/// Pairs of key and address that are remembered.
const MOST_PAIRS: usize = 65536;

/// What is left for each key and address.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    hasher: RandomState,
    left: HashMap<u64, Left>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    budget: f64,
    at: Moment,
}

impl Budgets {
    /// Takes what one hash costs. Was it there to be taken?
    pub fn take(&mut self, key: &str, source: Option<IpAddr>, cost: u32, now: Moment) -> bool {
        let pair = self.hasher.hash_one((key, source.map(site)));
        let full = Left {
            budget: MOST,
            at: now,
        };
        if !self.left.contains_key(&pair) {
            self.make_room(now);
        }
        let left = self.left.entry(pair).or_insert(full);
        left.refill(now);
        let is_there = left.budget >= f64::from(cost);
        if is_there {
            left.budget -= f64::from(cost);
        }
        is_there
    }

    /// A pair that is full again need not be remembered; if there is none, one is forgotten.
    fn make_room(&mut self, now: Moment) {
        if self.left.len() < MOST_PAIRS {
            return;
        }
        self.left.retain(|_, left| {
            left.refill(now);
            left.budget < MOST
        });
        let one = self.left.keys().next().copied();
        if let Some(one) = one.filter(|_| self.left.len() >= MOST_PAIRS) {
            self.left.remove(&one);
        }
    }
}

impl Left {
    fn refill(&mut self, now: Moment) {
        let passed: Duration = now.since(self.at);
        self.budget = (self.budget + A_SECOND * passed.as_secs_f64()).min(MOST);
        self.at = now;
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: u32 = 19456 * 2;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    fn taken(budgets: &mut Budgets, key: &str, source: Option<IpAddr>, seconds: u64) -> usize {
        (0..1000)
            .take_while(|_| budgets.take(key, source, COST, at(seconds)))
            .count()
    }

    #[test]
    fn one_address_uses_up_what_it_has_and_no_other() {
        let mut budgets = Budgets::default();
        assert_eq!(taken(&mut budgets, "pump", from("192.0.2.1"), 0), 20);
        assert_eq!(taken(&mut budgets, "pump", from("192.0.2.1"), 0), 0);
        assert_eq!(
            taken(&mut budgets, "pump", from("::ffff:192.0.2.1"), 0),
            0,
            "the same"
        );
        assert_eq!(taken(&mut budgets, "pump", from("192.0.2.2"), 0), 20);
        assert_eq!(taken(&mut budgets, "valve", from("192.0.2.1"), 0), 20);
        assert_eq!(taken(&mut budgets, "pump", None, 0), 20);
        assert_eq!(taken(&mut budgets, "pump", from("2001:db8::1"), 0), 20);
        assert_eq!(
            taken(&mut budgets, "pump", from("2001:db8::2"), 0),
            0,
            "the same site"
        );
        assert_eq!(taken(&mut budgets, "pump", from("2001:db8:0:1::1"), 0), 20);
        assert_eq!(
            taken(&mut budgets, "pump", from("192.0.2.1"), 3),
            6,
            "two a second"
        );
        assert_eq!(
            taken(&mut budgets, "pump", from("192.0.2.1"), 1000),
            20,
            "and no more"
        );
    }

    #[test]
    fn what_costs_more_uses_it_up_sooner() {
        let mut budgets = Budgets::default();
        assert!(budgets.take("pump", None, 65536 * 10, at(0)));
        assert!(!budgets.take("pump", None, 65536 * 10, at(0)));
        assert!(budgets.take("pump", None, 1024, at(0)));
    }

    #[test]
    fn it_takes_no_more_memory_however_many_try() {
        let mut budgets = Budgets::default();
        for number in 0..(MOST_PAIRS as u32 + 100) {
            let source = IpAddr::V4(number.into());
            assert!(budgets.take("pump", Some(source), COST, at(0)));
        }
        assert_eq!(budgets.left.len(), MOST_PAIRS);
        assert!(budgets.take("pump", from("192.0.2.1"), COST, at(60)));
        assert!(
            budgets.left.len() < 10,
            "those that are full again are forgotten"
        );
    }
}
