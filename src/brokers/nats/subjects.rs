//! What a session may do, in NATS's words: subjects instead of topics.
//!
//! | MQTT | NATS |
//! |---|---|
//! | `a/b` | `a.b` |
//! | `/a` , `a/` , `a//b` | `/.a` , `a./` , `a./.b` |
//! | `a.b` | `a//b` |
//! | `a/+` | `a.*` |
//! | `a/#` | `a.>` and `a` |
//!
//! In NATS a wildcard matches `$` and `_` as anything else, where the server keeps what is not for devices. So filters
//! that begin with one are not granted, nor what NATS has no word for.

use serde::Serialize;

use crate::topics::Permitted;

/// Of a user: the lists of a user's token.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Permissions {
    /// Where it may send.
    #[serde(rename = "pub")]
    pub publish: Subjects,
    /// From where it may receive.
    #[serde(rename = "sub")]
    pub subscribe: Subjects,
}

/// To be allowed, one has to be among the first, and not among the others.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Subjects {
    /// Never empty: that would be all.
    pub allow: Vec<String>,
    /// Mostly empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Permissions {
    /// The same in NATS's words, and whether nothing is left out.
    pub fn of(permitted: &Permitted, inbox: Option<String>) -> (Permissions, bool) {
        let mut is_whole = permitted.is_whole;
        let mut all = |filters: &[String]| -> Vec<String> {
            let translated = filters.iter().map(|filter| translated(filter));
            let said = translated.inspect(|subjects| is_whole &= subjects.is_some());
            said.flatten().flatten().collect()
        };
        let mut permissions = Permissions {
            publish: Subjects {
                allow: all(&permitted.publish),
                deny: all(&permitted.publish_not),
            },
            subscribe: Subjects {
                allow: all(&permitted.subscribe),
                deny: Vec::new(),
            },
        };
        permissions.subscribe.allow.extend(inbox);
        (permissions, is_whole)
    }
}

/// The subjects that a client of core NATS gets answers at, which nobody else reads. None if the key is one that was
/// taken over, and looks like no part of a subject.
pub fn inbox(device_id: &str, key: &str) -> Option<String> {
    let is_lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    key.bytes()
        .all(is_lawful)
        .then(|| format!("_INBOX_{device_id}.{key}.>"))
}

fn translated(filter: &str) -> Option<Vec<String>> {
    let is_lawful = |byte: u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    if filter.starts_with(['+', '#', '$']) || !filter.bytes().all(is_lawful) {
        return None;
    }
    let subject = subject(filter);
    let above = subject.strip_suffix(".>").map(str::to_owned);
    Some(above.into_iter().chain([subject]).collect())
}

/// As the server does it, letter by letter.
fn subject(filter: &str) -> String {
    let mut subject = String::new();
    let mut letters = filter.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_begin = subject.is_empty() || subject.ends_with('.');
        let is_end = matches!(letters.peek(), None | Some('/'));
        match letter {
            '/' if is_begin => subject.push_str("/."),
            '/' if is_end => subject.push_str("./"),
            '/' => subject.push('.'),
            '.' => subject.push_str("//"),
            '+' => subject.push('*'),
            '#' => subject.push('>'),
            other => subject.push(other),
        }
    }
    if subject.ends_with('.') {
        subject.push('/');
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_become_subjects_as_the_server_does_it() {
        let rows: [(&str, &[&str]); 13] = [
            ("devices/pump-1/state", &["devices.pump-1.state"]),
            ("devices/+/state", &["devices.*.state"]),
            ("log/#", &["log", "log.>"]),
            ("/log", &["/.log"]),
            ("log/", &["log./"]),
            ("a//b", &["a./.b"]),
            ("a///b", &["a././.b"]),
            ("/", &["/./"]),
            ("v1.2/x", &["v1//2.x"]),
            ("a./b", &["a//.b"]),
            ("a/+/b/#", &["a.*.b", "a.*.b.>"]),
            ("ä/b", &["ä.b"]),
            ("log", &["log"]),
        ];
        for (filter, subjects) in rows {
            assert_eq!(translated(filter).expect("a subject"), subjects, "{filter}");
        }
        for filter in ["#", "+/x", "+", "a b", "a/\u{7f}", "a\n", "$SYS/x", "a\t/#"] {
            assert_eq!(translated(filter), None, "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let permitted = Permitted {
            publish: text(&["devices/a/state", "+/x"]),
            publish_not: text(&["devices/a/command"]),
            subscribe: text(&["devices/+/state"]),
            is_whole: true,
        };
        let (permissions, is_whole) = Permissions::of(&permitted, inbox("a", "kwk_1"));
        assert!(!is_whole);
        let json = serde_json::to_string(&permissions).expect("JSON");
        let expected = r#"{"pub":{"allow":["devices.a.state"],"deny":["devices.a.command"]},"#
            .to_owned()
            + r#""sub":{"allow":["devices.*.state","_INBOX_a.kwk_1.>"]}}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn an_inbox_is_its_devices_and_keys_alone() {
        for key in ["a.b", "*", ">", "a b", "ä"] {
            assert_eq!(inbox("a", key), None, "{key}");
        }
        assert_ne!(inbox("a", "b_c"), inbox("a_b", "c"));
    }
}
