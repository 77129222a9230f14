//! Which secrets are accepted.

use super::*;

#[test]
fn a_secret_is_accepted_by_any_verifier_that_is_still_valid() {
    let [old, new, other] = &*ISSUED;
    let record = |valid_until: Option<&str>| {
        key(with(
            access_key(),
            "/status/verifiers",
            json!([old.accepted(1, valid_until), new.accepted(2, None)]),
        ))
    };
    let rows = [
        (old, Some("2026-06-01T12:00:01Z"), Some(1)),
        (old, Some("2026-06-01T12:00:00.000001Z"), Some(1)),
        (old, Some("2026-06-01T12:00:00Z"), None),
        (old, Some("2026-06-01T11:59:59Z"), None),
        (old, Some("1970-01-01T00:00:00Z"), None),
        (old, None, Some(1)),
        (new, Some("2026-06-01T11:59:59Z"), Some(2)),
        (new, Some("2026-06-01T12:00:01Z"), Some(2)),
        (other, Some("2026-06-01T12:00:01Z"), None),
    ];
    for (issued, valid_until, revision) in rows {
        let decision = decide_by_hash(Some(&record(valid_until)), None, DEVICE, issued.secret);
        match decision {
            Decision::Allow(session) => assert_eq!(session.revision, revision),
            decision => assert_eq!(
                (decision, None),
                (Decision::Deny(Reason::BadSecret), revision)
            ),
        }
    }
}

#[test]
fn a_secret_under_way_is_neither_admitted_nor_refused() {
    let [accepted, attempted, other] = &*ISSUED;
    let issuing = |manifest: Value| {
        with(
            manifest,
            "/status/issuance",
            json!({"revision": 2, "attempts": [attempted.attempt()]}),
        )
    };
    let first = with(access_key(), "/status/verifiers", json!([]));
    let inactive = with(access_key(), "/spec/state", json!("Inactive"));
    let confirmed = with(
        access_key(),
        "/status/verifiers",
        json!([attempted.accepted(2, None)]),
    );
    let expired = json!([attempted.accepted(1, Some("2026-01-02T00:00:00Z"))]);
    let reissued = with(access_key(), "/status/verifiers", expired);
    let unsettled = with(
        access_key(),
        "/status/unsettled",
        json!({"attempts": [attempted.attempt()]}),
    );
    let rows = [
        (issuing(first), attempted, "unavailable"),
        (issuing(access_key()), attempted, "unavailable"),
        (issuing(access_key()), accepted, "allow"),
        (issuing(access_key()), other, "bad_secret"),
        (issuing(inactive), attempted, "inactive"),
        (issuing(confirmed), attempted, "allow"),
        (issuing(reissued), attempted, "unavailable"),
        (access_key(), attempted, "bad_secret"),
        (unsettled, attempted, "bad_secret"),
    ];
    for (row, (manifest, issued, expected)) in rows.into_iter().enumerate() {
        let answer = match decide_by_hash(Some(&key(manifest)), None, DEVICE, issued.secret) {
            Decision::Allow(_) => "allow",
            Decision::Deny(reason) => reason.as_str(),
            Decision::Unavailable => "unavailable",
        };
        assert_eq!(answer, expected, "row {row}");
    }
}

#[test]
fn a_secret_that_was_taken_over_may_be_anything_up_to_a_length() {
    let taken_over = with(current().accepted(0, None), "/check", Value::Null);
    let record = key(with(access_key(), "/status/verifiers", json!([taken_over])));
    let long = "x".repeat(1024);
    for secret in ["hunter2", " ", "\0", "kws_", &long] {
        let decision = decide_by_hash(Some(&record), None, DEVICE, secret);
        assert_eq!(decision, Decision::Deny(Reason::BadSecret), "{secret:?}");
    }
    for secret in ["", &format!("{long}x")] {
        let decision = decide_without_hash(Some(&record), None, DEVICE, secret);
        assert_eq!(decision, Decision::Deny(Reason::Malformed), "{secret:?}");
    }
}

#[test]
fn a_verifier_that_cannot_be_read_never_matches_and_harms_no_other() {
    let hostile =
        |field: &str, value: Value| with(current().accepted(1, None), &format!("/{field}"), value);
    let costly = current().verifier.replace("m=1024", "m=4294967295");
    let rows = [
        hostile("verifier", json!(costly)),
        hostile("verifier", json!("")),
        hostile("verifier", json!("$".repeat(512))),
        hostile("check", json!("")),
        hostile("check", json!(current().check.to_uppercase() + "0")),
        hostile("check", json!("00000000")),
    ];
    for row in rows {
        let record = key(with(
            access_key(),
            "/status/verifiers",
            json!([row, ISSUED[1].accepted(2, None)]),
        ));
        let refused = decide_by_hash(Some(&record), None, DEVICE, current().secret);
        assert_eq!(refused, Decision::Deny(Reason::BadSecret), "{row}");
        assert!(is_allow(&decide_by_hash(
            Some(&record),
            None,
            DEVICE,
            ISSUED[1].secret
        )));
    }
}

#[test]
fn a_verifier_without_a_check_is_asked_for_a_match() {
    let taken_over = with(current().accepted(0, None), "/check", Value::Null);
    let record = key(with(access_key(), "/status/verifiers", json!([taken_over])));
    assert!(is_allow(&decide_by_hash(
        Some(&record),
        None,
        DEVICE,
        current().secret
    )));
    let refused = decide_by_hash(Some(&record), None, DEVICE, ISSUED[1].secret);
    assert_eq!(refused, Decision::Deny(Reason::BadSecret));
}

#[test]
fn what_was_found_out_about_a_verifier_is_kept_when_the_record_is_rewritten() {
    let [old, new, _] = &*ISSUED;
    let earlier = key(access_key());
    earlier.verifiers()[0]
        .hashed
        .matched
        .set([7; 16])
        .expect("it is new");
    let accepted = json!([old.accepted(1, Some(NOW)), new.accepted(2, None)]);
    let mut later = key(with(access_key(), "/status/verifiers", accepted));
    later.learn_from(&earlier);
    let known: Vec<_> = later
        .verifiers()
        .iter()
        .map(|own| own.hashed.matched.get())
        .collect();
    assert_eq!(known, [None, Some(&[7; 16])]);
}

/// With the number of the namespace, two lines of a cache: `src/gateway/claims.rs`.
#[test]
fn what_is_read_of_a_key_with_one_secret_takes_120_bytes() {
    let record = key(access_key());
    let verifier = &record.verifiers()[0];
    let end = std::ptr::from_ref(&verifier.hashed).addr();
    assert_eq!(end - std::ptr::from_ref(&record).addr(), 120);
}

#[test]
fn an_end_is_the_instant_that_it_was_read_from() {
    let rows = [
        (None, None),
        (Some(NOW), Some(NOW)),
        (
            Some("2026-06-01T12:00:00.000000001Z"),
            Some("2026-06-01T12:00:00.000000001Z"),
        ),
        (
            Some("1677-01-01T00:00:00Z"),
            Some("1677-09-21T00:12:43.145224192Z"),
        ),
        (Some("2263-01-01T00:00:00Z"), None),
    ];
    for (written, read) in rows {
        let accepted = json!([current().accepted(1, written)]);
        let record = key(with(access_key(), "/status/verifiers", accepted));
        let verifier = &record.verifiers()[0];
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(verifier.valid_until(), read.map(time), "{written:?}");
        let is_over = written.is_some_and(|end| time(end) <= time(NOW));
        assert_eq!(verifier.is_valid(|| time(NOW)), !is_over, "{written:?}");
    }
}

#[test]
fn forged_status_costs_no_more_than_four_hashes() {
    let forged = with(current().accepted(1, None), "/check", Value::Null);
    let record = key(with(
        access_key(),
        "/status/verifiers",
        json!(vec![forged; 1000]),
    ));
    let mut hashes = 0;
    let presented = presented(DEVICE, ISSUED[1].secret);
    let decision = decide(about(Some(&record), None), &presented, now(), |_, _| {
        hashes += 1;
        false
    });
    assert_eq!((decision, hashes), (Decision::Deny(Reason::BadSecret), 4));
}

#[test]
fn the_check_is_bound_to_the_key() {
    let stolen = with(
        access_key(),
        "/status/key",
        json!("kwk_00000000000000000000000000"),
    );
    let decision = decide_without_hash(Some(&key(stolen)), None, DEVICE, current().secret);
    assert_eq!(decision, Decision::Deny(Reason::BadSecret));
}

#[test]
fn malformed_credentials_are_all_refused_alike() {
    let record = key(access_key());
    let secret = current().secret;
    let texts = [
        "",
        " ",
        "\0",
        "\n",
        "null",
        "undefined",
        "Bearer nothing",
        "kws_",
        "kws",
        "kwk_",
        KEY,
        "anonymous",
        "kws_0000000000000000000000000000000000000000000",
        "' OR 1=1 --",
        "{}",
        "\u{202e}kws_",
        "ｋｗｓ＿",
        "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    let mut rows: Vec<String> = texts.map(String::from).to_vec();
    rows.extend((0..secret.len()).map(|len| secret[..len].to_owned()));
    rows.extend((1..secret.len()).map(|from| secret[from..].to_owned()));
    rows.extend((0..=secret.len()).map(|at| format!("{}\0{}", &secret[..at], &secret[at..])));
    rows.extend(
        (0..secret.len()).map(|at| format!("{}{}", &secret[..at], &secret[at + 1..]) + "é"),
    );
    rows.extend([
        format!(" {secret}"),
        format!("{secret} "),
        format!("{secret}\r\n"),
        secret.repeat(2),
    ]);
    rows.extend([
        "x".repeat(1 << 20),
        current().verifier.clone(),
        current().check.clone(),
    ]);
    assert!(rows.len() >= 200, "{}", rows.len());
    for row in rows {
        let decision = decide_without_hash(Some(&record), None, DEVICE, &row);
        assert_eq!(decision, Decision::Deny(Reason::Malformed), "{row:.80?}");
    }
}

#[test]
fn nothing_that_can_be_printed_holds_the_secret() {
    let record = key(access_key());
    let decision = decide_by_hash(Some(&record), None, DEVICE, current().secret);
    let printed = format!("{record:?} {decision:?}");
    assert!(!printed.contains(current().secret) && !printed.contains(&current().verifier));
}
