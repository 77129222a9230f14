//! The alerts fire when they should, and say what is the case and what to do.

use std::collections::BTreeSet;

use serde_json::Value;

use super::promtool::{groups, promtool, queries, recorded, rules};
use crate::support::manifests::{objects, text};
use crate::support::process::Folder;

const TESTS: &str = "tests/monitoring/rules.test.yaml";

fn write(folder: &Folder, name: &str, groups: &Value) {
    folder.write(name, &serde_saphyr::to_string(groups).unwrap());
}

#[test]
fn rules_and_queries_are_what_prometheus_reads() {
    let folder = Folder::new("rules");
    write(&folder, "rules.yaml", &groups());
    promtool(&["check", "rules", "rules.yaml"], folder.path(), "");
    let queries = queries();
    assert!(queries.len() > 20, "the dashboard asks something");
    write(&folder, "queries.yaml", &recorded(&queries));
    promtool(&["check", "rules", "queries.yaml"], folder.path(), "");
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() {
    let folder = Folder::new("alerts");
    let mut groups = groups();
    for rule in rules(&mut groups) {
        rule.as_object_mut().unwrap().remove("annotations");
    }
    write(&folder, "rules.yaml", &groups);
    folder.write("rules.test.yaml", &text(TESTS));
    promtool(&["test", "rules", "rules.test.yaml"], folder.path(), "");

    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in objects(TESTS)[0]["tests"].as_array().unwrap() {
        for case in test["alert_rule_test"].as_array().unwrap() {
            let alert = case["alertname"].as_str().unwrap().to_owned();
            let fires = case.get("exp_alerts").is_some();
            if fires { &mut firing } else { &mut silent }.insert(alert);
        }
    }
    let all: BTreeSet<String> = rules(&mut groups)
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((&firing, &silent), (&all, &all), "both are shown of each");
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in rules(&mut groups()) {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{rule}"
        );
        for sentence in ["summary", "description", "runbook"] {
            let said = rule["annotations"][sentence].as_str();
            let said = said.unwrap_or_else(|| panic!("no {sentence}: {rule}"));
            assert!(said.ends_with('.'), "{sentence} is a sentence: {said}");
        }
    }
}
