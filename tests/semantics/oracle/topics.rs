//! What a device may do with topics: with each single one, and with all that a filter matches if each of them is open.

use super::super::questions::{Act, Wish};
use super::super::world::{Class, Filter, Key, World};
use super::{admits, device};

/// Levels without wildcards and braces, but those of `{device}`; or `+`; and `#` as the last.
pub fn is_grantable(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let is_lawful = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at + 1 == levels.len(),
        level => !level
            .replace("{device}", "")
            .contains(['+', '#', '*', '>', '{', '}']),
    };
    !filter.is_empty() && !filter.starts_with('$') && levels.iter().enumerate().all(is_lawful)
}

pub fn may(world: &World, key: &Key, asked: &Wish) -> bool {
    let subscribes = matches!(asked.act, Act::Subscribe | Act::SubscribeChecked);
    let mut topic = asked.topic.as_str();
    if subscribes && topic.starts_with("$share/") {
        let parts: Vec<&str> = topic.splitn(3, '/').collect();
        let [_, group, rest] = parts[..] else {
            return false;
        };
        if group.is_empty() || has_wildcard(group) {
            return false;
        }
        topic = rest;
    }
    if topic.is_empty() || topic.starts_with('$') || topic.contains('\0') {
        return false;
    }
    let levels: Vec<&str> = topic.split('/').collect();
    if !has_wildcard(topic) {
        return may_with(world, key, asked, &levels);
    }
    let Some(levels) = filter(&levels) else {
        return false;
    };
    // The broker asks again about each message that a device's topic delivers.
    let asks_again = asked.act == Act::SubscribeChecked && levels.get(1) == Some(&"+");
    subscribes
        && all_that_match(&levels, asked.device_id)
            .iter()
            .all(|topic| {
                let is_a_device_s =
                    topic[0] == ROOT && topic.len() == 3 && KINDS.contains(&topic[2]);
                asks_again && is_a_device_s || may_with(world, key, asked, topic)
            })
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['+', '#', '*', '>'])
}

/// `*` and `>` are other protocols' words for `+` and `#`. A wildcard is a level of its own.
fn filter<'a>(levels: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut read = Vec::new();
    for (at, level) in levels.iter().enumerate() {
        let is_last = at + 1 == levels.len();
        match *level {
            "+" | "*" => read.push("+"),
            "#" | ">" if is_last => read.push("#"),
            level if has_wildcard(level) => return None,
            level => read.push(level),
        }
    }
    Some(read)
}

const ROOT: &str = "devices";
const KINDS: [&str; 2] = ["state", "command"];

/// All topics that a filter matches, of those over a few words: those that keys grant, the device's own ID, and one that
/// nobody writes. They are longer than any filter is, so that nothing follows from their length.
fn all_that_match<'a>(filter: &[&'a str], own_id: &'a str) -> Vec<Vec<&'a str>> {
    let words = ["unwritten", "log", "x", "pump", own_id, ROOT, "state"];
    let mut found = Vec::new();
    let mut topics: Vec<Vec<&str>> = vec![Vec::new()];
    for at in 0..4 {
        let level = filter
            .get(at)
            .or(filter.last().filter(|last| **last == "#"));
        let levels = match level {
            Some(&"+" | &"#") => words.to_vec(),
            Some(level) => vec![*level],
            None => Vec::new(),
        };
        let longer = |topic: &Vec<&'a str>| {
            let levels = levels.clone().into_iter();
            let topic = topic.clone();
            levels.map(move |level| [topic.clone(), vec![level]].concat())
        };
        topics = topics.iter().flat_map(longer).collect();
        found.extend(
            topics
                .iter()
                .filter(|topic| matches(filter, topic))
                .cloned(),
        );
    }
    found
}

/// Whether a topic, which no wildcard is in, is open to the device.
fn may_with(world: &World, key: &Key, asked: &Wish, topic: &[&str]) -> bool {
    if topic[0] == ROOT {
        return match topic {
            [_, about, kind] if KINDS.contains(kind) => may_about(world, key, asked, about, kind),
            _ => false,
        };
    }
    let list = match asked.act {
        Act::Publish | Act::Retain => &key.topics.lists[0],
        Act::Subscribe | Act::SubscribeChecked | Act::Receive => &key.topics.lists[1],
    };
    let is_listed = list.iter().any(|filter| {
        let filter = filter.replace("{device}", asked.device_id);
        matches(&filter.split('/').collect::<Vec<_>>(), topic)
    });
    match key.topics.filter {
        Filter::None => false,
        Filter::All => true,
        Filter::Allow => is_listed,
        Filter::Deny => !is_listed,
    }
}

fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match filter.first() {
        Some(&"#") => true,
        None => topic.is_empty(),
        Some(level) => {
            !topic.is_empty()
                && (*level == "+" || *level == topic[0])
                && matches(&filter[1..], &topic[1..])
        }
    }
}

/// The table of who may do what with the topics of whom.
fn may_about(world: &World, key: &Key, asked: &Wish, about: &str, kind: &str) -> bool {
    let own = device(world, asked.device_id);
    let other = device(world, about);
    let is_itself = asked.device_id == about;
    let is_admitted = admits(&key.restrictions, about, other);
    let mut is_its_peripheral = false;
    if let (Some(own), Some(other)) = (own, other) {
        let is_named = other.gateway == Some(own.id);
        let is_anybody_s = other.gateway.is_none() && is_admitted;
        is_its_peripheral = own.class == Class::Gateway
            && other.class == Class::Peripheral
            && !other.is_disabled
            && (is_named || is_anybody_s);
    }
    match (asked.act, kind) {
        (Act::Publish | Act::Retain, "state") => is_itself || is_its_peripheral,
        (Act::Publish, "command") => !is_itself && (is_admitted || is_its_peripheral),
        // It would outlive its sender's rights.
        (Act::Retain, "command") => false,
        _ => is_itself || is_admitted || is_its_peripheral,
    }
}
