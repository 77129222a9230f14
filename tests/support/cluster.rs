//! A real API server, reached as an admin through `KUBECONFIG`, with `crds/` and
//! `deploy/install.yaml` applied. `make test` starts one and sets the variable.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authentication::v1::TokenRequest,
        authorization::v1::{ResourceAttributes, SubjectAccessReview},
        core::v1::{Namespace, ServiceAccount},
        rbac::v1::RoleBinding,
    },
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::OnceCell, time};

use super::manifests;

/// The namespace of the install.
pub const SYSTEM: &str = "keyward-system";

/// The controller's ServiceAccount.
pub const CONTROLLER: &str = "keyward-controller";

/// The gateway's ServiceAccount.
pub const GATEWAY: &str = "keyward-gateway";

/// The user name by which RBAC knows the controller.
pub const CONTROLLER_USER: &str = "system:serviceaccount:keyward-system:keyward-controller";

/// How to reach the API server as an admin.
pub async fn admin_config() -> Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer()
        .await
        .expect("KUBECONFIG names an API server: run `make test`");
    config.default_retry = false;
    config
}

/// A client with all rights.
pub async fn admin() -> Client {
    Client::try_from(admin_config().await).expect("a client")
}

/// How to reach the API server as the controller.
pub async fn controller_config() -> Config {
    static TOKEN: OnceCell<String> = OnceCell::const_new();
    let token = TOKEN.get_or_init(|| token(SYSTEM, CONTROLLER)).await;
    with_token(admin_config().await, token)
}

/// A client with the rights of the controller, as the shipped manifests grant them.
pub async fn controller() -> Client {
    Client::try_from(controller_config().await).expect("a client")
}

/// A client with the rights of a ServiceAccount.
pub async fn service_account(namespace: &str, name: &str) -> Client {
    let config = with_token(admin_config().await, &token(namespace, name).await);
    Client::try_from(config).expect("a client")
}

/// A token of a ServiceAccount, good for an hour.
async fn token(namespace: &str, name: &str) -> String {
    token_from(&admin().await, namespace, name).await
}

/// The same, from the API server of an admin's client.
pub async fn token_from(admin: &Client, namespace: &str, name: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &TokenRequest::default())
        .await
        .unwrap_or_else(|error| panic!("failed to get a token of {namespace}/{name}: {error}"));
    answer.status.expect("a token").token
}

fn with_token(mut config: Config, token: &str) -> Config {
    config.auth_info = AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    };
    config
}

/// A namespace of one test, deleted when it goes out of scope.
pub struct TestNamespace {
    /// Its name, which no other test has.
    pub name: String,
    /// A client with all rights.
    pub admin: Client,
}

impl TestNamespace {
    /// A namespace in which the controller may deliver Secrets, by `deploy/namespace.yaml`.
    pub async fn served(purpose: &str) -> Self {
        let namespace = Self::unserved(purpose).await;
        namespace.serve().await;
        namespace
    }

    /// A namespace in which the controller may not touch Secrets.
    pub async fn unserved(purpose: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let admin = admin().await;
        let namespaces: Api<Namespace> = Api::all(admin.clone());
        let object: Namespace = from_json(json!({ "metadata": { "name": name } }));
        // An earlier process of the same id may have left one that is still going away.
        let created = || async {
            match namespaces.create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => false,
                answer => answer.map(|_| true).expect("a namespace"),
            }
        };
        eventually("the namespace is created", created).await;
        Self { name, admin }
    }

    /// Applies `deploy/namespace.yaml`, and waits until its rights hold.
    pub async fn serve(&self) {
        for object in manifests::objects("deploy/namespace.yaml") {
            let binding: RoleBinding = from_json(object);
            apply(&self.api(&self.admin), &binding).await;
        }
        let allowed = || {
            may(
                &self.admin,
                CONTROLLER_USER,
                "create",
                &self.name,
                "",
                "secrets",
                "",
            )
        };
        eventually("deploy/namespace.yaml takes effect", allowed).await;
    }

    /// The objects of one kind in this namespace.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(client.clone(), &self.name)
    }
}

impl Drop for TestNamespace {
    /// From a thread and with a runtime of its own, since this may run while a test panics; best
    /// effort, since the API server goes away with the run.
    fn drop(&mut self) {
        let name = self.name.clone();
        let delete = async move {
            let namespaces: Api<Namespace> = Api::all(admin().await);
            let params = DeleteParams::background();
            let deleted = namespaces.delete(&name, &params);
            time::timeout(Duration::from_secs(5), deleted).await
        };
        let thread = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(delete).ok()
        });
        thread.join().ok();
    }
}

/// Applies an object server-side, as `keyward-tests` and with force.
pub async fn apply<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.clone().expect("a name");
    let params = PatchParams::apply("keyward-tests").force();
    api.patch(&name, &params, &Patch::Apply(object))
        .await
        .unwrap_or_else(|error| panic!("failed to apply {name}: {error}"))
}

/// Whether RBAC lets a user do this. `group/resource/subresource` may be empty where it does not
/// apply. Asked as an admin, so that the audit log shows nothing for the user.
pub async fn may(
    admin: &Client,
    user: &str,
    verb: &str,
    namespace: &str,
    group: &str,
    resource: &str,
    subresource: &str,
) -> bool {
    let review: SubjectAccessReview = from_json(json!({ "spec": {
        "user": user,
        "resourceAttributes": ResourceAttributes {
            verb: Some(verb.into()),
            namespace: Some(namespace.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            subresource: Some(subresource.into()),
            ..ResourceAttributes::default()
        },
    }}));
    let reviews: Api<SubjectAccessReview> = Api::all(admin.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .expect("a review");
    answer.status.is_some_and(|status| status.allowed)
}

/// Waits until a condition holds, at most 20 seconds.
pub async fn eventually<F>(what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let wait = async {
        while !holds().await {
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}

/// An object from its JSON.
pub fn from_json<K: DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("an object of its kind")
}
