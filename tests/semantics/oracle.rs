//! The specification, read a second time and naively: each sentence a line, over lists, by trying everything. It shares
//! nothing with the code that it judges, not even the words for the answers.

mod topics;

use super::questions::{Login, Wish};
use super::world::{
    Class, Device, Filter, Key, Life, Listed, Requirement, Restrictions, SECRETS, World,
};

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// By which issue of the key, and as what.
    Admitted(i32, Class),
    Allowed,
    Denied(&'static str),
    Unavailable,
}

pub fn login(world: &World, asked: &Login) -> Answer {
    let key = key(world, asked.knows_key);
    if !is_id(asked.device_id) || !is_secret(key, &asked.secret) {
        return Answer::Denied("malformed");
    }
    let key = match refused(world, key, asked.device_id, asked.address) {
        Ok(key) => key,
        Err(reason) => return Answer::Denied(reason),
    };
    // The newest verifier that the secret matches says which issue it is of.
    for verifier in key.verifiers.iter().rev() {
        let is_over = verifier.valid_until.is_some_and(|until| until <= 0);
        let has_other_check = verifier.check_of.is_some_and(|of| of != verifier.of);
        if !is_over && !has_other_check && SECRETS[verifier.of] == asked.secret {
            let class = device(world, asked.device_id).map(|device| device.class);
            return Answer::Admitted(verifier.revision, class.unwrap_or(Class::Standalone));
        }
    }
    // A secret that is being issued may be confirmed in a moment.
    let mut under_way = key.under_way.iter();
    if under_way.any(|secret| SECRETS[*secret] == asked.secret) {
        return Answer::Unavailable;
    }
    Answer::Denied("bad_secret")
}

pub fn wish(world: &World, asked: &Wish) -> Answer {
    let key = key(world, asked.knows_key);
    let key = match refused(world, key, asked.device_id, asked.address) {
        Ok(key) => key,
        Err(reason) => return Answer::Denied(reason),
    };
    let mut verifiers = key.verifiers.iter();
    let stands = verifiers.any(|verifier| {
        let is_own = asked.revision.is_none_or(|own| own == verifier.revision);
        is_own && verifier.valid_until.is_none_or(|until| until > 0)
    });
    if !stands {
        return Answer::Denied("bad_secret");
    }
    match topics::may(world, key, asked) {
        true => Answer::Allowed,
        false => Answer::Denied("topic"),
    }
}

/// The key that the gateway knows by this name: one that is issued, not deleted, and that the schema would accept.
fn key(world: &World, knows_key: bool) -> Option<&Key> {
    let key = &world.key;
    let is_known = knows_key
        && key.life == Life::Issued
        && is_lawful(&key.restrictions)
        && has_lists_if_it_needs_them(&key.sources)
        && has_lists_if_it_needs_them(&key.topics)
        && key
            .topics
            .lists
            .iter()
            .flatten()
            .all(|filter| topics::is_grantable(filter));
    is_known.then_some(key)
}

fn device<'a>(world: &'a World, id: &str) -> Option<&'a Device> {
    world.devices.iter().find(|device| device.id == id)
}

/// Why not, if the key does not admit the device, whatever its secret.
fn refused<'a>(
    world: &World,
    key: Option<&'a Key>,
    id: &str,
    address: Option<&str>,
) -> Result<&'a Key, &'static str> {
    let Some(key) = key else {
        return Err("unknown_key");
    };
    let device = device(world, id);
    let class = device.map(|device| device.class);
    let in_order = [
        (key.is_inactive, "inactive"),
        (
            key.not_before.is_some_and(|begin| begin > 0),
            "not_yet_valid",
        ),
        (key.expires_at.is_some_and(|end| end <= 0), "expired"),
        (!may_come_from(&key.sources, address), "source"),
        (
            world.requires_registration && device.is_none(),
            "not_registered",
        ),
        (
            class == Some(Class::Peripheral) || class == Some(Class::System),
            "device_class",
        ),
        (
            device.is_some_and(|device| device.is_disabled),
            "device_disabled",
        ),
        (!admits(&key.restrictions, id, device), "out_of_scope"),
    ];
    match in_order.iter().find(|(is_refused, _)| *is_refused) {
        Some((_, reason)) => Err(reason),
        None => Ok(key),
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| matches!(letter, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-'))
}

/// A key one of whose verifiers has no check was taken over, and its secrets may be anything of a sane length.
fn is_secret(key: Option<&Key>, text: &str) -> bool {
    let mut verifiers = key.iter().flat_map(|key| &key.verifiers);
    match verifiers.any(|verifier| verifier.check_of.is_none()) {
        true => !text.is_empty() && text.len() <= 1024,
        false => SECRETS[..3].contains(&text),
    }
}

fn is_lawful(restrictions: &Restrictions) -> bool {
    let Restrictions {
        all,
        ids,
        tags,
        labels,
    } = restrictions;
    let others = [ids.is_some(), tags.is_some(), labels.is_some()];
    let count = others.iter().filter(|is_there| **is_there).count();
    match all {
        Some(true) => return count == 0,
        Some(false) => return false,
        None => {}
    }
    let has_empty_list = ids.as_ref().is_some_and(Vec::is_empty)
        || tags.as_ref().is_some_and(Vec::is_empty)
        || labels.as_ref().is_some_and(Vec::is_empty);
    let has_empty_tag = tags.iter().flatten().any(|pair| *pair == (None, None));
    let has_odd_requirement = labels.iter().flatten().any(|(_, operator, values)| {
        let wants_values = *operator == "In" || *operator == "NotIn";
        wants_values == values.is_empty()
    });
    count > 0 && !has_empty_list && !has_empty_tag && !has_odd_requirement
}

/// Any of IDs, tags and selector is enough; tags and labels are those of a Device.
fn admits(restrictions: &Restrictions, id: &str, device: Option<&Device>) -> bool {
    if restrictions.all == Some(true) {
        return true;
    }
    if restrictions
        .ids
        .iter()
        .flatten()
        .any(|listed| *listed == id)
    {
        return true;
    }
    let Some(device) = device else {
        return false;
    };
    for (key, value) in restrictions.tags.iter().flatten() {
        for (own_key, own_value) in &device.tags {
            let key_fits = key.is_none() || *key == Some(*own_key);
            let value_fits = value.is_none() || *value == Some(*own_value);
            if key_fits && value_fits {
                return true;
            }
        }
    }
    match &restrictions.labels {
        Some(labels) => labels.iter().all(|requirement| is_met(requirement, device)),
        None => false,
    }
}

fn is_met((key, operator, values): &Requirement, device: &Device) -> bool {
    let own: Vec<&str> = device
        .labels
        .iter()
        .filter(|(label, _)| label == key)
        .map(|(_, value)| *value)
        .collect();
    let is_one_of_them = own.iter().any(|value| values.contains(value));
    match *operator {
        "In" => is_one_of_them,
        "NotIn" => !is_one_of_them,
        "Exists" => !own.is_empty(),
        "DoesNotExist" => own.is_empty(),
        _ => false,
    }
}

fn has_lists_if_it_needs_them(listed: &Listed) -> bool {
    let wants_lists = listed.filter == Filter::Allow || listed.filter == Filter::Deny;
    wants_lists == listed.lists.iter().any(|list| !list.is_empty())
}

/// Which of the addresses lie in which range.
const LIES_IN: [(&str, &[&str]); 5] = [
    ("10.0.0.0/8", &["10.1.2.3", "::ffff:10.1.2.3"]),
    ("192.0.2.7", &["192.0.2.7"]),
    ("2001:db8::/32", &["2001:db8::1"]),
    ("::ffff:198.51.100.0/120", &["198.51.100.9"]),
    (
        "0.0.0.0/0",
        &[
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "192.0.2.7",
            "192.0.2.8",
            "198.51.100.9",
        ],
    ),
];

/// An address that is not known is on no list, and off none.
fn may_come_from(sources: &Listed, address: Option<&str>) -> bool {
    let Some(address) = address else {
        return sources.filter == Filter::All;
    };
    let mut ranges = LIES_IN
        .iter()
        .filter(|(range, _)| sources.lists[0].iter().any(|own| own == range));
    let is_listed = ranges.any(|(_, addresses)| addresses.contains(&address));
    match sources.filter {
        Filter::None => false,
        Filter::All => true,
        Filter::Allow => is_listed,
        Filter::Deny => !is_listed,
    }
}
