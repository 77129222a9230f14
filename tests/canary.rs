//! The search for plaintext finds it.

mod support;

use base64ct::{Base64, Encoding};
use keyward::key::Secret;
use support::canary::looks_like_a_secret;

#[test]
fn a_secret_is_seen_however_it_is_written() {
    let secret = Secret::generate().unwrap();
    let secret = secret.expose();
    let rows = [
        format!("found {secret}"),
        format!("data: {}", Base64::encode_string(secret.as_bytes())),
        format!("{:?}", secret.as_bytes()),
    ];
    for text in rows {
        assert!(looks_like_a_secret(&text), "{text}");
    }
}

#[test]
fn talk_of_secrets_is_none() {
    let texts = [
        "kws_ and 49 characters",
        "Secret kws-1",
        "kwk_7dptcmdfgvntd1qqgzh3h7skky",
    ];
    for text in texts {
        assert!(!looks_like_a_secret(text), "{text}");
    }
}
