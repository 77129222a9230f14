//! Short texts, which gateways keep and hand out in great number.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A text that takes no allocation of its own if it is as short as the keys that are generated, and so lies beside what
/// it is looked at with.
#[derive(Clone, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub struct Text(Kept);

#[derive(Clone)]
enum Kept {
    Short(u8, [u8; SHORT]),
    Long(Box<str>),
}

/// The whole takes 32 bytes.
const SHORT: usize = 30;

impl Text {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Short(length, bytes) => {
                str::from_utf8(&bytes[..usize::from(*length)]).expect("a text")
            }
            Kept::Long(text) => text,
        }
    }

    /// Its bytes, which are had for less.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Short(length, bytes) => &bytes[..usize::from(*length)],
            Kept::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        Self(match bytes.get_mut(..text.len()) {
            Some(begin) => {
                begin.copy_from_slice(text.as_bytes());
                Kept::Short(text.len() as u8, bytes)
            }
            None => Kept::Long(text.into()),
        })
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_what_it_was(text in "\\PC{0,40}", other in "\\PC{0,40}") {
            let made = Text::from(&*text);
            prop_assert_eq!(made.as_str(), &text);
            prop_assert_eq!(made.to_string(), &*text);
            prop_assert_eq!(format!("{made:?}"), format!("{text:?}"));
            let (same, another) = (Text::from(text.clone()), Text::from(&*other));
            prop_assert!(made == *text && made == same);
            prop_assert_eq!(made == *other, text == other);
            prop_assert_eq!(made == another, text == other);
            prop_assert_eq!(made.cmp(&another), text.cmp(&other));
        }

        #[test]
        fn a_text_is_written_and_read_as_any_other(text in "\\PC{0,40}") {
            let json = serde_json::to_string(&Text::from(&*text)).expect("JSON");
            prop_assert_eq!(&json, &serde_json::to_string(&text).expect("JSON"));
            let read: Text = serde_json::from_str(&json).expect("a text");
            prop_assert_eq!(read.as_str(), text);
        }
    }
}
