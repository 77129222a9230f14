//! What devices may send, and what they may see.

use std::collections::BTreeMap;

use serde_json::json;

use crate::HABITS;
use crate::mqtt::{Connect, Message, Session};
use crate::scene::Scene;

/// May it?
#[derive(Clone, Copy)]
enum May {
    Yes,
    No,
    /// If each message is asked about when it is delivered. A star counts as a plus.
    IfFiltered,
    /// If the broker knows shared subscriptions.
    IfShared,
    /// If a dot is a slash.
    IfDotted,
}
use May::{IfDotted, IfFiltered, IfShared, No, Yes};

/// The devices that connect, and their keys.
const DEVICES: [(&str, &str); 4] = [
    ("fan-1", "fans"),
    ("hub", "hubs"),
    ("chief", "fleet"),
    ("watcher", "fleet"),
];

/// Who sends to which topic?
const SENDS: [(&str, &str, May); 29] = [
    ("fan-1", "devices/fan-1/state", Yes),
    ("fan-1", "devices/fan-1/command", No),
    ("fan-1", "devices/fan-2/command", Yes),
    ("fan-1", "devices/fan-2/state", No),
    ("fan-1", "devices/fan-3/command", No),
    ("fan-1", "devices/watcher/command", No),
    // Its own topics.
    ("fan-1", "log/fan-1", Yes),
    ("fan-1", "log/fan-2", No),
    ("fan-1", "news/today", No),
    ("fan-1", "a/b/c", Yes),
    // What other protocols take for something else.
    ("fan-1", "a.b.c", IfDotted),
    ("fan-1", "devices.fan-1.state", IfDotted),
    ("fan-1", "devices.fan-3.command", No),
    ("fan-1", "devices/fan-1.x/state", No),
    ("fan-1", "devices/*/state", No),
    ("fan-1", "devices/*/command", No),
    ("fan-1", "devices/>", No),
    ("fan-1", "a/*/c", No),
    ("fan-1", "*", No),
    ("fan-1", "$SYS/x", No),
    ("fan-1", "$share/all/devices/fan-1/state", No),
    // A gateway's peripherals.
    ("hub", "devices/probe-1/state", Yes),
    ("hub", "devices/probe-1/command", Yes),
    ("hub", "devices/probe-2/state", No),
    ("hub", "devices/fan-1/command", No),
    // A key that admits all commands all but its own device.
    ("chief", "devices/anything/command", Yes),
    ("chief", "devices/fan-1/command", Yes),
    ("chief", "devices/chief/command", No),
    ("chief", "devices/anything/state", No),
];

/// Who subscribes to what?
const SUBSCRIBES: [(&str, &str, May); 39] = [
    ("fan-1", "devices/fan-1/state", Yes),
    ("fan-1", "devices/fan-1/command", Yes),
    ("fan-1", "devices/fan-2/state", Yes),
    ("fan-1", "devices/fan-2/command", Yes),
    ("fan-1", "devices/fan-3/state", No),
    ("hub", "devices/probe-1/state", Yes),
    ("hub", "devices/probe-2/state", No),
    // Wildcards.
    ("fan-1", "devices/+/state", IfFiltered),
    ("fan-1", "devices/+/other", No),
    ("fan-1", "devices/fan-1/#", No),
    ("fan-1", "devices/#", No),
    ("fan-1", "+/fan-1/state", No),
    ("fan-1", "#", No),
    ("watcher", "devices/+/state", Yes),
    ("watcher", "devices/+/command", Yes),
    // Shared subscriptions.
    ("fan-1", "$share/all/devices/fan-2/state", IfShared),
    ("fan-1", "$share/all/devices/fan-3/state", No),
    // Its own topics.
    ("fan-1", "news/today", Yes),
    ("fan-1", "news/+", Yes),
    ("fan-1", "news/#", No),
    ("fan-1", "log/fan-1", No),
    ("watcher", "log/fan-1", Yes),
    ("watcher", "log/#", Yes),
    // Reserved topics.
    ("fan-1", "$SYS/#", No),
    ("watcher", "$SYS/#", No),
    ("fan-1", "$MQTT/sub/#", No),
    ("fan-1", "$MQTT/msgs/#", No),
    // What other protocols take for something else.
    ("fan-1", "a/b/c", Yes),
    ("fan-1", "a.b.c", IfDotted),
    ("fan-1", "devices.fan-1.state", IfDotted),
    ("fan-1", "devices.fan-3.state", No),
    ("fan-1", "devices.*.state", No),
    ("fan-1", "devices/fan-1.x/state", No),
    ("fan-1", "devices/*/state", IfFiltered),
    ("fan-1", "devices/*/command", IfFiltered),
    ("fan-1", "devices/>", No),
    ("fan-1", "a/*/c", No),
    ("fan-1", "*", No),
    ("fan-1", ">", No),
];

/// What the watcher hears of: all that is sent.
const ALL: [&str; 5] = [
    "devices/+/state",
    "devices/+/command",
    "log/#",
    "news/#",
    "a/#",
];

pub async fn a_device_sees_and_commands_what_its_key_admits(scene: &Scene) {
    for (name, spec) in [
        ("hub", json!({ "class": "Gateway" })),
        (
            "probe-1",
            json!({ "class": "Peripheral", "gateway": "hub" }),
        ),
        (
            "probe-2",
            json!({ "class": "Peripheral", "gateway": "other" }),
        ),
    ] {
        scene.device(name, spec, json!({})).await;
    }
    let mut keys = BTreeMap::new();
    for (name, restrictions) in [
        ("fans", json!({ "deviceIds": ["fan-1", "fan-2"] })),
        ("hubs", json!({ "deviceIds": ["hub"] })),
        ("fleet", json!({ "allDevices": true })),
    ] {
        keys.insert(name, scene.key(name, restrictions).await);
    }
    for (key, publish, subscribe) in [
        (
            "fans",
            json!(["log/{device}", "a/b/c"]),
            json!(["news/+", "a/b/c"]),
        ),
        ("fleet", json!([]), json!(["log/#", "news/#", "a/#"])),
    ] {
        let topics = json!({ "filter": "AllowList", "publish": publish, "subscribe": subscribe });
        scene.change(key, json!({ "topics": topics })).await;
    }
    for (id, key, filter) in [
        ("fan-1", "fans", "news/+"),
        ("hub", "hubs", "devices/probe-1/state"),
        ("watcher", "fleet", "log/#"),
    ] {
        scene.until_granted(id, &keys[key], filter).await;
    }

    let mut clients = BTreeMap::new();
    for (id, key) in DEVICES {
        clients.insert(id, Client::of(scene, id, &keys[key]).await);
    }
    let mut watcher = clients.remove("watcher").expect("a watcher");
    for filter in ALL {
        assert!(watcher.may_subscribe(filter, 0).await, "{filter}");
    }
    for (id, topic, may) in SENDS {
        let client = clients.get_mut(id).expect("a client");
        for qos in [0, 1] {
            let message = Message::new(topic, &format!("{id} to {topic} by {qos}"));
            let arrives = client.reaches(&mut watcher.session, &message, qos).await;
            assert_eq!(arrives, is_so(may), "{}", message.payload);
        }
    }
    // Who is restricted hears who is not.
    let mut fan = Client::of(scene, "fan-2", &keys["fans"]).await;
    let command = Message::new("devices/fan-2/command", "do it");
    assert!(fan.may_subscribe(&command.topic, 1).await);
    let chief = clients.get_mut("chief").expect("a client");
    chief.send(&command, 1).await;
    assert_eq!(fan.session.message().await, command);

    clients.insert("watcher", watcher);
    for (id, filter, may) in SUBSCRIBES {
        let client = clients.get_mut(id).expect("a client");
        for qos in [0, 1] {
            let is_granted = client.may_subscribe(filter, qos).await;
            assert_eq!(is_granted, is_so(may), "{id} to {filter}");
        }
    }
}

fn is_so(may: May) -> bool {
    match may {
        Yes => true,
        No => false,
        IfFiltered => HABITS.filters_messages,
        IfShared => HABITS.shares,
        IfDotted => HABITS.has_dots_for_slashes,
    }
}

/// A device that comes back when it is sent away.
struct Client<'a> {
    scene: &'a Scene,
    connect: Connect,
    session: Session,
}

impl<'a> Client<'a> {
    async fn of(scene: &'a Scene, id: &str, issued: &crate::support::plant::Issued) -> Client<'a> {
        let connect = scene.connect(id, issued);
        Client {
            session: scene.admitted(&connect).await,
            connect,
            scene,
        }
    }

    async fn may_subscribe(&mut self, filter: &str, qos: u8) -> bool {
        let answer = self.session.subscribe(filter, qos).await;
        let is_granted = answer == Some(true);
        let is_sent_away = HABITS.sends_away && !is_granted;
        assert_eq!(answer.is_none(), is_sent_away, "{filter}");
        if is_sent_away {
            self.session = self.scene.admitted(&self.connect).await;
        }
        is_granted
    }

    async fn send(&mut self, message: &Message, qos: u8) {
        let Message { topic, payload } = message;
        match qos {
            0 => self.session.throw(topic, payload).await,
            _ => _ = self.session.publish(topic, payload, false).await,
        }
    }

    /// Sends this, and then its own state; does it arrive before that?
    async fn reaches(&mut self, watcher: &mut Session, message: &Message, qos: u8) -> bool {
        let own = format!("devices/{}/state", self.connect.id);
        let end = Message::new(&own, &format!("end of {}", message.payload));
        self.send(message, qos).await;
        self.send(&end, qos).await;
        let is_there = self.session.subscribe(&own, 0).await.is_some();
        if !is_there {
            self.session = self.scene.admitted(&self.connect).await;
            self.send(&end, qos).await;
        }
        let topic = HABITS.delivers(&message.topic);
        let mut has_arrived = false;
        loop {
            let arrived = watcher.message().await;
            if arrived == end {
                let is_sent_away = HABITS.sends_away && !has_arrived;
                assert_eq!(is_there, !is_sent_away, "{}", message.payload);
                return has_arrived;
            }
            let expected = Message::new(&topic, &message.payload);
            assert_eq!(arrived, expected, "nobody has sent anything else");
            let twice = std::mem::replace(&mut has_arrived, true);
            assert!(!twice, "{} arrives once", message.payload);
        }
    }
}
