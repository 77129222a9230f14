use serde_json::{Value, json};

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn a_device_without_a_rival_costs_nothing() {
    let mut index = index([device("a", 1, "x"), device("b", 1, "y")]);
    assert_eq!(told(&mut index), NOTHING);
    assert_eq!(index.take_due().len(), 0);
    let mut edited = device("a", 1, "x");
    edited["metadata"]["generation"] = json!(2);
    index.apply(record(&edited));
    assert_eq!(index.take_due().len(), 0);
}

#[test]
fn one_id_in_two_namespaces_is_no_conflict() {
    let mut elsewhere = device("a", 1, "x");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    assert_eq!(told(&mut index([device("a", 1, "x"), elsewhere])), NOTHING);
}

#[test]
fn the_older_wins_and_the_name_within_a_second_in_whatever_order_they_come() {
    for (devices, losers) in [
        (vec![("b", 1), ("a", 2)], vec!["a loses to b"]),
        (vec![("a", 1), ("b", 1)], vec!["b loses to a"]),
        (
            vec![("a", 3), ("b", 2), ("c", 1)],
            vec!["a loses to c", "b loses to c"],
        ),
        (
            vec![("c", 1), ("a", 2), ("b", 2)],
            vec!["a loses to c", "b loses to c"],
        ),
    ] {
        for turn in 0..devices.len() {
            let mut order = devices.clone();
            order.rotate_left(turn);
            let mut index = Index::default();
            for (name, created) in order {
                index.apply(record(&device(name, created, "x")));
            }
            assert_eq!(told(&mut index), losers, "{devices:?} turned by {turn}");
            assert_eq!(told(&mut index), NOTHING, "told twice");
        }
    }
}

#[test]
fn a_name_that_stands_for_the_id_claims_it_too() {
    let mut named = device("pump", 2, "");
    named["spec"] = json!({});
    let mut index = index([device("a", 1, "pump"), named]);
    assert_eq!(told(&mut index), ["pump loses to a"]);
}

#[test]
fn when_the_winner_goes_the_next_is_promoted_and_the_others_learn_its_name() {
    let mut index = index([
        device("a", 1, "x"),
        device("b", 2, "x"),
        device("c", 3, "x"),
    ]);
    assert_eq!(told(&mut index), ["b loses to a", "c loses to a"]);
    index.delete(&name("a"));
    assert_eq!(told(&mut index), ["b is ready", "c loses to b"]);
    index.delete(&name("b"));
    assert_eq!(told(&mut index), ["c is ready"]);
    index.delete(&name("c"));
    index.delete(&name("c"));
    assert_eq!(told(&mut index), NOTHING);
    assert!(index.claims.is_empty() && index.ids.is_empty());
}

#[test]
fn when_a_loser_goes_nobody_is_told() {
    let mut index = index([device("a", 1, "x"), device("b", 2, "x")]);
    assert_eq!(told(&mut index), ["b loses to a"]);
    index.delete(&name("b"));
    assert_eq!(told(&mut index), NOTHING);
}

#[test]
fn an_older_device_that_turns_up_late_wins() {
    let mut index = index([device("b", 2, "x")]);
    assert_eq!(told(&mut index), NOTHING);
    index.apply(record(&device("a", 1, "x")));
    assert_eq!(told(&mut index), ["b loses to a"]);
}

#[test]
fn an_edited_loser_is_stamped_again_and_an_edited_former_loser_is_not() {
    let mut index = index([device("a", 1, "x"), device("b", 2, "x")]);
    told(&mut index);
    edit(&mut index, "b", 2);
    let written = write(&mut index, "b").unwrap().status.unwrap();
    assert_eq!(written.observed_generation, Some(2));
    assert_eq!(written.conditions[0].observed_generation, Some(2));

    index.delete(&name("a"));
    let written = write(&mut index, "b").unwrap().status.unwrap();
    assert_eq!(written.observed_generation, None);
    assert_eq!(written.conditions[0].status, "True");
    edit(&mut index, "b", 3);
    assert_eq!(write(&mut index, "b"), None);
}

#[test]
fn a_reset_removes_what_vanished_in_its_namespace_alone() {
    let mut other = device("a", 1, "x");
    other["metadata"]["namespace"] = json!("elsewhere");
    let mut index = index([device("a", 1, "x"), device("b", 2, "x"), other]);
    told(&mut index);
    let b = index.claims[&Id::new(&name("b"), "x".into())][1].clone();

    index.reset(Some("plant"), vec![b.clone()]);
    assert_eq!(told(&mut index), ["b is ready"]);
    assert_eq!(index.ids.len(), 2);

    index.reset(None, vec![]);
    assert_eq!(told(&mut index), NOTHING);
    assert!(index.claims.is_empty() && index.ids.is_empty());
}

#[test]
fn a_restart_finds_nothing_to_write() {
    let mut before = index([device("a", 1, "x"), device("b", 2, "x")]);
    told(&mut before);
    let records = before.claims.into_values().flatten().collect();
    let mut after = Index::default();
    after.reset(None, records);
    assert_eq!(told(&mut after), NOTHING);
}

#[test]
fn news_from_before_our_own_write_are_no_news() {
    let mut index = index([device("a", 1, "x"), device("b", 2, "x")]);
    told(&mut index);
    index.apply(record(&device("b", 2, "x")));
    assert_eq!(told(&mut index), NOTHING);

    let mut recreated = device("b", 2, "x");
    recreated["metadata"]["uid"] = json!("another");
    index.apply(record(&recreated));
    assert_eq!(told(&mut index), ["b loses to a"]);
}

#[test]
fn a_device_that_is_being_deleted_claims_nothing() {
    let mut leaving = device("a", 1, "x");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    assert!(Record::of(&serde_json::from_value(leaving).unwrap()).is_none());
}

#[test]
fn an_object_recreated_under_another_id_leaves_the_first() {
    let mut index = index([device("a", 1, "x"), device("b", 2, "x")]);
    told(&mut index);
    let mut recreated = device("a", 3, "y");
    recreated["metadata"]["uid"] = json!("another");
    index.apply(record(&recreated));
    assert_eq!(told(&mut index), ["b is ready"]);
}

#[test]
fn a_write_names_its_object_and_leaves_other_conditions_alone() {
    let mut loser = device("b", 2, "x");
    loser["status"] = json!({"conditions": [{
        "type": "Calibrated", "status": "True", "reason": "ByHand", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    let mut index = index([device("a", 1, "x"), loser]);
    let written = write(&mut index, "b").unwrap();
    assert_eq!(written.metadata.uid.as_deref(), Some("uid-b"));
    assert_eq!(written.metadata.resource_version.as_deref(), Some("10"));
    assert_eq!(written.spec.device_id.as_deref(), Some("x"));
    let types: Vec<String> = written
        .status
        .unwrap()
        .conditions
        .into_iter()
        .map(|c| c.type_)
        .collect();
    assert_eq!(types, ["Calibrated", "Ready"]);
}

#[test]
fn the_message_names_the_winner_and_what_to_change() {
    let mut index = index([device("a", 1, "x"), device("b", 2, "x")]);
    let status = write(&mut index, "b").unwrap().status.unwrap();
    assert_eq!(status.conditions[0].reason, DUPLICATE_DEVICE_ID);
    assert_eq!(
        status.conditions[0].message,
        "Device a has the device ID x too and is older, so this one counts for nothing: delete one \
         of the two, or create this one anew with another spec.deviceId."
    );
}

fn index<const N: usize>(devices: [Value; N]) -> Index {
    let mut index = Index::default();
    index.reset(None, devices.iter().map(record).collect());
    index
}

fn device(name: &str, created: i64, id: &str) -> Value {
    json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "Device",
        "metadata": {
            "namespace": "plant",
            "name": name,
            "uid": format!("uid-{name}"),
            "resourceVersion": "10",
            "generation": 1,
            "creationTimestamp": Timestamp::from_second(created).unwrap(),
        },
        "spec": {"deviceId": id},
    })
}

fn record(device: &Value) -> Record {
    Record::of(&serde_json::from_value(device.clone()).unwrap()).unwrap()
}

fn name(name: &str) -> Name {
    Name {
        namespace: "plant".into(),
        name: name.into(),
    }
}

/// Writes what is due, as the API server would, and says what that was.
fn told(index: &mut Index) -> Vec<String> {
    let due = index.take_due();
    due.iter().filter_map(|name| tell(index, name)).collect()
}

fn tell(index: &mut Index, name: &Name) -> Option<String> {
    let mut device = index.write(name, Timestamp::UNIX_EPOCH)?;
    let condition = device.status.as_ref()?.conditions.last()?.clone();
    let known = index
        .claims
        .values()
        .flatten()
        .find(|claim| claim.name == *name)?;
    device.metadata.creation_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(known.created),
    );
    device.metadata.generation = Some(known.generation);
    device.metadata.resource_version = Some((known.version()? + 1).to_string());
    index.apply(Record::of(&device)?);
    let other = condition.message.split(' ').nth(1)?;
    Some(match &*condition.status {
        "False" => format!("{} loses to {other}", name.name),
        _ => format!("{} is ready", name.name),
    })
}

fn write(index: &mut Index, of: &str) -> Option<Device> {
    let written = index.write(&name(of), Timestamp::UNIX_EPOCH);
    tell(index, &name(of));
    written
}

fn edit(index: &mut Index, of: &str, generation: i64) {
    let mut records = index.claims.values().flatten();
    let found = records.find(|claim| &*claim.name.name == of);
    let mut record = found.unwrap().clone();
    record.generation = generation;
    record.resource_version = (record.version().unwrap() + 1).to_string().into();
    index.apply(record);
}
