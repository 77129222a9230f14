//! The API server's answers about Secrets come to the controller cut short: it says nothing of
//! what they hold, at the highest log level, and issues all the same.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::support::cluster;
use crate::support::fault::Fault;
use crate::support::plant::{Issued, Plant};
use crate::support::process::{Launcher, holds_no_secret};
use crate::support::proxy::{Asked, Proxy, Rules};
use serde_json::json;

#[tokio::test]
async fn cut_answers_do_not_get_into_a_log_for_people() {
    nothing_is_told("text").await;
}

#[tokio::test]
async fn cut_answers_do_not_get_into_a_log_for_programs() {
    nothing_is_told("json").await;
}

async fn nothing_is_told(format: &str) {
    let mut plant = Plant::new().await;
    plant.stop_controller().await;
    let cuts = Cuts::default();
    let proxy = Proxy::start(cluster::controller().await, cuts.clone()).await;
    let name = format!("cut-{}", plant.namespace);
    let launcher = Launcher::new(&name, &proxy.access());
    let flags = ["--namespace", &plant.namespace, "--log-format", format];
    let mut controller = launcher.start(&flags);
    controller.is_ready().await;
    let (new, old) = (["broken-new", "garbled-new"], ["broken-old", "garbled-old"]);
    let mut issued: Vec<Issued> = Vec::new();
    for name in old {
        issued.push(plant.issue(name, json!({ "allDevices": true })).await);
    }
    cuts.begin();
    for name in new {
        plant.apply(name, json!({ "allDevices": true })).await;
    }
    for name in old {
        let change = json!({ "spec": { "rotation": { "revision": 2 } } });
        plant.change(name, change).await;
    }
    for (name, revision) in new
        .map(|name| (name, 1))
        .into_iter()
        .chain(old.map(|name| (name, 2)))
    {
        issued.push(plant.issued(name, revision).await);
    }
    cuts.were_made_of([
        "POST metadata",
        "PUT metadata",
        "GET metadata",
        "GET object",
    ]);
    for issued in &issued {
        plant.allows("pump", issued);
    }

    let status = controller.end(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    let log = launcher.log();
    assert!(log.contains("the API server's answer cannot be read"));
    assert!(log.contains("TRACE"), "the log is at its highest level");
    assert!(!log.contains("panicked"));
    let secrets: Vec<String> = issued.into_iter().map(|issued| issued.secret).collect();
    assert_eq!(secrets.len(), 6);
    holds_no_secret(&log, &secrets);
}

/// Once told to begin, the first answer to each kind of request about each Secret is cut.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<Option<HashSet<String>>>>);

impl Cuts {
    fn begin(&self) {
        *self.made() = Some(HashSet::new());
    }

    fn made(&self) -> MutexGuard<'_, Option<HashSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn were_made_of(&self, kinds: [&str; 4]) {
        let made = self.made().clone().unwrap_or_default();
        for kind in kinds {
            let found = made.iter().any(|cut| cut.starts_with(kind));
            assert!(found, "no {kind} was cut: {made:?}");
        }
    }
}

impl Rules for Cuts {
    /// By the name of the Secret or of the object in the request the connection breaks in the middle
    /// of the answer, or the answer is complete, and no JSON: both happen to every verb.
    fn request(&self, asked: &Asked) -> Option<Fault> {
        let form = if asked.is_partial() {
            "metadata"
        } else {
            "object"
        };
        let what = format!("{} {form} {}", asked.method, asked.path);
        let mut made = self.made();
        let cut = asked.path.contains("/secrets") && made.as_mut()?.insert(what);
        let breaks = asked.path.contains("broken")
            || String::from_utf8_lossy(&asked.body).contains(r#""name":"broken"#);
        cut.then_some(if breaks {
            Fault::BreakOff
        } else {
            Fault::Truncate
        })
    }
}
