//! What a real gateway answers, held against the OpenAPI documents that it serves, by schemathesis.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use crate::support::plant::Plant;
use crate::support::process::{Folder, Launcher, holds_no_secret};
use serde_json::json;

const CALLER: &str = "0123456789abcdef-of-the-proxy";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_answers_as_its_documents_say() {
    let plant = Plant::new().await;
    let pump = plant
        .issue("pump", json!({ "deviceIds": ["pump-1"] }))
        .await;
    let topics = json!({ "filter": "AllowList", "publish": ["logs/{device}"], "subscribe": [] });
    plant
        .change("pump", json!({ "spec": { "topics": topics } }))
        .await;

    let folder = Folder::new("openapi");
    let callers = folder.write("callers", CALLER);
    let launcher = Launcher::new("openapi", &plant.access.as_gateway().await);
    let namespace = format!("--namespace={}", plant.namespace);
    let callers = format!("--caller-token-file={}", callers.display());
    let mut gateway =
        launcher.start_gateway(&[&namespace, &callers, "--ephemeral-signing-key", "--audit"]);
    gateway.is_ready().await;

    let mut pinned = Command::new("deploy/local/pinned");
    pinned.arg("schemathesis");
    let commands = run(pinned, &pump.secret);
    let mut conforms = Command::new(format!("{}/python", commands.trim_end()));
    conforms
        .arg("tests/openapi/conforms.py")
        .arg(format!("http://{}", gateway.address("devices").await))
        .arg(format!("http://{}", gateway.address("brokers").await))
        .arg(folder.path())
        .env("KEYWARD_KEY", &pump.key)
        .env("KEYWARD_SECRET", &pump.secret)
        .env("KEYWARD_CALLER", CALLER);
    run(conforms, &pump.secret);
    // Whatever was asked, and wherever the secret stood in it.
    let secrets = [pump.secret];
    holds_no_secret(&launcher.log(), &secrets);
    holds_no_secret(&gateway.output(), &secrets);
}

/// What a command prints; panics if it fails, without the secret.
fn run(mut command: Command, secret: &str) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(secret, "...");
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    said
}
