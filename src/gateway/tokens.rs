//! Tokens that were read before: to check a signature costs more than all the rest of a request does.
//!
//! Kept is what a token says and which key has signed it, for the token as a whole: no decision.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;
use zeroize::Zeroizing;

use super::token::{Claims, SigningKey};

/// So many characters of a signature tell it from all others.
const END: usize = 32;

/// So many are kept, of little more than a KiB each.
const MOST: usize = 16384;

/// A token with a good signature. Has no `Debug`: whoever has the token is the device.
pub(super) struct Read {
    token: Zeroizing<Box<str>>,
    /// Who has signed it.
    pub key: Arc<SigningKey>,
    /// What it says.
    pub claims: Claims,
}

impl Read {
    /// That was just read.
    pub fn new(token: &str, key: Arc<SigningKey>, claims: Claims) -> Read {
        let token = Zeroizing::new(token.into());
        Read { token, key, claims }
    }
}

/// The tokens that were read last.
#[derive(Default)]
pub(super) struct Tokens {
    hasher: RandomState,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    all: HashTable<Arc<Read>>,
    oldest_first: VecDeque<Arc<Read>>,
}

impl Tokens {
    /// This one, if it is kept.
    pub fn get(&self, token: &[u8]) -> Option<Arc<Read>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .all
            .find(self.hash(token), |read| read.token.as_bytes() == token);
        found.cloned()
    }

    /// Keeps one, and forgets the oldest if there are too many.
    pub fn keep(&self, read: Read) -> Arc<Read> {
        let (read, hash) = (Arc::new(read), |read: &Arc<Read>| {
            self.hash(read.token.as_bytes())
        });
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let Kept { all, oldest_first } = &mut *kept;
        if let Ok(entry) = all.find_entry(hash(&read), |other| other.token == read.token) {
            entry.remove();
        }
        all.insert_unique(hash(&read), Arc::clone(&read), hash);
        oldest_first.push_back(Arc::clone(&read));
        if oldest_first.len() > MOST
            && let Some(oldest) = oldest_first.pop_front()
            && let Ok(entry) = all.find_entry(hash(&oldest), |other| Arc::ptr_eq(other, &oldest))
        {
            entry.remove();
        }
        read
    }

    /// Of the end of the signature alone: whoever has it in common with a token that is kept made up the rest, and is
    /// compared with it.
    fn hash(&self, token: &[u8]) -> u64 {
        let end = token.last_chunk::<END>();
        self.hasher.hash_one(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::token::Named;

    fn read(token: &str) -> Read {
        let claims = Claims {
            iss: "".into(),
            aud: "".into(),
            sub: token.into(),
            client_id: "".into(),
            iat: 0,
            exp: 0,
            jti: "".into(),
            scope: String::new(),
            keyward: Named {
                namespace: "".into(),
                device: "".into(),
                verifier: String::from("0123456789abcdef")
                    .try_into()
                    .expect("16 digits"),
            },
        };
        Read::new(
            token,
            SigningKey::generate().expect("entropy").into(),
            claims,
        )
    }

    #[test]
    fn a_token_is_known_as_a_whole() {
        let tokens = Tokens::default();
        tokens.keep(read("head.claims.signature"));
        let known = tokens.get(b"head.claims.signature").expect("kept");
        assert_eq!(known.claims.sub, *"head.claims.signature");
        for other in [
            "head.other.signature",
            "claims.signature",
            "head.claims.other",
            "",
        ] {
            assert!(tokens.get(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn of_a_token_that_is_read_again_the_last_reading_counts() {
        let tokens = Tokens::default();
        tokens.keep(read("a.b"));
        let again = read("a.b");
        let key = Arc::clone(&again.key);
        tokens.keep(again);
        let known = tokens.get(b"a.b").expect("kept");
        assert!(Arc::ptr_eq(&known.key, &key));
        assert_eq!(tokens.kept.read().expect("no panic").all.len(), 1);
    }

    #[test]
    fn the_oldest_make_room() {
        let tokens = Tokens::default();
        let one = read("0.0");
        let another = |number: usize| Read {
            token: Zeroizing::new(format!("0.{number:032}").into()),
            key: Arc::clone(&one.key),
            claims: one.claims.clone(),
        };
        for number in 0..MOST + 10 {
            tokens.keep(another(number));
        }
        let kept = |number: usize| tokens.get(format!("0.{number:032}").as_bytes()).is_some();
        assert!((0..10).all(|number| !kept(number)) && (10..MOST + 10).all(kept));
        let all = tokens.kept.read().expect("no panic");
        assert_eq!((all.all.len(), all.oldest_first.len()), (MOST, MOST));
    }
}
