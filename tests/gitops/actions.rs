//! The actions of Argo CD on a real AccessKey, and what a sync makes of them.

use keyward::api::{AccessKey, AccessKeyStatus, EffectiveState};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{raw, read, tools};
use crate::support::controller::TestController;
use crate::support::keys::{Place, fits, key};

/// AccessKey `pump`, as Argo CD handles it.
struct Argo<'a>(&'a Place);

impl Argo<'_> {
    async fn live(&self) -> Value {
        read(&raw::<AccessKey>(&self.0.namespace), "pump").await
    }

    /// The actions that can be chosen.
    async fn offers(&self) -> Vec<String> {
        let live = self.live().await;
        let script = format!("{}/actions/discovery.lua", tools::folder(&live));
        let actions = tools::lua(&script, &live);
        let actions = actions.as_object().expect("actions by name");
        let offered = actions
            .iter()
            .filter(|(_, action)| action["disabled"] == false);
        offered.map(|(name, _)| name.clone()).collect()
    }

    /// Sends what the action changes, as a merge patch.
    async fn runs(&self, action: &str) {
        let live = self.live().await;
        let script = format!("{}/actions/{action}/action.lua", tools::folder(&live));
        let changed = tools::lua(&script, &live);
        assert_ne!(changed["spec"], live["spec"], "it changes something");
        self.0
            .patch_key("pump", json!({ "spec": changed["spec"] }))
            .await;
    }

    /// Applies what stands in Git.
    async fn syncs(&self, spec: Value) -> kube::Result<DynamicObject> {
        let manifest = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey",
            "metadata": { "name": "pump" }, "spec": spec,
        });
        let params = PatchParams::apply("argocd-controller").force();
        let keys = raw::<AccessKey>(&self.0.namespace);
        keys.patch("pump", &params, &Patch::Apply(manifest)).await
    }

    async fn is(&self, state: EffectiveState) {
        let told = |key: &AccessKey, status: &AccessKeyStatus| {
            status.state == Some(state)
                && key.metadata.generation == Some(status.observed_generation)
        };
        self.0.until("pump", &format!("is {state:?}"), told).await;
    }
}

#[tokio::test]
async fn actions_switch_a_key_off_and_on_and_rotate_it() {
    let place = Place::served("actions").await;
    let argo = Argo(&place);
    place.apply(key("pump")).await;
    assert_eq!(
        argo.offers().await,
        ["deactivate"],
        "nothing was issued yet"
    );
    let controller = TestController::start(&place).await;
    place.ready("pump").await;
    assert_eq!(argo.offers().await, ["deactivate", "rotate"]);

    argo.runs("deactivate").await;
    argo.is(EffectiveState::Inactive).await;
    assert_eq!(argo.offers().await, ["activate", "rotate"]);
    argo.runs("activate").await;
    argo.is(EffectiveState::Active).await;

    argo.runs("rotate").await;
    let rotated = place.issued("pump", 2).await;
    fits(&rotated, &place.delivered("pump").await);
    controller.stop().await;
    argo.runs("rotate").await;
    assert_eq!(
        argo.offers().await,
        ["deactivate"],
        "one rotation after the other"
    );
}

#[tokio::test]
async fn a_sync_leaves_what_an_action_did_unless_git_says_otherwise() {
    let place = Place::served("actions").await;
    let argo = Argo(&place);
    let _controller = TestController::start(&place).await;
    let silent = json!({ "restrictions": { "allDevices": true } });
    argo.syncs(silent.clone()).await.expect("applied");
    place.ready("pump").await;
    argo.runs("deactivate").await;
    argo.runs("rotate").await;
    place.issued("pump", 2).await;
    argo.syncs(silent).await.expect("applied");
    let live = argo.live().await;
    assert_eq!(live["spec"]["state"], "Inactive");
    assert_eq!(live["spec"]["rotation"]["revision"], 2);

    let mut spec = json!({ "restrictions": { "allDevices": true }, "state": "Active" });
    argo.syncs(spec.clone()).await.expect("applied");
    assert_eq!(argo.live().await["spec"]["state"], "Active");
    spec["rotation"] = json!({ "revision": 1 });
    let Err(kube::Error::Api(refused)) = argo.syncs(spec).await else {
        panic!("a revision never decreases");
    };
    assert!(
        refused.message.contains("rotation.revision only increases"),
        "{refused:?}"
    );
}
