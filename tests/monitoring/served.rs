//! What the real processes serve.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use tokio::time::sleep;

use super::promtool::{groups, promtool, queries, rules};
use crate::support::controller::TestController;
use crate::support::keys::{Place, key, secret_of, some_secret};
use crate::support::process::{Access, Launcher, Process};

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// A Secret that is in the way of key `valve`.
async fn obstruct(place: &Place) {
    let foreign = secret_of("valve", json!([]), "key", &some_secret());
    place.create::<Secret>(foreign).await;
}

async fn metrics(process: &mut Process) -> String {
    let (code, text) = process.get("/metrics").await;
    assert_eq!(code, 200, "{text}");
    text
}

/// Waits until it shows these lines: its cache may be behind what can be seen already. Gives all that it shows.
async fn shows(process: &mut Process, lines: &[String]) -> String {
    let begin = Instant::now();
    loop {
        let text = metrics(process).await;
        let is_missing = |wanted: &&String| !text.lines().any(|line| line == **wanted);
        let Some(missing) = lines.iter().find(is_missing) else {
            return text;
        };
        assert!(begin.elapsed() < PATIENCE, "{missing} is not in\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_served_is_well_formed_and_is_all_that_rules_and_dashboard_name() {
    let place = Place::served("monitored").await;
    let flag = format!("--namespace={}", place.name());
    let launcher = Launcher::as_controller("monitored").await;
    let mut controller = launcher.start(&[&flag]);
    let gateways = Launcher::new("monitored-gateway", &Access::admin().as_gateway().await);
    let mut gateway = gateways.start_gateway(&[&flag, "--ephemeral-signing-key"]);
    obstruct(&place).await;
    place
        .apply(key("pump").with("/spec/expiresAt", "2999-01-01T00:00:00Z"))
        .await;
    place.apply(key("valve")).await;
    place.ready("pump").await;
    place.stalled("valve", "SecretExists").await;
    controller.is_ready().await;
    gateway.is_ready().await;

    let namespace = place.name();
    let of_keys = |name, label, value| {
        format!("keyward_{name}{{namespace=\"{namespace}\",{label}=\"{value}\"}} 1")
    };
    let lines = [
        of_keys("keys", "state", "Active"),
        of_keys("keys", "state", "Pending"),
        of_keys("keys_stalled", "reason", "SecretExists"),
        format!("keyward_next_expiry_timestamp_seconds{{namespace=\"{namespace}\"}} 32472144000"),
        "keyward_issue_seconds_count 1".to_owned(),
        "keyward_ready{part=\"controller\"} 1".to_owned(),
    ];
    let of_controller = shows(&mut controller, &lines).await;
    let lines = [
        "keyward_ready{part=\"gateway\"} 1".to_owned(),
        "keyward_gateway_freshness_limit_seconds 86400".to_owned(),
    ];
    let of_gateway = shows(&mut gateway, &lines).await;
    for text in [&of_controller, &of_gateway] {
        promtool(&["check", "metrics"], Path::new("."), text);
    }
    names_nothing_else(&format!("{of_controller}{of_gateway}"));

    place.delete_key("pump").await;
    place.delete_key("valve").await;
    place.is_gone("pump").await;
    place.is_gone("valve").await;
    let begin = Instant::now();
    while metrics(&mut controller).await.contains(namespace) {
        assert!(begin.elapsed() < PATIENCE, "series outlive their keys");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Rules and dashboard name only what is served.
fn names_nothing_else(served: &str) {
    let mut known = BTreeSet::new();
    for line in served.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            let parts: &[&str] = match kind {
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            known.extend(parts.iter().map(|part| format!("{name}{part}")));
        }
    }
    let mut groups = groups();
    let rules = rules(&mut groups).map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let mut named = 0;
    for expression in rules.chain(queries()) {
        for (name, labels) in selectors(&expression) {
            named += 1;
            assert!(known.contains(name), "{name} is not served: {expression}");
            for label in labels {
                let value = label.split('"').nth(1).expect("a value");
                let is_shown = served.lines().any(|line| {
                    let series = line.split_once('{').filter(|(of, _)| *of == name);
                    let help = line
                        .strip_prefix("# HELP ")
                        .and_then(|line| line.split_once(' '));
                    series.is_some_and(|(_, labels)| labels.contains(label))
                        || help.is_some_and(|(of, says)| of == name && says.contains(value))
                });
                assert!(is_shown, "{name} has no {label}: {expression}");
            }
        }
    }
    assert!(named > 50, "they name something: {named}");
}

/// The metrics that an expression names, with their labels.
fn selectors(expression: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = expression.match_indices("keyward_").map(|(at, _)| at);
    begins.map(move |at| {
        let rest = &expression[at..];
        let (name, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = labels.map(|(labels, _)| labels.split(',').collect());
        (name, labels.unwrap_or_default())
    })
}

#[tokio::test]
async fn a_secret_is_waited_for_from_when_it_was_asked_for() {
    let place = Place::served("waited").await;
    let controller = TestController::on_still_clock(&place).await;
    let within = |seconds: &str| {
        let text = controller.metrics_text();
        let bucket = format!("keyward_issue_seconds_bucket{{le=\"{seconds}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&bucket));
        line.expect("a bucket").parse::<u64>().unwrap()
    };
    place.apply(key("pump")).await;
    place.ready("pump").await;
    controller.is_at_rest().await;
    assert_eq!(within("0.01"), 1);

    obstruct(&place).await;
    place.apply(key("valve")).await;
    place.stalled("valve", "SecretExists").await;
    controller.later(2 * HOUR).await;
    place.stalled("valve", "SecretExists").await;
    controller.is_at_rest().await;
    place.delete_secret("valve").await;
    // Longer than any backoff.
    controller.later(HOUR / 30).await;
    place.ready("valve").await;
    controller.is_at_rest().await;
    assert_eq!((within("3600.0"), within("86400.0")), (1, 2));

    // Not since it was made.
    place.apply(key("pump").revision(2)).await;
    place.issued("pump", 2).await;
    controller.is_at_rest().await;
    assert_eq!((within("0.01"), within("86400.0")), (2, 3));
}
