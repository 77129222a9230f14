//! Each row of the table in `deploy/gitops/README.md`, on objects as the API server gives them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use keyward::api::{AccessKey, AccessKeyStatus, Device, EffectiveState};
use keyward::controller::ledger::MAX_ATTEMPTS;
use keyward::key::Secret as Plaintext;
use keyward::verifier::{HashProfile, Verifier};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{desk, raw, read, told, tools};
use crate::support::cluster::TestNamespace;
use crate::support::controller::{GRACE, TestController};
use crate::support::keys::{Place, condition, key, some_secret};
use crate::support::manifests;
use crate::support::policy::Policy;
use crate::support::wire::Happens;

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any backoff.
const MINUTES: Duration = Duration::from_secs(120);
/// Longer than an issue is left to the process that began it.
const MOMENT: Duration = Duration::from_secs(2);

/// An object in the phase that a row of the table names.
type Seen = (&'static str, Value);

#[tokio::test]
async fn in_each_phase_each_tool_shows_what_the_table_says() {
    let mut table = table();
    let lives: [LocalBoxFuture<'static, Vec<Seen>>; 14] = [
        first_issue().boxed_local(),
        tried_too_often().boxed_local(),
        life().boxed_local(),
        rotation().boxed_local(),
        suspended().boxed_local(),
        stands_in_the_way().boxed_local(),
        refused_by_the_api_server().boxed_local(),
        refused_by_a_policy().boxed_local(),
        has_the_key_of_another().boxed_local(),
        not_served().boxed_local(),
        cannot_be_replaced().boxed_local(),
        lost_its_verifiers().boxed_local(),
        restored().boxed_local(),
        rivals().boxed_local(),
    ];
    for (phase, object) in join_all(lives).await.into_iter().flatten() {
        let row = table.remove(phase);
        let row = row.unwrap_or_else(|| panic!("no row, or two objects: {phase}"));
        assert_eq!(shown(&object), row, "{phase}: {object:#}");
    }
    assert!(table.is_empty(), "never seen: {table:?}");
}

/// What kstatus, Argo CD and Flux show, the latter with and without expressions.
fn shown(object: &Value) -> [String; 3] {
    let kstatus = tools::kstatus(object);
    let (health, _) = tools::health(object);
    // Without expressions it shows what kstatus computes.
    assert_eq!(tools::flux("devices.yaml", object), kstatus);
    [kstatus, health, tools::flux("access-keys.yaml", object)]
}

/// What each tool shows in each phase.
fn table() -> BTreeMap<String, [String; 3]> {
    let readme = manifests::text("deploy/gitops/README.md");
    let rows = readme
        .lines()
        .skip_while(|line| !line.starts_with("| phase |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        let [_, phase, kstatus, argo, flux, _] = cells.try_into().expect("four columns");
        (phase, [kstatus, argo, flux])
    })
    .collect()
}

/// The AccessKey `pump`, now.
async fn pump(place: &Place) -> Value {
    read(&raw::<AccessKey>(&place.namespace), "pump").await
}

async fn first_issue() -> Vec<Seen> {
    let nobody_there = Place::served("phases").await;
    nobody_there.apply(key("pump")).await;
    let created = pump(&nobody_there).await;

    let place = Place::served("phases").await;
    let controller = TestController::on_still_clock(&place).await;
    let publish = controller.wire.trap("create secrets", Happens::Unsent);
    place.apply(key("pump")).await;
    publish.await;
    let issuing = pump(&place).await;

    let crowded = Place::served("phases").await;
    let controller = TestController::on_still_clock(&crowded).await;
    crowded.limit_secrets_to(0).await;
    crowded.apply(key("pump")).await;
    crowded.reconciling("pump", "QuotaExceeded").await;
    controller.is_at_rest().await;
    vec![
        ("created, not yet seen by the controller", created),
        ("the first secret is being issued", issuing),
        ("waits for room in a ResourceQuota", pump(&crowded).await),
    ]
}

/// By processes that end between commit and publish, one after the other.
async fn tried_too_often() -> Vec<Seen> {
    let place = Place::served("phases").await;
    place.apply(key("pump")).await;
    for _ in 0..MAX_ATTEMPTS {
        let controller = TestController::on_still_clock(&place).await;
        let publish = controller.wire.trap("create secrets", Happens::Unsent);
        controller.later(MOMENT).await;
        publish.await;
    }
    let controller = TestController::on_still_clock(&place).await;
    controller.later(MOMENT).await;
    place.reconciling("pump", "TooManyAttempts").await;
    vec![(
        "as many attempts as there may be, and none can be ruled out yet",
        pump(&place).await,
    )]
}

/// From before its time to after it, switched off, and to its end.
async fn life() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let controller = TestController::on_still_clock(&place).await;
    let hours_on = |hours| (controller.now() + SignedDuration::from_hours(hours)).to_string();
    let ask = key("pump")
        .with("/spec/notBefore", hours_on(1))
        .with("/spec/expiresAt", hours_on(11));
    place.apply(ask.clone()).await;
    place.ready("pump").await;
    let mut seen = vec![("not valid yet", pump(&place).await)];
    for (hours, phase, reason) in [
        (1, "issued", "Active"),
        (9, "expires soon", "ExpiringSoon"),
        (1, "expired", "Expired"),
    ] {
        controller.later(hours * HOUR).await;
        let told = |_: &AccessKey, status: &AccessKeyStatus| {
            condition(status, "Active").is_some_and(|active| active.reason == reason)
        };
        place.until("pump", phase, told).await;
        seen.push((phase, pump(&place).await));
    }

    place.apply(ask.inactive()).await;
    let off =
        |_: &AccessKey, status: &AccessKeyStatus| status.state == Some(EffectiveState::Inactive);
    place.until("pump", "is inactive", off).await;
    seen.push(("inactive", pump(&place).await));

    place.delete_secret("pump").await;
    controller.resync(1).await;
    controller.is_at_rest().await;
    seen.push(("the Secret was taken away", pump(&place).await));

    let held = json!({ "metadata": { "finalizers": ["example.com/held"] } });
    place.patch_key("pump", held).await;
    place.delete_key("pump").await;
    controller.is_at_rest().await;
    seen.push(("being deleted", pump(&place).await));
    place
        .patch_key("pump", json!({ "metadata": { "finalizers": null } }))
        .await;
    seen
}

async fn rotation() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    let publish = controller.wire.trap("update secrets", Happens::Unsent);
    place.apply(key("pump").revision(2)).await;
    publish.await;
    let rotating = pump(&place).await;

    drop(controller);
    let controller = TestController::on_still_clock(&place).await;
    controller.resync(1).await;
    controller.later(MOMENT).await;
    place.issued("pump", 2).await;
    controller.is_at_rest().await;
    let rotated = pump(&place).await;
    controller.stop().await;
    place
        .apply(key("pump").revision(2).described("newer than the status"))
        .await;
    let changed = pump(&place).await;

    // Somebody edits the Secret, and then a rotation is due.
    let controller = TestController::on_still_clock(&place).await;
    place.ready("pump").await;
    let edit = json!({ "stringData": { "secret": some_secret() } });
    place.patch_secret("pump", edit).await;
    // What the process before it has left open may take a grace first.
    controller.resync(1).await;
    controller.later(GRACE).await;
    controller.is_at_rest().await;
    place.apply(key("pump").revision(3)).await;
    place.stalled("pump", "SecretModified").await;
    vec![
        ("a rotation is under way", rotating),
        ("rotated, and the old secret is still valid", rotated),
        ("changed, not yet seen by the controller", changed),
        ("stalled: SecretModified", pump(&place).await),
    ]
}

async fn suspended() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    let seen_by_the_controller = |key: &AccessKey, status: &AccessKeyStatus| {
        key.metadata.generation == Some(status.observed_generation)
    };
    let wait = async || {
        place.until("pump", "is seen", seen_by_the_controller).await;
        pump(&place).await
    };
    place.apply(key("pump").suspended()).await;
    let before = wait().await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    place.apply(key("pump").suspended()).await;
    let idle = wait().await;
    place.apply(key("pump").suspended().revision(2)).await;
    vec![
        ("suspended before its first secret", before),
        ("suspended, with nothing left to do", idle),
        ("suspended, with a rotation left to do", wait().await),
    ]
}

async fn stands_in_the_way() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    let foreign = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pump" } });
    place.create::<Secret>(foreign).await;
    place.apply(key("pump")).await;
    place.stalled("pump", "SecretExists").await;
    vec![("stalled: SecretExists", pump(&place).await)]
}

async fn refused_by_the_api_server() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").too_large()).await;
    place.stalled("pump", "InvalidSpec").await;
    vec![("stalled: InvalidSpec", pump(&place).await)]
}

async fn refused_by_a_policy() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _policy = Policy::against_secrets_in(&place).await;
    let _controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.stalled("pump", "AdmissionRefused").await;
    vec![("stalled: AdmissionRefused", pump(&place).await)]
}

/// The other has been taken over already.
async fn has_the_key_of_another() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    let secret = Plaintext::foreign("correct horse battery staple").expect("a secret");
    let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
    let existing = json!({ "key": "crane", "verifier": verifier.as_str() });
    // Within one second the name decides.
    let ask = |name| key(name).with("/spec/existing", existing.clone());
    place.apply(ask("a-older")).await;
    place.ready("a-older").await;
    place.apply(ask("pump")).await;
    place.stalled("pump", "KeyConflict").await;
    vec![("stalled: KeyConflict", pump(&place).await)]
}

/// Until it is, when a rotation has been asked for.
async fn not_served() -> Vec<Seen> {
    let place = Place::unserved("phases").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.stalled("pump", "NamespaceNotServed").await;
    let stalled = pump(&place).await;
    let raised = place.apply(key("pump").revision(2)).await;
    let seen = |_: &AccessKey, status: &AccessKeyStatus| {
        raised.metadata.generation == Some(status.observed_generation)
    };
    place.until("pump", "is tried again", seen).await;
    controller.is_at_rest().await;
    place.namespace.serve().await;
    controller.later(MINUTES).await;
    place.reconciling("pump", "AwaitingSweep").await;
    vec![
        ("stalled: NamespaceNotServed", stalled),
        (
            "a rotation waits for the issue before it",
            pump(&place).await,
        ),
    ]
}

async fn cannot_be_replaced() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    place
        .patch_secret("pump", json!({ "immutable": true }))
        .await;
    place.apply(key("pump").revision(2)).await;
    place.stalled("pump", "SecretImmutable").await;
    vec![("stalled: SecretImmutable", pump(&place).await)]
}

async fn lost_its_verifiers() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump")).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    let mut key = place.key("pump").await;
    key.status.as_mut().expect("a status").verifiers.clear();
    let params = PostParams::default();
    let written = place.keys.replace_status("pump", &params, &key);
    written.await.expect("the admin may");
    place.stalled("pump", "VerifierLost").await;
    vec![("stalled: VerifierLost", pump(&place).await)]
}

async fn restored() -> Vec<Seen> {
    let place = Place::served("phases").await;
    let _controller = TestController::on_still_clock(&place).await;
    place.apply(key("pump").restored_by_a_backup_tool()).await;
    place.reconciling("pump", "AwaitingRestore").await;
    vec![(
        "waits for the status that a backup tool will write",
        pump(&place).await,
    )]
}

/// Two Devices that claim one ID, until one of them goes.
async fn rivals() -> Vec<Seen> {
    let namespace = TestNamespace::unserved("phases").await;
    let fleet = raw::<Device>(&namespace);
    let desk = desk(&namespace).await;
    let device = |name: &str| {
        let device = json!({
            "apiVersion": "keyward.dev/v1alpha1", "kind": "Device",
            "metadata": { "name": name }, "spec": { "deviceId": "pump" },
        });
        Patch::Apply(device)
    };
    let params = PatchParams::apply("keyward-tests");
    fleet
        .patch("a", &params, &device("a"))
        .await
        .expect("applied");
    let alone = read(&fleet, "a").await;
    // Created within one second it would lose by its name, else by its age.
    fleet
        .patch("b", &params, &device("b"))
        .await
        .expect("applied");
    let rival = told(&fleet, "b", "DuplicateDeviceId").await;
    fleet
        .delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    let winner = told(&fleet, "b", "UniqueDeviceId").await;
    let change = Patch::Merge(json!({ "spec": { "disabled": true } }));
    fleet
        .patch("b", &PatchParams::default(), &change)
        .await
        .expect("changed");
    let changed = read(&fleet, "b").await;
    desk.abort();
    vec![
        ("Device without a rival", alone),
        ("Device whose ID an older one has", rival),
        ("Device whose rival is gone", winner),
        ("Device whose rival is gone, changed since", changed),
    ]
}
