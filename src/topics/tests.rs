use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::Topics;

const PUBLISH: Action = Action::Publish { retain: false };
const RETAIN: Action = Action::Publish { retain: true };
const SUBSCRIBE: Action = Action::Subscribe {
    checks_deliveries: false,
};
const CHECKED: Action = Action::Subscribe {
    checks_deliveries: true,
};
const ACTIONS: [Action; 5] = [PUBLISH, RETAIN, SUBSCRIBE, CHECKED, Action::Receive];

fn one() -> Layout {
    Layout::of_one_namespace(Root::default())
}

fn several() -> Layout {
    let root = "{namespace}/devices".parse().expect("a root");
    Layout::of_several_namespaces(root).expect("a layout")
}

fn grants(topics: Value) -> Grants {
    let topics: Topics = serde_json::from_value(topics).expect("topics");
    Grants::of(&topics).expect("readable")
}

/// In the namespace `plant` a gateway that admits `valve`, and speaks for `probe`.
fn relation(of: &str) -> Relation {
    match of {
        "gate" => Relation::Itself,
        "valve" => Relation::Admitted,
        "probe" => Relation::Peripheral,
        _ => Relation::Other,
    }
}

fn may(layout: &Layout, grants: &Grants, action: Action, topic: &str) -> bool {
    let asker = Asker {
        layout,
        namespace: "plant",
        device_id: "gate",
        grants,
        admits_all: false,
        relation,
    };
    asker.may(action, topic)
}

/// The same for a key that admits every device.
fn may_all(layout: &Layout, grants: &Grants, action: Action, topic: &str) -> bool {
    let asker = Asker {
        layout,
        namespace: "plant",
        device_id: "gate",
        grants,
        admits_all: true,
        relation: |of: &str| match relation(of) {
            Relation::Other => Relation::Admitted,
            relation => relation,
        },
    };
    asker.may(action, topic)
}

/// The table of the specification, line by line.
#[test]
fn topics_of_devices_are_open_as_the_table_says() {
    let rows = [
        // Publish state, publish command, subscribe state, subscribe command.
        ("gate", [true, false, true, true]),
        ("valve", [false, true, true, true]),
        ("probe", [true, true, true, true]),
        ("stranger", [false, false, false, false]),
    ];
    for (device, expected) in rows {
        for (layout, root) in [(one(), "devices"), (several(), "plant/devices")] {
            let topic = |kind: &str| format!("{root}/{device}/{kind}");
            let asked = |action, kind| may(&layout, &Grants::None, action, &topic(kind));
            let found = [
                asked(PUBLISH, "state"),
                asked(PUBLISH, "command"),
                asked(SUBSCRIBE, "state"),
                asked(SUBSCRIBE, "command"),
            ];
            assert_eq!(found, expected, "{device} below {root}");
            for kind in ["state", "command"] {
                assert_eq!(asked(Action::Receive, kind), asked(SUBSCRIBE, kind));
                assert_eq!(asked(CHECKED, kind), asked(SUBSCRIBE, kind));
            }
            assert_eq!(asked(RETAIN, "state"), asked(PUBLISH, "state"));
            assert!(!asked(RETAIN, "command"), "a command is not retained");
        }
    }
}

#[test]
fn nothing_else_below_the_root_is_open_to_anybody() {
    let all = grants(json!({"filter": "All"}));
    let topics = [
        "devices",
        "devices/",
        "devices/gate",
        "devices/gate/",
        "devices/gate/State",
        "devices/gate/states",
        "devices/gate/state/",
        "devices/gate/state/x",
        "devices//state/x",
        "devices/gate/#",
        "devices/gate/+",
        "devices/gate/state/#",
        "devices/#",
        "devices/+/#",
        "devices/+/+",
        "devices/+",
        "#",
        "+/#",
        "+/+/+",
        "+/gate/+",
        "devices/>",
        "devices/*/>",
        "devices/ga+te/state",
        "devices/#/state",
        "devices/+x/state",
    ];
    for topic in topics {
        for action in ACTIONS {
            assert!(!may(&one(), &all, action, topic), "{action:?} {topic}");
            assert!(!may_all(&one(), &all, action, topic), "{action:?} {topic}");
        }
    }
}

#[test]
fn a_wildcard_over_devices_needs_a_key_for_all_or_checked_deliveries() {
    for topic in [
        "devices/+/state",
        "devices/*/command",
        "$share/g/devices/+/state",
    ] {
        assert!(!may(&one(), &Grants::None, SUBSCRIBE, topic), "{topic}");
        assert!(may(&one(), &Grants::None, CHECKED, topic), "{topic}");
        assert!(may_all(&one(), &Grants::None, SUBSCRIBE, topic), "{topic}");
        for action in [PUBLISH, RETAIN, Action::Receive] {
            assert!(
                !may_all(&one(), &Grants::None, action, topic),
                "{action:?} {topic}"
            );
        }
    }
}

#[test]
fn namespaces_never_mix() {
    let all = grants(json!({"filter": "All"}));
    let listed = grants(json!({"filter": "AllowList", "publish": ["#"], "subscribe": ["#"]}));
    let denied = grants(json!({"filter": "DenyList", "publish": ["x"], "subscribe": ["x"]}));
    let rows = [
        ("plant/log", true),
        ("plant/a/b/c", true),
        ("plant", true),
        ("other/log", false),
        ("other", false),
        ("log", false),
        ("+/log", false),
        ("#", false),
        ("+/#", false),
        ("devices/gate/state", false),
        ("other/devices/gate/state", false),
        ("+/devices/gate/state", false),
        ("other/devices/gate/log", false),
        ("plant/devices/gate/log", false),
        ("plant/#", false),
        // It matches plant/devices/log.
        ("plant/+/log", false),
    ];
    for (topic, expected) in rows {
        for grants in [&all, &listed, &denied] {
            let found = may_all(&several(), grants, SUBSCRIBE, topic);
            assert_eq!(found, expected, "{topic} {grants:?}");
        }
    }
}

#[test]
fn custom_topics_are_granted_as_the_filter_says() {
    let none = Grants::None;
    let all = grants(json!({"filter": "All"}));
    let allowed = grants(json!({
        "filter": "AllowList",
        "publish": ["logs/{device}", "alarms/+/{device}/raised"],
        "subscribe": ["config/#", "news/+", "news", "site-{device}/x"],
    }));
    let denied = grants(json!({
        "filter": "DenyList",
        "publish": ["private/#"],
        "subscribe": ["private/#", "news/+/draft"],
    }));
    // Whether none, all, the allow list and the deny list grant it.
    let rows = [
        (PUBLISH, "logs/gate", [false, true, true, true]),
        (PUBLISH, "logs/valve", [false, true, false, true]),
        (PUBLISH, "logs/gate/x", [false, true, false, true]),
        (
            PUBLISH,
            "alarms/fire/gate/raised",
            [false, true, true, true],
        ),
        (PUBLISH, "alarms//gate/raised", [false, true, true, true]),
        (
            PUBLISH,
            "alarms/fire/valve/raised",
            [false, true, false, true],
        ),
        (PUBLISH, "config/a", [false, true, false, true]),
        (PUBLISH, "private", [false, true, false, false]),
        (PUBLISH, "private/a/b", [false, true, false, false]),
        (PUBLISH, "privates", [false, true, false, true]),
        (RETAIN, "logs/gate", [false, true, true, true]),
        (SUBSCRIBE, "config", [false, true, true, true]),
        (SUBSCRIBE, "config/#", [false, true, true, true]),
        (SUBSCRIBE, "config/+/x", [false, true, true, true]),
        (SUBSCRIBE, "config/a/#", [false, true, true, true]),
        (SUBSCRIBE, "news/+", [false, true, true, true]),
        (SUBSCRIBE, "news", [false, true, true, true]),
        (SUBSCRIBE, "news/#", [false, true, false, false]),
        (SUBSCRIBE, "news/+/+", [false, true, false, false]),
        (SUBSCRIBE, "news/today/final", [false, true, false, true]),
        (SUBSCRIBE, "site-gate/x", [false, true, true, true]),
        (SUBSCRIBE, "site-valve/x", [false, true, false, true]),
        (SUBSCRIBE, "logs/gate", [false, true, false, true]),
        (SUBSCRIBE, "+/x", [false; 4]),
        (SUBSCRIBE, "news/+/x/y", [false, true, false, true]),
        (SUBSCRIBE, "$share/g/config/#", [false, true, true, true]),
        (SUBSCRIBE, "$share/g/private/#", [false, true, false, false]),
        (Action::Receive, "config/a", [false, true, true, true]),
        (Action::Receive, "private/a", [false, true, false, false]),
        // Nobody's.
        (SUBSCRIBE, "$SYS/#", [false; 4]),
        (SUBSCRIBE, "$share/g/$SYS/#", [false; 4]),
        (SUBSCRIBE, "$share/g", [false; 4]),
        (SUBSCRIBE, "$share//config/#", [false; 4]),
        (SUBSCRIBE, "$share/+/config/#", [false; 4]),
        (SUBSCRIBE, "$share/g/", [false; 4]),
        (SUBSCRIBE, "$queue/config/#", [false; 4]),
        (PUBLISH, "$share/g/logs/gate", [false; 4]),
        (PUBLISH, "$SYS/broker", [false; 4]),
        (PUBLISH, "config/+", [false; 4]),
        (PUBLISH, "a/*/b", [false; 4]),
        (PUBLISH, "a>", [false; 4]),
        (SUBSCRIBE, "config/#/x", [false; 4]),
        (SUBSCRIBE, "config/>/x", [false; 4]),
        (SUBSCRIBE, "config/a+", [false; 4]),
        (SUBSCRIBE, "config/a*", [false; 4]),
        (SUBSCRIBE, "", [false; 4]),
        (PUBLISH, "", [false; 4]),
        (PUBLISH, "a\0b", [false; 4]),
    ];
    for (action, topic, expected) in rows {
        let found =
            [&none, &all, &allowed, &denied].map(|grants| may(&one(), grants, action, topic));
        assert_eq!(found, expected, "{action:?} {topic}");
    }
}

#[test]
fn grants_that_the_api_server_would_refuse_are_not_read() {
    let long = "x".repeat(1025);
    let wrong = [
        "", "$SYS/#", "a/#/b", "#/a", "a#", "a+", "+a", "a/b+/c", "*", "a/*", ">", "a/>",
        "{Device}", "{device", "device}", "{}", "a\0", &long,
    ];
    for filter in wrong {
        let topics = json!({"filter": "AllowList", "publish": [filter]});
        let topics: Topics = serde_json::from_value(topics).expect("topics");
        assert_eq!(
            Grants::of(&topics),
            Err(UnreadableFilter::Shape(filter.to_owned()))
        );
    }
    let right = [
        "#",
        "+",
        "/",
        "a",
        "a/",
        "/a",
        "a//b",
        "+/+/#",
        "a/#",
        "{device}",
        "{device}/{device}-x/+",
        "é",
    ];
    for filter in right {
        grants(json!({"filter": "DenyList", "subscribe": [filter]}));
    }
    let rows = [
        (json!({"filter": "AllowList"}), UnreadableFilter::Empty),
        (json!({"filter": "DenyList"}), UnreadableFilter::Empty),
        (
            json!({"filter": "All", "publish": ["a"]}),
            UnreadableFilter::Unused,
        ),
        (json!({"subscribe": ["a"]}), UnreadableFilter::Unused),
    ];
    for (topics, expected) in rows {
        let topics: Topics = serde_json::from_value(topics).expect("topics");
        assert_eq!(Grants::of(&topics), Err(expected));
    }
}

#[test]
fn a_root_that_would_mix_devices_is_refused() {
    let rows = [
        ("", InvalidRoot::Level(String::new())),
        ("a//b", InvalidRoot::Level(String::new())),
        ("a/+", InvalidRoot::Level("+".to_owned())),
        ("#", InvalidRoot::Level("#".to_owned())),
        ("a*/b", InvalidRoot::Level("a*".to_owned())),
        ("{device}", InvalidRoot::Level("{device}".to_owned())),
        (
            "x{namespace}",
            InvalidRoot::Level("x{namespace}".to_owned()),
        ),
        ("$SYS", InvalidRoot::Dollar),
        ("{namespace}/{namespace}", InvalidRoot::Twice),
    ];
    for (root, expected) in rows {
        assert_eq!(root.parse::<Root>(), Err(expected), "{root:?}");
    }
    let root: Root = "losant".parse().expect("a root");
    assert_eq!(
        Layout::of_several_namespaces(root),
        Err(InvalidRoot::NoNamespace)
    );
}

/// Filters over a small alphabet, and a level that nobody else writes.
fn asked_filters() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["devices", "gate", "state", "a", "b", "+", "+"]);
    (prop::collection::vec(level, 1..=4), any::<bool>()).prop_map(|(mut levels, all)| {
        if all {
            levels.truncate(3);
            levels.push("#");
        }
        levels.join("/")
    })
}

fn granted() -> impl Strategy<Value = Grants> {
    let level = prop::sample::select(vec![
        "devices", "gate", "a", "b", "{device}", "state", "+", "+",
    ]);
    let filter =
        (prop::collection::vec(level, 1..=3), any::<bool>()).prop_map(|(mut levels, all)| {
            if all {
                levels.push("#");
            }
            levels.join("/")
        });
    let list = prop::collection::vec(filter, 1..4);
    prop_oneof![
        Just(json!({"filter": "None"})),
        Just(json!({"filter": "All"})),
        list.clone()
            .prop_map(|list| json!({"filter": "AllowList", "subscribe": list})),
        list.prop_map(|list| json!({"filter": "DenyList", "subscribe": list})),
    ]
    .prop_map(grants)
}

fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([level, filter @ ..], [other, topic @ ..]) => {
            (level == &"+" || level == other) && matches(filter, topic)
        }
        _ => false,
    }
}

/// Every topic of one to five levels over what the filters hold, and a level that they do not.
fn topics(filter: &[&str]) -> Vec<Vec<&'static str>> {
    const LEVELS: [&str; 6] = ["devices", "gate", "state", "a", "b", "z"];
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut longest: Vec<Vec<&str>> = vec![Vec::new()];
    for at in 0..5 {
        let levels: Vec<&str> = match filter.get(at) {
            Some(&"+" | &"#") | None => LEVELS.to_vec(),
            Some(level) => LEVELS.into_iter().filter(|own| own == level).collect(),
        };
        longest = longest
            .iter()
            .flat_map(|topic| {
                levels
                    .iter()
                    .map(move |level| [topic.as_slice(), &[level]].concat())
            })
            .collect();
        let is_matched = |topic: &&Vec<&str>| matches(filter, topic);
        found.extend(longest.iter().filter(is_matched).cloned());
        if filter.last() != Some(&"#") && at + 1 == filter.len() {
            break;
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// A subscription is allowed exactly if each single topic that it matches is.
    #[test]
    fn a_wildcard_is_allowed_if_all_that_it_matches_is(
        filter in asked_filters(), grants in granted(), all in any::<bool>(),
    ) {
        let may = |topic: &str| match all {
            true => may_all(&one(), &grants, SUBSCRIBE, topic),
            false => may(&one(), &grants, SUBSCRIBE, topic),
        };
        let levels: Vec<&str> = filter.split('/').collect();
        let each = topics(&levels).iter().all(|topic| may(&topic.join("/")));
        prop_assert_eq!(may(&filter), each, "{} {:?}", filter, grants);
    }

    #[test]
    fn nothing_that_is_asked_panics(topic in ".{0,40}", grants in granted()) {
        for action in ACTIONS {
            let _ = may(&one(), &grants, action, &topic);
            let _ = may_all(&several(), &grants, action, &topic);
        }
    }
}
