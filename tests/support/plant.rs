//! A namespace with a controller, and `keyward check` asked about what is in it.

use std::time::Duration;

use base64ct::{Base64, Encoding};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Secret, ServiceAccount},
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use keyward::api::{AccessKey, Device};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    check::{Answer, Asker},
    cluster::{TestNamespace, apply, from_json, token_from},
    gateway::Gateway,
    instance::Instance,
    manifests,
    process::{Access, Launcher, Process},
    wait::found,
};

/// A key, and a secret for it.
pub struct Issued {
    pub key: String,
    pub secret: String,
}

impl Issued {
    /// The same key, and another secret.
    pub fn with(&self, secret: &str) -> Self {
        Self {
            key: self.key.clone(),
            secret: secret.to_owned(),
        }
    }
}

/// A namespace with a controller.
pub struct Plant {
    pub namespace: String,
    pub admin: Client,
    pub keys: Api<AccessKey>,
    pub access: Access,
    asker: Asker,
    launcher: Launcher,
    controller: Option<Process>,
    _ends_with_it: Option<TestNamespace>,
}

impl Plant {
    /// On the API server that the tests share, in a namespace of its own.
    pub async fn new() -> Self {
        let namespace = TestNamespace::served("plant").await;
        let mut plant = Self::at(Access::admin(), &namespace.name).await;
        plant._ends_with_it = Some(namespace);
        plant
    }

    /// On an instance, in a namespace that is made for it.
    pub async fn on(instance: &Instance, namespace: &str) -> Self {
        let namespaces: Api<Namespace> = Api::all(instance.admin.clone());
        let object = from_json(json!({ "metadata": { "name": namespace } }));
        let created = namespaces.create(&PostParams::default(), &object).await;
        created.expect("created");
        let bindings: Api<RoleBinding> = Api::namespaced(instance.admin.clone(), namespace);
        for binding in manifests::objects("deploy/namespace.yaml") {
            apply(&bindings, &from_json(binding)).await;
        }
        Self::at(instance.access(), namespace).await
    }

    /// On an API server, in a namespace that the controller may deliver Secrets in.
    pub async fn at(access: Access, namespace: &str) -> Self {
        let admin = access.client().await;
        let mut plant = Self {
            namespace: namespace.to_owned(),
            keys: Api::namespaced(admin.clone(), namespace),
            admin,
            asker: Asker::of(&access),
            // Logs are named after it, so it has to be a name that no other test has.
            launcher: Launcher::new(namespace, &access.as_controller().await),
            access,
            controller: None,
            _ends_with_it: None,
        };
        plant.start_controller().await;
        plant
    }

    pub async fn start_controller(&mut self) {
        let mut controller = self.launcher.start(&["--namespace", &self.namespace]);
        controller.is_ready().await;
        self.controller = Some(controller);
    }

    pub async fn stop_controller(&mut self) {
        let controller = self.controller.take().expect("it runs");
        let status = controller.end(Duration::from_secs(20)).await;
        assert!(status.success(), "{status}");
    }

    pub fn controller(&mut self) -> &mut Process {
        self.controller.as_mut().expect("it runs")
    }

    /// What its controllers have logged, at TRACE.
    pub fn log(&self) -> String {
        self.launcher.log()
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub async fn issue(&self, name: &str, restrictions: Value) -> Issued {
        self.apply(name, restrictions).await;
        self.issued(name, 1).await
    }

    pub async fn apply(&self, name: &str, restrictions: Value) {
        let key = json!({
            "apiVersion": "keyward.dev/v1alpha1",
            "kind": "AccessKey",
            "metadata": { "name": name },
            "spec": { "restrictions": restrictions },
        });
        apply(&self.keys, &from_json(key)).await;
    }

    /// Waits until this revision is issued.
    pub async fn issued(&self, name: &str, revision: i32) -> Issued {
        let key = found(&format!("{name} is issued"), async || {
            let status = self.keys.get(name).await.expect("read").status?;
            let ready = |c: &Condition| c.type_ == "Ready" && c.status == "True";
            let is_issued = status.revision == Some(revision)
                && status.issuance.is_none()
                && status.conditions.iter().any(ready);
            status.key.filter(|_| is_issued)
        })
        .await;
        let secrets: Api<Secret> = self.api();
        let data = secrets
            .get(name)
            .await
            .expect("delivered")
            .data
            .expect("data");
        Issued {
            key,
            secret: String::from_utf8(data["secret"].0.clone()).expect("text"),
        }
    }

    /// A gateway that is ready, of this launcher.
    pub async fn gateway(&self, launcher: &Launcher) -> Gateway {
        let namespace = format!("--namespace={}", self.namespace);
        let flags = [&*namespace, "--ephemeral-signing-key"];
        let mut gateway = Gateway::of(launcher.start_gateway(&flags)).await;
        gateway.process.is_ready().await;
        gateway
    }

    /// Objects as they are, also such as the types cannot read.
    pub fn raw<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        let admin = self.admin.clone();
        Api::namespaced_with(admin, &self.namespace, &ApiResource::erase::<K>(&()))
    }

    /// The Secret of an AccessKey.
    pub async fn delivered(&self, name: &str) -> Secret {
        self.api().get(name).await.expect("delivered")
    }

    pub async fn change(&self, name: &str, change: Value) {
        let params = PatchParams::default();
        let changed = self.keys.patch(name, &params, &Patch::Merge(change)).await;
        changed.expect("patched");
    }

    /// Changes a status, which only an admin may.
    pub async fn tamper(&self, name: &str, status: Value) {
        let (params, change) = (PatchParams::default(), json!({ "status": status }));
        let change = Patch::Merge(change);
        let keys = self.raw::<AccessKey>();
        let changed = keys.patch_status(name, &params, &change);
        changed.await.expect("patched");
    }

    pub async fn device(&self, name: &str, spec: Value) {
        self.create_device(json!({ "name": name }), spec).await;
    }

    pub async fn change_device(&self, name: &str, change: Value) {
        let (devices, params): (Api<Device>, _) = (self.api(), PatchParams::default());
        let changed = devices.patch(name, &params, &Patch::Merge(change)).await;
        changed.expect("patched");
    }

    pub async fn labelled(&self, name: &str, labels: Value) {
        let metadata = json!({ "name": name, "labels": labels });
        self.create_device(metadata, json!({})).await;
    }

    pub async fn create_device(&self, metadata: Value, spec: Value) {
        let devices: Api<Device> = self.api();
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1",
            "kind": "Device",
            "metadata": metadata,
            "spec": spec,
        });
        apply(&devices, &from_json(device)).await;
    }

    /// Somebody with one of Kubernetes' roles in this namespace.
    pub async fn person(&self, role: &str) -> Asker {
        let (admin, namespace) = (&self.admin, &self.namespace);
        let accounts: Api<ServiceAccount> = self.api();
        let account = from_json(json!({ "metadata": { "name": role } }));
        let created = accounts.create(&PostParams::default(), &account).await;
        created.expect("created");
        let bindings: Api<RoleBinding> = self.api();
        let group = "rbac.authorization.k8s.io";
        let binding = from_json(json!({
            "metadata": { "name": format!("test-{role}") },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": role, "namespace": namespace }],
        }));
        let created = bindings.create(&PostParams::default(), &binding).await;
        created.expect("created");
        let token = token_from(admin, namespace, role).await;
        Asker::holding(&self.access, &token)
    }

    /// Asked by an admin, with this on standard input.
    pub fn ask_with(&self, device: &str, key: &str, input: &str) -> Answer {
        self.asker.ask(&self.flags(device, key, "info"), input)
    }

    /// Asked by somebody.
    pub fn asked_by(&self, who: &Asker, device: &str, issued: &Issued) -> Answer {
        let flags = self.flags(device, &issued.key, "info");
        without_secret(who.ask(&flags, &issued.secret), &issued.secret)
    }

    /// Asked by an admin, with everything in the log that ever is.
    pub fn ask(&self, device: &str, issued: &Issued) -> Answer {
        let flags = self.flags(device, &issued.key, "trace");
        without_secret(self.asker.ask(&flags, &issued.secret), &issued.secret)
    }

    fn flags<'a>(&'a self, device: &'a str, key: &'a str, log_level: &'a str) -> [&'a str; 8] {
        let namespace = &*self.namespace;
        [
            "--namespace",
            namespace,
            "--device",
            device,
            "--key",
            key,
            "--log-level",
            log_level,
        ]
    }

    #[track_caller]
    pub fn allows(&self, device: &str, issued: &Issued) {
        let answer = self.ask(device, issued);
        let said = (answer.code, answer.out.as_str());
        assert_eq!(said, (Some(0), "Allow\n"), "{device}: {answer:?}");
    }

    #[track_caller]
    pub fn denies(&self, device: &str, issued: &Issued, reason: &str) {
        let answer = self.ask(device, issued);
        let expected = format!("Deny: {reason}\n");
        let said = (answer.code, answer.out.as_str());
        assert_eq!(said, (Some(1), &*expected), "{device}: {answer:?}");
    }

    #[track_caller]
    pub fn cannot_tell(&self, device: &str, issued: &Issued, words: &str) -> Answer {
        let answer = self.asked_by(&self.asker, device, issued);
        one_sentence(&answer, words);
        answer
    }
}

/// It could not tell, for the reason in these words.
#[track_caller]
pub fn one_sentence(answer: &Answer, words: &str) {
    assert_eq!((answer.code, &*answer.out), (Some(2), ""), "{answer:?}");
    assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    assert!(answer.err.contains(words), "{words:?}: {answer:?}");
}

#[track_caller]
fn without_secret(answer: Answer, secret: &str) -> Answer {
    let plain = secret.trim_end();
    let base64 = Base64::encode_string(plain.as_bytes());
    // The last characters of an encoding depend on what follows.
    for form in [plain, base64.get(..base64.len() - 4).unwrap_or(&base64)] {
        let found = answer.out.contains(form) || answer.err.contains(form);
        assert!(!found, "a secret in the output");
    }
    answer
}
