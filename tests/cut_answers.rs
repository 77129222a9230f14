//! The API server's answers about Secrets come to the controller cut short: it says nothing of
//! what they hold, at the highest log level, and issues all the same.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{
    check::Asker,
    cluster,
    plant::{Issued, Plant},
    process::{Launcher, holds_no_secret},
    proxy::Proxy,
};

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
    let proxy = Proxy::start(cluster::controller().await).await;
    let by_way_of_it = Asker::changed(&plant.access, |config| {
        config["clusters"][0]["cluster"] = json!({ "server": format!("http://{}", proxy.address) });
        config["users"][0]["user"] = json!({});
    });
    let name = format!("cut-{}", plant.namespace);
    let launcher = Launcher::new(&name, &by_way_of_it.access());
    let flags = ["--namespace", &plant.namespace, "--log-format", format];
    let mut controller = launcher.start(&flags);
    controller.is_ready().await;
    let (new, old) = (["broken-new", "garbled-new"], ["broken-old", "garbled-old"]);
    let mut issued: Vec<Issued> = Vec::new();
    for name in old {
        issued.push(plant.issue(name, json!({ "allDevices": true })).await);
    }
    proxy.cut();
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
    was_cut(
        &proxy,
        &[
            "POST metadata",
            "PUT metadata",
            "GET metadata",
            "GET object",
        ],
    );
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

fn was_cut(proxy: &Proxy, kinds: &[&str]) {
    let cuts = proxy.cuts();
    for kind in kinds {
        let found = cuts.iter().any(|cut| cut.starts_with(kind));
        assert!(found, "no {kind} was cut: {cuts:?}");
    }
}
