//! Whoever applies a manifest a second time finds all as it was, whatever the controller has done in between.

use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyward::api::{AccessKey, AccessKeyStatus, Device, EffectiveState};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::{desk, raw, read, told};
use crate::support::cluster::TestNamespace;
use crate::support::controller::TestController;
use crate::support::keys::Place;
use crate::support::process::Folder;

const MANAGER: &str = "gitops";
const HOUR: Duration = Duration::from_secs(3600);

/// A manifest in Git, of AccessKey or Device `pump`.
struct Repository<'a> {
    namespace: &'a TestNamespace,
    objects: Api<DynamicObject>,
    folder: Folder,
    manifest: Value,
}

impl<'a> Repository<'a> {
    fn of<K: Resource<DynamicType = ()>>(
        namespace: &'a TestNamespace,
        mut manifest: Value,
    ) -> Self {
        manifest["apiVersion"] = K::api_version(&()).into();
        manifest["kind"] = K::kind(&()).into();
        Repository {
            namespace,
            objects: raw::<K>(namespace),
            folder: Folder::new("gitops"),
            manifest,
        }
    }

    async fn live(&self) -> Value {
        read(&self.objects, "pump").await
    }

    /// Applies it, without force: nobody else may own any of its fields.
    async fn apply(&self) -> Value {
        let params = PatchParams::apply(MANAGER);
        let patch = Patch::Apply(&self.manifest);
        let applied = self.objects.patch("pump", &params, &patch).await;
        serde_json::to_value(applied.expect("applied")).unwrap()
    }

    /// Applies it with this value at this path; none: without the field.
    async fn commit(&mut self, path: &str, value: impl Into<Option<Value>>) {
        let (above, field) = path.rsplit_once('/').expect("a path");
        let above = self.manifest.pointer_mut(above).expect("it is there");
        match value.into() {
            Some(value) => above[field] = value,
            None => drop(above.as_object_mut().expect("an object").remove(field)),
        }
        self.apply().await;
    }

    /// Holds what the API server has now against the manifest, as those do who apply it every few minutes.
    async fn finds_no_difference(&self, when: &str) {
        let before = self.live().await;
        self.diff(when);
        assert_eq!(self.apply().await, before, "{when}");
        let entries = before["metadata"]["managedFields"].as_array();
        for entry in entries.expect("managers") {
            let fields = entry["fieldsV1"].as_object().expect("fields");
            let fields: Vec<&str> = fields.keys().map(String::as_str).collect();
            match entry["manager"].as_str() {
                Some(MANAGER) => assert_eq!(entry["operation"], "Apply", "{when}"),
                Some("keyward") => assert_eq!(fields, ["f:status"], "{when}"),
                other => panic!("{when}: {other:?} owns {fields:?}"),
            }
        }
    }

    fn diff(&self, when: &str) {
        let file = self.folder.write("pump.json", &self.manifest.to_string());
        let output = Command::new("kubectl")
            .args(["diff", "--server-side", "--field-manager", MANAGER])
            .args(["--namespace", &self.namespace.name, "--filename"])
            .arg(file)
            .output()
            .expect("kubectl is on the PATH: run `make test`");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (found, complained) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{when}: {found}{complained}");
    }
}

#[tokio::test]
async fn a_manifest_without_defaults_applied_again_changes_nothing() {
    let manifest = json!({
        "metadata": { "name": "pump" },
        "spec": { "restrictions": { "allDevices": true }, "rotation": {} },
    });
    whole_life(manifest).await;
}

#[tokio::test]
async fn a_manifest_of_many_fields_applied_again_changes_nothing() {
    let manifest = json!({
        "metadata": {
            "name": "pump",
            "labels": { "kustomize.toolkit.fluxcd.io/name": "keys" },
        },
        "spec": {
            "state": "Active",
            "description": "the pumps in the basement",
            "restrictions": {
                "deviceIds": ["pump-2", "pump-1"],
                "deviceTags": [{ "key": "site" }, { "value": "north" }],
                "deviceSelector": { "matchLabels": { "site": "north" } },
            },
            "topics": { "filter": "AllowList", "publish": ["logs/{device}"], "subscribe": ["news/#"] },
            "sources": { "filter": "DenyList", "cidrs": ["10.0.0.0/8", "::1"] },
            "rotation": { "revision": 1, "overlap": "90m" },
            "secret": {
                "name": "pump-key",
                "labels": { "team": "water" },
                "annotations": { "argocd.argoproj.io/compare-options": "IgnoreExtraneous" },
                "keys": { "key": "username", "secret": "password" },
            },
            "suspend": false,
        },
    });
    whole_life(manifest).await;
}

/// The controller issues, rotates, retires, switches off and ends the key.
async fn whole_life(manifest: Value) {
    let place = Place::served("apply").await;
    let controller = TestController::on_still_clock(&place).await;
    let mut git = Repository::of::<AccessKey>(&place.namespace, manifest);
    let is = async |state| {
        let told = |key: &AccessKey, status: &AccessKeyStatus| {
            status.state == Some(state)
                && key.metadata.generation == Some(status.observed_generation)
        };
        place.until("pump", &format!("is {state:?}"), told).await;
        controller.is_at_rest().await;
    };
    git.apply().await;
    place.ready("pump").await;
    git.finds_no_difference("after the issue").await;

    let annotations =
        json!({ "argocd.argoproj.io/tracking-id": "keys:keyward.dev/AccessKey:plant/pump" });
    git.commit("/metadata/annotations", annotations).await;
    git.commit("/spec/rotation/revision", json!(2)).await;
    place.issued("pump", 2).await;
    controller.is_at_rest().await;
    git.finds_no_difference("after a rotation").await;
    controller.later(48 * HOUR).await;
    let retired = |_: &AccessKey, status: &AccessKeyStatus| status.verifiers.len() == 1;
    place.until("pump", "has one verifier", retired).await;
    git.finds_no_difference("after the old secret has retired")
        .await;

    git.commit("/spec/state", json!("Inactive")).await;
    is(EffectiveState::Inactive).await;
    git.finds_no_difference("while it is inactive").await;
    git.commit("/spec/state", json!("Active")).await;
    is(EffectiveState::Active).await;

    let end = controller.now() + SignedDuration::from_hours(1);
    // As people write it, with a zone and without fractions.
    let end = Timestamp::from_second(end.as_second()).unwrap().to_string();
    git.commit("/spec/expiresAt", json!(end.replace('Z', "+00:00")))
        .await;
    controller.later(HOUR).await;
    is(EffectiveState::Expired).await;
    git.finds_no_difference("after its end").await;

    let secret = place.status("pump").await.secret.expect("a Secret").name;
    place.delete_secret(&secret).await;
    controller.resync(1).await;
    controller.is_at_rest().await;
    git.finds_no_difference("without its Secret").await;

    // What nobody else owns goes with the manifest that had it.
    git.commit("/metadata/annotations", None).await;
    assert_eq!(git.live().await["metadata"]["annotations"], Value::Null);
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn a_device_that_is_told_about_a_rival_stays_its_appliers() {
    let namespace = TestNamespace::unserved("apply").await;
    let desk = desk(&namespace).await;
    let manifest = |name: &str| {
        json!({
            "metadata": {
                "name": name,
                "labels": { "site": "north" },
                "annotations": { "argocd.argoproj.io/tracking-id": "fleet:keyward.dev/Device:plant/pump" },
            },
            "spec": { "deviceId": "pump-1" },
        })
    };
    let mut git = Repository::of::<Device>(&namespace, manifest("pump"));
    let (params, older) = (
        PatchParams::apply(MANAGER),
        Repository::of::<Device>(&namespace, manifest("a")),
    );
    git.objects
        .patch("a", &params, &Patch::Apply(&older.manifest))
        .await
        .expect("applied");
    git.apply().await;
    told(&git.objects, "pump", "DuplicateDeviceId").await;
    git.finds_no_difference("while another has its ID").await;

    git.objects
        .delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    let settled = told(&git.objects, "pump", "UniqueDeviceId").await;
    assert_eq!(settled["status"]["observedGeneration"], Value::Null);
    git.finds_no_difference("after the other has gone").await;

    // It is out of scope of every key that selects the label.
    git.commit("/metadata/labels", None).await;
    assert_eq!(git.live().await["metadata"]["labels"], Value::Null);
    desk.abort();
}
