//! Logins that come to nothing.

use serde_json::json;

use crate::broker::CALLER;
use crate::mqtt::Session;
use crate::scene::Scene;
use crate::scenes::goes_on_until_it_is_cut;
use crate::support::gateway::send;
use crate::support::plant::Issued;

/// RabbitMQ remembers what a busy session may do, and asks when another logs in, who may not get so far as to end it.
pub async fn a_login_that_vanishes_does_not_let_a_session_go_on(scene: &Scene) {
    let ids = json!({ "deviceIds": ["siren-1", "siren-2"] });
    let sirens = scene.key("sirens", ids).await;
    let mut siren: Session = scene.session("siren-1", &sirens).await;
    let command = "devices/siren-2/command";
    siren.publish(command, "on", false).await.expect("sent");
    assert_eq!(asks(scene, "siren-1", &sirens).await, "allow keyward-1");
    scene.restrict("sirens", &["siren-1"]).await;
    goes_on_until_it_is_cut(&mut siren, command).await;
    // What ended it is not held against what comes back.
    let mut back = scene.session("siren-1", &sirens).await;
    let own = "devices/siren-1/state";
    back.publish(own, "on", false).await.expect("sent");
}

/// What RabbitMQ would ask for a device that logs in.
async fn asks(scene: &Scene, id: &str, issued: &Issued) -> String {
    let Issued { key, secret } = issued;
    let form = format!("username={key}&password={secret}&vhost=%2F&client_id={id}");
    let path = format!("POST /caller/{CALLER}/rabbitmq/user");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let answer = send(scene.broker.asks, &path, &[kind], &form).await;
    answer.expect("an answer").1
}
