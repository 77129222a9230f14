//! The gateway of `examples/gateway.rs`, as it is.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64ct::{Base64, Encoding};
use serde_json::json;

use crate::support::gateway::{Plant, send};
use crate::support::plant::Issued;
use crate::support::process::{Access, Folder, free_port};
use crate::support::wait::found;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_30_lines_admits_whom_the_key_admits() {
    let plant = Plant::new("example").await;
    let pump = plant
        .issue("pump", json!({ "deviceIds": ["pump-1"] }))
        .await;
    let example = Example::start(plant.place.name()).await;
    example.until("pump-1", &pump, 204).await;
    example.until("pump-2", &pump, 401).await;
    example.until("pump-1", &pump.with("wrong"), 401).await;
    plant.change("pump", json!({ "state": "Inactive" })).await;
    example.until("pump-1", &pump, 401).await;
    plant.change("pump", json!({ "state": "Active" })).await;
    example.until("pump-1", &pump, 204).await;
}

/// Runs until it goes out of scope.
struct Example {
    child: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Example {
    async fn start(namespace: &str) -> Example {
        let folder = Folder::new("example");
        let access = Access::admin().as_gateway().await;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let keyward = Path::new(env!("CARGO_BIN_EXE_keyward"));
        let child = Command::new(keyward.with_file_name("examples").join("gateway"))
            .args([namespace, &address.to_string()])
            .env("KUBECONFIG", folder.write("kubeconfig", &access.text()))
            .stdin(Stdio::null())
            .spawn();
        Example {
            child: child.expect("cargo build --example gateway"),
            address,
            _folder: folder,
        }
    }

    /// Waits until a device gets this status.
    async fn until(&self, device: &str, issued: &Issued, status: u16) {
        let what = format!("POST /devices/{device}/state");
        let shown = format!("{}:{}", issued.key, issued.secret);
        let basic = format!("Basic {}", Base64::encode_string(shown.as_bytes()));
        let headers = [("authorization", &*basic)];
        found(&format!("{device} gets {status}"), async || {
            let answer = send(self.address, &what, &headers, "").await.ok()?;
            (answer.0 == status).then_some(())
        })
        .await;
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
