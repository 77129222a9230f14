//! The management API by https, with certificates on both sides.

use crate::scene::Scene;
use crate::support::certificates::Authority;
use crate::support::gateway::Gateway;
use crate::support::process::Folder;
use crate::support::wait::found;

/// How a gateway is told to reach RabbitMQ by https; the files are in this folder.
pub fn flags(scene: &Scene, folder: &Folder) -> [String; 4] {
    let file = |name: &str| folder.path().join(name).display().to_string();
    [
        format!("--rabbitmq-url=https://{}", scene.broker.secure_management),
        format!("--rabbitmq-ca={}", file("ca.pem")),
        format!("--rabbitmq-cert={}", file("own.pem")),
        format!("--rabbitmq-key={}", file("own.key")),
    ]
}

/// What RabbitMQ and the gateway know each other by.
pub fn write(scene: &Scene, folder: &Folder) {
    folder.write("ca.pem", &scene.broker.authority.pem());
    scene.broker.authority.client().write(folder, "own");
}

pub async fn the_management_api_is_asked_by_https_if_each_knows_the_other(scene: &Scene) {
    let folder = Folder::new("https");
    let stranger = Authority::named("a stranger");
    write(scene, &folder);
    folder.write("ca.pem", &stranger.pem());
    let gateway = scene.broker.gateway_at(0, &flags(scene, &folder)).await;
    logs(&gateway, "sessions at RabbitMQ are not cut").await;
    logs(&gateway, "invalid peer certificate").await;
    drop(gateway);

    write(scene, &folder);
    stranger.client().write(&folder, "own");
    let gateway = scene.broker.gateway_at(0, &flags(scene, &folder)).await;
    logs(&gateway, "sessions at RabbitMQ are not cut").await;
    // They are read again.
    write(scene, &folder);
    logs(&gateway, "sessions at RabbitMQ are cut again").await;
}

async fn logs(gateway: &Gateway, what: &str) {
    found(what, async || {
        gateway.process.log_text().contains(what).then_some(())
    })
    .await;
}
