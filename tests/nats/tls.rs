//! All by TLS: gateways and NATS, which show each other certificates, and devices.

use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::other_clients::command;
use crate::broker::Settings;
use crate::mqtt::Version;
use crate::scene::Scene;
use crate::support::certificates::Authority;
use crate::support::gateway::PATIENCE;
use crate::support::keys::some_secret;
use crate::support::process::{Access, Folder, Launcher};
use crate::support::wait::found;

/// Without the right certificates there is no way.
const NO_WAY: &str = "no connection to NATS as the callout";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_and_gateways_come_by_tls() {
    let (folder, authority) = (Folder::new("nats-tls"), Authority::named("nats"));
    folder.write("ca.pem", &authority.pem());
    authority.server().write(&folder, "server");
    authority.client().write(&folder, "client");
    let other = folder.write("other.pem", &Authority::named("another").pem());
    let settings = Settings {
        certificates: Some(folder.path().to_owned()),
        ..Settings::default()
    };
    let mut scene = Scene::with(Version::V311, settings).await;
    let pumps = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pumps = scene.key("pumps", pumps).await;

    // By NATS's own protocol, and by MQTT.
    let core = async || {
        let options = scene.broker.core_options_by_tls(&pumps.key, &pumps.secret);
        let options = options
            .name("pump-2")
            .custom_inbox_prefix(format!("_INBOX_pump-2.{}", pumps.key));
        options.connect(scene.broker.core.to_string()).await.ok()
    };
    let pump = found("pump-2 is admitted", core).await;
    let state = "devices.pump-1.state";
    let mut states = pump.subscribe(state).await.unwrap();
    pump.flush().await.unwrap();
    let publish = |issued: &_| {
        let mut publish = command(&scene, "mosquitto_pub", issued);
        publish.arg("--cafile").arg(folder.path().join("ca.pem"));
        publish.args(["-t", "devices/pump-1/state", "-m", "on"]);
        publish.output().expect("mosquitto_pub is on the PATH")
    };
    let sent = publish(&pumps);
    assert!(sent.status.success(), "{sent:?}");
    let message = timeout(PATIENCE, states.next()).await.unwrap();
    assert_eq!(message.unwrap().payload, "on");
    let wrong = publish(&pumps.with(&some_secret()));
    assert!(!wrong.status.success());

    // Who shows no certificate, and who knows another authority.
    let without = |left_out: &[&str]| {
        let mut flags = scene.broker.flags();
        flags.retain(|flag| !left_out.iter().any(|left_out| flag.starts_with(left_out)));
        flags
    };
    let no_certificate = without(&["--nats-cert", "--nats-key"]);
    let mut no_authority = without(&["--nats-ca"]);
    no_authority.push(format!("--nats-ca={}", other.display()));
    for flags in [no_certificate, no_authority] {
        let gateway = scene.broker.launch(&flags);
        found("there is no way", async || {
            gateway.log_text().contains(NO_WAY).then_some(())
        })
        .await;
        assert!(!gateway.log_text().contains("connected to NATS"));
    }

    // Sessions are cut.
    let inactive = json!({ "state": "Inactive" });
    scene.plant.change("pumps", inactive).await;
    assert!(timeout(PATIENCE, states.next()).await.unwrap().is_none());
    let gateway = scene.broker.gateway();
    let cut = "keyward_decisions_total{asked=\"cut\",answer=\"inactive\"}";
    gateway.counts_at_least(cut, 1).await;
}

/// What says that it knows no TLS is shown no password.
#[tokio::test]
async fn who_is_to_speak_tls_is_told_nothing_otherwise() {
    let (folder, authority) = (Folder::new("nats-tls"), Authority::named("nats"));
    let ca = folder.write("ca.pem", &authority.pem());
    let login = folder.write("login", "keyward:for-the-callout");
    let issuer = folder.write("issuer", crate::broker::ISSUER_SEED);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let flags = [
        "--namespace=plant".to_owned(),
        "--ephemeral-signing-key".to_owned(),
        "--nats-account=DEVICES".to_owned(),
        format!("--nats-url=nats://{at}"),
        format!("--nats-ca={}", ca.display()),
        format!("--nats-login={}", login.display()),
        format!("--nats-system-login={}", login.display()),
        format!("--nats-issuer={}", issuer.display()),
    ];
    let launcher = Launcher::new("nats-tls", &Access::at("http://127.0.0.1:9"));
    let _gateway = launcher.start_gateway(&flags.each_ref().map(String::as_str));
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let info = json!({
        "server_id": "N", "server_name": "n", "version": "2.14.0", "go": "go", "host": "127.0.0.1", "port": at.port(),
        "max_payload": 1_048_576, "proto": 1, "headers": true, "auth_required": true,
    });
    let info = format!("INFO {info}\r\n");
    stream.write_all(info.as_bytes()).await.unwrap();
    let mut begin = [0; 3];
    let read = timeout(PATIENCE, stream.read_exact(&mut begin)).await;
    read.unwrap().unwrap();
    assert_eq!(begin[..2], [22, 3], "a handshake of TLS");
}
