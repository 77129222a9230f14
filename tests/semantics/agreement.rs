//! Both readings of the specification, asked the same, a million times.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use keyward::api::DeviceClass;
use keyward::key::Secret;
use keyward::policy::{
    AcceptedVerifier, Decision, DeviceRecord, Known, Presented, Reason, Session, decide,
};
use keyward::topics::Action;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::chance::Chance;
use super::gateway::{Gateway, KEY, NAMESPACE, now, record};
use super::manifests::hash;
use super::oracle::{self, Answer};
use super::questions::{Act, Login, Wish, ip};
use super::world::{Class, Filter, SECRETS, World};

const CASES: u32 = 500_000;
const OTHER_KEY: &str = "kwk_zzzzzzzzzzzzzzzzzzzzzzzzzz";

#[test]
fn who_is_admitted_is_what_the_specification_says() {
    let answers = agree("who is admitted", Login::by, oracle::login, decided);
    let mut reasons = Reason::ALL.map(Reason::as_str).to_vec();
    // Of hashes that were too many, and of what connected devices want.
    reasons.retain(|reason| !["throttled", "topic"].contains(reason));
    answers.each_is_frequent(&reasons);
    answers.each_is_frequent(&["unavailable"]);
    answers.both_are_frequent();
}

/// The gateway knows another namespace too, with a key and devices of the same names.
#[test]
fn what_a_device_may_do_is_what_the_specification_says() {
    let mut gateways = [false, true].map(Gateway::new);
    for gateway in &mut gateways {
        tell(gateway, "elsewhere", &permissive());
    }
    let gateways = RefCell::new(gateways);
    let answers = agree(
        "what a device may do",
        Wish::by,
        oracle::wish,
        |world, wish| {
            let gateway = &mut gateways.borrow_mut()[usize::from(world.requires_registration)];
            gateway.forget(NAMESPACE);
            tell(gateway, NAMESPACE, world);
            authorized(gateway, wish)
        },
    );
    answers.each_is_frequent(&[
        "inactive",
        "out_of_scope",
        "device_class",
        "bad_secret",
        "topic",
    ]);
    answers.both_are_frequent();
}

/// How often each answer was given.
#[derive(Default)]
struct Answers(RefCell<BTreeMap<&'static str, u32>>);

impl Answers {
    fn count(&self, answer: &Answer) {
        let word = match answer {
            Answer::Admitted(..) | Answer::Allowed => "allow",
            Answer::Denied(reason) => reason,
            Answer::Unavailable => "unavailable",
        };
        *self.0.borrow_mut().entry(word).or_default() += 1;
    }

    fn of(&self, word: &str) -> u32 {
        self.0.borrow().get(word).copied().unwrap_or_default()
    }

    fn each_is_frequent(&self, words: &[&str]) {
        for word in words {
            let count = self.of(word);
            assert!(
                count >= CASES / 500,
                "{word} was the answer {count} times: {:?}",
                self.0.borrow()
            );
        }
    }

    fn both_are_frequent(&self) {
        let allowed = self.of("allow");
        assert!(
            (CASES / 6..CASES / 6 * 5).contains(&allowed),
            "{:?}",
            self.0.borrow()
        );
    }
}

/// Asks both, in as many worlds. KEYWARD_SEED chooses others.
fn agree<Q: Clone + fmt::Debug>(
    what: &str,
    question: impl Fn(&mut Chance<'_>, &mut World) -> Q,
    expected: impl Fn(&World, &Q) -> Answer,
    found: impl Fn(&World, &Q) -> Answer,
) -> Answers {
    let answers = Answers::default();
    let cases = vec(any::<u32>(), 40).prop_map(|words| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut chance = Chance::of(&bytes);
        let mut world = World::by(&mut chance);
        let asked = question(&mut chance, &mut world);
        (world, asked)
    });
    let seed = seed();
    let outcome = runner(seed).run(&cases, |(world, asked)| {
        let answer = expected(&world, &asked);
        answers.count(&answer);
        prop_assert_eq!(found(&world, &asked), answer);
        Ok(())
    });
    match outcome {
        Ok(()) => {
            let given = answers.0.borrow().clone();
            println!("measured: {what}: {CASES} cases agree, KEYWARD_SEED={seed}: {given:?}");
            answers
        }
        Err(TestError::Fail(why, (world, asked))) => {
            panic!("KEYWARD_SEED={seed}: {why}\nasked {asked:#?}\nof {world:#?}")
        }
        Err(error) => panic!("{error}"),
    }
}

/// With the cheapest of generators: a better one takes longer than all the rest.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(CASES)
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}

fn seed() -> u64 {
    let seed = std::env::var("KEYWARD_SEED");
    seed.map_or(1, |seed| seed.parse().expect("KEYWARD_SEED is a number"))
}

fn decided(world: &World, login: &Login) -> Answer {
    let key = record(&world.key.manifest());
    let mut devices = world.devices.iter();
    let own = devices.find(|device| device.id == login.device_id);
    let own = own.map(|own| DeviceRecord::of(&own.manifest()));
    let known = Known {
        key: key.as_ref().filter(|_| login.knows_key),
        device: own.as_ref(),
        requires_registration: world.requires_registration,
    };
    let presented = Presented {
        namespace: NAMESPACE,
        key: KEY,
        device_id: login.device_id,
        secret: &login.secret,
        source: login.address.map(ip),
    };
    match decide(known, &presented, now(), is_its_hash) {
        Decision::Allow(session) => {
            let revision = session.revision.expect("it is known");
            Answer::Admitted(revision, class(session.class))
        }
        Decision::Deny(reason) => Answer::Denied(reason.as_str()),
        Decision::Unavailable => Answer::Unavailable,
    }
}

fn is_its_hash(verifier: &AcceptedVerifier, secret: &Secret) -> bool {
    let known = SECRETS.iter().position(|own| *own == secret.expose());
    known.is_some_and(|known| verifier.hashed.verifier.as_str() == hash(known))
}

fn class(class: DeviceClass) -> Class {
    match class {
        DeviceClass::Standalone => Class::Standalone,
        DeviceClass::Gateway => Class::Gateway,
        DeviceClass::Peripheral => Class::Peripheral,
        DeviceClass::System => Class::System,
    }
}

/// Where every device is a gateway, and the key admits all of them, to all topics.
fn permissive() -> World {
    let mut world = World::by(&mut Chance::of(&[]));
    world.key.topics.filter = Filter::All;
    for device in &mut world.devices {
        device.class = Class::Gateway;
    }
    world
}

fn tell(gateway: &mut Gateway, namespace: &str, world: &World) {
    if let Some(key) = record(&world.key.manifest()) {
        gateway.apply_key(namespace, key);
    }
    for device in &world.devices {
        gateway.apply_device(namespace, DeviceRecord::of(&device.manifest()));
    }
}

fn authorized(gateway: &Gateway, wish: &Wish) -> Answer {
    let session = Session {
        namespace: NAMESPACE.into(),
        key: if wish.knows_key { KEY } else { OTHER_KEY }.into(),
        device_id: wish.device_id.into(),
        class: DeviceClass::default(),
        revision: wish.revision,
        source: wish.address.map(ip),
    };
    match gateway
        .authenticator
        .authorize(&session, action(wish.act), &wish.topic)
    {
        Decision::Allow(()) => Answer::Allowed,
        Decision::Deny(reason) => Answer::Denied(reason.as_str()),
        Decision::Unavailable => Answer::Unavailable,
    }
}

fn action(act: Act) -> Action {
    match act {
        Act::Publish => Action::Publish { retain: false },
        Act::Retain => Action::Publish { retain: true },
        Act::Subscribe => Action::Subscribe {
            checks_deliveries: false,
        },
        Act::SubscribeChecked => Action::Subscribe {
            checks_deliveries: true,
        },
        Act::Receive => Action::Receive,
    }
}
