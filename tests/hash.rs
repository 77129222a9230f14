//! `keyward hash`, run as people run it: a verifier on standard output, and the secret nowhere.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use keyward::key::Secret;
use keyward::verifier::Verifier;

const MADE: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";
const STRONG: &str = "8c6f1b3a9d204e57a1b2c3d4e5f60718";

fn hash(args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("hash")
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading: that is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The verifier is the only line, and accepts the secret and no other.
#[track_caller]
fn verifies(output: &Output, secret: &str, cost: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let verifier = out.strip_suffix('\n').unwrap();
    assert!(
        verifier.starts_with(&format!("$argon2id$v=19${cost}$")),
        "{out}"
    );
    let verifier = Verifier::parse(verifier).unwrap();
    assert!(verifier.verifies(&Secret::foreign(secret).unwrap()));
    let other = format!("{secret}\n");
    assert!(!verifier.verifies(&Secret::foreign(&other).unwrap()));
}

const OWASP: &str = "m=19456,t=2,p=1";
const FLEET: &str = "m=1024,t=1,p=1";

#[test]
fn a_secret_is_hashed_without_the_end_of_its_line() {
    for end in ["", "\n", "\r\n"] {
        let output = hash(&[], &[], format!("{STRONG}{end}").as_bytes());
        verifies(&output, STRONG, OWASP);
        assert_eq!(text(&output.stderr), "");
    }
    let again = hash(&[], &[], STRONG.as_bytes());
    let once = hash(&[], &[], STRONG.as_bytes());
    assert_ne!(once.stdout, again.stdout, "each has a salt of its own");
}

#[test]
fn the_cost_is_a_flag_or_a_variable() {
    let by_flag = hash(&["--hash-profile", "fleet"], &[], MADE.as_bytes());
    verifies(&by_flag, MADE, FLEET);
    let variable = ("KEYWARD_HASH_PROFILE", "fleet");
    verifies(&hash(&[], &[variable], MADE.as_bytes()), MADE, FLEET);
    let output = hash(&["--hash-profile", "owasp"], &[variable], MADE.as_bytes());
    verifies(&output, MADE, OWASP);
}

#[test]
fn a_secret_that_looks_weak_is_hashed_with_a_warning() {
    let output = hash(&[], &[], b"hunter2");
    verifies(&output, "hunter2", OWASP);
    let err = text(&output.stderr);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("could be guessed") && !err.contains("hunter2"),
        "{err}"
    );
}

#[test]
fn what_is_no_secret_is_refused_in_one_sentence_and_not_repeated() {
    let long = "marvellous".repeat(103);
    let two = format!("{STRONG}\n{STRONG}\n");
    let typo = MADE.replace('A', "B");
    let rows: [(&[u8], &str); 7] = [
        (b"", "it holds nothing"),
        (b"\n", "it holds nothing"),
        (two.as_bytes(), "more than one line"),
        (b"\xff\xfe", "something else than text"),
        (long.as_bytes(), "longer than 1024 bytes"),
        (&b"x".repeat(10_000), "longer than 1024 bytes"),
        (typo.as_bytes(), "look for a typo"),
    ];
    for (input, words) in rows {
        let output = hash(&[], &[], input);
        let err = text(&output.stderr);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(1), ""),
            "{words}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains(words), "{words}: {err}");
        for secret in [STRONG, "marvellous", &typo[4..]] {
            assert!(!err.contains(secret), "{words}");
        }
    }
}

#[test]
fn a_secret_among_the_arguments_is_refused() {
    let output = hash(&[STRONG], &[], b"");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
}
