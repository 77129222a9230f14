//! Keys that devices have already: taken over with one write, on a real API server, and used at gateways as any other.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::controller::TestController;
use crate::support::gateway::{Gateway, Plant, send};
use crate::support::keys::{
    Ask, Place, condition, entry, holds, key, owned_by, plaintext, some_secret,
};
use crate::support::manifests;
use crate::support::plant::Issued;
use crate::support::process::{Access, Folder, Launcher};
use keyward::api::{AccessKey, AccessKeyStatus};
use keyward::key::Secret as Plaintext;
use keyward::verifier::{HashProfile, Verifier};
use kube::api::PostParams;
use serde_json::json;

/// Longer than any backoff.
const MINUTES: Duration = Duration::from_secs(120);

/// A key from elsewhere, with its secret.
fn foreign(key: &str, secret: &str) -> Issued {
    Issued {
        key: key.to_owned(),
        secret: secret.to_owned(),
    }
}

fn verifier(secret: &str) -> String {
    let secret = Plaintext::foreign(secret).expect("a secret");
    let verifier = Verifier::of(&secret, HashProfile::Owasp).expect("a hash");
    verifier.as_str().to_owned()
}

/// An AccessKey that takes it over.
fn existing(name: &str, from: &Issued) -> Ask {
    key(name)
        .with("/spec/existing/key", &*from.key)
        .with("/spec/existing/verifier", verifier(&from.secret))
}

/// A gateway of this namespace, which is ready.
async fn gateway(place: &Place) -> Gateway {
    let launcher = Launcher::new(place.name(), &Access::admin().as_gateway().await);
    let namespace = format!("--namespace={}", place.name());
    let flags = [&*namespace, "--ephemeral-signing-key"];
    let mut gateway = Gateway::of(launcher.start_gateway(&flags)).await;
    gateway.process.is_ready().await;
    gateway
}

/// Nothing more is written, however often the keys are looked at; so far, as many writes as these.
async fn has_sent(controller: &TestController, keys: u64, requests: &[&str]) {
    controller.resync(keys).await;
    controller.is_at_rest().await;
    assert_eq!(controller.wire.sent(), requests);
    controller.wire.forget();
}

const WRITE: &str = "update accesskeys/status";

#[tokio::test]
async fn a_key_is_taken_over_with_one_write_and_admits_its_devices() {
    let place = Place::served("taken-over").await;
    let controller = TestController::on_still_clock(&place).await;
    let gateway = gateway(&place).await;
    // The longest that there may be, of every kind of character.
    let crane = foreign(
        &format!("{}-Z9_", "x".repeat(124)),
        "correct horse / battery+staple",
    );
    place.apply(existing("crane", &crane)).await;
    let taken = place.ready("crane").await;
    let status = taken.status.as_ref().expect("a status");
    assert_eq!(status.key.as_ref(), Some(&crane.key));
    let numbers = (status.revision, status.rotation_requested);
    assert_eq!(numbers, (Some(1), Some(1)));
    let [known] = &*status.verifiers else {
        panic!("{:?}", status.verifiers);
    };
    assert_eq!(
        Some(&known.verifier),
        taken.spec.existing.as_ref().map(|e| &e.verifier)
    );
    assert_eq!(
        (known.revision, &known.check, known.valid_until.is_none()),
        (1, &None, true)
    );
    assert!(status.secret.is_none() && holds(status, "Active"));
    let ready = condition(status, "Ready").expect("a condition");
    assert_eq!(ready.reason, "TakenOver");
    assert!(ready.message.contains(&crane.key), "{}", ready.message);
    has_sent(&controller, 1, &[WRITE]).await;
    assert_eq!(controller.metrics.hashes.get(), 0, "nothing was hashed");
    assert!(place.secret("crane").await.is_none(), "no Secret is made");

    gateway.until("crane-1", &crane, 200).await;
    let made = some_secret();
    for wrong in ["correct horse / battery+stable", "x", &made] {
        assert_eq!(gateway.status("crane-1", &crane.with(wrong)).await, 401);
    }
    everywhere(&gateway, &crane).await;
    place.told("crane", &[("TakenOver", 1)]).await;

    drop(controller);
    let another = TestController::on_still_clock(&place).await;
    has_sent(&another, 1, &[]).await;
    assert_eq!(another.metrics.hashes.get(), 0);
}

/// Its key passes wherever a key does.
async fn everywhere(gateway: &Gateway, crane: &Issued) {
    use base64ct::{Base64, Encoding};
    let basic = Base64::encode_string(format!("{}:{}", crane.key, crane.secret).as_bytes());
    let basic = format!("Basic {basic}");
    let headers = [
        ("authorization", &*basic),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let form = "grant_type=client_credentials&device_id=crane-1";
    let (status, body) = send(gateway.devices, "POST /oauth/token", &headers, form)
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let token = body["access_token"].as_str().expect("a token");
    assert_eq!(gateway.forward(token).await, 200);
    let form = format!("token={token}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let (status, body) = send(gateway.brokers, "POST /introspect", &headers, &form)
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&crane.key), "{body}");
}

#[tokio::test]
async fn a_higher_revision_makes_a_secret_for_it_and_the_old_one_overlaps() {
    let place = Place::served("rotated").await;
    let controller = TestController::on_still_clock(&place).await;
    let gateway = gateway(&place).await;
    let crane = foreign("crane", "correct horse battery staple");
    let ask = existing("crane", &crane).delivered_in("delivered");
    place.apply(ask.clone()).await;
    place.ready("crane").await;
    controller.is_at_rest().await;
    controller.wire.forget();

    place.apply(ask.clone().revision(2)).await;
    let rotated = place.issued("crane", 2).await;
    let looks = ["get secrets (metadata)", "get accesskeys"];
    let writes = [WRITE, "create secrets", WRITE];
    has_sent(&controller, 1, &[&looks[..], &writes].concat()).await;
    let delivered = place.delivered("delivered").await;
    assert_eq!(entry(&delivered, "key"), crane.key);
    let status = rotated.status.expect("a status");
    assert_eq!(
        condition(&status, "Ready").expect("a condition").reason,
        "Issued"
    );
    let [old, new] = &*status.verifiers else {
        panic!("{:?}", status.verifiers);
    };
    assert!(old.check.is_none() && old.valid_until.is_some());
    assert!(new.check.is_some() && new.valid_until.is_none());
    let new = crane.with(&plaintext(&delivered));
    for issued in [&crane, &new] {
        gateway.until("crane-1", issued, 200).await;
    }

    // Without an overlap both are over at once.
    place.apply(ask.revision(3).overlap("0s")).await;
    place.issued("crane", 3).await;
    let newest = crane.with(&plaintext(&place.delivered("delivered").await));
    gateway.until("crane-1", &newest, 200).await;
    for issued in [&crane, &new] {
        assert_eq!(gateway.status("crane-1", issued).await, 401);
    }
    place.keeps_its_secrets(&[&controller]).await;
}

#[tokio::test]
async fn of_two_keys_in_a_namespace_the_older_has_it_until_it_goes() {
    let (place, elsewhere) = (
        Place::served("conflict").await,
        Place::served("elsewhere").await,
    );
    let controllers = [
        TestController::on_still_clock_for(&[&place, &elsewhere]).await,
        TestController::on_still_clock_for(&[&place, &elsewhere]).await,
    ];
    let gateway = gateway(&place).await;
    let older = foreign("crane", "correct horse battery staple");
    let younger = older.with("another horse battery staple");
    // Named so that within one second the name decides as the age does.
    place.apply(existing("a-older", &older)).await;
    place.ready("a-older").await;
    place.apply(existing("b-younger", &younger)).await;
    elsewhere.apply(existing("b-younger", &younger)).await;
    elsewhere.ready("b-younger").await;
    let told = place.stalled("b-younger", "KeyConflict").await;
    assert!(
        told.message
            .starts_with("AccessKey a-older has the key crane too"),
        "{}",
        told.message
    );
    let status = place.status("b-younger").await;
    assert!(status.verifiers.is_empty() && !holds(&status, "Active"));

    gateway.until("crane-1", &older, 200).await;
    assert_eq!(gateway.status("crane-1", &younger).await, 401);
    for controller in &controllers {
        controller.is_at_rest().await;
        controller.wire.forget();
    }
    for controller in &controllers {
        controller.later(MINUTES).await;
        has_sent(controller, 3, &[]).await;
    }

    place.delete_key("a-older").await;
    place.ready("b-younger").await;
    gateway.until("crane-1", &younger, 200).await;
    assert_eq!(gateway.status("crane-1", &older).await, 401);
    place
        .told("b-younger", &[("KeyConflict", 1), ("TakenOver", 1)])
        .await;
}

#[tokio::test]
async fn a_key_that_was_issued_can_be_in_the_way_and_have_one_in_its_way() {
    let place = Place::served("generated").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("a-generated")).await;
    let generated = place.ready("a-generated").await;
    let public = generated
        .status
        .and_then(|status| status.key)
        .expect("a key");
    let taken = foreign(&public, "correct horse battery staple");
    place.apply(existing("b-existing", &taken)).await;
    place.stalled("b-existing", "KeyConflict").await;
    assert!(holds(&place.status("a-generated").await, "Ready"));

    // As after a restore: the one that was issued comes last.
    place.delete_key("a-generated").await;
    place.ready("b-existing").await;
    controller.is_at_rest().await;
    place.apply(key("c-restored").suspended()).await;
    let waits = |_: &AccessKey, status: &AccessKeyStatus| {
        condition(status, "Ready").is_some_and(|ready| ready.reason == "Suspended")
    };
    let mut restored = place.until("c-restored", "is suspended", waits).await;
    let issued = json!({
        "observedGeneration": -1, "key": public, "revision": 1, "rotationRequested": 1, "uid": restored.metadata.uid,
        "state": "Active",
        "verifiers": [{ "revision": 1, "verifier": verifier("x"), "issuedAt": "2026-01-01T00:00:00Z" }],
    });
    restored.status = serde_json::from_value(issued).expect("a status");
    let params = PostParams::default();
    let written = place.keys.replace_status("c-restored", &params, &restored);
    written.await.expect("the admin may");
    place.stalled("c-restored", "KeyConflict").await;
    let status = place.status("c-restored").await;
    assert!(!holds(&status, "Active"), "{status:?}");
    assert_eq!(status.verifiers.len(), 1, "nothing is taken from it");

    place.delete_key("b-existing").await;
    let healed =
        |_: &AccessKey, status: &AccessKeyStatus| holds(status, "Active") && holds(status, "Ready");
    place.until("c-restored", "is active", healed).await;
}

#[tokio::test]
async fn what_cannot_be_taken_over_says_what_to_change() {
    let place = Place::served("unusable").await;
    let controller = TestController::on_still_clock(&place).await;
    let crane = foreign("crane", "correct horse battery staple");
    let odd = verifier(&crane.secret)
        .replace("m=19456", "m=31")
        .replace("p=1", "p=4");
    let rows = [
        (
            existing("lanes", &crane).with("/spec/existing/verifier", odd),
            "m at least 8 times p: delete it, and create it with a verifier that keyward hash prints.",
        ),
        (
            existing("replaced", &foreign("other", "x")).revision(2),
            "rotation.revision 2 says that the secret was replaced: delete it, and create it with",
        ),
    ];
    for (ask, words) in rows {
        let name = place.apply(ask).await.metadata.name.expect("a name");
        let told = place.stalled(&name, "InvalidSpec").await;
        assert!(
            told.message
                .starts_with(&format!("AccessKey {name} is not taken over")),
            "{}",
            told.message
        );
        assert!(told.message.contains(words), "{}", told.message);
        let status = place.status(&name).await;
        assert!(status.key.is_none() && status.verifiers.is_empty());
        assert!(place.secret(&name).await.is_none());
        place.told(&name, &[("InvalidSpec", 1)]).await;
    }
    controller.is_at_rest().await;
    controller.wire.forget();
    controller.later(MINUTES).await;
    has_sent(&controller, 2, &[]).await;
}

#[tokio::test]
async fn a_status_that_was_lost_brings_back_no_secret_that_was_replaced() {
    let place = Place::served("lost").await;
    let controller = TestController::on_still_clock(&place).await;
    let crane = foreign("crane", "correct horse battery staple");
    let ask = existing("crane", &crane);
    place.apply(ask.clone()).await;
    let taken = place.ready("crane").await;
    lose_status(&place).await;
    let again = |_: &AccessKey, status: &AccessKeyStatus| {
        status.revision == Some(1) && holds(status, "Ready")
    };
    let again = place.until("crane", "is taken over again", again).await;
    let verifiers = |key: AccessKey| key.status.expect("a status").verifiers;
    assert_eq!(verifiers(again)[0].verifier, verifiers(taken)[0].verifier);

    place.apply(ask.revision(2)).await;
    place.issued("crane", 2).await;
    controller.is_at_rest().await;
    lose_status(&place).await;
    place.stalled("crane", "InvalidSpec").await;
    assert!(place.status("crane").await.verifiers.is_empty());
}

async fn lose_status(place: &Place) {
    let mut key = place.key("crane").await;
    key.status = None;
    let params = PostParams::default();
    let written = place.keys.replace_status("crane", &params, &key);
    written.await.expect("the admin may");
}

#[tokio::test]
async fn whatever_happens_to_the_write_it_is_taken_over_once() {
    use crate::support::wire::Happens;
    for happens in [Happens::AnswerLost, Happens::Unsent] {
        let place = Place::served("once").await;
        let controller = TestController::start(&place).await;
        let trapped = controller.wire.trap(WRITE, happens);
        let crane = foreign("crane", "correct horse battery staple");
        place.apply(existing("crane", &crane)).await;
        trapped.await;
        // A crash, in the midst of it.
        drop(controller);
        let another = TestController::on_still_clock(&place).await;
        let taken = place.ready("crane").await;
        let written = usize::from(matches!(happens, Happens::Unsent));
        has_sent(&another, 1, &vec![WRITE; written]).await;
        let status = taken.status.expect("a status");
        assert_eq!((status.revision, status.verifiers.len()), (Some(1), 1));
        assert!(place.secret("crane").await.is_none());
    }
}

/// The commands of `deploy/migration/README.md`, each block by its heading's first words.
struct Page(BTreeMap<String, Vec<String>>);

impl Page {
    fn read() -> Page {
        let text = manifests::text("deploy/migration/README.md");
        let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for section in text.split("\n## ").skip(1) {
            let heading = section.lines().next().expect("a heading").to_owned();
            let fenced = section.split("```sh\n").skip(1);
            let scripts = fenced.map(|rest| rest.split("```").next().unwrap_or_default());
            blocks.insert(heading, scripts.map(str::to_owned).collect());
        }
        Page(blocks)
    }

    fn script(&self, heading: &str, number: usize) -> &str {
        &self.0[heading][number]
    }
}

/// Where somebody moves keys: with kubectl contexts for two namespaces, which do for two clusters.
struct Shell(Folder);

impl Shell {
    fn between(old: &Place, new: &Place) -> Shell {
        let folder = Folder::new("migration");
        let text = Access::admin().text();
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let context = config["contexts"][0].clone();
        let contexts = [("old", old), ("new", new)].map(|(name, place)| {
            let mut context = context.clone();
            context["name"] = json!(name);
            context["context"]["namespace"] = json!(place.name());
            context
        });
        config["contexts"] = json!(contexts);
        config["current-context"] = json!("new");
        folder.write("kubeconfig", &config.to_string());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        symlink(root.join("deploy"), folder.path().join("deploy")).expect("a link");
        Shell(folder)
    }

    fn runs(&self, script: &str) -> Output {
        let keyward = Path::new(env!("CARGO_BIN_EXE_keyward"))
            .parent()
            .expect("a folder");
        let path = std::env::var("PATH").expect("a PATH");
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", script])
            .current_dir(self.0.path())
            .env("KUBECONFIG", self.0.path().join("kubeconfig"))
            .env("PATH", format!("{}:{path}", keyward.display()));
        bash.output().expect("bash starts")
    }

    #[track_caller]
    fn succeeds(&self, script: &str) {
        let output = self.runs(script);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{err}");
    }
}

const CLUSTERS: &str = "From one cluster to another";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_moves_to_another_cluster_and_its_devices_notice_nothing() {
    let (old, new) = (Plant::new("move-from").await, Plant::new("move-to").await);
    let pumps = old.issue("pumps", json!({ "deviceIds": ["pump-1"] })).await;
    old.change(
        "pumps",
        json!({ "rotation": { "revision": 2, "overlap": "0s" } }),
    )
    .await;
    let rotated = old.delivered("pumps", 2).await;
    let valve = foreign("valve", "correct horse battery staple");
    old.place.apply(existing("valve", &valve).inactive()).await;
    old.place.ready("valve").await;

    let (page, shell) = (Page::read(), Shell::between(&old.place, &new.place));
    shell.succeeds(page.script(CLUSTERS, 0));
    let gateway = new.gateway(&[]).await;
    gateway.until("pump-1", &rotated, 200).await;
    assert_eq!(
        gateway.status("pump-1", &pumps).await,
        401,
        "its secret was replaced"
    );
    assert_eq!(gateway.status("pump-2", &rotated).await, 401);
    assert_eq!(
        gateway.status("valve", &valve).await,
        401,
        "it is as inactive as it was"
    );
    new.change("valve", json!({ "state": "Active" })).await;
    gateway.until("valve", &valve, 200).await;

    shell.succeeds(page.script(CLUSTERS, 1));
    let moved = new.place.delivered("pumps").await;
    assert_eq!(plaintext(&moved), rotated.secret);
    let key = new.place.key("pumps").await;
    let uid = key.metadata.uid.as_deref().expect("a uid");
    let owner = &owned_by("pumps", uid)[0];
    let owners = json!(moved.metadata.owner_references);
    for field in ["apiVersion", "kind", "name", "uid", "controller"] {
        assert_eq!(owners[0][field], owner[field], "{field}");
    }

    old.place.delete_key("pumps").await;
    old.place.is_gone("pumps").await;
    assert_eq!(gateway.status("pump-1", &rotated).await, 200);
    new.change(
        "pumps",
        json!({ "rotation": { "revision": 2, "overlap": "1h" } }),
    )
    .await;
    let again = new.delivered("pumps", 2).await;
    assert_eq!(again.key, rotated.key);
    assert_eq!(
        new.place.delivered("pumps").await.metadata.uid,
        moved.metadata.uid,
        "it is replaced in place"
    );
    for issued in [&rotated, &again] {
        gateway.until("pump-1", issued, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_is_named_and_nothing_is() {
    let (old, new) = (Plant::new("stay-from").await, Plant::new("stay-to").await);
    old.issue("pump", json!({ "allDevices": true })).await;
    old.issue("valve", json!({ "allDevices": true })).await;
    old.change("valve", json!({ "rotation": { "revision": 2 } }))
        .await;
    old.delivered("valve", 2).await;
    old.place.apply(key("new").suspended()).await;
    let (page, shell) = (Page::read(), Shell::between(&old.place, &new.place));
    let output = shell.runs(page.script(CLUSTERS, 0));
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{err}");
    let [first, second] = [
        "AccessKey new: nothing was issued",
        "AccessKey valve: devices may still use the secret",
    ];
    assert!(
        err.contains(first) && err.contains(second) && !err.contains("AccessKey pump"),
        "{err}"
    );
    let found = new
        .place
        .keys
        .list(&Default::default())
        .await
        .expect("the admin may");
    assert!(found.items.is_empty(), "nothing was moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_from_losant_are_taken_over_where_their_secrets_were_kept() {
    let (old, new) = (
        Place::served("losant").await,
        Plant::new("from-losant").await,
    );
    let devices = [
        (
            "5f2c0a9b1e4d3c2b1a098765",
            "8e3f1c52-7a4b-4d0e-9c1f-2b3a4d5e6f70",
            "0d3c5e0f7c1b4a2e8f9d6c5b4a392817065f4e3d2c1b0a998877665544332211",
        ),
        (
            "5F2C0A9B1E4D3C2B1A098766",
            "1b2c3d4e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
            "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90",
        ),
    ];
    let mut csv = "losantDeviceId,losantDeviceKey,losantDeviceSecret,creationErrors\n".to_owned();
    for (id, key, secret) in devices {
        csv += &format!("{id},{key},{secret},\n");
    }
    let shell = Shell::between(&old, &new.place);
    shell.0.write("devices.csv", &csv);
    shell.succeeds(Page::read().script("From Losant", 0));
    let gateway = new.gateway(&["--topic-root=losant"]).await;
    for (id, key, secret) in devices {
        let issued = foreign(key, secret);
        gateway.until(id, &issued, 200).await;
        assert_eq!(
            gateway.status("5f2c0a9b1e4d3c2b1a098767", &issued).await,
            401
        );
    }
}
