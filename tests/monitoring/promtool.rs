//! promtool, and what it is asked about: the shipped rules, and the queries of the dashboard.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::manifests::{object, text};
use crate::support::process::output_of;

/// Runs promtool, which `make test` puts on the PATH, with this on its standard input, and gives what it said. It fails where promtool does, or complains.
pub fn promtool(arguments: &[&str], folder: &Path, input: &str) -> String {
    let mut promtool = Command::new("promtool");
    let output = output_of(promtool.args(arguments).current_dir(folder), input);
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
