//! What a cluster's owner may say of the Secrets in a namespace.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::cluster::{apply, eventually, from_json};
use super::keys::Place;

/// An admission policy that refuses to make any Secret in a namespace.
pub struct Policy {
    name: String,
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
}

impl Policy {
    /// Makes it, and waits until it is in effect.
    pub async fn against_secrets_in(place: &Place) -> Policy {
        let admin = &place.namespace.admin;
        let policy = Policy {
            name: place.name().to_owned(),
            policies: Api::all(admin.clone()),
            bindings: Api::all(admin.clone()),
        };
        let rule = json!({
            "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"],
        });
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": policy.name },
            "spec": {
                "matchConstraints": { "resourceRules": [rule] },
                "validations": [{ "expression": "false", "message": "no Secrets here" }],
            },
        });
        apply(
            &policy.policies,
            &from_json::<ValidatingAdmissionPolicy>(object),
        )
        .await;
        let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": place.name() } });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": policy.name },
            "spec": {
                "policyName": policy.name,
                "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": here },
            },
        });
        apply(
            &policy.bindings,
            &from_json::<ValidatingAdmissionPolicyBinding>(binding),
        )
        .await;
        let probe: Secret = from_json(json!({ "metadata": { "name": "probe" } }));
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let refuses = || async { place.secrets.create(&dry, &probe).await.is_err() };
        eventually("the policy is in effect", refuses).await;
        policy
    }

    /// Lets Secrets be made again.
    pub async fn delete(self) {
        let params = DeleteParams::default();
        self.bindings
            .delete(&self.name, &params)
            .await
            .expect("the admin may");
        self.policies
            .delete(&self.name, &params)
            .await
            .expect("the admin may");
    }
}
