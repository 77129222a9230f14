//! etcd is put back to what it held some time ago, under a gateway that knows better.

use serde_json::json;

use crate::support::instance::Instance;
use crate::support::plant::Plant;
use crate::support::process::Launcher;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_etcd_does_not_hold_admits_nobody() {
    let instance = Instance::with("gateway-restored", &["crds/", "deploy/install.yaml"]).await;
    let mut plant = Plant::on(&instance, "gateway-restored").await;
    let all = json!({ "allDevices": true });
    let kept = plant.issue("kept", all.clone()).await;
    let off = plant.issue("off", all.clone()).await;
    plant
        .change("off", json!({ "spec": { "state": "Inactive" } }))
        .await;
    let narrow = plant
        .issue("narrow", json!({ "deviceIds": ["pump-1"] }))
        .await;
    plant.device("disabled", json!({ "disabled": true })).await;
    let launcher = Launcher::new("gateway-restored-gateway", &plant.access.as_gateway().await);
    let gateway = plant.gateway(&launcher).await;
    plant.stop_controller().await;

    instance.servers("kill", &["kube-apiserver"]).await;
    instance.servers("stop", &["etcd"]).await;
    let copy = instance.beside("etcd-saved");
    let copy = copy.to_str().unwrap();
    instance.servers("save", &[copy]).await;
    instance.servers("start", &[]).await;

    // What happens now is undone.
    plant.start_controller().await;
    let later = plant.issue("later", all).await;
    plant
        .change("off", json!({ "spec": { "state": "Active" } }))
        .await;
    let wider = json!({ "deviceIds": ["pump-1", "pump-2"] });
    plant
        .change("narrow", json!({ "spec": { "restrictions": wider } }))
        .await;
    plant
        .change_device("disabled", json!({ "spec": { "disabled": false } }))
        .await;
    let undone = [
        ("pump", &off),
        ("pump", &later),
        ("pump-2", &narrow),
        ("disabled", &kept),
    ];
    for (device, issued) in undone {
        gateway.until(device, issued, 200).await;
    }
    plant.stop_controller().await;
    for server in ["kube-apiserver", "kube-controller-manager", "etcd"] {
        instance.kill(server).await;
    }
    instance.servers("restore", &[copy]).await;
    instance.servers("start", &[]).await;

    for (device, issued) in undone {
        gateway.until(device, issued, 401).await;
    }
    for _ in 0..50 {
        for (device, issued) in undone {
            assert_eq!(gateway.status(device, issued).await, 401);
        }
        assert_eq!(gateway.status("pump", &kept).await, 200);
        assert_eq!(gateway.status("pump-1", &narrow).await, 200);
    }
    let log = gateway.process.log_text();
    assert!(log.contains("have gone back in time"), "{log}");
}
