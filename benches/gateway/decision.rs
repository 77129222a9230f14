//! G3: what a decision costs with a secret that is known to match, against one HMAC over the same bytes.
//! G4: what it costs to hold a secret against a verifier, against a bare loop of the same hashes.
//!
//! Times are the thread's own processor time.

use std::hint::black_box;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use clap::ValueEnum;
use futures::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use keyward::key::Secret;
use keyward::policy::Decision;
use keyward::verifier::{HashProfile, Verifier};
use rand::seq::SliceRandom;
use sha2::Sha256;

use super::child::Other;
use super::measure::{
    Compared, Core, ROUNDS, Row, median, own_time, scaled, stay_anywhere, stay_on,
};
use super::plant::{Issued, Plant};

/// So often the arms take turns in one process.
const TURNS: usize = 10;

pub fn run() -> Vec<Row> {
    stay_on(Core::Last);
    let rows = vec![
        cached(scaled(100_000)),
        cold(
            "a secret that is hashed (fleet), a bare argon2",
            "fleet",
            scaled(200),
        ),
        cold(
            "a secret that is hashed (owasp), a bare argon2",
            "owasp",
            scaled(5),
        ),
    ];
    stay_anywhere();
    rows
}

/// Keys are asked about in an order in which no processor would look for them.
fn cached(keys: usize) -> Row {
    let (plant, mut fleet) = Plant::of(keys, Issued::cheaply);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    for issued in &fleet {
        let decision = runtime.block_on(plant.authenticator.authenticate(&issued.credentials()));
        assert!(matches!(decision, Decision::Allow(_)), "it is admitted");
    }
    fleet.shuffle(&mut rand::rng());
    let mac: Hmac<Sha256> = Hmac::new_from_slice(&[7; 32]).expect("a key");
    println!("  ns a decision, ns an HMAC, at {keys} keys");
    let decide = |issued: &Issued| {
        let asked = plant
            .authenticator
            .authenticate(&issued.credentials())
            .now_or_never();
        assert!(matches!(black_box(asked), Some(Decision::Allow(_))));
    };
    let hmac = |issued: &Issued| {
        let mac = mac.clone().chain_update(&issued.key).chain_update(b"\0");
        black_box(mac.chain_update(&issued.secret).finalize().into_bytes());
    };
    let compared = Compared::rounds(|| nanos_each(&fleet, decide), || nanos_each(&fleet, hmac));
    compared.row("G3", "a decision, an HMAC", "ns", 2.5)
}

fn nanos_each(fleet: &[Issued], work: impl Fn(&Issued)) -> f64 {
    let begin = own_time();
    let turns = 3;
    for _ in 0..turns {
        fleet.iter().for_each(&work);
    }
    (own_time() - begin) * 1e9 / (turns * fleet.len()) as f64
}

/// Each round is a process of its own: where the memory of each arm happens to lie counts for some percent, and stays as
/// it is.
fn cold(what: &'static str, profile: &str, times: usize) -> Row {
    println!("  us to verify a secret, us a bare hash: {profile}");
    let mut compared = Compared::default();
    for _ in 0..ROUNDS {
        let mut arms = Other::start(&format!("verify {profile} {times}"));
        compared.add(arms.number(), arms.number());
    }
    compared.row("G4", what, "us", 1.03)
}

/// The process.
pub fn verify(profile: &str, times: usize) {
    stay_on(Core::Last);
    let profile = HashProfile::from_str(profile, false).expect("a profile");
    let secret = Secret::generate().expect("entropy");
    let verifier = Verifier::of(&secret, profile).expect("a hash");
    let (memory, passes) = match profile {
        HashProfile::Fleet => (1024, 1),
        HashProfile::Owasp => (19456, 2),
    };
    let params = Params::new(memory, passes, 1, Some(32)).expect("parameters");
    let mut blocks = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut bare = || {
        let (salt, mut tag) = ([7; 16], [0; 32]);
        let password = secret.expose().as_bytes();
        let hashed = argon2.hash_password_into_with_memory(password, &salt, &mut tag, &mut blocks);
        hashed.expect("a hash");
        black_box(tag);
    };
    let own = || assert!(black_box(verifier.verifies(&secret)));
    // In turns, so that both see the same of what else happens.
    let turns = (0..TURNS).map(|_| (micros_each(times, own), micros_each(times, &mut bare)));
    let (own, bare): (Vec<f64>, Vec<f64>) = turns.unzip();
    println!("{}\n{}", median(own), median(bare));
}

fn micros_each(times: usize, mut work: impl FnMut()) -> f64 {
    let begin = own_time();
    (0..times).for_each(|_| work());
    (own_time() - begin) * 1e6 / times as f64
}
