//! Keyward as it is installed: on a real node the shipped images and charts bring up controller, gateway and mosquitto, and
//! devices that run as Pods speak to them with the Secrets that they mount.

#[path = "node/crash.rs"]
mod crash;
#[path = "node/device.rs"]
mod device;
#[path = "node/ending.rs"]
mod ending;
#[path = "node/flow.rs"]
mod flow;
#[path = "node/inside.rs"]
mod inside;
#[path = "node/logins.rs"]
mod logins;
#[path = "node/manifests.rs"]
mod manifests;
#[path = "brokers/mqtt.rs"]
mod mqtt;
#[path = "node/network.rs"]
mod network;
#[path = "node/node.rs"]
mod node;
#[path = "node/readme.rs"]
mod readme;
#[path = "node/releases.rs"]
mod releases;
#[path = "node/restart.rs"]
mod restart;
#[path = "node/rollout.rs"]
mod rollout;
#[path = "node/rotation.rs"]
mod rotation;
mod support;
