//! Clients of another kind: mosquitto's own.

use std::process::{Command, Output};

use serde_json::json;
use tokio::task::spawn_blocking;

use crate::mqtt::Message;
use crate::scene::Scene;
use crate::support::keys::some_secret;
use crate::support::plant::Issued;

pub async fn mosquittos_own_clients_are_served(scene: &Scene) {
    let ids = json!({ "deviceIds": ["tap-1", "tap-2"] });
    let taps = scene.key("taps", ids).await;
    let mut tap_2 = scene.session("tap-2", &taps).await;
    assert_eq!(tap_2.subscribe("devices/tap-1/state", 1).await, Some(true));

    let on = Message::new("devices/tap-1/state", "on");
    let sent = sends(scene, &taps, &on).await;
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(tap_2.message().await, on);
    let outside = Message::new("devices/tap-3/command", "on");
    let sent = sends(scene, &taps, &outside).await;
    assert_eq!(sent.status.code(), Some(CONNECTION_LOST), "{sent:?}");
    let wrong = sends(scene, &taps.with(&some_secret()), &on).await;
    assert_eq!(wrong.status.code(), Some(BAD_LOGIN), "{wrong:?}");

    let off = Message::new("devices/tap-2/state", "off");
    tap_2.publish(&off.topic, &off.payload, true).await;
    let one = ["-t", &*off.topic, "-C", "1", "-W", "20"];
    let heard = runs(scene, "mosquitto_sub", &taps, &one).await;
    assert_eq!(String::from_utf8_lossy(&heard.stdout).trim(), "off");
    // It is disconnected, and tries again.
    let outside = ["-t", "devices/tap-3/state", "-C", "1", "-W", "2"];
    let heard = runs(scene, "mosquitto_sub", &taps, &outside).await;
    assert_eq!(heard.status.code(), Some(TIMED_OUT), "{heard:?}");
}

const CONNECTION_LOST: i32 = 7;
const BAD_LOGIN: i32 = 4;
const TIMED_OUT: i32 = 27;

async fn sends(scene: &Scene, issued: &Issued, message: &Message) -> Output {
    let what = ["-t", &*message.topic, "-q", "1", "-m", &*message.payload];
    runs(scene, "mosquitto_pub", issued, &what).await
}

async fn runs(scene: &Scene, program: &str, issued: &Issued, more: &[&str]) -> Output {
    let at = scene.broker.at;
    let mut command = Command::new(program);
    command
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()])
        .args(["-V", "mqttv311", "-i", "tap-1"])
        .args(["-u", &issued.key, "-P", &issued.secret])
        .args(more);
    let output = spawn_blocking(move || command.output()).await;
    let output = output.expect("it runs");
    output.expect("mosquitto's clients are on the PATH: `make test` installs them")
}
