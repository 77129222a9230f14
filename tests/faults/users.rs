//! What users do to the objects of a run.

use jiff::SignedDuration;
use keyward::api::AccessKey;
use keyward::controller::Nudge;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::run::Run;
use super::support::cluster::from_json;
use super::workload::Act;

impl Run<'_> {
    pub async fn act(&mut self, act: Act) {
        let names: Vec<String> = (0..self.line.workload.keys())
            .map(|number| format!("{}{number}", self.prefix))
            .collect();
        for name in &names {
            match &act {
                Act::Create => self.create(name, json!({ "name": name })).await,
                Act::Change(spec) => self.change(name, spec).await,
                Act::Recreate => {
                    self.delete(name).await;
                    self.create(name, json!({ "name": name })).await;
                }
                Act::TakeSecret => self.take_secret(name).await,
                Act::Restart => self.members[0].restart(),
                Act::EndNamespace => {
                    self.place.delete().await;
                    self.wanted.insert(name.clone(), None);
                }
                Act::Restore => self.restore(name).await,
                Act::ComeDue => self.come_due(name).await,
                Act::Limit(begin, end) => self.limit(name, *begin, *end).await,
                Act::Pass(hours) => {
                    self.pass(hours * 3600);
                    // Users who do not wait meet with what is due by then.
                    self.nudge(Nudge::Resync);
                }
            }
        }
    }

    fn keys(&self) -> Api<AccessKey> {
        Api::namespaced(self.field.admin.clone(), &self.place.name)
    }

    async fn create(&mut self, name: &str, metadata: Value) {
        let key: AccessKey = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": metadata,
            "spec": { "restrictions": { "allDevices": true } },
        }));
        let created = self.keys().create(&PostParams::default(), &key).await;
        self.wants(name, &created.expect("the admin may"));
    }

    async fn change(&mut self, name: &str, spec: &Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = self
            .keys()
            .patch(name, &PatchParams::default(), &patch)
            .await;
        self.wants(name, &changed.expect("the admin may"));
    }

    fn wants(&mut self, name: &str, key: &AccessKey) {
        let generation = key.metadata.generation.expect("a generation");
        let wanted = (key.uid().expect("a uid"), generation);
        self.wanted.insert(name.to_owned(), Some(wanted));
    }

    async fn delete(&mut self, name: &str) {
        let params = DeleteParams::background();
        self.keys()
            .delete(name, &params)
            .await
            .expect("the admin may");
    }

    async fn take_secret(&mut self, name: &str) {
        if let Some(secret) = self.place.take_secret(name).await {
            self.taken.insert(secret);
        }
    }

    async fn limit(&mut self, name: &str, begin: i64, end: i64) {
        let now = self.clock.now().wall;
        let after = |hours| now + SignedDuration::from_hours(hours);
        let spec = json!({ "notBefore": after(begin), "expiresAt": after(end) });
        self.change(name, &spec).await;
    }

    async fn come_due(&mut self, name: &str) {
        let status = self.keys().get(name).await.expect("the admin may").status;
        let next = status.and_then(|status| status.next_rotation);
        let left = next.map(|next| next.0.duration_since(self.clock.now().wall));
        // It rounds up.
        let left = left.map_or(0, |left| left.as_secs() + 1);
        self.pass(left.try_into().unwrap_or_default());
    }

    /// The Secret is not restored: it counts as consumed.
    async fn restore(&mut self, name: &str) {
        let saved = self.keys().get(name).await.expect("the admin may").status;
        // Before the garbage collector does.
        self.take_secret(name).await;
        self.delete(name).await;
        let labels = json!({ "velero.io/restore-name": "backup" });
        self.create(name, json!({ "name": name, "labels": labels }))
            .await;
        let Some(status) = saved else { return };
        let (params, patch) = (PatchParams::default(), json!({ "status": status }));
        let (keys, patch) = (self.keys(), Patch::Merge(patch));
        let restored = keys.patch_status(name, &params, &patch);
        restored.await.expect("the admin may");
    }
}
