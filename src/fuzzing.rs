//! What the targets in `fuzz/` do with the bytes that they are given: read them as what a stranger
//! sends, and hold what was read against what is known about it.
//!
//! Built for fuzzing, and for a test that runs through the seeds.

mod gateway;

use base64ct::{Base64, Encoding};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use self::gateway::{Answer, DEVICE, Endpoint, Gateway};
use crate::api::{TopicFilter, Topics};
use crate::devices::is_device_id;
use crate::gateway::http::basic;
use crate::key::{Check, Secret};
use crate::topics::{Action, Asker, Grants, Layout, Relation, Root};
use crate::verifier::Verifier;

/// A secret, a check, a device ID; and an `Authorization`: nobody is admitted who does not show the
/// token itself.
pub fn credential(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        if let Ok(secret) = Secret::parse(text) {
            assert_eq!(secret.expose(), text);
            assert!(text.starts_with("kws_") && text.len() == 53, "the shape");
        }
        let is_foreign = Secret::foreign(text).is_ok();
        assert_eq!(is_foreign, (1..=1024).contains(&text.len()));
        if let Ok(check) = Check::parse(text) {
            assert_eq!(check.as_str(), text);
        }
    }
    Gateway::with(|gateway| altered_token(gateway, data));
    if let Ok(value) = HeaderValue::from_bytes(data) {
        authorization(value);
    }
}

fn authorization(value: HeaderValue) {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value.clone())]);
    if let Some((user, password)) = basic(&headers) {
        let again = Base64::encode_string(format!("{user}:{}", &*password).as_bytes());
        let again = HeaderValue::from_str(&format!("basic {again}")).expect("text");
        let read = basic(&HeaderMap::from_iter([(AUTHORIZATION, again)]));
        assert!(read == Some((user, password)), "it reads the same again");
    }
    Gateway::with(|gateway| {
        let is_token = value == gateway.bearer().as_str();
        let answer = gateway.ask(Endpoint::ForwardAuth, Some(value.clone()), Vec::new());
        assert_eq!(answer.status, if is_token { 200 } else { 401 });
        let form = format!("grant_type=client_credentials&device_id={DEVICE}");
        let answer = gateway.ask(Endpoint::Token, Some(value), form.into());
        assert_eq!(answer.status, 401);
    });
}

/// The token with a part of it replaced is not the token. The first two bytes say which part.
fn altered_token(gateway: &Gateway, data: &[u8]) {
    let [at, cut, put @ ..] = data else {
        return;
    };
    let mut token = gateway.bearer().into_bytes();
    let at = usize::from(*at) % token.len();
    let end = token.len().min(at + usize::from(*cut) % 8);
    token.splice(at..end, put.iter().copied());
    let is_token = token == gateway.bearer().as_bytes();
    if let Ok(value) = HeaderValue::from_bytes(&token) {
        let is_scheme = token[..7].eq_ignore_ascii_case(b"Bearer ")
            && token[7..] == gateway.bearer().as_bytes()[7..];
        let answer = gateway.ask(Endpoint::ForwardAuth, Some(value), Vec::new());
        let expected = if is_token || is_scheme { 200 } else { 401 };
        assert_eq!(answer.status, expected);
    }
}

/// A verifier: one that is read is within the caps, and is written as it was read.
pub fn phc(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let Ok(verifier) = Verifier::parse(text) else {
        return;
    };
    assert_eq!(verifier.as_str(), text);
    let (_, tag) = text.rsplit_once('$').expect("parts");
    assert!(!format!("{verifier:?}").contains(tag), "it shows its hash");
    let cost = verifier.cost();
    assert!((8..=65536 * 10).contains(&cost), "{cost}");
    if cost <= 64 {
        let secret = Secret::foreign("not the secret").expect("a secret");
        assert!(!verifier.verifies(&secret));
    }
}

/// Four lines: a filter that a key grants, a topic or filter that is asked for, a topic root, and a
/// device ID.
pub fn topic_filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (granted, asked, root, device_id) = (line(), line(), line(), line());
    let Ok(root) = root.parse::<Root>() else {
        return;
    };
    let layout = Layout::of_one_namespace(root);
    if !is_device_id(device_id) {
        return;
    }
    let own = layout.device_topic("plant", device_id, "state");
    let listed = [TopicFilter::AllowList, TopicFilter::DenyList].map(|filter| {
        let list = vec![granted.to_owned()];
        let topics = Topics {
            filter,
            publish: list.clone(),
            subscribe: list,
        };
        Grants::of(&topics)
    });
    let [Ok(allow), Ok(deny)] = listed else {
        return;
    };
    let may = |grants: &Grants, action, topic: &str| {
        let asker = Asker {
            layout: &layout,
            namespace: "plant",
            device_id,
            grants,
            admits_all: false,
            relation: |about: &str| match about == device_id {
                true => Relation::Itself,
                false => Relation::Other,
            },
        };
        asker.may(action, topic)
    };
    assert!(may(&Grants::None, PUBLISH, &own), "the device's own topic");
    for action in [PUBLISH, SUBSCRIBE, Action::Receive] {
        let [none, all, allowed, denied] =
            [&Grants::None, &Grants::All, &allow, &deny].map(|grants| may(grants, action, asked));
        assert!(all || !(none || allowed || denied), "more than all");
        assert!(
            !none || allowed && denied,
            "a list takes away what is its own"
        );
        let is_one_topic = !asked.contains(['+', '#', '*', '>']);
        let is_listed_or_not = allowed != denied || none;
        assert!(
            !all || !is_one_topic || is_listed_or_not,
            "neither, or both"
        );
    }
    for grants in [&Grants::All, &allow, &deny] {
        if may(grants, SUBSCRIBE, asked) && !asked.starts_with('$') {
            for topic in matched(asked) {
                assert!(may(grants, Action::Receive, &topic), "{topic:?}");
            }
        }
    }
}

const PUBLISH: Action = Action::Publish { retain: false };
const SUBSCRIBE: Action = Action::Subscribe {
    checks_deliveries: false,
};

/// Some topics that a filter matches.
fn matched(filter: &str) -> Vec<String> {
    let words = ["", "a", "unwritten"];
    let topics = words.map(|word| {
        let levels = filter.split('/').map(|level| match level {
            "+" | "*" => word.to_owned(),
            "#" | ">" => format!("{word}/{word}"),
            level => level.to_owned(),
        });
        levels.collect::<Vec<_>>().join("/")
    });
    // No message has the empty topic.
    let topics = topics.into_iter().filter(|topic| !topic.is_empty());
    topics.collect()
}

/// The body of a request, after a byte that says to which endpoint; in it `TOKEN` stands for a good
/// one. Whatever it is, nobody is admitted, and a token is good for what it is for and nothing else.
pub fn bodies(data: &[u8]) {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    let endpoints = [
        Endpoint::Device,
        Endpoint::Token,
        Endpoint::Introspect,
        Endpoint::Authorize,
    ];
    let endpoint = endpoints[usize::from(*which) % endpoints.len()];
    Gateway::with(|gateway| {
        let body = gateway.with_token(body);
        let answer = gateway.ask(endpoint, None, body.clone());
        let said = answer.json();
        match (endpoint, answer.status) {
            (_, 400 | 413) => {}
            (Endpoint::Device | Endpoint::Token, 401) => {}
            (Endpoint::Introspect, 200) => {
                assert!(said["active"] == false || said["sub"] == DEVICE, "{said}")
            }
            (Endpoint::Authorize, 200) => {
                assert!(said["allowed"] == false || is_own(&body), "{said}");
            }
            (_, status) => panic!("{status}: {said}"),
        }
    });
}

/// Whether it asks for what the token's device may do: all but commands, to itself.
fn is_own(body: &[u8]) -> bool {
    let asked: Value = serde_json::from_slice(body).expect("it was read");
    asked["deviceId"] == DEVICE && asked["action"] != "sendCommand"
}

impl Answer {
    fn json(&self) -> Value {
        match self.status {
            // What is too long is refused before anybody reads it.
            413 => Value::Null,
            _ => serde_json::from_slice(&self.body).expect("all answers are JSON"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 4] = [
        ("credential", super::credential),
        ("phc", super::phc),
        ("topic_filter", super::topic_filter),
        ("bodies", super::bodies),
    ];

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let seeds = fs::read_dir(root.join("fuzz/seeds").join(target)).expect("a folder of seeds");
        seeds
            .map(|seed| fs::read(seed.expect("a seed").path()).expect("a file"))
            .collect()
    }

    #[test]
    fn the_seeds_of_all_targets_pass() {
        for (target, run) in TARGETS {
            let seeds = seeds(target);
            assert!(seeds.len() >= 8, "{target} has {} seeds", seeds.len());
            seeds.iter().for_each(|seed| run(seed));
        }
    }

    /// What a fuzzer does, without looking where it leads: in a seed, a part is replaced by a part of
    /// another one, or by anything.
    #[test]
    fn altered_seeds_of_all_targets_pass() {
        for (target, run) in TARGETS {
            let seeds = seeds(target);
            let seed = prop::sample::select(seeds.clone());
            let part = (any::<Index>(), any::<Index>());
            let put = prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                (prop::sample::select(seeds), part.clone()).prop_map(|(other, part)| {
                    let part = range(&other, part);
                    other[part].to_vec()
                }),
            ];
            let altered = (seed, part, put).prop_map(|(mut seed, part, put)| {
                let part = range(&seed, part);
                seed.splice(part, put);
                seed
            });
            proptest!(ProptestConfig::with_cases(5_000), |(data in altered)| run(&data));
        }
    }

    fn range(data: &[u8], (one, other): (Index, Index)) -> std::ops::Range<usize> {
        let [one, other] = [one, other].map(|at| at.index(data.len() + 1));
        one.min(other)..one.max(other)
    }
}
