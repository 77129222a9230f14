//! What was allowed before, and still is as long as nothing that is known changes. Most messages are like one that went
//! before, and to judge each anew would take more than all else that the plugin does for it.
//!
//! What was asked, and by whom, is kept as 128 bits that nobody can foresee. What takes time here is memory that is not
//! near the processor. So the table begins small, and grows only where what is asked does not fit; and what is asked
//! about one topic lies together, since whoever sends to it is asked about just before those who receive.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use siphasher::sip128::SipHasher13;

use super::{Client, Who};
use crate::topics::Action;

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub client: Client,
    pub who: Who<'a>,
    pub action: Action,
    pub topic: &'a [u8],
    /// The version of all that is known.
    pub version: u64,
}

/// The same in short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    digest: Digest,
    /// Of the topic alone. Whoever foresees it gains nothing but to have others judged anew.
    topic: u64,
}

/// Of all that is asked. All zeros stand for none.
type Digest = [u64; 2];

/// What was allowed.
pub(super) struct Permits {
    digests: SipHasher13,
    topics: DefaultHashBuilder,
    /// What is digested: at once, since piece by piece takes twice as long.
    message: Vec<u8>,
    /// How often the clients were forgotten that lie at an address of this kind. It is part of what is digested.
    forgotten: Box<[u32]>,
    buckets: Box<[Bucket]>,
    /// The version of what was put here last,
    version: u64,
    /// and how many had to go since, for want of room.
    displaced: usize,
}

/// As much as the processor fetches at once.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket([Digest; 4]);

/// Kinds of addresses.
const KINDS: usize = 1 << 12;
/// Buckets at first,
const FEWEST: usize = 1 << 8;
/// and at most, which take 1 MiB.
const MOST: usize = 1 << 14;

impl Permits {
    /// Whether just this was allowed; if not, by which mark it can be [put](Permits::put) here.
    pub fn find(&mut self, asked: &Asked<'_>) -> Result<(), Mark> {
        let topic = self.topics.hash_one(asked.topic);
        // Comes from memory while the digest is made.
        let near = self.buckets[self.at(topic)];
        let digest = self.digest(asked);
        let is_there = near.has(digest) || self.buckets[self.at(digest[0])].has(digest);
        is_there.then_some(()).ok_or(Mark { digest, topic })
    }

    /// It is allowed, as of this version of what is known.
    pub fn put(&mut self, mark: Mark, version: u64) {
        if self.version != version {
            (self.version, self.displaced) = (version, 0);
        }
        let near = self.at(mark.topic);
        if let Some(oldest) = self.buckets[near].put(mark.digest) {
            let far = self.at(oldest[0]);
            let displaced = self.buckets[far].put(oldest);
            self.displaced += usize::from(displaced.is_some());
        }
        if self.displaced > self.buckets.len() / 2 && self.buckets.len() < MOST {
            self.buckets = buckets(self.buckets.len() * 2);
            self.displaced = 0;
        }
    }

    /// Nothing that was allowed to this client is allowed any more.
    pub fn forget(&mut self, client: Client) {
        let times = &mut self.forgotten[kind(client)];
        *times = times.wrapping_add(1);
    }

    fn digest(&mut self, asked: &Asked<'_>) -> Digest {
        let Who { id, username, .. } = asked.who;
        let numbers = [
            asked.client.0 as u64,
            self.forgotten[kind(asked.client)].into(),
            asked.version,
            number(asked.action),
            // Where one text ends and the next one begins.
            id.len() as u64,
            username.len() as u64,
        ];
        let numbers = numbers.map(u64::to_ne_bytes);
        self.message.clear();
        for part in [numbers.as_flattened(), id, username, asked.topic] {
            self.message.extend_from_slice(part);
        }
        let hash = self.digests.hash(&self.message);
        [hash.h1, hash.h2]
    }

    fn at(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or(usize::MAX) % self.buckets.len()
    }
}

impl Bucket {
    fn has(&self, digest: Digest) -> bool {
        self.0.contains(&digest)
    }

    /// Gives the oldest if there is no room for it.
    fn put(&mut self, digest: Digest) -> Option<Digest> {
        self.0.rotate_right(1);
        let oldest = std::mem::replace(&mut self.0[0], digest);
        (oldest != Digest::default()).then_some(oldest)
    }
}

impl Default for Permits {
    fn default() -> Permits {
        Permits {
            digests: SipHasher13::new_with_keys(rand::random(), rand::random()),
            topics: DefaultHashBuilder::default(),
            message: Vec::new(),
            forgotten: vec![0; KINDS].into_boxed_slice(),
            buckets: buckets(FEWEST),
            version: 0,
            displaced: 0,
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permits")
    }
}

/// Of the address of a client, whose lowest bits say nothing.
fn kind(client: Client) -> usize {
    client.0 / 64 % KINDS
}

/// No two have the same.
fn number(action: Action) -> u64 {
    match action {
        Action::Publish { retain } => u64::from(retain),
        Action::Subscribe { checks_deliveries } => 2 + u64::from(checks_deliveries),
        Action::Receive => 4,
    }
}

fn buckets(count: usize) -> Box<[Bucket]> {
    vec![Bucket::default(); count].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who<'a>(id: &'a str, key: &'a str) -> Who<'a> {
        Who {
            id: id.as_bytes(),
            username: key.as_bytes(),
            has_address: true,
        }
    }

    fn asked(topic: &str) -> Asked<'_> {
        Asked {
            client: Client(64),
            who: who("a", "key"),
            action: Action::Receive,
            topic: topic.as_bytes(),
            version: 1,
        }
    }

    fn put(permits: &mut Permits, asked: &Asked<'_>) {
        let mark = permits.find(asked).expect_err("it is not there");
        permits.put(mark, asked.version);
    }

    fn has(permits: &mut Permits, asked: &Asked<'_>) -> bool {
        permits.find(asked).is_ok()
    }

    /// How many are not there when they are asked for again.
    fn missed(permits: &mut Permits, all: &[Asked<'_>]) -> usize {
        let mut missed = 0;
        for _ in 0..50 {
            missed = 0;
            for asked in all {
                if let Err(mark) = permits.find(asked) {
                    missed += 1;
                    permits.put(mark, asked.version);
                }
            }
        }
        missed
    }

    #[test]
    fn what_was_allowed_is_allowed_for_the_same_question_and_version_only() {
        let mut permits = Permits::default();
        let one = asked("a/b");
        assert!(!has(&mut permits, &one));
        put(&mut permits, &one);
        assert!(has(&mut permits, &one));
        let publish = |retain| Action::Publish { retain };
        let subscribe = Action::Subscribe {
            checks_deliveries: true,
        };
        let others = [
            Asked { version: 2, ..one },
            Asked {
                client: Client(128),
                ..one
            },
            Asked {
                who: who("b", "key"),
                ..one
            },
            Asked {
                who: who("a", "kez"),
                ..one
            },
            Asked {
                who: who("ak", "ey"),
                ..one
            },
            Asked {
                action: publish(false),
                ..one
            },
            Asked {
                action: publish(true),
                ..one
            },
            Asked {
                action: subscribe,
                ..one
            },
            Asked {
                topic: b"a/c",
                ..one
            },
            Asked {
                topic: b"a/",
                ..one
            },
        ];
        for other in &others {
            assert!(!has(&mut permits, other), "{other:?}");
        }
    }

    #[test]
    fn nothing_is_allowed_to_a_client_that_was_forgotten() {
        let mut permits = Permits::default();
        let one = asked("a/b");
        put(&mut permits, &one);
        permits.forget(one.client);
        assert!(!has(&mut permits, &one));
    }

    #[test]
    fn there_is_room_for_what_is_asked_again_and_again() {
        let topics: Vec<String> = (0..5000).map(|n| format!("a/{n}")).collect();
        let many = topics.iter().map(|topic| asked(topic)).collect::<Vec<_>>();
        let to_many = (0..5000).map(|client| Asked {
            client: Client(client * 64),
            ..asked("a/b")
        });
        for all in [many, to_many.collect()] {
            let mut permits = Permits::default();
            let missed = missed(&mut permits, &all);
            assert!(missed < 50, "{missed} of 5000 were missed");
            assert!(permits.buckets.len() <= 8192);
        }
    }

    #[test]
    fn what_is_out_of_date_makes_room_first_and_does_not_make_it_grow() {
        let mut permits = Permits::default();
        for version in 1..2000 {
            for topic in ["a", "b", "c", "d"] {
                let one = Asked {
                    version,
                    ..asked(topic)
                };
                put(&mut permits, &one);
                assert!(has(&mut permits, &one));
            }
        }
        assert_eq!(permits.buckets.len(), FEWEST);
    }

    #[test]
    fn it_grows_so_far_only() {
        let mut permits = Permits::default();
        for topic in 0..MOST * 12 {
            put(&mut permits, &asked(&topic.to_string()));
        }
        assert_eq!(permits.buckets.len(), MOST);
    }
}
