//! A bare watch of AccessKeys.

use futures::stream::TryStreamExt;
use keyward::api::AccessKey;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Api, ResourceExt};
use tokio::runtime::Runtime;

/// Has each version of an AccessKey from now on seen by this.
pub fn follow(
    runtime: &Runtime,
    keys: Api<AccessKey>,
    see: impl FnMut(AccessKey) + Send + 'static,
) {
    let list = runtime.block_on(keys.list_metadata(&ListParams::default().limit(1)));
    let version = list.expect("a list").metadata.resource_version;
    runtime.spawn(watch(keys, version.expect("a version"), see));
}

async fn watch(keys: Api<AccessKey>, mut version: String, mut see: impl FnMut(AccessKey)) {
    loop {
        let events = keys
            .watch(&WatchParams::default().timeout(290), &version)
            .await;
        let mut events = std::pin::pin!(events.expect("a watch"));
        while let Some(event) = events.try_next().await.expect("an event") {
            let (WatchEvent::Added(key) | WatchEvent::Modified(key)) = event else {
                continue;
            };
            version = key.resource_version().expect("a version");
            see(key);
        }
    }
}
