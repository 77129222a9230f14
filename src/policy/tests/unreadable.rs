//! AccessKeys that make no record.

use super::*;

#[test]
fn restrictions_that_the_api_server_would_refuse_make_no_record() {
    use UnreadableKey::{AllDevices, Empty, EmptyTag, Selector};
    let selector =
        |requirement: Value| json!({"deviceSelector": {"matchExpressions": [requirement]}});
    let rows = [
        (json!({}), Empty("restrictions")),
        (json!({"allDevices": null}), Empty("restrictions")),
        (json!({"alldevices": true}), Empty("restrictions")),
        (json!({"allDevices": false}), AllDevices),
        (json!({"allDevices": false, "deviceIds": ["a"]}), AllDevices),
        (json!({"allDevices": true, "deviceIds": ["a"]}), AllDevices),
        (
            json!({"allDevices": true, "deviceTags": [{"key": "a"}]}),
            AllDevices,
        ),
        (
            json!({"allDevices": true, "deviceSelector": {}}),
            AllDevices,
        ),
        (json!({"deviceIds": []}), Empty("restrictions.deviceIds")),
        (json!({"deviceTags": []}), Empty("restrictions.deviceTags")),
        (
            json!({"deviceIds": ["a"], "deviceTags": []}),
            Empty("restrictions.deviceTags"),
        ),
        (json!({"deviceTags": [{}]}), EmptyTag),
        (
            json!({"deviceTags": [{"key": "a"}, {"key": null}]}),
            EmptyTag,
        ),
        (
            json!({"deviceSelector": {}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            json!({"deviceSelector": {"matchLabels": {}}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            json!({"deviceSelector": {"matchExpressions": []}}),
            Empty("restrictions.deviceSelector"),
        ),
        (
            selector(json!({"key": "a", "operator": "NotIn", "values": []})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "NotIn"})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "In"})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "in", "values": ["b"]})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            Selector("a".into()),
        ),
        (
            selector(json!({"key": "a", "operator": "DoesNotExist", "values": ["b"]})),
            Selector("a".into()),
        ),
    ];
    for (restrictions, expected) in rows {
        let read = read_key(with(
            access_key(),
            "/spec/restrictions",
            restrictions.clone(),
        ));
        assert_eq!(read.err(), Some(expected), "{restrictions}");
    }
}

#[test]
fn what_is_not_issued_or_is_being_deleted_is_no_record() {
    let rows = [
        with(access_key(), "/status", Value::Null),
        with(access_key(), "/status/key", Value::Null),
        with(
            access_key(),
            "/metadata/deletionTimestamp",
            json!("2026-06-01T00:00:00Z"),
        ),
    ];
    for row in rows {
        assert!(read_key(row).expect("readable").is_none());
    }
}
