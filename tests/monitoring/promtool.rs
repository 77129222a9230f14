//! promtool, and what it is asked about: the shipped rules, and the queries of the dashboard.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::manifests::{object, text};

/// Runs promtool, with this on its standard input, and gives what it said. It fails where promtool does, or complains.
pub fn promtool(arguments: &[&str], folder: &Path, input: &str) -> String {
    let run = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = run.expect(
        "promtool is on the PATH: run `make test`, which puts it there by deploy/local/promtool",
    );
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = run.wait_with_output().unwrap();
    let [said, complaints] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(
        output.status.success() && complaints.is_empty(),
        "promtool {arguments:?}: {said}{complaints}"
    );
    said
}

/// What the operator hands to Prometheus.
pub fn groups() -> Value {
    object("deploy/monitoring/rules.yaml", "PrometheusRule", "keyward")["spec"].clone()
}

/// All rules of all groups.
pub fn rules(groups: &mut Value) -> impl Iterator<Item = &mut Value> {
    let groups = groups["groups"].as_array_mut().unwrap().iter_mut();
    groups.flat_map(|group| group["rules"].as_array_mut().unwrap())
}

/// The queries of the dashboard, as Prometheus sees them.
pub fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let query = |target: Value| {
        let query = target["expr"].as_str().expect("a query");
        query.replace("$__rate_interval", "5m")
    };
    targets.map(query).collect()
}

/// The queries as rules, which promtool can check.
pub fn recorded(queries: &[String]) -> Value {
    let rules = queries.iter().enumerate();
    let rules =
        rules.map(|(number, query)| json!({ "record": format!("query:{number}"), "expr": query }));
    json!({ "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }] })
}
