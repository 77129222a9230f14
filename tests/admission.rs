//! What the shipped manifests let each part and each person do, asked of a real API server.

use k8s_openapi::api::{
    core::v1::{Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use keyward::api::AccessKey;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::cluster::{
    CONTROLLER_USER, TestNamespace, admin, controller, eventually, from_json, may, service_account,
};

const OWN_TYPE: &str = "keyward.dev/access-key";
const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";

/// Who may create Secrets in a namespace may have Kubernetes write any of its ServiceAccounts'
/// tokens into one: this is that attack, by someone whom the policy does not cover.
#[tokio::test]
async fn without_the_policy_the_controllers_role_mints_tokens() {
    let namespace = TestNamespace::served("admission").await;
    bystander(&namespace, "victim").await;
    bystander(&namespace, "attacker").await;
    bind(&namespace, "keyward-controller-secrets", "attacker").await;
    let attacker = service_account(&namespace.name, "attacker").await;
    let secrets: Api<Secret> = namespace.api(&attacker);
    let secret = token_secret("stolen", "victim");
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .expect("created");

    let minted = || async {
        let read = secrets.get("stolen").await.expect("read");
        read.data.is_some_and(|data| data.contains_key("token"))
    };
    eventually("the Secret holds the victim's token", minted).await;
}

#[tokio::test]
async fn the_policy_keeps_the_controller_from_minting_tokens() {
    let namespace = under_the_policy().await;
    bystander(&namespace, "victim").await;
    let secrets: Api<Secret> = namespace.api(&controller().await);
    let secret = token_secret("stolen", "victim");
    refused(
        secrets.create(&PostParams::default(), &secret).await,
        "may write only",
    );

    // Nor as something harmless first: an omitted type is Opaque.
    let opaque: Secret = from_json(json!({ "metadata": { "name": "plain" } }));
    refused(
        secrets.create(&PostParams::default(), &opaque).await,
        "may write only",
    );
    let own: Api<Secret> = namespace.api(&namespace.admin);
    assert!(
        own.list(&Default::default())
            .await
            .expect("listed")
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn the_policy_keeps_the_controller_off_foreign_secrets() {
    let namespace = under_the_policy().await;
    let as_admin: Api<Secret> = namespace.api(&namespace.admin);
    let as_controller: Api<Secret> = namespace.api(&controller().await);
    let foreign = secret("foreign", "Opaque");
    let mut foreign = as_admin
        .create(&PostParams::default(), &foreign)
        .await
        .expect("created");

    let deleted = as_controller
        .delete("foreign", &DeleteParams::default())
        .await;
    refused(deleted.map(|_| ()), "may change and delete only");
    foreign.metadata.labels = Some([("taken".to_owned(), "over".to_owned())].into());
    let replaced = as_controller
        .replace("foreign", &PostParams::default(), &foreign)
        .await;
    refused(replaced, "");
    foreign.type_ = Some(OWN_TYPE.into());
    let replaced = as_controller
        .replace("foreign", &PostParams::default(), &foreign)
        .await;
    assert!(
        replaced.is_err(),
        "a foreign Secret was made one of Keyward's"
    );

    let read = as_admin.get("foreign").await.expect("still there");
    assert_eq!(read.metadata.labels, None);
}

#[tokio::test]
async fn the_policy_lets_the_controller_handle_its_own_secrets() {
    let namespace = under_the_policy().await;
    let secrets: Api<Secret> = namespace.api(&controller().await);
    let own = secret("own", OWN_TYPE);
    let mut own = secrets
        .create(&PostParams::default(), &own)
        .await
        .expect("created");
    own.metadata.labels = Some([("revision".to_owned(), "2".to_owned())].into());
    let own = secrets
        .replace("own", &PostParams::default(), &own)
        .await
        .expect("replaced");

    let mut back = own.clone();
    back.type_ = Some(TOKEN_TYPE.into());
    let changed = secrets.replace("own", &PostParams::default(), &back).await;
    assert!(
        changed.is_err(),
        "one of Keyward's Secrets was given another type"
    );
    secrets
        .delete("own", &DeleteParams::default())
        .await
        .expect("deleted");
}

/// Whoever is not the controller is no concern of the policy.
#[tokio::test]
async fn the_policy_leaves_others_alone() {
    let namespace = TestNamespace::unserved("admission").await;
    let secrets: Api<Secret> = namespace.api(&namespace.admin);
    let opaque = secret("opaque", "Opaque");
    secrets
        .create(&PostParams::default(), &opaque)
        .await
        .expect("created");
    secrets
        .delete("opaque", &DeleteParams::default())
        .await
        .expect("deleted");
}

#[tokio::test]
async fn the_controller_touches_secrets_only_in_namespaces_that_are_served() {
    let served = TestNamespace::served("admission").await;
    let unserved = TestNamespace::unserved("admission").await;
    for verb in [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ] {
        let granted = ["get", "create", "update", "delete"].contains(&verb);
        for (namespace, expected) in [(&served, granted), (&unserved, false)] {
            let admin = &namespace.admin;
            let may = may(
                admin,
                CONTROLLER_USER,
                verb,
                &namespace.name,
                "",
                "secrets",
                "",
            )
            .await;
            assert_eq!(may, expected, "{verb} in {}", namespace.name);
        }
    }
    let secrets: Api<Secret> = unserved.api(&controller().await);
    let answer = secrets
        .create(&PostParams::default(), &secret("own", OWN_TYPE))
        .await;
    refused(answer, "secrets is forbidden");
}

#[tokio::test]
async fn the_controller_writes_status_and_never_a_spec() {
    let admin = admin().await;
    for (resource, subresource, granted) in [
        ("accesskeys", "", &["get", "list", "watch"][..]),
        ("accesskeys", "status", &["update"]),
        ("devices", "", &["list", "watch"]),
        ("devices", "status", &["patch"]),
    ] {
        for verb in [
            "get", "list", "watch", "create", "update", "patch", "delete",
        ] {
            let user = CONTROLLER_USER;
            let may = may(
                &admin,
                user,
                verb,
                "default",
                "keyward.dev",
                resource,
                subresource,
            )
            .await;
            assert_eq!(
                may,
                granted.contains(&verb),
                "{verb} {resource}/{subresource}"
            );
        }
    }
}

#[tokio::test]
async fn those_who_view_see_no_keys_and_those_who_edit_write_no_status() {
    let namespace = TestNamespace::unserved("admission").await;
    let verbs = [
        "get", "list", "watch", "create", "update", "patch", "delete",
    ];
    for (role, keys, status) in [
        ("view", &[][..], &[][..]),
        ("edit", &verbs[..], &["get"][..]),
        ("admin", &verbs[..], &["get"][..]),
    ] {
        bystander(&namespace, role).await;
        bind(&namespace, role, role).await;
        let user = format!("system:serviceaccount:{}:{role}", namespace.name);
        let may = async |verb: &str, group: &str, resource: &str, subresource: &str| {
            may(
                &namespace.admin,
                &user,
                verb,
                &namespace.name,
                group,
                resource,
                subresource,
            )
            .await
        };
        eventually("the role is bound", async || {
            may("get", "", "configmaps", "").await
        })
        .await;
        for resource in ["accesskeys", "devices"] {
            for verb in verbs {
                let found = may(verb, "keyward.dev", resource, "").await;
                assert_eq!(found, keys.contains(&verb), "{role}: {verb} {resource}");
                let found = may(verb, "keyward.dev", resource, "status").await;
                assert_eq!(
                    found,
                    status.contains(&verb),
                    "{role}: {verb} {resource}/status"
                );
            }
        }
    }
}

/// A forged verifier would let its forger in: a status that comes with an object is dropped, and
/// one that is written alone is refused.
#[tokio::test]
async fn those_who_edit_cannot_bring_a_status_of_their_own() {
    let namespace = TestNamespace::unserved("admission").await;
    bystander(&namespace, "editor").await;
    bind(&namespace, "edit", "editor").await;
    let keys: Api<AccessKey> = namespace.api(&service_account(&namespace.name, "editor").await);
    let forged = json!({
        "apiVersion": "keyward.dev/v1alpha1",
        "kind": "AccessKey",
        "metadata": { "name": "forged" },
        "spec": { "restrictions": { "allDevices": true } },
        "status": { "observedGeneration": 1, "key": "kwk_00000000000000000000000001" },
    });
    let forged: AccessKey = from_json(forged);
    let create = || async { keys.create(&PostParams::default(), &forged).await.is_ok() };
    eventually("the role is bound", create).await;
    let mut created = keys.get("forged").await.expect("read");
    assert_eq!(created.status, Some(Default::default()));

    created.status = forged.status.clone();
    let written = keys
        .replace("forged", &PostParams::default(), &created)
        .await
        .expect("replaced");
    assert_eq!(written.status, Some(Default::default()));
    let answer = keys
        .replace_status("forged", &PostParams::default(), &created)
        .await;
    refused(answer, "accesskeys/status");
}

/// A ServiceAccount of the test's namespace.
async fn bystander(namespace: &TestNamespace, name: &str) {
    let accounts: Api<ServiceAccount> = namespace.api(&namespace.admin);
    let account = from_json(json!({ "metadata": { "name": name } }));
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("created");
}

/// Gives a ServiceAccount a ClusterRole in the test's namespace.
async fn bind(namespace: &TestNamespace, role: &str, account: &str) {
    let bindings: Api<RoleBinding> = namespace.api(&namespace.admin);
    let group = "rbac.authorization.k8s.io";
    let binding = from_json(json!({
        "metadata": { "name": format!("test-{account}") },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": role },
        "subjects": [
            { "kind": "ServiceAccount", "name": account, "namespace": namespace.name },
        ],
    }));
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("created");
    let admin = &namespace.admin;
    let user = format!("system:serviceaccount:{}:{account}", namespace.name);
    if role == "keyward-controller-secrets" {
        let bound = || may(admin, &user, "create", &namespace.name, "", "secrets", "");
        eventually("the role is bound", bound).await;
    }
}

/// A namespace, once the policy is in force: the API server takes a moment for that after it was applied.
async fn under_the_policy() -> TestNamespace {
    let namespace = TestNamespace::served("admission").await;
    let secrets: Api<Secret> = namespace.api(&controller().await);
    let (foreign, dry_run) = (
        secret("foreign", "Opaque"),
        PostParams {
            dry_run: true,
            ..PostParams::default()
        },
    );
    let in_force = || async { secrets.create(&dry_run, &foreign).await.is_err() };
    eventually("the policy is in force", in_force).await;
    namespace
}

fn secret(name: &str, type_: &str) -> Secret {
    from_json(json!({ "metadata": { "name": name }, "type": type_ }))
}

fn token_secret(name: &str, account: &str) -> Secret {
    let annotations: Value = json!({ "kubernetes.io/service-account.name": account });
    from_json(json!({
        "metadata": { "name": name, "annotations": annotations },
        "type": TOKEN_TYPE,
    }))
}

/// The API server said no, for the reason in these words.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>, words: &str) {
    match answer {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403, "{status:?}");
            assert!(
                status.message.contains(words),
                "{words:?} is not in: {}",
                status.message
            );
        }
        other => panic!("not refused: {other:?}"),
    }
}
