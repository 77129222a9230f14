//! Whatever somebody writes into the status of an AccessKey, the controller makes no second Secret and no
//! new key of it, and `keyward check` admits nobody whom the status does not name.
//!
//! Every field of a real status is spoilt in every way, while no controller runs: as it stands, and
//! with a new secret asked for. Most of it the schema refuses. What the rest may do is little:
//!
//! | field | spoilt | what that does |
//! |---|---|---|
//! | `key`, the newest verifier, its check | in any way but a check's removal | the secret is refused |
//! | the newest verifier's check | removed | nothing: it only saves hashes |
//! | `uid` | in any way | nothing: the object counts as restored, under its own key and secret |
//! | `revision`, `rotationRequested` | in any way | at most a rotation, or one that does not come |
//! | the rest | in any way | nothing |

use crate::hostile::arena::{Arena, Issued, accepts, status_of};
use crate::hostile::corruption::{self, Corruption};
use crate::support::keys::{key, some_secret};
use keyward::key::{Check, Secret};
use keyward::verifier::{HashProfile, Verifier};
use kube::api::{Patch, PatchParams, PostParams};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

/// Another number takes another sample.
const SEED: u64 = 20_260_101;

/// About half of them get by the schema.
const SAMPLE: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_spoilt_statuses_does_no_harm() {
    withstands("hostile-status", Some(SAMPLE)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes: `make prove` runs it"]
async fn no_spoilt_status_does_harm() {
    withstands("hostile-statuses", None).await;
}

/// One field of one AccessKey's status is spoilt.
struct Row {
    name: String,
    /// Its position among the corruptions of a status.
    which: usize,
    /// A new secret is asked for.
    due: bool,
}

async fn withstands(purpose: &str, sample: Option<usize>) {
    let mut arena = Arena::new(purpose).await;
    arena.start_controller().await;
    arena.apply([key("model")]).await;
    arena.issued().await;
    arena.apply([key("model").revision(2)]).await;
    let model = arena.issued().await["model"].clone();
    let document = document(&json!(model.key.status));
    let corruptions = corruption::all(&document).len();
    let rows = rows(corruptions, sample);

    arena.apply(rows.iter().map(|row| key(&row.name))).await;
    arena.issued().await;
    arena
        .apply(rows.iter().map(|row| key(&row.name).revision(2)))
        .await;
    let before = arena.issued().await;
    let memory = arena.end_controller().await;

    let spoilt = arena
        .each(&rows, async |row| spoil(&arena, row).await)
        .await;
    let spoilt: Vec<(&Row, Corruption)> = rows
        .iter()
        .zip(spoilt)
        .filter_map(|(row, let_in)| Some((row, let_in?)))
        .collect();
    println!(
        "measured: {} spoilt fields, of which the schema lets in {}",
        rows.len(),
        spoilt.len()
    );
    let stored = arena.keys().await;

    arena.start_controller().await;
    arena.is_at_rest(before.len()).await;
    let secrets = arena.secrets().await;
    assert!(secrets.keys().eq(before.keys()), "a Secret came or went");
    let after = arena.keys().await;
    let mut questions = Vec::new();
    for (row, corruption) in &spoilt {
        let what = format!("{} due={} {corruption:?}", row.name, row.due);
        let (was, is) = (&before[&row.name], &after[&row.name]);
        let status = is.status.clone().unwrap_or_default();
        let stored = stored[&row.name]
            .status
            .as_ref()
            .and_then(|status| status.key.clone());
        assert_eq!(status.key, stored, "another key: {what}");
        let now = Issued {
            key: is.clone(),
            secret: secrets[&row.name].clone(),
        };
        // A status that forgot what it acted on acts again.
        let asked = row.due || corruption.path == "/rotationRequested";
        is_the_same_or_rotated(was, &now, asked, &what);
        questions.push((was.public().to_owned(), was.plaintext()));
        questions.push((was.public().to_owned(), arena.stranger()));
    }
    let admitted = arena.asked(questions).await;
    let after = arena.keys().await;
    for ((row, corruption), admitted) in spoilt.iter().zip(admitted.chunks(2)) {
        let was = &before[&row.name];
        let status = after[&row.name].status.clone().unwrap_or_default();
        let may = accepts(&status, was.public(), &was.plaintext());
        assert_eq!(
            admitted,
            [may, false],
            "{} due={} {corruption:?}",
            row.name,
            row.due
        );
        let decides = decides(corruption);
        assert!(!(decides && may), "admitted: {corruption:?}");
    }
    // A few, since whatever begins like a secret is found, too.
    let few = before.values().take(20);
    let plaintexts: Vec<String> = few.map(Issued::plaintext).collect();
    arena.has_held(memory, &plaintexts).await;
}

/// The status of a key that was issued twice, with a mark that something is unsettled.
fn document(status: &Value) -> Value {
    let mut document = status.clone();
    let stray = some_secret();
    let secret = Secret::parse(&stray).expect("a secret");
    let verifier = Verifier::of(&secret, HashProfile::Fleet).expect("a hash");
    document["unsettled"] = json!({ "attempts": [{
        "verifier": verifier.as_str(),
        "check": Check::of("kwk_", &secret).as_str(),
        "at": "2026-01-01T00:00:00Z",
    }] });
    document
}

fn rows(corruptions: usize, sample: Option<usize>) -> Vec<Row> {
    let mut rows: Vec<(usize, bool)> = (0..corruptions)
        .flat_map(|which| [(which, false), (which, true)])
        .collect();
    if let Some(size) = sample {
        rows.shuffle(&mut StdRng::seed_from_u64(SEED));
        rows.truncate(size);
    }
    let row = |(number, (which, due))| Row {
        name: format!("k{number}"),
        which,
        due,
    };
    rows.into_iter().enumerate().map(row).collect()
}

/// None if the schema refuses it.
async fn spoil(arena: &Arena, row: &Row) -> Option<Corruption> {
    let keys = arena.raw();
    let mut object = keys.get(&row.name).await.expect("the admin may");
    let whole = document(status_of(&object));
    let corruption = corruption::all(&whole).swap_remove(row.which);
    let base = if corruption.path.starts_with("/unsettled") {
        &whole
    } else {
        status_of(&object)
    };
    object.data["status"] = corruption.of(base);
    let written = keys
        .replace_status(&row.name, &PostParams::default(), &object)
        .await;
    match written {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if [400, 413, 422].contains(&status.code) => return None,
        Err(error) => panic!("{corruption:?}: {error}"),
    }
    if row.due {
        let due = json!({ "spec": { "rotation": { "revision": 3 } } });
        let (params, due) = (PatchParams::default(), Patch::Merge(due));
        let patched = keys.patch(&row.name, &params, &due).await;
        patched.expect("the admin may");
    }
    Some(corruption)
}

/// The Secret is untouched, or it was replaced because that was asked for, and is accepted.
fn is_the_same_or_rotated(was: &Issued, is: &Issued, asked: bool, what: &str) {
    assert_eq!(
        was.secret.metadata.uid, is.secret.metadata.uid,
        "another Secret: {what}"
    );
    if was.secret.metadata.resource_version == is.secret.metadata.resource_version {
        return;
    }
    assert!(asked, "replaced though nobody asked: {what}");
    let status = is.key.status.clone().unwrap_or_default();
    assert!(
        accepts(&status, was.public(), &is.plaintext()),
        "replaced and not accepted: {what}"
    );
}

/// Fields without which the newest secret is not accepted, however they are spoilt.
fn decides(corruption: &Corruption) -> bool {
    [
        "/key",
        "/verifiers",
        "/verifiers/1",
        "/verifiers/1/verifier",
    ]
    .contains(&&*corruption.path)
}
