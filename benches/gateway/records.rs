//! G14: the memory that a gateway takes for each key, at 100,000 keys, against a reflector that keeps the objects.

use jiff::Timestamp;
use keyward::api::AccessKey;
use keyward::gateway::Options;
use keyward::verifier::HashProfile;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::child::Other;
use super::measure::{Compared, Row, memory, scaled};
use super::plant::{Common, Issued, NAMESPACE, Plant};

/// Bytes a key.
const MOST: f64 = 600.0;

pub fn run() -> Vec<Row> {
    let keys = scaled(100_000);
    println!("  bytes a key at {keys} keys: records, objects");
    let bytes =
        |part: &str| Other::start(&format!("{part} {keys}")).number() * 1024.0 / keys as f64;
    let compared = Compared::rounds(|| bytes("records"), || bytes("objects"));
    let (own, other, _) = compared.medians();
    vec![Row {
        goal: "G14",
        what: "memory a key, a reflector's".to_owned(),
        own: format!("{own:.0} B"),
        other: format!("{other:.0} B"),
        figure: own,
        most: MOST,
        holds: true,
    }]
}

/// In a process of its own: KiB that the directory takes.
pub fn fill(keys: usize) {
    let mut plant = Plant::new(Options::of_namespace(NAMESPACE));
    let common = Common::new(HashProfile::Fleet);
    let before = memory("VmRSS");
    for number in 0..keys {
        plant.apply(object(&Issued::with(number, &common)));
    }
    println!("{}", memory("VmRSS") - before);
}

/// In a process of its own: KiB that a reflector takes.
pub fn keep(keys: usize) {
    let (_reader, mut writer) = reflector::store::<AccessKey>();
    let common = Common::new(HashProfile::Fleet);
    let before = memory("VmRSS");
    for number in 0..keys {
        let object = object(&Issued::with(number, &common));
        let key = serde_json::from_value(object).expect("an AccessKey");
        writer.apply_watcher_event(&Event::Apply(key));
    }
    println!("{}", memory("VmRSS") - before);
}

/// All that an API server says of a key that was issued.
fn object(issued: &Issued) -> Value {
    let now = Timestamp::UNIX_EPOCH.to_string();
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "lastTransitionTime": now, "observedGeneration": 1,
            "message": "The secret was delivered and is accepted.",
        })
    };
    let managed = |manager: &str, fields: Value| {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "keyward.dev/v1alpha1", "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    };
    let fields = [
        "f:binding",
        "f:conditions",
        "f:key",
        "f:observedGeneration",
        "f:revision",
        "f:secret",
        "f:verifiers",
    ];
    let fields: serde_json::Map<String, Value> = fields
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect();
    let mut object = issued.manifest();
    object["metadata"] = json!({
        "name": issued.device, "namespace": NAMESPACE, "uid": "5f2c0a9b-8d7e-4f5a-8b3c-2d1e5f2c0a9b", "generation": 1,
        "resourceVersion": "123456", "creationTimestamp": now,
        "managedFields": [
            managed("kubectl", json!({ "f:spec": { "f:restrictions": { ".": {}, "f:deviceIds": {} } } })),
            managed("keyward", json!({ "f:status": fields })),
        ],
    });
    let status = &mut object["status"];
    status["observedGeneration"] = json!(1);
    status["uid"] = json!("5f2c0a9b-8d7e-4f5a-8b3c-2d1e5f2c0a9b");
    status["secret"] = json!({ "name": issued.device, "uid": "8d7e4f5a-0a9b-4f5a-8b3c-2d1e5f2c0a9b", "publishedAt": now });
    status["conditions"] = json!([condition("Ready", "Issued"), condition("Active", "Active")]);
    object
}
