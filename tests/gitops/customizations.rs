//! The scripts for Argo CD: their tests in the form that Argo CD asks of those who contribute, and their copy in a
//! ConfigMap.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::tools::{self, CUSTOMIZATIONS};
use crate::support::manifests::{object_of, text};

#[test]
fn health_is_as_its_tests_say() {
    for kind in ["AccessKey", "Device"] {
        let folder = format!("{CUSTOMIZATIONS}/keyward.dev/{kind}");
        let mut used = BTreeSet::new();
        for test in tests_of(&folder, "health_test.yaml", "tests") {
            let input = string(&test["inputPath"]);
            let expected = &test["healthStatus"];
            let (status, message) = tools::health(&object_of(&format!("{folder}/{input}")));
            let found = (status.as_str(), message.as_str());
            let message = expected["message"].as_str().unwrap_or_default();
            assert_eq!(
                found,
                (string(&expected["status"]), message),
                "{kind}: {input}"
            );
            used.insert(input.to_owned());
        }
        assert_eq!(used, testdata(&folder), "{kind}: every object is tested");
    }
}

#[test]
fn actions_are_as_their_tests_say() {
    let folder = format!("{CUSTOMIZATIONS}/keyward.dev/AccessKey/actions");
    let read = |path: &Value| object_of(&format!("{folder}/{}", string(path)));
    let mut used = BTreeSet::new();
    for test in tests_of(&folder, "action_test.yaml", "discoveryTests") {
        let mut offered = tools::lua(
            &format!("{folder}/discovery.lua"),
            &read(&test["inputPath"]),
        );
        for expected in test["result"].as_array().expect("a list") {
            let mut expected = expected.clone();
            let fields = expected.as_object_mut().expect("an action");
            let name = fields.remove("name").expect("a name");
            let found = offered
                .as_object_mut()
                .and_then(|all| all.remove(string(&name)));
            assert_eq!(found, Some(expected), "{name} for {}", test["inputPath"]);
        }
        assert_eq!(offered, serde_json::json!({}), "for {}", test["inputPath"]);
        used.insert(string(&test["inputPath"]).to_owned());
    }
    for test in tests_of(&folder, "action_test.yaml", "actionTests") {
        let script = format!("{folder}/{}/action.lua", string(&test["action"]));
        let changed = tools::lua(&script, &read(&test["inputPath"]));
        assert_eq!(changed, read(&test["expectedOutputPath"]), "{test}");
        used.extend(["inputPath", "expectedOutputPath"].map(|path| string(&test[path]).to_owned()));
    }
    assert_eq!(used, testdata(&folder), "every object is tested");
}

#[test]
fn the_config_map_holds_the_same_scripts() {
    let scripts = |path: &str| text(&format!("{CUSTOMIZATIONS}/keyward.dev/{path}"));
    let patch = object_of("deploy/gitops/argocd/argocd-cm.yaml");
    let data = |key: &str| string(&patch["data"][&format!("resource.customizations.{key}")]);
    for kind in ["AccessKey", "Device"] {
        let health = data(&format!("health.keyward.dev_{kind}"));
        assert_eq!(health, scripts(&format!("{kind}/health.lua")), "{kind}");
    }
    let actions: Value =
        serde_saphyr::from_str(data("actions.keyward.dev_AccessKey")).expect("YAML");
    let discovery = scripts("AccessKey/actions/discovery.lua");
    assert_eq!(string(&actions["discovery.lua"]), discovery);
    let definitions = actions["definitions"].as_array().expect("a list");
    for definition in definitions {
        let script = format!(
            "AccessKey/actions/{}/action.lua",
            string(&definition["name"])
        );
        assert_eq!(
            string(&definition["action.lua"]),
            scripts(&script),
            "{script}"
        );
    }
    let names = definitions
        .iter()
        .map(|definition| string(&definition["name"]));
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["activate", "deactivate", "rotate"]
    );
    assert_eq!(patch["data"].as_object().map(|data| data.len()), Some(3));
}

fn tests_of(folder: &str, file: &str, list: &str) -> Vec<Value> {
    let tests = object_of(&format!("{folder}/{file}"));
    let tests = tests[list].as_array().expect("a list of tests").clone();
    assert!(!tests.is_empty());
    tests
}

/// The files in its folder `testdata`, as tests name them.
fn testdata(folder: &str) -> BTreeSet<String> {
    let files = fs::read_dir(format!("{folder}/testdata")).expect("a folder");
    files
        .map(|file| format!("testdata/{}", file.unwrap().file_name().display()))
        .collect()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
