//! A device that runs as a Pod: the Pod of `deploy/examples`, with an image that speaks MQTT and HTTP.

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::inside::{Inside, PLANT, SYSTEM};
use crate::support::cluster::from_json;

/// Starts it as `pump-1`, with the Secret `pumps`.
pub async fn start(inside: &Inside) {
    // As kubectl reads it.
    let example = "create --dry-run=client -o json -f deploy/examples/device-pod.yaml";
    let example = inside.kubectl(&Vec::from_iter(example.split(' ')));
    let mut pod: Value = serde_json::from_str(&example).expect("JSON");
    pod["metadata"]["namespace"] = json!(PLANT);
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = json!("device:1");
    for part in ["command", "args"] {
        container.as_object_mut().expect("a container").remove(part);
    }
    let [broker, gateway] = ["mosquitto", "gateway"].map(host);
    let told = [
        ("BROKER", broker.clone()),
        ("LOGIN_ID", format!("{PLANT}.pump-1")),
        ("GATEWAY", format!("http://{gateway}")),
    ];
    let told = told.map(|(name, value)| json!({ "name": name, "value": value }));
    let environment = container["env"].as_array_mut().expect("DEVICE_ID");
    environment.extend(told);
    // Nobody answers for names here.
    pod["spec"]["hostAliases"] = json!([
        alias(inside, "keyward-mosquitto", "mqtt", &broker).await,
        alias(inside, "keyward-gateway", "devices", &gateway).await,
    ]);
    let pod: Pod = from_json(pod);
    let created = inside
        .plant_pods()
        .create(&PostParams::default(), &pod)
        .await;
    created.expect("Pod Security takes it");
}

fn host(of: &str) -> String {
    format!("keyward-{of}.{SYSTEM}.svc")
}

async fn alias(inside: &Inside, service: &str, port: &str, host: &str) -> Value {
    let ip = inside.service(service, port).await.ip();
    json!({ "ip": ip, "hostnames": [host] })
}
