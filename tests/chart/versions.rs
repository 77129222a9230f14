//! The charts, and those before them, from which tests/node upgrades.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::support::helm::{CHART, DEFINITIONS, helm, rendered};
use crate::support::process::Folder;

#[test]
fn the_charts_have_other_versions_than_those_before_them() {
    for (chart, name) in [(CHART, "keyward"), (DEFINITIONS, "keyward-crds")] {
        let [now, before] = [chart.to_owned(), previous(name)].map(|chart| shown("chart", &chart));
        assert_eq!(now["name"], before["name"]);
        assert_ne!(
            now["version"], before["version"],
            "{chart}: raise the version in its Chart.yaml"
        );
    }
}

/// `helm upgrade --reuse-values` knows the values of the chart before, and none that came since.
#[test]
fn values_of_the_chart_before_are_taken() {
    let before = shown("values", &previous("keyward"));
    let now = shown("values", CHART);
    let mut values = before.clone();
    without_what_is_new(&mut values, &before, &now);
    let made = rendered(CHART, &values).expect("they are taken");
    assert!(made.iter().any(|object| object["kind"] == "Deployment"));
    values["mosquitto"]["enabled"] = json!(true);
    values["mosquitto"]["namespaces"] = json!(["plant"]);
    values["networkPolicy"]["enabled"] = json!(true);
    rendered(CHART, &values).expect("they are taken");
}

#[test]
fn packages_are_the_same_byte_by_byte() {
    let folders = [Folder::new("package"), Folder::new("package")];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/package");
    let packages = folders.each_ref().map(|folder| {
        let packaged = Command::new(&script).arg(folder.path()).output();
        let said = String::from_utf8(packaged.expect("bash").stdout).unwrap();
        let files: Vec<_> = said.lines().map(|file| fs::read(file).unwrap()).collect();
        assert_eq!(files.len(), 2, "{said}");
        files
    });
    assert!(packages[0] == packages[1]);
}

/// The path of a chart as it was released last.
fn previous(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/previous");
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path().display().to_string());
    let found: Vec<String> = paths
        .filter(|path| path.ends_with(".tgz") && shown("chart", path)["name"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{name} is there once: {found:?}");
    found.into_iter().next().unwrap()
}

/// What `helm show` shows of a chart.
fn shown(what: &str, chart: &str) -> Value {
    serde_saphyr::from_str(&helm(&["show", what, chart], "").unwrap()).expect("YAML")
}

/// Takes away what the chart has by default, and had not before: null is what Helm calls that.
fn without_what_is_new(values: &mut Value, before: &Value, now: &Value) {
    for (name, now) in now.as_object().unwrap_or(&Map::new()) {
        match before.get(name) {
            Some(before) => without_what_is_new(&mut values[name], before, now),
            None => values[name] = Value::Null,
        }
    }
}
