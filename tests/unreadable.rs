//! Objects that the controller cannot make sense of stop nothing: those written under another
//! schema, and those whose status somebody wrote to.

use std::collections::BTreeSet;

use crate::support::{
    cluster::{eventually, from_json},
    gateway::Gateway,
    instance::Instance,
    plant::{Issued, Plant},
    process::Launcher,
    wait::found,
};
use k8s_openapi::{
    api::events::v1::Event,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use keyward::{
    api::{AccessKey, Device},
    key::{Check, Secret},
    verifier::{HashProfile, Verifier},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// The namespace on the control plane that is changed.
const NAMESPACE: &str = "plant";

/// Specs of AccessKeys that another schema let in.
fn strange_keys() -> Vec<(&'static str, Value)> {
    let all = json!({ "allDevices": true });
    vec![
        ("paused", json!({ "state": "Paused", "restrictions": all })),
        (
            "in-days",
            json!({ "rotation": { "overlap": "90d" }, "restrictions": all }),
        ),
        (
            "one-id",
            json!({ "restrictions": { "deviceIds": "pump-1" } }),
        ),
        ("null-restrictions", json!({ "restrictions": null })),
        ("no-restrictions", json!({})),
        (
            "number",
            json!({ "restrictions": all, "suspend": 1, "rotation": { "revision": 1.5 } }),
        ),
        ("text", json!("everything")),
    ]
}

fn strange_devices() -> Vec<(&'static str, Value)> {
    vec![
        ("toaster", json!({ "class": "Toaster" })),
        ("tag-text", json!({ "tags": "north" })),
        ("text", json!("valve")),
    ]
}

#[tokio::test]
async fn objects_of_another_schema_are_reported_and_skipped() {
    let manifests = ["crds/", "deploy/install.yaml"];
    let instance = Instance::with("unreadable", &manifests).await;
    let mut plant = Plant::on(&instance, NAMESPACE).await;
    let all = json!({ "allDevices": true });
    let issued = plant.issue("issued-before", all.clone()).await;
    let launcher = Launcher::new("unreadable-gateway", &plant.access.as_gateway().await);
    let watching = plant.gateway(&launcher).await;
    assert_eq!(watching.status("pump", &issued).await, 200);

    let (keys, devices) = (plant.raw::<AccessKey>(), plant.raw::<Device>());
    let strict = loosen(&plant).await;
    patch(
        &keys,
        "issued-before",
        json!({ "spec": { "state": "Paused" } }),
    )
    .await;
    for (name, spec) in strange_keys() {
        create::<AccessKey>(&keys, name, spec).await;
    }
    for (name, spec) in strange_devices() {
        create::<Device>(&devices, name, spec).await;
    }
    tighten(&plant, strict).await;

    let strange: Vec<&str> = strange_keys().iter().map(|(name, _)| *name).collect();
    let mut skipped: BTreeSet<&str> = strange.iter().copied().collect();
    skipped.insert("issued-before");
    is_reported(&plant, &skipped).await;
    plant.issue("meanwhile", all.clone()).await;

    plant.stop_controller().await;
    plant.start_controller().await;
    let other = plant.issue("after-a-restart", all.clone()).await;
    let series = "keyward_reconciles_total{outcome=\"unreadable\"}";
    found("the new controller has skipped each", async || {
        let skipped_now = plant.controller().metric(series).await;
        (skipped_now >= skipped.len() as u64).then_some(())
    })
    .await;
    for name in &strange {
        let object = keys.get(name).await.expect("still there");
        let untouched = json!({ "observedGeneration": -1 });
        assert_eq!(object.data["status"], untouched, "{name} was written to");
    }

    plant.cannot_tell(
        "pump",
        &issued,
        "cannot read AccessKey \"issued-before\": unknown variant",
    );
    plant.allows("pump", &other);
    plant.cannot_tell("toaster", &other, "cannot read Device \"toaster\"");
    let mut gateways = [watching, plant.gateway(&launcher).await];
    for gateway in &mut gateways {
        refuses_what_it_cannot_read(gateway, &issued, &other).await;
        let unreadable = gateway.process.metric("keyward_gateway_unreadable_total");
        assert!(unreadable.await >= (skipped.len() + strange_devices().len()) as u64);
    }

    // Corrected, by whatever way its owner has.
    patch(
        &keys,
        "issued-before",
        json!({ "spec": { "state": "Active" } }),
    )
    .await;
    let mut made_anew = Vec::new();
    for name in &strange {
        let mut object = keys.get(name).await.expect("still there");
        object.data["spec"] = json!({ "restrictions": all });
        let replaced = keys.replace(name, &PostParams::default(), &object).await;
        if replaced.is_err() {
            made_anew.push(*name);
            let params = DeleteParams::background();
            keys.delete(name, &params).await.expect("deleted");
            plant.apply(name, all.clone()).await;
        }
    }
    // Rules about changes cannot compare with a fraction, or look into a text.
    assert_eq!(made_anew, ["number", "text"]);
    plant.allows("pump", &issued);
    for gateway in &gateways {
        gateway.until("pump", &issued, 200).await;
    }
    for name in &strange {
        let issued = plant.issued(name, 1).await;
        plant.allows("pump", &issued);
        for gateway in &gateways {
            gateway.until("pump", &issued, 200).await;
        }
    }
    plant.stop_controller().await;
}

/// And nothing else.
async fn refuses_what_it_cannot_read(gateway: &Gateway, unreadable: &Issued, other: &Issued) {
    gateway.until("pump", other, 200).await;
    gateway.until("pump", unreadable, 401).await;
    for (device, _) in strange_devices() {
        gateway.until(device, other, 401).await;
    }
    let log = gateway.process.log_text();
    let says = |name: &str| {
        let object = format!("name=\"{name}\"");
        log.lines()
            .any(|line| line.contains("cannot be read, and") && line.contains(&object))
    };
    for (name, _) in strange_keys() {
        assert!(says(name), "{name} in\n{log}");
    }
    assert!(says("toaster") && says("issued-before"));
}

/// Waits for log lines and Events about each.
async fn is_reported(plant: &Plant, names: &BTreeSet<&str>) {
    let log = || plant.log();
    let says = |name: &str| {
        let object = format!("name=\"{name}\"");
        log()
            .lines()
            .any(|line| line.contains("skipped: it cannot be read") && line.contains(&object))
    };
    eventually("the log names each AccessKey", async || {
        names.iter().all(|name| says(name))
    })
    .await;
    eventually("the log names each Device", async || {
        let log = log();
        strange_devices().iter().all(|(name, _)| {
            let line = format!(
                "skipped: the Device cannot be read; apply it again under the current schema \
                 namespace=\"plant\" name=\"{name}\""
            );
            log.contains(&line)
        })
    })
    .await;
    let events: Api<Event> = plant.api();
    eventually("an Event is about each", async || {
        let events = events.list(&ListParams::default()).await.expect("listed");
        let about = events.items.iter().filter(|event| {
            event.reason.as_deref() == Some("Unreadable")
                && event.type_.as_deref() == Some("Warning")
        });
        let about = about.filter_map(|event| event.regarding.as_ref()?.name.as_deref());
        about.collect::<BTreeSet<_>>().is_superset(names)
    })
    .await;
    assert!(!log().contains("panicked"));
}

/// What only an admin can do: it must harm that key alone, and let nobody in.
#[tokio::test]
async fn a_status_that_somebody_wrote_to_lets_nobody_in_and_stops_nothing() {
    let plant = Plant::new().await;
    let keys = plant.raw::<AccessKey>();
    let all = json!({ "allDevices": true });
    let forged = Secret::generate().expect("a secret");
    let verifier = Verifier::of(&forged, HashProfile::Fleet).expect("a verifier");
    let salt_and_tag = verifier.as_str().rsplit_once(",p=1$").expect("a cost").1;
    let costing = |cost: &str| format!("$argon2id$v=19${cost}${salt_and_tag}");
    let mut rows = vec![
        ("empty", json!({ "verifiers": [] })),
        (
            "nothing",
            json!({ "verifiers": null, "revision": null, "uid": null }),
        ),
        ("negative-generation", json!({ "observedGeneration": -1 })),
        (
            "other-uid",
            json!({ "uid": "00000000-0000-0000-0000-000000000000" }),
        ),
        (
            "last-revision",
            json!({ "revision": i32::MAX, "rotationRequested": i32::MAX }),
        ),
        ("no-delivery", json!({ "secret": null })),
        (
            "other-delivery",
            json!({ "secret": { "name": "", "uid": "", "publishedAt": "1970-01-01T00:00:00Z" } }),
        ),
        ("empty-mark", json!({ "unsettled": {} })),
        ("conditions", json!({ "conditions": [] })),
        // RFC 3339 knows it, and not every clock.
        (
            "end-of-time",
            json!({ "verifiers": [{
                "revision": 1, "verifier": verifier.as_str(), "issuedAt": "9999-12-31T23:59:59Z",
            }] }),
        ),
    ];
    let verifiers = [
        ("garbage", "garbage".to_owned()),
        ("blank", String::new()),
        ("long", "x".repeat(512)),
        ("memory", costing("m=4294967295,t=1,p=1")),
        ("time", costing("m=1024,t=4294967295,p=1")),
        ("lanes", costing("m=1024,t=1,p=16777215")),
        ("overflow", costing("m=99999999999999999999,t=1,p=1")),
        ("negative", costing("m=-1,t=-1,p=-1")),
        (
            "other-kind",
            verifier.as_str().replace("argon2id", "argon2i"),
        ),
    ];
    for (name, verifier) in &verifiers {
        let accepted = json!({
            "revision": i32::MAX, "verifier": verifier, "issuedAt": "1970-01-01T00:00:00Z",
            "validUntil": null,
        });
        rows.push((name, json!({ "verifiers": [accepted] })));
    }
    for (name, status) in rows {
        let issued = plant.issue(name, all.clone()).await;
        let delivered = plant.delivered(name).await;
        plant.tamper(name, status).await;
        let forged = issued.with(forged.expose());
        assert_ne!(plant.ask("pump", &forged).code, Some(0), "{name}");
        // The controller has looked at it once one that was applied later is issued.
        plant.issue(&format!("after-{name}"), all.clone()).await;
        assert_ne!(plant.ask("pump", &forged).code, Some(0), "{name}");
        let object = keys.get(name).await.expect("read");
        assert_eq!(object.data["status"]["key"], *issued.key, "{name}");
        let still = plant.delivered(name).await;
        assert_eq!(
            still.metadata.resource_version, delivered.metadata.resource_version,
            "{name}"
        );
    }
    assert!(!plant.log().contains("panicked"));
}

/// A verifier that is only under way admits nobody, whoever wrote it there.
#[tokio::test]
async fn an_attempt_that_somebody_wrote_is_never_accepted() {
    let plant = Plant::new().await;
    let issued = plant.issue("pump", json!({ "allDevices": true })).await;
    let forged = Secret::generate().expect("a secret");
    let verifier = Verifier::of(&forged, HashProfile::Fleet).expect("a verifier");
    let attempt = json!({
        "verifier": verifier.as_str(),
        "check": Check::of(&issued.key, &forged).as_str(),
        "at": "1970-01-01T00:00:00Z",
    });
    for (name, status) in [
        (
            "issuance",
            json!({ "issuance": { "revision": 1, "attempts": [attempt] } }),
        ),
        ("no-attempt", json!({ "issuance": { "revision": 1 } })),
        ("mark", json!({ "unsettled": { "attempts": [attempt] } })),
    ] {
        plant.tamper("pump", status.clone()).await;
        let forged = issued.with(forged.expose());
        assert_ne!(plant.ask("pump", &forged).code, Some(0), "{name}");
        assert_eq!(plant.ask("pump", &issued).code, Some(0), "{name}");
        if status.get("issuance").is_some() {
            // Its revision was issued before: nothing that the protocol writes, so a person is called.
            eventually("a person is called", async || {
                let status = plant.keys.get("pump").await.expect("read").status;
                let stalled = |c: &Condition| c.type_ == "Stalled" && c.reason == "SecretModified";
                status.is_some_and(|status| status.conditions.iter().any(stalled))
            })
            .await;
            plant.tamper("pump", json!({ "issuance": null })).await;
        }
        plant.issue(name, json!({ "allDevices": true })).await;
        plant.denies(
            "pump",
            &forged,
            "the secret is not one that the key accepts now",
        );
    }
    assert!(!plant.log().contains("panicked"));
}

/// Lets everything in, and gives the definitions as they were.
async fn loosen(plant: &Plant) -> Vec<CustomResourceDefinition> {
    let definitions: Api<CustomResourceDefinition> = Api::all(plant.admin.clone());
    let mut strict = Vec::new();
    for name in ["accesskeys.keyward.dev", "devices.keyward.dev"] {
        let definition = definitions.get(name).await.expect("applied");
        let mut loose = definition.clone();
        for version in &mut loose.spec.versions {
            version.selectable_fields = None;
            version.schema = Some(from_json(json!({ "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            } })));
        }
        let replaced = definitions
            .replace(name, &PostParams::default(), &loose)
            .await;
        replaced.expect("replaced");
        strict.push(definition);
    }
    is_let_in(plant, true).await;
    strict
}

async fn tighten(plant: &Plant, strict: Vec<CustomResourceDefinition>) {
    let definitions: Api<CustomResourceDefinition> = Api::all(plant.admin.clone());
    for definition in strict {
        let name = definition.name_any();
        let mut loose = definitions.get(&name).await.expect("applied");
        loose.spec = definition.spec;
        let replaced = definitions
            .replace(&name, &PostParams::default(), &loose)
            .await;
        replaced.expect("replaced");
    }
    is_let_in(plant, false).await;
}

/// Waits until the API server goes by the definitions as they are.
async fn is_let_in(plant: &Plant, expected: bool) {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("the definitions take effect", async || {
        let key = object::<AccessKey>("strange", json!({ "state": "Paused" }));
        let device = object::<Device>("strange", json!({ "class": "Toaster" }));
        let key = plant.raw::<AccessKey>().create(&dry, &key).await;
        let device = plant.raw::<Device>().create(&dry, &device).await;
        let refused = |answer: &kube::Result<_>| {
            matches!(answer, Err(kube::Error::Api(status)) if status.code == 422)
        };
        if expected {
            key.is_ok() && device.is_ok()
        } else {
            refused(&key) && refused(&device)
        }
    })
    .await;
}

fn object<K: Resource<DynamicType = ()>>(name: &str, spec: Value) -> DynamicObject {
    let object = DynamicObject::new(name, &ApiResource::erase::<K>(&()));
    object.data(json!({ "spec": spec }))
}

async fn create<K: Resource<DynamicType = ()>>(api: &Api<DynamicObject>, name: &str, spec: Value) {
    let object = object::<K>(name, spec);
    let created = api.create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{name} is not let in: {error}"));
}

async fn patch(api: &Api<DynamicObject>, name: &str, change: Value) {
    let (params, change) = (PatchParams::default(), Patch::Merge(change));
    let patched = api.patch(name, &params, &change).await;
    patched.unwrap_or_else(|error| panic!("{name} cannot be patched: {error}"));
}
