//! What is kept of a status.

use super::*;

#[tokio::test]
async fn a_device_without_conflict_has_no_status() {
    let namespace = TestNamespace::unserved("schema").await;
    let devices = dynamic::<Device>(&namespace.admin, &namespace.name);
    let subject = object::<Device>("subject", json!({}));
    let created = devices
        .create(&PostParams::default(), &subject)
        .await
        .expect("created");
    let expected = json!({ "spec": { "class": "Standalone", "disabled": false } });
    assert_eq!(created.data, expected);
}

#[tokio::test]
async fn a_full_status_is_kept_as_written() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    let status = issued_status();
    write_status(&keys, "subject", &status).await;
    let typed: Api<AccessKey> = namespace.api(&namespace.admin);
    let read = typed.get("subject").await.expect("read");
    assert_eq!(serde_json::to_value(read.status).unwrap(), status);
}

/// Presence of `unsettled` means something, so an empty one must survive.
#[tokio::test]
async fn an_empty_mark_survives() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    write_status(
        &keys,
        "subject",
        &json!({ "observedGeneration": 1, "unsettled": {} }),
    )
    .await;
    let typed: Api<AccessKey> = namespace.api(&namespace.admin);
    let mut read = typed.get("subject").await.expect("read");
    assert!(read.status.as_ref().unwrap().unsettled.is_some());

    read.status.as_mut().unwrap().observed_generation = 2;
    let written = typed
        .replace_status("subject", &PostParams::default(), &read)
        .await;
    assert!(
        written
            .expect("written")
            .status
            .unwrap()
            .unsettled
            .is_some()
    );
}

#[tokio::test]
async fn a_status_beyond_its_bounds_is_refused() {
    let attempt = json!({ "verifier": "v", "check": "c", "at": "2030-01-01T00:00:00Z" });
    let verifier = json!({ "revision": 1, "verifier": "v", "issuedAt": "2030-01-01T00:00:00Z" });
    let issuance =
        |n| json!({ "issuance": { "revision": 1, "attempts": vec![attempt.clone(); n] } });
    let verifiers = |n| json!({ "verifiers": vec![verifier.clone(); n] });
    let unsettled = |n| json!({ "unsettled": { "attempts": vec![attempt.clone(); n] } });
    let rows = [
        (issuance(8), Accepted),
        (
            issuance(9),
            Refused(&["status.issuance.attempts", "at most 8 items"]),
        ),
        (verifiers(4), Accepted),
        (
            verifiers(5),
            Refused(&["status.verifiers", "at most 4 items"]),
        ),
        (unsettled(16), Accepted),
        (
            unsettled(17),
            Refused(&["status.unsettled.attempts", "at most 16 items"]),
        ),
        (
            json!({ "state": "Broken" }),
            Refused(&["status.state", "Unsupported value"]),
        ),
        (
            json!({ "key": "k".repeat(256) }),
            Refused(&["status.key", "255"]),
        ),
        (
            json!({ "uid": "u".repeat(65) }),
            Refused(&["status.uid", "64"]),
        ),
        (
            json!({ "revision": -1 }),
            Refused(&["status.revision", "greater than or equal to 0"]),
        ),
        (
            json!({ "rotationRequested": 0 }),
            Refused(&["status.rotationRequested", "greater than or equal to 1"]),
        ),
    ];
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    for (row, (status, verdict)) in rows.into_iter().enumerate() {
        let written = try_write_status(&keys, &format!("subject-{row}"), &status).await;
        judge(&format!("{row}"), written.map(|_| ()), verdict);
    }
}
