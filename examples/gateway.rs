//! A gateway of one's own: a device that shows key and secret by HTTP Basic may send to its topic.
//! `cargo run --example gateway -- plant 127.0.0.1:8083`, with KUBECONFIG naming a cluster.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use keyward::gateway::{Authenticator, Credentials, Options, feed, http::basic};
use keyward::topics::Action;

async fn send(
    State(keyward): State<Authenticator>,
    Path(device): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, StatusCode> {
    let (key, secret) = basic(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    let shown = Credentials::new(&device, &key, &secret);
    let decision = keyward.authenticate(&shown).await;
    let session = decision.allowed_or(StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE)?;
    let topic = format!("devices/{device}/state");
    let decision = keyward.authorize(&session, Action::Publish { retain: false }, &topic);
    decision.allowed_or(StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(StatusCode::NO_CONTENT)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let namespace = args.next().ok_or("say which namespace")?;
    let address = args.next().ok_or("say where to listen")?;
    let keyward = feed::start(Options::of_namespace(&namespace)).await?;
    let routes = Router::new().route("/devices/{device}/state", post(send));
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, routes.with_state(keyward)).await?)
}
