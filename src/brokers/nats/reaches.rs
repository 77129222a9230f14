//! What sessions were given that go on: a server lists the name of a session, not its permissions.
//!
//! So a session's name holds a digest of what it reaches, and here stands what the digests mean of those that are still
//! in use. One that nobody here knows, since another gateway gave it, or this one before it was started again, means as
//! much as what a session would be given now, or it cannot be told.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::text::Text;
use crate::topics::Reach;

/// Means one reach and no other: 128 bits of its digest, in hexadecimal digits.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Digest(Text);

impl Digest {
    fn of(reach: &Reach) -> Digest {
        let bytes = serde_json::to_vec(reach).expect("JSON");
        let digits = Sha256::digest(bytes);
        let digits = digits.iter().take(DIGITS / 2);
        let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
        Digest(digits.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads what is written so.
    pub fn parse(text: &str) -> Option<Digest> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == DIGITS && text.bytes().all(is_digit)).then(|| Digest(text.into()))
    }
}

const DIGITS: usize = 32;

/// What a session reaches, and what that is called.
#[derive(Debug)]
pub struct Named {
    /// What it is called.
    pub digest: Digest,
    /// What it is.
    pub reach: Reach,
}

/// What is in use.
#[derive(Debug, Default)]
pub struct Reaches {
    named: HashMap<Digest, (Arc<Named>, u64)>,
    look: u64,
}

impl Reaches {
    /// A session may be given this.
    pub fn name(&mut self, reach: Reach) -> Arc<Named> {
        let digest = Digest::of(&reach);
        let named = self
            .named
            .entry(digest.clone())
            .or_insert_with(|| (Arc::new(Named { digest, reach }), 0));
        named.1 = self.look;
        Arc::clone(&named.0)
    }

    /// Whether a session that was given this would be given at least as much now.
    pub fn is_kept(&mut self, given: &Digest, now: &Named) -> bool {
        *given == now.digest
            || self.named.get_mut(given).is_some_and(|(known, used)| {
                *used = self.look;
                known.reach.is_within(&now.reach)
            })
    }

    /// All sessions were looked at. What none had, and none was given since the look before, is forgotten.
    pub fn end_look(&mut self) {
        let look = self.look;
        self.named.retain(|_, (_, used)| *used + 1 >= look);
        self.look += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(admitted: &[&str]) -> Reach {
        Reach {
            admitted: admitted.iter().map(|id| Text::from(*id)).collect(),
            ..Reach::default()
        }
    }

    #[test]
    fn a_session_is_kept_if_nothing_is_taken_away_as_far_as_one_can_tell() {
        let mut reaches = Reaches::default();
        let one = reaches.name(reach(&["a"])).digest.clone();
        let two = reaches.name(reach(&["a", "b"]));
        assert!(reaches.is_kept(&one, &two));
        let one_again = reaches.name(reach(&["a"]));
        assert_eq!(one_again.digest, one);
        assert!(!reaches.is_kept(&two.digest, &one_again));
        let elsewhere = Digest::of(&reach(&["c"]));
        assert!(!reaches.is_kept(&elsewhere, &two));
        assert!(reaches.is_kept(&elsewhere, &reaches_of(&["c"])));
    }

    fn reaches_of(admitted: &[&str]) -> Arc<Named> {
        Reaches::default().name(reach(admitted))
    }

    #[test]
    fn what_is_used_is_remembered_and_nothing_else() {
        let mut reaches = Reaches::default();
        let (one, two) = (reaches.name(reach(&["a"])), reaches.name(reach(&["b"])));
        let wide = reaches_of(&["a", "b"]);
        for _ in 0..4 {
            assert!(reaches.is_kept(&one.digest, &wide));
            reaches.end_look();
        }
        assert!(!reaches.is_kept(&two.digest, &wide));
        assert_eq!(reaches.named.len(), 1);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(&reach(&["a"]));
        assert_eq!(Digest::parse(digest.as_str()), Some(digest.clone()));
        for text in ["", &digest.as_str()[1..], &digest.as_str().to_uppercase()] {
            assert_eq!(Digest::parse(text), None);
        }
    }
}
