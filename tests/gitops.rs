//! AccessKeys and Devices under GitOps: what its tools make of them in each phase, and that nobody who applies a
//! manifest again finds a difference.
//!
//! kstatus and Flux answer by their own libraries; the scripts for Argo CD are run by the interpreter that it has.

#![allow(clippy::unwrap_used)]

mod actions;
mod apply;
mod customizations;
mod phases;
mod tools;

use std::future::pending;
use std::time::Duration;

use crate::support::cluster::{TestNamespace, controller_config};
use crate::support::wait::found;
use keyward::clock::Clock;
use keyward::controller::{self, devices};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Resource};
use serde_json::Value;
use tokio::task::JoinHandle;

/// The objects of one kind in a namespace, with every field that the API server gives.
fn raw<K: Resource<DynamicType = ()>>(namespace: &TestNamespace) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    Api::namespaced_with(namespace.admin.clone(), &namespace.name, &kind)
}

async fn read(api: &Api<DynamicObject>, name: &str) -> Value {
    let object = api.get(name).await.expect("it exists");
    serde_json::to_value(object).unwrap()
}

/// The controller's part for Devices, until it is aborted.
async fn desk(namespace: &TestNamespace) -> JoinHandle<()> {
    let client = controller::client(controller_config().await).expect("a client");
    let (limit, served) = (Duration::from_secs(10), vec![namespace.name.clone()]);
    tokio::spawn(devices::run(
        client,
        served,
        limit,
        Clock::system(),
        pending(),
    ))
}

/// Waits until a Device is told this about its ID.
async fn told(fleet: &Api<DynamicObject>, name: &str, reason: &str) -> Value {
    found(&format!("{name} is told {reason}"), async || {
        let device = read(fleet, name).await;
        let told = &device["status"]["conditions"][0]["reason"];
        (told == reason).then_some(device)
    })
    .await
}
