use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::clock::ManualClock;
use crate::gateway::audit::Audit;
use crate::gateway::metrics::Metrics;
use crate::gateway::{Object, Options, Watched};
use crate::key::{Check, Secret};
use crate::policy::KeyRecord;

const KEY: &str = "kwk_0123456789abcdefghjkmnpqrs";
const SECRET: &str = "kws_00000000000000000000000000000000000000000002XkAl1";
const WRONG: &str = "kws_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz4HDBrW";
const ONE: Client = Client(1);
const TWO: Client = Client(2);
const PUBLISH: Action = Action::Publish { retain: false };

/// An adapter whose authenticator knows one key.
struct Scene {
    adapter: Adapter,
    authenticator: Authenticator,
    watched: Watched,
    hand: ManualClock,
    version: u64,
}

impl Scene {
    /// Of a key with this profile, after a tick.
    fn new(profile: HashProfile) -> Scene {
        let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a timestamp");
        let (clock, hand) = Clock::manual(start);
        let options = Options::of_namespace("plant");
        let made = Authenticator::new(options, clock.clone(), Metrics::new());
        let authenticator = made.expect("entropy");
        let watched = authenticator.expect_watch();
        let mut scene = Scene {
            adapter: Adapter::new(authenticator.clone(), clock, "auto-"),
            authenticator,
            watched,
            hand,
            version: 0,
        };
        scene.apply(manifest(profile, json!({})));
        scene.watched.listed(scene.watched.now(), 1);
        scene.adapter.tick();
        scene
    }

    fn apply(&mut self, manifest: Value) {
        self.version += 1;
        let key = serde_json::from_value(manifest).expect("an AccessKey");
        let record = KeyRecord::of(&key).expect("readable").expect("issued");
        let object = Object {
            namespace: "plant",
            name: "fleet",
            created: Timestamp::UNIX_EPOCH,
            version: self.version,
        };
        self.authenticator.apply_key(object, record);
    }

    fn connect(&self, client: Client, id: &str, secret: &str) -> Answer {
        let shown = Shown {
            id,
            username: Some(KEY),
            password: Some(secret),
            source: None,
        };
        self.adapter.connect(client, &shown)
    }

    fn act(&self, client: Client, id: &str, action: Action, topic: &str) -> Answer {
        self.adapter.act(client, who(id), action, topic.as_bytes())
    }

    fn cuts(&self) -> Vec<String> {
        self.adapter.look();
        let cuts = std::iter::from_fn(|| self.adapter.next_cut());
        cuts.map(|cut| cut.entry.id.to_string()).collect()
    }
}

fn who(id: &str) -> Who<'_> {
    Who {
        id: id.as_bytes(),
        username: KEY.as_bytes(),
        has_address: true,
    }
}

fn manifest(profile: HashProfile, spec: Value) -> Value {
    let secret = Secret::parse(SECRET).expect("well formed");
    let verifier = Verifier::of(&secret, profile).expect("a hash");
    let mut manifest = json!({
        "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
        "metadata": { "name": "fleet", "namespace": "plant" },
        "spec": { "restrictions": { "allDevices": true } },
        "status": { "key": KEY, "verifiers": [{
            "revision": 1, "verifier": verifier.as_str(), "check": Check::of(KEY, &secret).as_str(),
            "issuedAt": "2026-01-01T00:00:00Z",
        }] },
    });
    for (name, value) in spec.as_object().expect("an object") {
        manifest["spec"][name] = value.clone();
    }
    manifest
}

#[test]
fn a_device_is_admitted_by_its_secret_and_acts_as_itself() {
    let scene = Scene::new(HashProfile::Fleet);
    assert_eq!(scene.connect(ONE, "pump-1", WRONG), Answer::No);
    assert_eq!(
        scene.act(ONE, "pump-1", PUBLISH, "devices/pump-1/state"),
        Answer::No,
        "it is not admitted"
    );
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    let rows = [
        (PUBLISH, "devices/pump-1/state", Answer::Yes),
        (PUBLISH, "devices/pump-1/command", Answer::No),
        (PUBLISH, "devices/pump-2/command", Answer::Yes),
        (
            Action::Publish { retain: true },
            "devices/pump-2/command",
            Answer::No,
        ),
        (PUBLISH, "$SYS/broker/uptime", Answer::No),
        (PUBLISH, "$CONTROL/dynamic-security/v1", Answer::No),
        (Action::Receive, "devices/pump-1/command", Answer::Yes),
        (Action::Receive, "$SYS/broker/uptime", Answer::No),
        (
            Action::Subscribe {
                checks_deliveries: true,
            },
            "$share/g/devices/+/state",
            Answer::Yes,
        ),
        (
            Action::Subscribe {
                checks_deliveries: true,
            },
            "#",
            Answer::No,
        ),
    ];
    for (action, topic, answer) in rows {
        assert_eq!(
            scene.act(ONE, "pump-1", action, topic),
            answer,
            "{action:?} {topic}"
        );
    }
    // Whoever the broker says it is has to be who was admitted there.
    assert_eq!(
        scene.act(ONE, "pump-2", PUBLISH, "devices/pump-2/state"),
        Answer::No
    );
    assert_eq!(
        scene.act(TWO, "pump-1", PUBLISH, "devices/pump-1/state"),
        Answer::No
    );
}

#[test]
fn who_shows_less_than_all_is_refused() {
    let scene = Scene::new(HashProfile::Fleet);
    let shown = [
        ("pump-1", None, Some(SECRET)),
        ("pump-1", Some(KEY), None),
        ("pump-1", None, None),
        ("", Some(KEY), Some(SECRET)),
        ("#", Some(KEY), Some(SECRET)),
        ("a+b", Some(KEY), Some(SECRET)),
        ("a/b", Some(KEY), Some(SECRET)),
        ("$SYS", Some(KEY), Some(SECRET)),
        (
            "auto-5A1E6A0E-2B9B-43F2-8D0A-0D9E6E0E1C11",
            Some(KEY),
            Some(SECRET),
        ),
    ];
    for (id, username, password) in shown {
        let shown = Shown {
            id,
            username,
            password,
            source: None,
        };
        assert_eq!(
            scene.adapter.connect(ONE, &shown),
            Answer::No,
            "{id:?} {username:?}"
        );
    }
    for id in [
        "auto-1",
        "5A1E6A0E-2B9B-43F2-8D0A-0D9E6E0E1C11",
        "auto-pump-1-2-3-4",
    ] {
        assert_eq!(
            scene.connect(ONE, id, SECRET),
            Answer::Yes,
            "a device may be called so"
        );
    }
}

#[test]
fn nobody_is_admitted_where_nobody_could_be_cut() {
    let scene = Scene::new(HashProfile::Fleet);
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    scene.hand.advance(Duration::from_secs(2));
    assert_eq!(scene.connect(TWO, "pump-2", SECRET), Answer::NotNow);
    let again = scene.connect(ONE, "pump-1", SECRET);
    assert_eq!(
        again,
        Answer::Yes,
        "one that has a session is not sent away"
    );
    scene.adapter.tick();
    assert_eq!(scene.connect(TWO, "pump-2", SECRET), Answer::Yes);
}

#[test]
fn each_message_is_written_down_in_full() {
    let scene = Scene::new(HashProfile::Fleet);
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    let (mut lines, writer) = std::io::pipe().expect("a pipe");
    let audited = scene.authenticator.clone();
    drop(audited.audited(Some(Audit::to(writer))));
    for _ in 0..3 {
        let answer = scene.act(ONE, "pump-1", PUBLISH, "devices/pump-1/state");
        assert_eq!(answer, Answer::Yes);
    }
    drop(scene);
    let text = std::io::read_to_string(&mut lines).expect("text");
    let rest = format!(
        r#""asked":"authorize","answer":"allow","namespace":"plant","key":"{KEY}","device":"pump-1","action":"publish","topic":"devices/pump-1/state"}}"#
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.ends_with(&rest)), "{text}");
}

#[test]
fn what_was_allowed_a_moment_ago_is_judged_anew_once_anything_has_changed() {
    let mut scene = Scene::new(HashProfile::Fleet);
    let sends = |scene: &Scene, to: &str| {
        let topic = format!("devices/{to}/command");
        scene.act(ONE, "pump-1", PUBLISH, &topic)
    };
    let all =
        |scene: &Scene| ["pump-2", "pump-2", "pump-3", "pump-2"].map(|device| sends(scene, device));
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    assert_eq!(all(&scene), [Answer::Yes; 4]);
    scene.apply(manifest(
        HashProfile::Fleet,
        json!({ "restrictions": { "deviceIds": ["pump-1"] } }),
    ));
    assert_eq!(all(&scene), [Answer::No; 4]);
    scene.apply(manifest(HashProfile::Fleet, json!({})));
    assert_eq!(all(&scene), [Answer::Yes; 4]);
    // What is known has grown too old.
    scene.hand.advance(Duration::from_secs(25 * 60 * 60));
    assert_eq!(all(&scene), [Answer::No; 4]);
}

#[test]
fn what_ends_by_the_clock_is_judged_by_it_each_time() {
    let mut scene = Scene::new(HashProfile::Fleet);
    let end = json!({ "expiresAt": "2026-06-01T12:01:00Z" });
    scene.apply(manifest(HashProfile::Fleet, end));
    let sends = |scene: &Scene| scene.act(ONE, "pump-1", PUBLISH, "devices/pump-1/state");
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    assert_eq!([sends(&scene), sends(&scene)], [Answer::Yes; 2]);
    scene.hand.advance(Duration::from_secs(60));
    assert_eq!(sends(&scene), Answer::No);
}

#[test]
fn a_costly_hash_is_not_for_the_brokers_thread() {
    let scene = Scene::new(HashProfile::Owasp);
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::NotNow);
    // Somebody else hashes it meanwhile, whenever the machine lets them.
    let tries = (0..60_000).map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        scene.connect(ONE, "pump-1", SECRET)
    });
    let mut tries = tries.skip_while(|answer| *answer == Answer::NotNow);
    assert_eq!(tries.next(), Some(Answer::Yes));
    assert_eq!(scene.connect(ONE, "pump-1", WRONG), Answer::No);
}

#[test]
fn a_session_that_is_asked_about_again_goes_on_while_nobody_can_tell() {
    let scene = Scene::new(HashProfile::Fleet);
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    scene.hand.advance(Duration::from_secs(25 * 60 * 60));
    scene.adapter.tick();
    assert_eq!(
        scene.connect(ONE, "pump-1", SECRET),
        Answer::Yes,
        "asked again"
    );
    assert_eq!(
        scene.connect(TWO, "pump-1", SECRET),
        Answer::NotNow,
        "another client"
    );
    assert_eq!(
        scene.connect(ONE, "pump-2", SECRET),
        Answer::NotNow,
        "another device"
    );
    assert_eq!(
        scene.act(ONE, "pump-1", PUBLISH, "devices/pump-1/state"),
        Answer::No
    );
    scene.adapter.gone(ONE, false);
    assert_eq!(
        scene.connect(ONE, "pump-1", SECRET),
        Answer::NotNow,
        "its connection has ended"
    );
}

#[test]
fn what_changes_ends_the_sessions_that_it_concerns() {
    let mut scene = Scene::new(HashProfile::Fleet);
    for (client, id) in [(ONE, "pump-1"), (TWO, "pump-2")] {
        assert_eq!(scene.connect(client, id, SECRET), Answer::Yes);
    }
    assert!(scene.cuts().is_empty());
    let only = json!({ "restrictions": { "deviceIds": ["pump-2"] } });
    scene.apply(manifest(HashProfile::Fleet, only));
    // The manifest was hashed anew, so that the secret is one of the same issue.
    assert_eq!(scene.cuts(), ["pump-1"]);
    let inactive = json!({ "state": "Inactive" });
    scene.apply(manifest(HashProfile::Fleet, inactive));
    scene.adapter.gone(ONE, true);
    assert_eq!(scene.cuts(), ["pump-2"], "the other is gone");
    scene.apply(manifest(HashProfile::Fleet, json!({})));
    assert!(scene.cuts().is_empty(), "it is active again");
}

#[test]
fn a_cut_that_was_taken_back_or_came_too_late_ends_nothing() {
    let mut scene = Scene::new(HashProfile::Fleet);
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    scene.apply(manifest(HashProfile::Fleet, json!({ "state": "Inactive" })));
    scene.adapter.look();
    scene.apply(manifest(HashProfile::Fleet, json!({})));
    assert!(scene.adapter.next_cut().is_none(), "it is active again");

    scene.apply(manifest(HashProfile::Fleet, json!({ "state": "Inactive" })));
    scene.adapter.look();
    scene.adapter.gone(ONE, true);
    assert!(scene.adapter.next_cut().is_none(), "it has gone by itself");
}

#[test]
fn the_end_of_a_key_is_told() {
    let mut scene = Scene::new(HashProfile::Fleet);
    let ends = json!({ "expiresAt": "2026-06-01T12:00:30Z" });
    scene.apply(manifest(HashProfile::Fleet, ends));
    assert_eq!(scene.connect(ONE, "pump-1", SECRET), Answer::Yes);
    let ends = scene.adapter.look();
    assert_eq!(ends, Some(Moment::default() + Duration::from_secs(30)));
    scene.hand.advance(Duration::from_secs(30));
    assert_eq!(scene.cuts(), ["pump-1"]);
}

#[test]
fn what_is_kept_for_a_restored_session_is_what_it_might_receive() {
    let mut scene = Scene::new(HashProfile::Fleet);
    let restored = Who {
        has_address: false,
        ..who("pump-1")
    };
    let asks = |scene: &Scene, action, topic: &str| {
        scene.adapter.act(ONE, restored, action, topic.as_bytes())
    };
    let command = "devices/pump-1/command";
    assert_eq!(asks(&scene, Action::Receive, command), Answer::Yes);
    assert_eq!(asks(&scene, Action::Receive, "other/topic"), Answer::No);
    assert_eq!(
        asks(&scene, PUBLISH, "devices/pump-1/state"),
        Answer::No,
        "nobody has shown a secret"
    );
    assert_eq!(
        scene.act(ONE, "pump-1", Action::Receive, command),
        Answer::No,
        "it has an address"
    );
    // From where it will come is asked when it does.
    scene.apply(manifest(
        HashProfile::Fleet,
        json!({ "sources": { "filter": "AllowList", "cidrs": ["192.0.2.0/24"] } }),
    ));
    assert_eq!(asks(&scene, Action::Receive, command), Answer::Yes);
    scene.apply(manifest(HashProfile::Fleet, json!({ "state": "Inactive" })));
    assert_eq!(asks(&scene, Action::Receive, command), Answer::No);
}
