//! The rules in `deploy/secret-scanning/` find every secret that Keyward makes.

use keyward::key::{KeyId, Secret};
use regex::Regex;

const PATTERN: &str = include_str!("../deploy/secret-scanning/pattern.txt");
const GITLEAKS: &str = include_str!("../deploy/secret-scanning/gitleaks.toml");

#[test]
fn every_generated_secret_is_found_where_secrets_leak() {
    let pattern = pattern();
    for _ in 0..1000 {
        let secret = Secret::generate().expect("entropy");
        let secret = secret.expose();
        let leaks = [
            secret.to_owned(),
            format!("  password: {secret}\n"),
            format!("{{\"secret\":\"{secret}\"}}"),
            format!("mqtts://kwk_x:{secret}@broker:8883/"),
            format!("export SECRET='{secret}'; mosquitto_pub -P {secret} -t x"),
        ];
        for leak in leaks {
            assert_eq!(
                pattern.find(&leak).map(|found| found.as_str()),
                Some(secret),
                "{leak}"
            );
        }
    }
}

#[test]
fn what_is_no_secret_is_not_found() {
    let pattern = pattern();
    let key = KeyId::generate().expect("entropy");
    let body = "0".repeat(49);
    let rows = [
        key.to_string(),
        format!("kws_{}", &body[1..]),
        format!("kws_{body}0"),
        format!("kws-{body}"),
        format!("KWS_{body}"),
        format!("xkws_{body}"),
        "kws_".to_owned(),
    ];
    for row in rows {
        assert!(!pattern.is_match(&row), "{row}");
    }
}

#[test]
fn gitleaks_looks_for_the_same_pattern() {
    assert!(GITLEAKS.contains(&format!("\nregex = '''{}'''\n", PATTERN.trim_end())));
}

#[test]
fn gitleaks_passes_over_public_keys() {
    let line = GITLEAKS
        .lines()
        .find_map(|line| line.strip_prefix("regexes = ['''"));
    let allowed = line
        .and_then(|line| line.strip_suffix("''']"))
        .expect("an allowlist");
    let allowed = Regex::new(allowed).expect("a regular expression");
    for _ in 0..1000 {
        let key = KeyId::generate().expect("entropy");
        assert!(allowed.is_match(key.as_str()), "{key}");
        assert!(!allowed.is_match(Secret::generate().expect("entropy").expose()));
    }
}

fn pattern() -> Regex {
    Regex::new(PATTERN.trim_end()).expect("a regular expression")
}
