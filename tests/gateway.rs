//! The real gateway, fed by the real API server, asked over HTTP: what the API server says holds at
//! once, and nothing holds before it has said everything.

#![allow(clippy::unwrap_used)]

use crate::support::gateway::{Gateway, PATIENCE, Plant};
use crate::support::plant::Issued;
use crate::support::process::{Access, Launcher, holds_no_secret};
use futures::future::join_all;
use kube::api::DeleteParams;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_a_key_holds_at_every_gateway() {
    let plant = Plant::new("gateway").await;
    let restrictions = json!({ "deviceIds": ["pump-1", "pump-2"] });
    let pump = plant.issue("pump", restrictions).await;
    let gateways = [plant.gateway(&[]).await, plant.gateway(&[]).await];
    for gateway in &gateways {
        let (status, said) = gateway.auth("pump-1", &pump).await;
        assert_eq!(status, 200, "{said}");
        assert_eq!(said["applicationId"], plant.place.namespace.name);
        assert_eq!(gateway.status("valve", &pump).await, 401);
    }
    let token = gateways[0].auth("pump-2", &pump).await.1["token"].clone();
    let token = token.as_str().unwrap();
    assert_eq!(gateways[0].forward(token).await, 200);

    plant.change("pump", json!({ "state": "Inactive" })).await;
    for gateway in &gateways {
        gateway.until("pump-1", &pump, 401).await;
    }
    assert_eq!(
        gateways[0].forward(token).await,
        401,
        "with the key its tokens end"
    );
    plant.change("pump", json!({ "state": "Active" })).await;
    for gateway in &gateways {
        gateway.until("pump-1", &pump, 200).await;
    }
    assert_eq!(gateways[0].forward(token).await, 200);

    plant
        .change(
            "pump",
            json!({ "restrictions": { "deviceIds": ["pump-1"] } }),
        )
        .await;
    for gateway in &gateways {
        gateway.until("pump-2", &pump, 401).await;
        assert_eq!(gateway.status("pump-1", &pump).await, 200);
    }
    assert_eq!(gateways[0].forward(token).await, 401);

    plant
        .change(
            "pump",
            json!({ "rotation": { "revision": 2, "overlap": "0s" } }),
        )
        .await;
    let rotated = plant.delivered("pump", 2).await;
    for gateway in &gateways {
        gateway.until("pump-1", &rotated, 200).await;
        gateway.until("pump-1", &pump, 401).await;
    }
    plant
        .place
        .keys
        .delete("pump", &DeleteParams::default())
        .await
        .unwrap();
    for gateway in &gateways {
        gateway.until("pump-1", &rotated, 401).await;
    }
    for gateway in gateways {
        let ended = gateway.process.end(PATIENCE).await;
        assert!(ended.success());
    }
    holds_no_secret(&plant.launcher.log(), &[pump.secret, rotated.secret]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_before_all_is_listed() {
    let plant = Plant::new("gateway-start").await;
    let pump = plant.issue("pump", json!({ "allDevices": true })).await;
    let gateway = plant.start(&[]).await;
    // From the moment that it listens.
    let asked = join_all((0..200).map(|_| gateway.status("pump-1", &pump))).await;
    let mut statuses = asked.clone();
    statuses.sort_unstable();
    statuses.dedup();
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    gateway.until("pump-1", &pump, 200).await;
    // Without the API server there is no first list.
    let nowhere = Launcher::new("gateway-nowhere", &Access::at("http://127.0.0.1:9"));
    let flag = format!("--namespace={}", plant.place.namespace.name);
    let alone = nowhere.start_gateway(&[&flag, "--ephemeral-signing-key"]);
    let alone = Gateway::of(alone).await;
    for status in join_all((0..200).map(|_| alone.status("pump-1", &pump))).await {
        assert_eq!(status, 503);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_is_a_line_of_the_audit_and_no_line_holds_a_secret() {
    let plant = Plant::new("gateway-audit").await;
    let pump = plant
        .issue("pump", json!({ "deviceIds": ["pump-1"] }))
        .await;
    let mut gateway = plant.gateway(&[]).await;
    let before = gateway.process.output().lines().count();
    assert_eq!(before, 0);
    // The secret in the wrong places, too.
    let swapped = Issued {
        key: pump.secret.clone(),
        secret: pump.key.clone(),
    };
    for _ in 0..10 {
        assert_eq!(gateway.status("pump-1", &pump).await, 200);
        assert_eq!(gateway.status("pump-2", &pump).await, 401);
        assert_eq!(gateway.status("pump-1", &swapped).await, 401);
        assert_eq!(gateway.status(&pump.secret, &pump).await, 401);
    }
    let output = gateway.process.output();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 40);
    let of = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    let allowed = lines
        .iter()
        .filter(|line| line["answer"] == "allow")
        .count();
    assert_eq!((allowed, of("out_of_scope"), of("malformed")), (10, 20, 10));
    holds_no_secret(&output, std::slice::from_ref(&pump.secret));
    let allow = "keyward_decisions_total{asked=\"authenticate\",answer=\"allow\"}";
    assert_eq!(gateway.process.metric(allow).await, 10);
    assert_eq!(gateway.process.metric("keyward_gateway_keys").await, 1);
    for (name, expected) in [("hashes", 1), ("remembered", 9)] {
        let metric = format!("keyward_gateway_{name}_total");
        assert_eq!(gateway.process.metric(&metric).await, expected, "{metric}");
    }
}
