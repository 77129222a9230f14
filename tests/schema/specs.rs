//! What may be written, and what may not.

use super::*;

#[tokio::test]
async fn access_key_specs() {
    let ids = |ids: Value| json!({ "restrictions": { "deviceIds": ids } });
    let id = |id: &str| ids(json!([id]));
    let tags = |tags: Value| json!({ "restrictions": { "deviceTags": tags } });
    let selector = |selector: Value| json!({ "restrictions": { "deviceSelector": selector } });
    let expression = |e: Value| selector(json!({ "matchExpressions": [e] }));
    let with = |field: &str, value: Value| {
        let mut spec = json!({ "restrictions": { "allDevices": true } });
        spec[field] = value;
        spec
    };
    let secret = |value: Value| with("secret", value);
    let label = |key: &str, value: &str| secret(json!({ "labels": { key: value } }));
    let annotation = |key: &str| secret(json!({ "annotations": { key: "v" } }));
    let keys = |value: Value| secret(json!({ "keys": value }));
    let overlap = |value: Value| with("rotation", json!({ "overlap": value }));
    let validity = |not_before: &str, expires_at: &str| {
        let mut spec = with("notBefore", json!(not_before));
        spec["expiresAt"] = json!(expires_at);
        spec
    };
    let every = |every: &str, overlap: &str| {
        with("rotation", json!({ "every": every, "overlap": overlap }))
    };
    let revision = |value: Value| with("rotation", json!({ "revision": value }));
    let many = |n: usize| (0..n).map(|i| format!("device-{i:04}")).collect::<Vec<_>>();

    let topics = |value: Value| with("topics", value);
    let allowed = |filter: &str| topics(json!({ "filter": "AllowList", "publish": [filter] }));
    let sources = |value: Value| with("sources", value);
    let from = |address: &str| sources(json!({ "filter": "DenyList", "cidrs": [address] }));

    let existing =
        |key: &str, verifier: &str| with("existing", json!({ "key": key, "verifier": verifier }));
    let cost = |cost: &str| existing("k", &phc(cost, 22, 43));
    let parts = |salt: usize, tag: usize| existing("k", &phc("m=1024,t=1,p=1", salt, tag));
    let fits = &phc("m=1024,t=1,p=1", 22, 43);

    check_specs::<AccessKey>(vec![
        // restrictions: nothing may fail open
        ("all devices", with("suspend", json!(false)), Accepted),
        ("restrictions missing", json!({}), Refused(&["spec.restrictions: Required"])),
        ("restrictions null", json!({ "restrictions": null }), Refused(&["spec.restrictions: Required"])),
        ("restrictions empty", json!({ "restrictions": {} }), Refused(&["spec.restrictions", "admit no device: set at least one of"])),
        ("restrictions a list", json!({ "restrictions": [] }), Refused(&["spec.restrictions", "must be of type object"])),
        ("a field misspelt", json!({ "restrictions": { "deviceIDs": ["a"] } }), Refused(&["spec.restrictions", "admit no device"])),
        ("a field mistyped", json!({ "restrictions": { "deviceIds": "a" } }), Refused(&[IDS, "must be of type array"])),
        ("an id mistyped", ids(json!([7])), Refused(&[IDS, "must be of type string"])),
        ("all devices mistyped", json!({ "restrictions": { "allDevices": "true" } }), Refused(&["spec.restrictions.allDevices", "must be of type boolean"])),
        ("all devices null", json!({ "restrictions": { "allDevices": null } }), Refused(&["spec.restrictions", "admit no device"])),
        ("all devices false", json!({ "restrictions": { "allDevices": false } }), Refused(&["spec.restrictions.allDevices", "can only be true"])),
        ("all devices false and ids", json!({ "restrictions": { "allDevices": false, "deviceIds": ["a"] } }), Refused(&["spec.restrictions.allDevices", "can only be true"])),
        ("all devices and ids", json!({ "restrictions": { "allDevices": true, "deviceIds": ["a"] } }), Refused(&["spec.restrictions", "allDevices stands alone"])),
        ("all devices and tags", json!({ "restrictions": { "allDevices": true, "deviceTags": [{ "key": "a" }] } }), Refused(&["allDevices stands alone"])),
        ("all devices and a selector", json!({ "restrictions": { "allDevices": true, "deviceSelector": { "matchLabels": { "a": "b" } } } }), Refused(&["allDevices stands alone"])),
        ("ids, tags and a selector", json!({ "restrictions": { "deviceIds": ["a"], "deviceTags": [{ "key": "a" }], "deviceSelector": { "matchLabels": { "a": "b" } } } }), Accepted),
        // topics
        ("topics null", topics(json!(null)), Accepted),
        ("topics empty", topics(json!({})), Accepted),
        ("topics all", topics(json!({ "filter": "All" })), Accepted),
        ("topics of an unknown filter", topics(json!({ "filter": "Some" })), Refused(&["spec.topics.filter"])),
        ("an allow list of nothing", topics(json!({ "filter": "AllowList" })), Refused(&["spec.topics", "need a filter in"])),
        ("a deny list of nothing", topics(json!({ "filter": "DenyList", "publish": [], "subscribe": [] })), Refused(&["spec.topics", "need a filter in"])),
        ("a list without a filter", topics(json!({ "publish": ["a"] })), Refused(&["spec.topics", "have no effect"])),
        ("a list beside all", topics(json!({ "filter": "All", "subscribe": ["a"] })), Refused(&["spec.topics", "have no effect"])),
        ("a topic", allowed("a/b"), Accepted),
        ("all topics", allowed("#"), Accepted),
        ("wildcards", allowed("+/a/+/#"), Accepted),
        ("empty levels", allowed("/a//"), Accepted),
        ("the device", allowed("{device}/x-{device}"), Accepted),
        ("another placeholder", allowed("{namespace}/x"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("half a placeholder", allowed("{device"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("# inside", allowed("a/#/b"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("# in a level", allowed("a#"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("+ in a level", allowed("a/b+"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("*", allowed("a/*"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        (">", allowed("a/>"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("a $-topic", allowed("$SYS/#"), Refused(&["spec.topics.publish", "must be a topic filter"])),
        ("$ elsewhere", allowed("a/$b"), Accepted),
        ("an empty filter", allowed(""), Refused(&["spec.topics.publish"])),
        ("a filter of 1024", allowed(&"x".repeat(1024)), Accepted),
        ("a filter of 1025", allowed(&"x".repeat(1025)), Refused(&["spec.topics.publish", "1024"])),
        ("100 filters", topics(json!({ "filter": "AllowList", "publish": many(100), "subscribe": many(100) })), Accepted),
        ("101 filters", topics(json!({ "filter": "AllowList", "subscribe": many(101) })), Refused(&["spec.topics.subscribe", "100"])),
        // sources
        ("sources null", sources(json!(null)), Accepted),
        ("sources all", sources(json!({ "filter": "All" })), Accepted),
        ("sources of an unknown filter", sources(json!({ "filter": "None" })), Refused(&["spec.sources.filter"])),
        ("an allow list of no sources", sources(json!({ "filter": "AllowList" })), Refused(&["spec.sources", "need an address"])),
        ("sources without a filter", sources(json!({ "cidrs": ["10.0.0.1"] })), Refused(&["spec.sources", "has no effect"])),
        ("an IPv4 address", from("192.0.2.1"), Accepted),
        ("an IPv4 range", from("192.0.2.1/24"), Accepted),
        ("an IPv6 address", from("2001:db8::1"), Accepted),
        ("an IPv6 range", from("2001:db8::/32"), Accepted),
        ("half an address", from("192.0.2"), Refused(&["spec.sources.cidrs", "must be an IPv4 or IPv6 address"])),
        ("a range that is too long", from("192.0.2.1/33"), Refused(&["spec.sources.cidrs", "must be an IPv4 or IPv6 address"])),
        ("a name", from("gateway.example"), Refused(&["spec.sources.cidrs", "must be an IPv4 or IPv6 address"])),
        ("a zone", from("fe80::1%eth0"), Refused(&["spec.sources.cidrs", "must be an IPv4 or IPv6 address"])),
        ("101 sources", sources(json!({ "filter": "AllowList", "cidrs": vec!["10.0.0.1"; 101] })), Refused(&["spec.sources.cidrs", "100"])),
        // deviceIds
        ("every character of an id", id("AZaz09_-"), Accepted),
        ("an id of 64", id(&"x".repeat(64)), Accepted),
        ("an id of 65", id(&"x".repeat(65)), Refused(&[IDS, "64"])),
        ("an id with a slash", id("a/b"), Refused(&[IDS, "should match"])),
        ("an id with a plus", id("a+b"), Refused(&[IDS, "should match"])),
        ("an id with a hash", id("a#b"), Refused(&[IDS, "should match"])),
        ("an id with a dot", id("a.b"), Refused(&[IDS, "should match"])),
        ("an id with a space", id("a b"), Refused(&[IDS, "should match"])),
        ("an id with a line feed", id("a\n"), Refused(&[IDS, "should match"])),
        ("an id that is empty", id(""), Refused(&[IDS, "should match"])),
        ("an id that is null", ids(json!([null])), Refused(&[IDS, "must be of type string"])),
        ("one id twice", ids(json!(["a", "a"])), Accepted),
        ("no ids", ids(json!([])), Refused(&[IDS, "at least 1 items"])),
        ("1000 ids", ids(json!(many(1000))), Accepted),
        ("1001 ids", ids(json!(many(1001))), Refused(&[IDS, "at most 1000 items"])),
        // deviceTags
        ("a tag's key", tags(json!([{ "key": "site" }])), Accepted),
        ("a tag's value", tags(json!([{ "value": "hamburg" }])), Accepted),
        ("a tag of 255", tags(json!([{ "key": "k".repeat(255), "value": "v".repeat(255) }])), Accepted),
        ("a tag with neither part", tags(json!([{}])), Refused(&["spec.restrictions.deviceTags[0]", "neither key nor value"])),
        ("a tag with null parts", tags(json!([{ "key": null, "value": null }])), Refused(&["spec.restrictions.deviceTags[0]", "neither key nor value"])),
        ("a tag with an empty key", tags(json!([{ "key": "", "value": "v" }])), Refused(&["spec.restrictions.deviceTags[0].key", "at least 1 chars"])),
        ("a tag with an empty value", tags(json!([{ "key": "k", "value": "" }])), Refused(&["spec.restrictions.deviceTags[0].value", "at least 1 chars"])),
        ("a tag's key of 256", tags(json!([{ "key": "k".repeat(256) }])), Refused(&["spec.restrictions.deviceTags[0].key", "255"])),
        ("a tag's value of 256", tags(json!([{ "value": "v".repeat(256) }])), Refused(&["spec.restrictions.deviceTags[0].value", "255"])),
        ("no tags", tags(json!([])), Refused(&["spec.restrictions.deviceTags", "at least 1 items"])),
        ("100 tags", tags(json!(vec![json!({ "key": "k" }); 100])), Accepted),
        ("101 tags", tags(json!(vec![json!({ "key": "k" }); 101])), Refused(&["spec.restrictions.deviceTags", "at most 100 items"])),
        // deviceSelector
        ("labels", selector(json!({ "matchLabels": { "example.com/site": "hamburg", "empty": "" } })), Accepted),
        ("a selector that is empty", selector(json!({})), Refused(&["spec.restrictions.deviceSelector", "is empty"])),
        ("a selector of empty parts", selector(json!({ "matchLabels": {}, "matchExpressions": [] })), Refused(&["spec.restrictions.deviceSelector", "is empty"])),
        ("a selector misspelt", selector(json!({ "labels": { "a": "b" } })), Refused(&["spec.restrictions.deviceSelector", "is empty"])),
        ("a selector of null labels", selector(json!({ "matchLabels": null })), Refused(&["spec.restrictions.deviceSelector", "is empty"])),
        ("a label key with a space", selector(json!({ "matchLabels": { "a b": "c" } })), Refused(&["spec.restrictions.deviceSelector.matchLabels", "each key"])),
        ("a label key with an empty prefix", selector(json!({ "matchLabels": { "/a": "c" } })), Refused(&["spec.restrictions.deviceSelector.matchLabels", "each key"])),
        ("a label value with a space", selector(json!({ "matchLabels": { "a": "b c" } })), Refused(&["spec.restrictions.deviceSelector.matchLabels", "each value"])),
        ("a label value of 64", selector(json!({ "matchLabels": { "a": "b".repeat(64) } })), Refused(&["spec.restrictions.deviceSelector.matchLabels", "63"])),
        ("In with values", expression(json!({ "key": "site", "operator": "In", "values": ["a", ""] })), Accepted),
        ("NotIn with values", expression(json!({ "key": "site", "operator": "NotIn", "values": ["a"] })), Accepted),
        ("Exists", expression(json!({ "key": "site", "operator": "Exists" })), Accepted),
        ("DoesNotExist with no values", expression(json!({ "key": "site", "operator": "DoesNotExist", "values": [] })), Accepted),
        ("In without values", expression(json!({ "key": "site", "operator": "In" })), Refused(&["spec.restrictions.deviceSelector.matchExpressions[0]", "values must hold at least one"])),
        ("NotIn with no values", expression(json!({ "key": "site", "operator": "NotIn", "values": [] })), Refused(&["spec.restrictions.deviceSelector.matchExpressions[0]", "values must hold at least one"])),
        ("Exists with values", expression(json!({ "key": "site", "operator": "Exists", "values": ["a"] })), Refused(&["spec.restrictions.deviceSelector.matchExpressions[0]", "absent for Exists"])),
        ("DoesNotExist with values", expression(json!({ "key": "site", "operator": "DoesNotExist", "values": ["a"] })), Refused(&["spec.restrictions.deviceSelector.matchExpressions[0]", "absent for Exists"])),
        ("an unknown operator", expression(json!({ "key": "site", "operator": "Like", "values": ["a"] })), Refused(&["operator", "Unsupported value", "\"In\""])),
        ("an operator in lower case", expression(json!({ "key": "site", "operator": "in", "values": ["a"] })), Refused(&["operator", "Unsupported value"])),
        ("an expression's bad key", expression(json!({ "key": "a b", "operator": "Exists" })), Refused(&["matchExpressions[0].key", "valid label key"])),
        ("an expression's empty key", expression(json!({ "key": "", "operator": "Exists" })), Refused(&["matchExpressions[0].key"])),
        ("an expression's bad value", expression(json!({ "key": "a", "operator": "In", "values": ["-"] })), Refused(&["matchExpressions[0].values[0]", "should match"])),
        ("an expression's value of 64", expression(json!({ "key": "a", "operator": "In", "values": ["b".repeat(64)] })), Refused(&["matchExpressions[0].values[0]", "63"])),
        ("100 values", expression(json!({ "key": "a", "operator": "In", "values": vec!["b"; 100] })), Accepted),
        ("101 values", expression(json!({ "key": "a", "operator": "In", "values": vec!["b"; 101] })), Refused(&["matchExpressions[0].values", "at most 100 items"])),
        ("64 expressions", selector(json!({ "matchExpressions": vec![json!({ "key": "a", "operator": "Exists" }); 64] })), Accepted),
        ("65 expressions", selector(json!({ "matchExpressions": vec![json!({ "key": "a", "operator": "Exists" }); 65] })), Refused(&["spec.restrictions.deviceSelector.matchExpressions", "at most 64 items"])),
        ("64 labels to match", selector(json!({ "matchLabels": numbered(64) })), Accepted),
        ("65 labels to match", selector(json!({ "matchLabels": numbered(65) })), Refused(&["spec.restrictions.deviceSelector.matchLabels", "at most 64"])),
        // state, suspend, description
        ("active", with("state", json!("Active")), Accepted),
        ("inactive", with("state", json!("Inactive")), Accepted),
        ("an unknown state", with("state", json!("Disabled")), Refused(&["spec.state", "Unsupported value", "\"Inactive\""])),
        ("a state in lower case", with("state", json!("inactive")), Refused(&["spec.state", "Unsupported value"])),
        ("suspended", with("suspend", json!(true)), Accepted),
        ("suspended, mistyped", with("suspend", json!("yes")), Refused(&["spec.suspend", "must be of type boolean"])),
        ("a description of 1024", with("description", json!("ü".repeat(1024))), Accepted),
        ("a description of 1025", with("description", json!("x".repeat(1025))), Refused(&["spec.description", "1024"])),
        // rotation
        ("the highest revision", revision(json!(i32::MAX)), Accepted),
        ("a revision of 0", revision(json!(0)), Refused(&["spec.rotation.revision", "greater than or equal to 1"])),
        ("a revision too high", revision(json!(2_147_483_648_i64)), Refused(&["spec.rotation.revision", "2147483647"])),
        ("a revision that is a string", revision(json!("2")), Refused(&["spec.rotation.revision", "must be of type integer"])),
        ("a revision with a fraction", revision(json!(1.5)), Refused(&["spec.rotation.revision", "must be of type integer"])),
        // validity
        ("a beginning", with("notBefore", json!("2026-01-01T00:00:00Z")), Accepted),
        ("an end", with("expiresAt", json!("2026-01-01T00:00:00.5+02:00")), Accepted),
        ("an end after the beginning", validity("2026-01-01T00:00:00+02:00", "2025-12-31T22:00:01Z"), Accepted),
        ("an end at the beginning", validity("2026-01-01T00:00:00+02:00", "2025-12-31T22:00:00Z"), Refused(&["spec", "expiresAt must lie after notBefore"])),
        ("an end before the beginning", validity("2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z"), Refused(&["spec", "expiresAt must lie after notBefore"])),
        ("the last end", with("expiresAt", json!("9999-12-29T23:59:59Z")), Accepted),
        ("an end too late", with("expiresAt", json!("9999-12-31T23:59:59Z")), Refused(&["spec.expiresAt", "leave it out for a key that never expires"])),
        ("a beginning too late", with("notBefore", json!("9999-12-31T23:59:59Z")), Refused(&["spec.notBefore", "before the end of the year 9999"])),
        ("an end without a zone", with("expiresAt", json!("2026-01-01T00:00:00")), Refused(&["spec.expiresAt", "date-time"])),
        ("a date", with("expiresAt", json!("2026-01-01")), Refused(&["spec.expiresAt", "date-time"])),
        ("a number", with("expiresAt", json!(1_767_225_600)), Refused(&["spec.expiresAt", "must be of type date-time"])),
        ("no end", with("expiresAt", json!(null)), Accepted),
        // rotation
        ("no overlap", overlap(json!("0s")), Accepted),
        ("an overlap of milliseconds", overlap(json!("500ms")), Accepted),
        ("an overlap of parts", overlap(json!("1h30m10s5ms")), Accepted),
        ("the longest overlap", overlap(json!("2160h")), Accepted),
        ("the longest overlap in seconds", overlap(json!("7776000s")), Accepted),
        ("an overlap too long", overlap(json!("2161h")), Refused(&["spec.rotation.overlap", "between 0s and 2160h"])),
        ("an overlap far too long", overlap(json!("9999999h9999999h9999999h")), Refused(&["spec.rotation.overlap"])),
        ("an overlap of days", overlap(json!("90d")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap of weeks", overlap(json!("2 weeks")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap as ISO 8601", overlap(json!("P1D")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap below zero", overlap(json!("-1h")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap with a fraction", overlap(json!("1.5h")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap without a unit", overlap(json!("0")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap that is empty", overlap(json!("")), Refused(&["spec.rotation.overlap", "whole numbers with the units"])),
        ("an overlap that is a number", overlap(json!(24)), Refused(&["spec.rotation.overlap", "must be of type string"])),
        // rotation.every
        ("the shortest schedule", every("1h", "3h"), Accepted),
        ("the shortest schedule in parts", every("59m59s1000ms", "0s"), Accepted),
        ("a schedule of a year", every("8760h", "2160h"), Accepted),
        ("a schedule beside the default overlap", with("rotation", json!({ "every": "8h" })), Accepted),
        ("no schedule", with("rotation", json!({ "every": null })), Accepted),
        ("a schedule too short", every("59m59s", "0s"), Refused(&["spec.rotation.every", "at least 1h"])),
        ("a schedule of days", every("30d", "1h"), Refused(&["spec.rotation.every", "whole numbers with the units"])),
        ("a schedule that is empty", every("", "1h"), Refused(&["spec.rotation.every", "whole numbers with the units"])),
        ("a schedule that is a number", with("rotation", json!({ "every": 24 })), Refused(&["spec.rotation.every", "must be of type string"])),
        ("an overlap of more than three times that", every("1h", "3h0m1s"), Refused(&["spec.rotation", "at most three times rotation.every", "set a shorter overlap"])),
        ("a default overlap of more than that", with("rotation", json!({ "every": "7h" })), Refused(&["spec.rotation", "at most three times rotation.every", "it is 24h if absent"])),
        // existing
        ("an existing key", existing("9b3f6a1e-0c5d-4f0a_X", fits), Accepted),
        ("an existing key of 128", existing(&"x".repeat(128), fits), Accepted),
        ("an existing key of 129", existing(&"x".repeat(129), fits), Refused(&["spec.existing.key", "128"])),
        ("an existing key that is empty", existing("", fits), Refused(&["spec.existing.key", "should match"])),
        ("an existing key with a dot", existing("a.b", fits), Refused(&["spec.existing.key", "should match"])),
        ("an existing key with a colon", existing("a:b", fits), Refused(&["spec.existing.key", "should match"])),
        ("an existing key with a line feed", existing("a\n", fits), Refused(&["spec.existing.key", "should match"])),
        ("a secret for an existing key", existing("kws_0", fits), Refused(&["spec.existing.key", "looks like a secret"])),
        ("an existing key that was generated", existing("kwk_2k9y52n7zdraeknhjy2qe5qk81", fits), Accepted),
        ("an existing key alone", with("existing", json!({ "key": "k" })), Refused(&["spec.existing.verifier", "Required"])),
        ("a verifier alone", with("existing", json!({ "verifier": fits })), Refused(&["spec.existing.key", "Required"])),
        ("nothing that exists", with("existing", json!({})), Refused(&["spec.existing.key", "Required"])),
        ("no existing key", with("existing", json!(null)), Accepted),
        ("a secret for a verifier", existing("k", "hunter2"), Refused(&["spec.existing.verifier", "make it with keyward hash"])),
        ("no verifier", existing("k", ""), Refused(&["spec.existing.verifier", "make it with keyward hash"])),
        ("a verifier of argon2i", existing("k", &fits.replace("argon2id", "argon2i")), Refused(&["spec.existing.verifier", "argon2id"])),
        ("a verifier of an older version", existing("k", &fits.replace("v=19", "v=16")), Refused(&["spec.existing.verifier", "argon2id"])),
        ("a verifier and a line feed", existing("k", &format!("{fits}\n")), Refused(&["spec.existing.verifier", "argon2id"])),
        ("the most memory", cost("m=65536,t=1,p=1"), Accepted),
        ("more memory", cost("m=65537,t=1,p=1"), Refused(&["spec.existing.verifier", "m at most 65536"])),
        ("far more memory", cost("m=655360,t=1,p=1"), Refused(&["spec.existing.verifier", "m at most 65536"])),
        ("the most passes", cost("m=19456,t=10,p=1"), Accepted),
        ("more passes", cost("m=19456,t=11,p=1"), Refused(&["spec.existing.verifier", "t at most 10"])),
        ("no passes", cost("m=19456,t=0,p=1"), Refused(&["spec.existing.verifier"])),
        ("the most lanes", cost("m=19456,t=2,p=4"), Accepted),
        ("more lanes", cost("m=19456,t=2,p=5"), Refused(&["spec.existing.verifier", "p at most 4"])),
        ("a cost with a zero before it", cost("m=01024,t=1,p=1"), Refused(&["spec.existing.verifier"])),
        ("the longest salt", parts(86, 43), Accepted),
        ("a salt too long", parts(87, 43), Refused(&["spec.existing.verifier"])),
        ("a salt too short", parts(21, 43), Refused(&["spec.existing.verifier"])),
        ("a tag too short", parts(22, 42), Refused(&["spec.existing.verifier"])),
        ("a verifier of 257", existing("k", &phc("m=1024,t=1,p=1", 22, 204)), Refused(&["spec.existing.verifier", "256"])),
        // secret.name
        ("a name", secret(json!({ "name": "mqtt.credentials-1" })), Accepted),
        ("a name in upper case", secret(json!({ "name": "Credentials" })), Refused(&["spec.secret.name", "DNS subdomain name"])),
        ("a name with an underscore", secret(json!({ "name": "a_b" })), Refused(&["spec.secret.name", "DNS subdomain name"])),
        ("a name with a slash", secret(json!({ "name": "other/name" })), Refused(&["spec.secret.name", "DNS subdomain name"])),
        ("a name that is empty", secret(json!({ "name": "" })), Refused(&["spec.secret.name"])),
        ("a name of 254", secret(json!({ "name": "x".repeat(254) })), Refused(&["spec.secret.name", "253"])),
        // secret.labels and secret.annotations
        ("a label", label("example.com/team", "edge"), Accepted),
        ("a label without a prefix", label("team", ""), Accepted),
        ("a label that says what it is part of", label("app.kubernetes.io/part-of", "edge"), Accepted),
        ("a label under a like name", label("notkubernetes.io/a", "b"), Accepted),
        ("the label of the owner", label("app.kubernetes.io/managed-by", "Helm"), Refused(&["spec.secret.labels", "reserved", "managed-by"])),
        ("a label of Kubernetes", label("kubernetes.io/metadata.name", "a"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label below Kubernetes", label("node.kubernetes.io/a", "b"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label below app.kubernetes.io", label("x.app.kubernetes.io/a", "b"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label of k8s.io", label("k8s.io/a", "b"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label below k8s.io", label("x.k8s.io/a", "b"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label of Keyward", label("keyward.dev/a", "b"), Refused(&["spec.secret.labels", "reserved"])),
        ("a label key with a space", label("a b", "c"), Refused(&["spec.secret.labels", "each key"])),
        ("a label key with two slashes", label("a/b/c", "c"), Refused(&["spec.secret.labels", "each key"])),
        ("a label value with a space", label("a", "b c"), Refused(&["spec.secret.labels", "each value"])),
        ("a label value of 64", label("a", &"b".repeat(64)), Refused(&["spec.secret.labels", "63"])),
        ("an annotation", annotation("reflector.example.com/to"), Accepted),
        ("an annotation of 2048", secret(json!({ "annotations": { "a": "x".repeat(2048) } })), Accepted),
        ("an annotation of 2049", secret(json!({ "annotations": { "a": "x".repeat(2049) } })), Refused(&["spec.secret.annotations", "2048"])),
        ("an annotation of Kubernetes", annotation("kubernetes.io/service-account.name"), Refused(&["spec.secret.annotations", "reserved"])),
        ("an annotation of Kubernetes in capitals", annotation("KUBERNETES.IO/service-account.name"), Refused(&["spec.secret.annotations", "each key"])),
        ("an annotation of kubectl", annotation("kubectl.kubernetes.io/last-applied-configuration"), Refused(&["spec.secret.annotations", "reserved"])),
        ("an annotation of Keyward", annotation("keyward.dev/a"), Refused(&["spec.secret.annotations", "reserved"])),
        ("an annotation key with a space", annotation("a b"), Refused(&["spec.secret.annotations", "each key"])),
        ("65 labels", secret(json!({ "labels": numbered(65) })), Refused(&["spec.secret.labels", "64"])),
        ("64 labels", secret(json!({ "labels": numbered(64) })), Accepted),
        ("64 annotations", secret(json!({ "annotations": numbered(64) })), Accepted),
        ("65 annotations", secret(json!({ "annotations": numbered(65) })), Refused(&["spec.secret.annotations", "64"])),
        // secret.keys
        ("the shortest time to be taken", secret(json!({ "deleteAfter": "1m" })), Accepted),
        ("a time to be taken too short", secret(json!({ "deleteAfter": "59s" })), Refused(&["spec.secret.deleteAfter", "at least 1m"])),
        ("a time to be taken in days", secret(json!({ "deleteAfter": "1d" })), Refused(&["spec.secret.deleteAfter", "whole numbers with the units"])),
        ("a schedule for a secret that is not to stay", json!({ "restrictions": { "allDevices": true }, "rotation": { "every": "24h" }, "secret": { "deleteAfter": "1h" } }), Refused(&["exclude each other", "remove one of the two"])),
        ("both entries", keys(json!({ "key": "username", "secret": "password" })), Accepted),
        ("one entry", keys(json!({ "secret": "MQTT_PASSWORD" })), Accepted),
        ("an entry that begins with a dot", keys(json!({ "key": ".user" })), Accepted),
        ("two entries of one name", keys(json!({ "key": "a", "secret": "a" })), Refused(&["spec.secret.keys", "different names"])),
        ("an entry named as the other's default", keys(json!({ "key": "secret" })), Refused(&["spec.secret.keys", "different names"])),
        ("an entry named type", keys(json!({ "key": "type" })), Refused(&["spec.secret.keys.key", "type or provider"])),
        ("an entry named provider", keys(json!({ "secret": "provider" })), Refused(&["spec.secret.keys.secret", "type or provider"])),
        ("an entry named .", keys(json!({ "key": "." })), Refused(&["spec.secret.keys.key", "'.'"])),
        ("an entry named ..", keys(json!({ "secret": ".." })), Refused(&["spec.secret.keys.secret", "'..'"])),
        ("an entry that begins with ..", keys(json!({ "secret": "..a" })), Refused(&["spec.secret.keys.secret", "'..'"])),
        ("an entry with a slash", keys(json!({ "key": "a/b" })), Refused(&["spec.secret.keys.key", "should match"])),
        ("the other entry with a space", keys(json!({ "secret": "a b" })), Refused(&["spec.secret.keys.secret", "should match"])),
        ("the other entry of 254", keys(json!({ "secret": "a".repeat(254) })), Refused(&["spec.secret.keys.secret", "253"])),
        ("an entry that is empty", keys(json!({ "key": "" })), Refused(&["spec.secret.keys.key"])),
        ("an entry of 254", keys(json!({ "key": "a".repeat(254) })), Refused(&["spec.secret.keys.key", "253"])),
    ])
    .await;
}

#[tokio::test]
async fn what_may_be_a_secret_is_not_repeated() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    let fits = phc("m=1024,t=1,p=1", 22, 43);
    for (key, verifier) in [("kws_hunter2", &*fits), ("k", "hunter2")] {
        let existing = json!({ "key": key, "verifier": verifier });
        let spec = json!({ "restrictions": { "allDevices": true }, "existing": existing });
        let refused = create::<AccessKey>(&keys, "subject", spec).await;
        let refused = refused
            .expect_err("it is no key, or no verifier")
            .to_string();
        assert!(refused.contains("spec.existing"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

/// A PHC string with a salt and a tag of so many characters.
fn phc(cost: &str, salt: usize, tag: usize) -> String {
    format!(
        "$argon2id$v=19${cost}${}${}",
        "A".repeat(salt),
        "A".repeat(tag)
    )
}

#[tokio::test]
async fn device_specs() {
    let class = |class: &str| json!({ "class": class });
    let tags = |tags: Value| json!({ "tags": tags });
    check_specs::<Device>(vec![
        ("nothing but a name", json!({}), Accepted),
        ("an id", json!({ "deviceId": "Pump_1" }), Accepted),
        (
            "an id of 65",
            json!({ "deviceId": "x".repeat(65) }),
            Refused(&["spec.deviceId", "64"]),
        ),
        (
            "an id with a dot",
            json!({ "deviceId": "a.b" }),
            Refused(&["spec.deviceId", "should match"]),
        ),
        (
            "an id that is empty",
            json!({ "deviceId": "" }),
            Refused(&["spec.deviceId", "should match"]),
        ),
        (
            "one key twice",
            tags(json!([{ "key": "a", "value": "b" }, { "key": "a", "value": "c" }])),
            Accepted,
        ),
        (
            "a tag without a value",
            tags(json!([{ "key": "a" }])),
            Refused(&["spec.tags[0].value", "Required"]),
        ),
        (
            "a tag without a key",
            tags(json!([{ "value": "a" }])),
            Refused(&["spec.tags[0].key", "Required"]),
        ),
        (
            "a tag with an empty key",
            tags(json!([{ "key": "", "value": "a" }])),
            Refused(&["spec.tags[0].key", "at least 1 chars"]),
        ),
        (
            "a tag with an empty value",
            tags(json!([{ "key": "a", "value": "" }])),
            Refused(&["spec.tags[0].value", "at least 1 chars"]),
        ),
        (
            "a tag's key of 256",
            tags(json!([{ "key": "k".repeat(256), "value": "v" }])),
            Refused(&["spec.tags[0].key", "255"]),
        ),
        (
            "a tag's value of 256",
            tags(json!([{ "key": "k", "value": "v".repeat(256) }])),
            Refused(&["spec.tags[0].value", "255"]),
        ),
        (
            "100 tags",
            tags(json!(vec![json!({ "key": "a", "value": "b" }); 100])),
            Accepted,
        ),
        (
            "101 tags",
            tags(json!(vec![json!({ "key": "a", "value": "b" }); 101])),
            Refused(&["spec.tags", "at most 100 items"]),
        ),
        ("a gateway", class("Gateway"), Accepted),
        ("a system device", class("System"), Accepted),
        (
            "an unknown class",
            class("Edge"),
            Refused(&["spec.class", "Unsupported value", "\"Peripheral\""]),
        ),
        (
            "a class in lower case",
            class("gateway"),
            Refused(&["spec.class", "Unsupported value"]),
        ),
        ("a peripheral of any gateway", class("Peripheral"), Accepted),
        (
            "a peripheral of one gateway",
            json!({ "class": "Peripheral", "gateway": "gate-1" }),
            Accepted,
        ),
        (
            "a gateway of a standalone device",
            json!({ "gateway": "gate-1" }),
            Refused(&["spec.gateway", "only for class Peripheral"]),
        ),
        (
            "a gateway of a gateway",
            json!({ "class": "Gateway", "gateway": "gate-1" }),
            Refused(&["spec.gateway", "only for class Peripheral"]),
        ),
        (
            "a gateway with a bad id",
            json!({ "class": "Peripheral", "gateway": "a/b" }),
            Refused(&["spec.gateway", "should match"]),
        ),
        ("disabled", json!({ "disabled": true }), Accepted),
        (
            "disabled, mistyped",
            json!({ "disabled": "true" }),
            Refused(&["spec.disabled", "must be of type boolean"]),
        ),
        (
            "a description of 1025",
            json!({ "description": "x".repeat(1025) }),
            Refused(&["spec.description", "1024"]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_device_name_that_stands_in_for_the_id() {
    let namespace = TestNamespace::unserved("schema").await;
    let devices = dynamic::<Device>(&namespace.admin, &namespace.name);
    let long = "x".repeat(65);
    let rows = vec![
        ("pump-1", json!({}), Accepted),
        (
            "pump.1",
            json!({}),
            Refused(&["spec.deviceId", "stands for its ID"]),
        ),
        (
            long.as_str(),
            json!({}),
            Refused(&["spec.deviceId", "stands for its ID"]),
        ),
        ("pump.1", json!({ "deviceId": "pump_1" }), Accepted),
    ];
    for (name, spec, verdict) in rows {
        judge(name, create::<Device>(&devices, name, spec).await, verdict);
    }
}

#[tokio::test]
async fn defaults() {
    let namespace = TestNamespace::unserved("schema").await;
    let keys = dynamic::<AccessKey>(&namespace.admin, &namespace.name);
    let spec = json!({ "restrictions": { "deviceIds": ["a"] } });
    let subject = object::<AccessKey>("subject", spec);
    let created = keys
        .create(&PostParams::default(), &subject)
        .await
        .expect("created");
    let mut expected = json!({
        "spec": {
            "restrictions": { "deviceIds": ["a"] },
            "state": "Active",
            "suspend": false,
            "rotation": { "revision": 1, "overlap": "24h" },
            "secret": { "keys": { "key": "key", "secret": "secret" } },
            "sources": { "filter": "All" },
            "topics": { "filter": "None" },
        },
        "status": { "observedGeneration": -1 },
    });
    assert_eq!(created.data, expected);

    // The types read what the server wrote, and their defaults are the same.
    let typed: Api<AccessKey> = namespace.api(&namespace.admin);
    let read = typed.get("subject").await.expect("read");
    assert_eq!(read.secret_name(), "subject");
    assert_eq!(read.status, Some(AccessKeyStatus::default()));
    assert_eq!(
        serde_json::to_value(&read.spec).unwrap(),
        expected["spec"].take()
    );

    let listed = typed.list(&ListParams::default()).await.expect("listed");
    assert_eq!(listed.items[0].status, Some(AccessKeyStatus::default()));
}

#[tokio::test]
async fn the_examples_are_accepted() {
    let namespace = TestNamespace::unserved("schema").await;
    for file in manifests::examples() {
        for object in manifests::objects(&file) {
            let kind = object["kind"].as_str().unwrap();
            let resource = match kind {
                "AccessKey" => ApiResource::erase::<AccessKey>(&()),
                "Device" => ApiResource::erase::<Device>(&()),
                "Pod" => ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
                other => panic!("{file} holds a {other}"),
            };
            let client = namespace.admin.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace.name, &resource);
            let name = object["metadata"]["name"].as_str().unwrap();
            let mut params = PatchParams::apply("example").validation_strict();
            params.dry_run = true;
            let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{file}, {kind}/{name}: {error}"));
        }
    }
}

/// Creates an object of each spec, without keeping it.
async fn check_specs<K: Resource<DynamicType = ()>>(rows: Vec<(&str, Value, Verdict)>) {
    let client = admin().await;
    let api = dynamic::<K>(&client, "default");
    for (what, spec, verdict) in rows {
        judge(what, create::<K>(&api, "subject", spec).await, verdict);
    }
}
