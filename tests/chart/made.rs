//! What the chart makes of values, and what is looked at in it.

use serde_json::Value;

use crate::support::helm::{CHART, rendered};

/// What the chart makes of some values.
pub struct Made(pub Vec<Value>);

impl Made {
    /// Of these.
    pub fn of(values: Value) -> Made {
        Made(rendered(CHART, &values).unwrap())
    }

    /// The object of this kind and name, if there is one.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let mut found = self
            .0
            .iter()
            .filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        let first = found.next();
        assert!(found.next().is_none(), "{kind}/{name} is there once");
        first
    }

    /// The same; there is one.
    pub fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("no {kind}/{name}"))
    }

    /// The template of the Pods of a Deployment.
    pub fn template(&self, name: &str) -> &Value {
        &self.get("Deployment", name)["spec"]["template"]
    }

    /// The spec of its Pods.
    pub fn pod(&self, name: &str) -> &Value {
        &self.template(name)["spec"]
    }

    /// Their container.
    pub fn container(&self, name: &str) -> &Value {
        &self.pod(name)["containers"][0]
    }

    /// The arguments of a Deployment's container, in one line.
    pub fn line(&self, name: &str) -> String {
        let arguments = self.container(name)["args"].as_array().unwrap().iter();
        arguments
            .map(|argument| argument.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The objects of a kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    /// The namespaces in which the controller may deliver Secrets.
    pub fn served(&self) -> Vec<&str> {
        let bindings = self.of_kind("RoleBinding").into_iter();
        let served =
            bindings.filter(|binding| binding["roleRef"]["name"] == "keyward-controller-secrets");
        served
            .map(|binding| binding["metadata"]["namespace"].as_str().unwrap())
            .collect()
    }
}

/// All that are Deployments.
pub const PARTS: [&str; 3] = ["keyward-controller", "keyward-gateway", "keyward-mosquitto"];

/// A Deployment's arguments hold these.
pub fn told(made: &Made, part: &str, flags: &[&str]) {
    let line = made.line(part);
    for flags in flags {
        assert!(line.contains(flags), "{line}");
    }
}

/// What is mounted where, and that each of these volumes is there.
pub fn mounted(made: &Made, part: &str, paths: &[&str]) {
    let mounts = made.container(part)["volumeMounts"].as_array().unwrap();
    let volumes = made.pod(part)["volumes"].as_array().unwrap();
    let there: Vec<_> = mounts
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    assert_eq!(there, paths);
    for mount in mounts {
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{mount}"
        );
    }
}
