//! All that a session may do, as filters: for brokers that are told at once, and ask no more.

use serde::Serialize;

use super::filters::{covers, meet};
use super::{Grants, Layout};
use crate::text::Text;

/// What a session reaches, beside its own topics.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Reach {
    /// Whether its key admits every device.
    pub all: bool,
    /// The devices that its key admits, in their order; none are named if it admits all.
    pub admitted: Vec<Text>,
    /// The peripherals that it speaks for, in their order.
    pub peripherals: Vec<Text>,
    /// What its key grants outside the topic root.
    pub grants: Grants,
}

impl Reach {
    /// Whether `wider` reaches all that this does.
    pub fn is_within(&self, wider: &Reach) -> bool {
        let has_admitted = wider.all || (!self.all && is_part(&self.admitted, &wider.admitted));
        has_admitted
            && is_part(&self.peripherals, &wider.peripherals)
            && (self.grants == Grants::None || self.grants == wider.grants)
    }
}

/// Both are in their order.
fn is_part(part: &[Text], whole: &[Text]) -> bool {
    part.iter().all(|one| whole.binary_search(one).is_ok())
}

/// What a session may send and receive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Permitted {
    /// Filters of the topics that it may send to,
    pub publish: Vec<String>,
    /// but to none of these.
    pub publish_not: Vec<String>,
    /// Filters of the topics that it may receive from.
    pub subscribe: Vec<String>,
    /// Whether this is all. What is granted outside the topic root, but for some topics or for what is reserved, is left
    /// out.
    pub is_whole: bool,
}

impl Permitted {
    /// What the device with this ID may do.
    pub fn of(layout: &Layout, namespace: &str, device_id: &str, reach: &Reach) -> Permitted {
        let topic = |device: &str, kind: &str| layout.device_topic(namespace, device, kind);
        let others = |devices: &'_ [Text]| -> Vec<Text> {
            let others = devices.iter().filter(|device| **device != *device_id);
            others.cloned().collect()
        };
        let mut commanded = others(&reach.admitted);
        let peripherals = others(&reach.peripherals);
        let mut permitted = Permitted {
            is_whole: true,
            ..Permitted::default()
        };
        if reach.all {
            commanded = vec!["+".into()];
            permitted.publish_not = vec![topic(device_id, "command")];
        } else {
            commanded.extend(peripherals.iter().cloned());
            commanded.sort_unstable();
            commanded.dedup();
        }
        let own: Text = device_id.into();
        for device in peripherals.iter().chain([&own]) {
            permitted.publish.push(topic(device, "state"));
        }
        for device in &commanded {
            permitted.publish.push(topic(device, "command"));
        }
        for device in commanded.iter().chain((!reach.all).then_some(&own)) {
            let both = ["state", "command"].map(|kind| topic(device, kind));
            permitted.subscribe.extend(both);
        }
        permitted.grant(layout, namespace, device_id, &reach.grants);
        permitted
    }

    /// Outside the topic root.
    fn grant(&mut self, layout: &Layout, namespace: &str, device_id: &str, grants: &Grants) {
        let lists = match grants {
            Grants::None => return,
            Grants::AllowList(lists) => lists,
            Grants::All | Grants::DenyList(_) => {
                self.is_whole = false;
                return;
            }
        };
        let listed = [
            (lists.publish_for(device_id), &mut self.publish),
            (lists.subscribe_for(device_id), &mut self.subscribe),
        ];
        let reserved = layout.reserved();
        for (filters, permitted) in listed {
            for filter in &filters {
                let filter = layout.custom(namespace, filter);
                if meet(&filter, &reserved).is_none() {
                    permitted.push(filter.join("/"));
                } else if !covers(&reserved, &filter) {
                    self.is_whole = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::filters::matches;
    use super::super::{Action, Asker, Relation, Root};
    use super::*;
    use crate::api::Topics;

    const PUBLISH: Action = Action::Publish { retain: false };
    const SUBSCRIBE: Action = Action::Subscribe {
        checks_deliveries: false,
    };

    fn grants(topics: Value) -> Grants {
        let topics: Topics = serde_json::from_value(topics).expect("topics");
        Grants::of(&topics).expect("readable")
    }

    fn texts(ids: &[&str]) -> Vec<Text> {
        ids.iter().map(|id| Text::from(*id)).collect()
    }

    fn layouts() -> [Layout; 2] {
        let root = "{namespace}/devices".parse().expect("a root");
        [
            Layout::of_one_namespace(Root::default()),
            Layout::of_several_namespaces(root).expect("a layout"),
        ]
    }

    /// A gateway that admits `valve`, or everything, and speaks for `probe`.
    fn reach(all: bool, grants: Grants) -> Reach {
        Reach {
            all,
            admitted: if all {
                Vec::new()
            } else {
                texts(&["gate", "valve"])
            },
            peripherals: texts(&["probe"]),
            grants,
        }
    }

    fn relation(all: bool, of: &str) -> Relation {
        match of {
            "gate" => Relation::Itself,
            "probe" => Relation::Peripheral,
            "valve" => Relation::Admitted,
            _ if all => Relation::Admitted,
            _ => Relation::Other,
        }
    }

    fn is_listed(filters: &[String], topic: &str) -> bool {
        let levels = |text: &'_ str| -> Vec<String> { text.split('/').map(String::from).collect() };
        let topic = levels(topic);
        let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
        filters.iter().any(|filter| {
            let filter: Vec<&str> = filter.split('/').collect();
            matches(&filter, &topic)
        })
    }

    fn every_topic() -> Vec<String> {
        let levels = [
            "devices", "plant", "other", "gate", "valve", "probe", "x", "state", "command", "log",
        ];
        let mut longest = vec![String::new()];
        let mut topics = Vec::new();
        for _ in 0..4 {
            let longer = longest.iter().flat_map(|topic| {
                levels.map(|level| match &**topic {
                    "" => level.to_owned(),
                    topic => format!("{topic}/{level}"),
                })
            });
            longest = longer.collect();
            topics.extend(longest.clone());
        }
        topics
    }

    #[test]
    fn the_lists_say_what_would_be_answered_topic_by_topic() {
        let rows = [
            (json!({ "filter": "None" }), true),
            (
                json!({ "filter": "AllowList", "publish": ["log/{device}"], "subscribe": ["log/#", "x/+/state"] }),
                true,
            ),
            // Nothing of it lies outside.
            (
                json!({ "filter": "AllowList", "publish": ["devices/x/#"] }),
                true,
            ),
            (
                json!({ "filter": "AllowList", "publish": ["log", "+/valve/state"] }),
                false,
            ),
            (json!({ "filter": "AllowList", "subscribe": ["#"] }), false),
            (json!({ "filter": "DenyList", "publish": ["log"] }), false),
            (json!({ "filter": "All" }), false),
        ];
        let topics = every_topic();
        for layout in layouts() {
            for (topics_of_key, is_whole) in &rows {
                for all in [false, true] {
                    let reach = reach(all, grants(topics_of_key.clone()));
                    let permitted = Permitted::of(&layout, "plant", "gate", &reach);
                    // With several namespaces custom topics lie elsewhere.
                    let is_one = !layout.has_several();
                    assert!(
                        permitted.is_whole == *is_whole || !is_one,
                        "{topics_of_key}"
                    );
                    let asker = Asker {
                        layout: &layout,
                        namespace: "plant",
                        device_id: "gate",
                        grants: &reach.grants,
                        admits_all: all,
                        relation: |of: &str| relation(all, of),
                    };
                    for topic in &topics {
                        let publishes = is_listed(&permitted.publish, topic)
                            && !is_listed(&permitted.publish_not, topic);
                        let subscribes = is_listed(&permitted.subscribe, topic);
                        for (is_listed, action) in [(publishes, PUBLISH), (subscribes, SUBSCRIBE)] {
                            let may = asker.may(action, topic);
                            let agrees = if permitted.is_whole {
                                is_listed == may
                            } else {
                                !is_listed || may
                            };
                            assert!(
                                agrees,
                                "{action:?} {topic} with {topics_of_key}, {all}: {permitted:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_filter_is_listed_only_if_it_may_be_subscribed_to() {
        for all in [false, true] {
            let reach = reach(
                all,
                grants(json!({ "filter": "AllowList", "subscribe": ["log/#", "+/x"] })),
            );
            for layout in layouts() {
                let permitted = Permitted::of(&layout, "plant", "gate", &reach);
                let asker = Asker {
                    layout: &layout,
                    namespace: "plant",
                    device_id: "gate",
                    grants: &reach.grants,
                    admits_all: all,
                    relation: |of: &str| relation(all, of),
                };
                for filter in &permitted.subscribe {
                    assert!(asker.may(SUBSCRIBE, filter), "{filter}");
                }
            }
        }
    }

    #[test]
    fn what_is_taken_away_is_seen() {
        let before = reach(false, Grants::None);
        let of = |admitted: &[&str], peripherals: &[&str]| Reach {
            admitted: texts(admitted),
            peripherals: texts(peripherals),
            ..before.clone()
        };
        assert!(before.is_within(&before));
        assert!(before.is_within(&of(&["gate", "pump", "valve"], &["probe", "probe-2"])));
        assert!(!before.is_within(&of(&["gate", "pump"], &["probe"])));
        assert!(!before.is_within(&of(&["gate", "probe", "valve"], &[])));
        assert!(before.is_within(&reach(true, Grants::None)));
        assert!(!reach(true, Grants::None).is_within(&before));
        let log = grants(json!({ "filter": "AllowList", "publish": ["log"] }));
        assert!(before.is_within(&reach(false, log.clone())));
        assert!(!reach(false, log.clone()).is_within(&before));
        assert!(reach(false, log.clone()).is_within(&reach(true, log)));
    }
}
