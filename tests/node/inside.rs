//! A cluster whose Services and Pods can be reached: asked as its admin does, with kubectl, Helm and a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use keyward::api::{AccessKey, AccessKeyStatus};
use kube::api::{Api, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::certificates::pem;
use crate::support::cluster::from_json;
use crate::support::keys::{entry, fits, holds};
use crate::support::plant::Issued;
use crate::support::process::{Access, output_of};
use crate::support::tools::go_tool;
use crate::support::wait::{found_or_not, found_within};

/// The namespace of the install.
pub const SYSTEM: &str = "keyward-system";

/// The namespace that has access keys.
pub const PLANT: &str = "plant";

/// For all that happens by itself on a node, in seconds.
pub const PATIENCE: u64 = 120;

/// A cluster, from its network.
pub struct Inside {
    /// With all rights.
    pub admin: Client,
    place: PathBuf,
}

impl Inside {
    /// The one in this folder.
    pub async fn of(place: &Path) -> Inside {
        let admin = Access::in_file(&place.join("inside.kubeconfig"));
        Inside {
            admin: admin.client().await,
            place: place.to_owned(),
        }
    }

    /// Installs Keyward by its charts, as `make cluster` does, and waits until all is ready.
    pub fn install(&self) {
        self.said(Command::new("deploy/cluster").arg("install"), "");
        self.restrict_pods(PLANT);
    }

    /// Makes the Secret that gateways wait for.
    pub fn give_gateways_their_secret(&self) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keyward-gateway" },
            "stringData": {
                "signing-key.pem": pem("PRIVATE KEY", &key.serialize_der()),
                "callers": "a-caller-of-the-tests-with-a-long-token",
            },
        });
        self.kubectl_with(&["create", "-n", SYSTEM, "-f", "-"], &secret.to_string());
    }

    /// Only Pods that may do little are taken there from now on.
    pub fn restrict_pods(&self, namespace: &str) {
        let enforced = "pod-security.kubernetes.io/enforce=restricted";
        self.kubectl(&["label", "namespace", namespace, enforced]);
    }

    /// What kubectl says.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    /// The same, with this on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        self.said(
            Command::new(self.place.join("bin/kubectl")).args(arguments),
            input,
        )
    }

    /// What Helm says.
    pub fn helm(&self, arguments: &[&str]) -> String {
        self.said(Command::new(go_tool("helm")).args(arguments), "")
    }

    /// What a command says that finds the cluster, and kubectl.
    pub fn said(&self, command: &mut Command, input: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.place.join("bin").display());
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("KUBECONFIG", self.place.join("inside.kubeconfig"))
            .env("HOME", &self.place)
            .env("KEYWARD_CACHE", cache())
            .env("PATH", path);
        let output = output_of(command, input);
        let [said, complaints] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{command:?}: {complaints}{said}");
        said
    }

    /// The AccessKeys of the plant.
    pub fn keys(&self) -> Api<AccessKey> {
        Api::namespaced(self.admin.clone(), PLANT)
    }

    /// Its Secrets.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.admin.clone(), PLANT)
    }

    /// Its Pods.
    pub fn plant_pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), PLANT)
    }

    /// Makes a key.
    pub async fn create(&self, name: &str, spec: Value) {
        let key = from_json(json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "AccessKey", "metadata": { "name": name }, "spec": spec,
        }));
        let created = self.keys().create(&PostParams::default(), &key).await;
        created.unwrap_or_else(|error| panic!("{name} is not created: {error}"));
    }

    /// Merges this into the spec of a key.
    pub async fn change(&self, name: &str, spec: Value) {
        let change = Patch::Merge(json!({ "spec": spec }));
        let (keys, params) = (self.keys(), PatchParams::default());
        let changed = keys.patch(name, &params, &change).await;
        changed.expect("patched");
    }

    /// Waits until this revision of a key is issued, and delivered as it should be.
    pub async fn issued(&self, name: &str, revision: i32) -> Issued {
        let what = format!("revision {revision} of {name} is issued");
        let key = found_within(PATIENCE, &what, async || {
            let key = self.keys().get(name).await.ok()?;
            let status = key.status.as_ref()?;
            is_issued(status, revision).then_some(key)
        })
        .await;
        let secret = self.secrets().get(name).await.expect("delivered");
        fits(&key, &secret);
        Issued {
            key: entry(&secret, "key"),
            secret: entry(&secret, "secret"),
        }
    }

    /// All keys with their Secrets, as far as they may never change by themselves.
    pub async fn delivered(&self) -> BTreeMap<String, Value> {
        let keys = self.keys().list(&ListParams::default()).await;
        let mut delivered = BTreeMap::new();
        for key in keys.expect("listed") {
            let name = key.name_any();
            let secret = self.secrets().get(&name).await.expect("delivered");
            let status = key.status.expect("a status");
            let told = json!({
                "verifiers": status.verifiers, "key": status.key, "uid": key.metadata.uid,
                "secret": secret.metadata.uid, "version": secret.metadata.resource_version, "data": secret.data,
            });
            delivered.insert(name, told);
        }
        delivered
    }

    /// Where a Service is found.
    pub async fn service(&self, name: &str, port: &str) -> SocketAddr {
        let services: Api<Service> = Api::namespaced(self.admin.clone(), SYSTEM);
        let spec = services.get(name).await.expect("a Service").spec;
        let spec = spec.expect("a spec");
        let ports = spec.ports.into_iter().flatten();
        let number = ports
            .filter(|it| it.name.as_deref() == Some(port))
            .map(|it| it.port)
            .next();
        let address = format!(
            "{}:{}",
            spec.cluster_ip.expect("one"),
            number.expect("a port")
        );
        address.parse().expect("an address")
    }

    /// The Pods of a part of Keyward that are not being deleted.
    pub async fn pods(&self, component: &str) -> Vec<Pod> {
        let labels = format!("app.kubernetes.io/component={component}");
        let params = ListParams::default().labels(&labels);
        let found = self.system_pods().list(&params).await;
        let found = found.expect("listed").items.into_iter();
        found
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// The Pods of Keyward.
    pub fn system_pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), SYSTEM)
    }

    /// Waits until a Deployment has as many Pods as it should, all of the newest kind and ready.
    pub async fn is_rolled_out(&self, name: &str) {
        let deployments: Api<Deployment> = Api::namespaced(self.admin.clone(), SYSTEM);
        found_within(PATIENCE, &format!("{name} is rolled out"), async || {
            let deployment = deployments.get(name).await.ok()?;
            let wanted = deployment.spec.as_ref()?.replicas;
            let generation = deployment.metadata.generation;
            let status = deployment.status?;
            let counts = [
                status.updated_replicas,
                status.ready_replicas,
                status.available_replicas,
                status.replicas,
            ];
            let is_current = status.observed_generation == generation;
            (is_current && counts.iter().all(|count| *count == wanted)).then_some(())
        })
        .await;
    }

    /// Has all gateways replaced, and waits until the old ones are gone.
    pub async fn roll_out_gateways(&self) {
        let old = self.pods("gateway").await;
        let restart = "rollout restart deployment/keyward-gateway -n";
        self.kubectl(&Vec::from_iter(restart.split(' ').chain([SYSTEM])));
        self.is_rolled_out("keyward-gateway").await;
        for pod in old {
            self.is_gone(&pod.name_any()).await;
        }
    }

    /// Waits until a Pod of Keyward has ended.
    pub async fn is_gone(&self, pod: &str) {
        found_within(PATIENCE, &format!("{pod} is gone"), async || {
            let left = self.system_pods().get_opt(pod).await.ok()?;
            left.is_none().then_some(())
        })
        .await;
    }

    /// What a Pod of the plant has printed so far.
    pub async fn log(&self, pod: &str) -> String {
        let params = LogParams::default();
        self.plant_pods()
            .logs(pod, &params)
            .await
            .unwrap_or_default()
    }

    /// Waits until a Pod of the plant has printed all of these lines in this order, whatever comes between.
    pub async fn has_printed(&self, pod: &str, lines: &[&str]) {
        let mut log = String::new();
        let look = found_or_not(PATIENCE, async || {
            log = self.log(pod).await;
            let mut printed = log.lines();
            let all = lines.iter().all(|line| printed.any(|it| it == *line));
            all.then_some(())
        });
        let is_found = look.await.is_some();
        assert!(is_found, "{pod} is to print {lines:?} and printed: {log}");
    }
}

fn is_issued(status: &AccessKeyStatus, revision: i32) -> bool {
    status.revision == Some(revision) && status.issuance.is_none() && holds(status, "Ready")
}

/// What is built once is not to be looked for in the folder of the cluster.
fn cache() -> PathBuf {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let below_home = || named("HOME").map(|home| home.join(".cache"));
    named("KEYWARD_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME").or_else(below_home)?.join("keyward")))
        .expect("a folder for what is built once")
}
