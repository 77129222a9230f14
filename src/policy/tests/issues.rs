//! Which issues are accepted, and when others ended.

use super::*;

#[test]
fn issues_end_when_the_status_says_or_can_have_said() {
    let [old, new, _] = &*ISSUED;
    let time = |text: &str| Some(text.parse::<Timestamp>().expect("a timestamp"));
    let begin = "2026-01-01T00:00:00Z";
    let taken_over = || {
        let mut taken_over = new.accepted(2, None);
        taken_over["check"] = Value::Null;
        taken_over
    };
    let rows = [
        // The first issue.
        (json!([old.accepted(1, None)]), "24h", vec![1], None, None),
        // An overlap, and its end, which the status still names, and then not any more.
        (
            json!([
                old.accepted(1, Some("2026-06-01T12:00:01Z")),
                new.accepted(2, None)
            ]),
            "24h",
            vec![2, 1],
            None,
            time("2026-06-01T12:00:01Z"),
        ),
        (
            json!([old.accepted(1, Some(NOW)), new.accepted(2, None)]),
            "24h",
            vec![2],
            time(NOW),
            None,
        ),
        (
            json!([new.accepted(2, None)]),
            "24h",
            vec![2],
            time("2026-01-02T00:00:00Z"),
            None,
        ),
        // Without an overlap, or taken over.
        (
            json!([new.accepted(2, None)]),
            "0s",
            vec![2],
            time(begin),
            None,
        ),
        (json!([taken_over()]), "24h", vec![2], time(begin), None),
        // The overlap was made longer since: when it ended is not known.
        (json!([new.accepted(2, None)]), "9000h", vec![2], None, None),
        (json!([]), "24h", vec![], None, None),
    ];
    for (row, (verifiers, overlap, accepted, ended, ends)) in rows.into_iter().enumerate() {
        let manifest = with(access_key(), "/status/verifiers", verifiers);
        let rotation = json!({ "revision": 2, "overlap": overlap });
        let record = key(with(manifest, "/spec/rotation", rotation));
        let expected = Issues {
            accepted,
            ended,
            ends,
        };
        assert_eq!(record.issues(now()), expected, "row {row}");
    }
    let expiring = with(
        access_key(),
        "/spec/expiresAt",
        json!("2026-06-01T12:00:09Z"),
    );
    assert_eq!(
        key(expiring).issues(now()).ends,
        time("2026-06-01T12:00:09Z")
    );
}
