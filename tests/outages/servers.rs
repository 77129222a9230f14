//! The servers of a control plane are killed and started again, or are away for long.

use std::time::Duration;

use tokio::time::sleep;

use super::fleet::{Fleet, MANIFESTS};
use crate::support::instance::Instance;
use crate::support::process::Process;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_cost_no_key() {
    let mut scene = Scene::set("servers").await;
    scene.kill(&["etcd"]).await;
    scene.away(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn servers_killed_again_and_again_cost_no_key() {
    let mut scene = Scene::set("servers-often").await;
    // Few enough for a record that asks for all that it has missed.
    for _ in 0..4 {
        scene.kill(&["kube-apiserver"]).await;
        scene.kill(&["etcd"]).await;
        scene.kill(&["etcd", "kube-apiserver"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make prove"]
async fn an_api_server_that_is_away_for_minutes_costs_no_key() {
    let mut scene = Scene::set("away").await;
    scene.away(Duration::from_secs(60)).await;
    scene.away(Duration::from_secs(240)).await;
}

/// A control plane, a controller, and keys.
struct Scene {
    instance: Instance,
    fleet: Fleet,
    controller: Process,
}

impl Scene {
    async fn set(purpose: &str) -> Scene {
        let instance = Instance::with(purpose, &MANIFESTS).await;
        let mut fleet = Fleet::on(&instance, purpose).await;
        let controller = fleet.controller().await;
        fleet.issue(20).await;
        fleet.consume(4).await;
        Scene {
            instance,
            fleet,
            controller,
        }
    }

    /// In the midst of work.
    async fn kill(&mut self, servers: &[&str]) {
        self.fleet.is_at_work(24, 8).await;
        for server in servers {
            self.instance.kill(server).await;
        }
        self.instance.servers("start", servers).await;
        self.fleet.is_whole().await;
    }

    /// For that long, and until the controller has failed to do its work.
    async fn away(&mut self, time: Duration) {
        self.controller.pause();
        self.fleet.ask(16, 8).await;
        self.instance.kill("kube-apiserver").await;
        self.controller.resume();
        let failing = "keyward_backoff_objects";
        self.controller.counts_at_least(failing, 1).await;
        sleep(time).await;
        self.instance.servers("start", &["kube-apiserver"]).await;
        self.fleet.ask(4, 4).await;
        self.fleet.is_whole().await;
        assert_eq!(self.controller.metric(failing).await, 0);
    }
}
