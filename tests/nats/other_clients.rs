//! Clients of another kind: mosquitto's own.

use std::process::{Command, Output};

use serde_json::json;

use super::scene;
use crate::mqtt::Message;
use crate::scene::Scene;
use crate::support::keys::some_secret;
use crate::support::plant::Issued;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquittos_own_clients_are_served() {
    let scene = scene().await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;
    let mut watcher = scene.session("pump-2", &pumps).await;
    for filter in [
        "devices/pump-1/state",
        "devices/pump-2/state",
        "devices/pump-2/command",
    ] {
        assert_eq!(watcher.subscribe(filter, 0).await, Some(true));
    }
    let ask = |program: &str, issued: &Issued, more: &[&str]| client(&scene, program, issued, more);
    let own = ["-t", "devices/pump-1/state", "-q", "1", "-m", "on"];
    let sent = ask("mosquitto_pub", &pumps, &own);
    assert!(sent.status.success(), "{sent:?}");
    let on = Message::new("devices/pump-1/state", "on");
    assert_eq!(watcher.message().await, on);
    let wrong = ask("mosquitto_pub", &pumps.with(&some_secret()), &own);
    assert!(!wrong.status.success());
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.to_lowercase().contains("not authori"), "{said}");

    // By each quality of service, a command arrives and another's state does not.
    for qos in ["0", "1", "2"] {
        let another = ["-t", "devices/pump-2/state", "-q", qos, "-m", "not its own"];
        ask("mosquitto_pub", &pumps, &another);
        let command = ["-t", "devices/pump-2/command", "-q", qos, "-m", qos];
        let sent = ask("mosquitto_pub", &pumps, &command);
        assert!(sent.status.success(), "{sent:?}");
        let command = Message::new("devices/pump-2/command", qos);
        assert_eq!(watcher.message().await, command);
    }

    let kept = Message::new("devices/pump-2/state", "kept");
    watcher.publish(&kept.topic, &kept.payload, true).await;
    assert_eq!(watcher.message().await, kept);
    let subscribe = |filter: &'static str| ["-t", filter, "-q", "1", "-C", "1", "-W", "20"];
    let heard = ask("mosquitto_sub", &pumps, &subscribe("devices/pump-2/state"));
    assert_eq!(String::from_utf8(heard.stdout).unwrap().trim(), "kept");
    let outside = ask("mosquitto_sub", &pumps, &subscribe("devices/pump-3/state"));
    let said = String::from_utf8(outside.stderr).unwrap();
    assert!(said.contains("denied"), "{said}");
}

fn client(scene: &Scene, program: &str, issued: &Issued, more: &[&str]) -> Output {
    let output = command(scene, program, issued).args(more).output();
    output.expect("mosquitto's clients are on the PATH: `make test` installs them")
}

/// One of mosquitto's clients, as a device that has this key.
pub fn command(scene: &Scene, program: &str, issued: &Issued) -> Command {
    let at = scene.broker.at;
    let mut command = Command::new(program);
    command
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()])
        .args(["-V", "mqttv311", "-i", "pump-1"])
        .args(["-u", &issued.key, "-P", &issued.secret]);
    command
}
