//! A gateway of one's own: devices authenticate by HTTP Basic, with key and secret, and may then send
//! to their own topic. `cargo run --example gateway -- plant`, with KUBECONFIG naming a cluster.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use keyward::clock::Clock;
use keyward::gateway::http::basic;
use keyward::gateway::{Authenticator, Credentials, Options, feed, metrics::Metrics};
use keyward::policy::Decision;
use keyward::topics::Action;

async fn send(
    State(keyward): State<Authenticator>,
    Path(device_id): Path<String>,
    headers: HeaderMap,
) -> StatusCode {
    let Some((key, secret)) = basic(&headers) else {
        return StatusCode::UNAUTHORIZED;
    };
    let credentials = Credentials {
        device_id: &device_id,
        key: &key,
        secret: &secret,
        source: None,
    };
    let Decision::Allow(session) = keyward.authenticate(&credentials).await else {
        return StatusCode::UNAUTHORIZED;
    };
    let topic = format!("devices/{device_id}/state");
    match keyward.authorize(&session, Action::Publish { retain: false }, &topic) {
        Decision::Allow(()) => StatusCode::NO_CONTENT,
        Decision::Deny(_) => StatusCode::FORBIDDEN,
        Decision::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let namespace = std::env::args().nth(1).ok_or("say which namespace")?;
    let client = keyward::controller::client(kube::Config::infer().await?)?;
    let options = Options::of_namespace(&namespace);
    let keyward = Authenticator::new(options, Clock::system(), Metrics::new())?;
    let pace = feed::Pace::default();
    let fed = keyward.clone();
    tokio::spawn(async move { feed::run(client, &[namespace], pace, fed).await });
    let routes = Router::new()
        .route("/devices/{id}/state", post(send))
        .with_state(keyward);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8083").await?;
    Ok(axum::serve(listener, routes).await?)
}
