//! The chart of the definitions.

use serde_json::json;

use crate::support::helm::{CHART, DEFINITIONS, rendered};
use crate::support::manifests::object_of;

/// Helm deletes what it installed, but not what says so; and whoever deletes a definition deletes every key.
#[test]
fn the_definitions_are_those_that_are_shipped_and_stay_when_the_chart_goes() {
    let definitions = rendered(DEFINITIONS, &json!({})).unwrap();
    let names: Vec<_> = definitions
        .iter()
        .map(|one| one["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["accesskeys.keyward.dev", "devices.keyward.dev"]);
    for (file, definition) in ["crds/accesskeys.yaml", "crds/devices.yaml"]
        .iter()
        .zip(&definitions)
    {
        let mut expected = object_of(file);
        expected["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
        assert_eq!(*definition, expected, "{file}");
    }
}

#[test]
fn the_other_chart_holds_none() {
    let objects = rendered(CHART, &json!({})).unwrap();
    assert!(!objects.is_empty());
    assert!(
        objects
            .iter()
            .all(|object| object["kind"] != "CustomResourceDefinition")
    );
}
