//! The program of `tools/`, which asks the libraries of GitOps tools.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::process::output_of;
use crate::support::tools::go_tool;

const FLUX: &str = "deploy/gitops/flux";
/// Where Argo CD would look for its scripts.
pub const CUSTOMIZATIONS: &str = "deploy/gitops/argocd/resource_customizations";

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| go_tool("gitops-tools"));

/// What kstatus computes.
pub fn kstatus(object: &Value) -> String {
    status(&ask(&["kstatus"], object))
}

/// What Flux waits for, with one of the shipped Kustomizations.
pub fn flux(kustomization: &str, object: &Value) -> String {
    status(&ask(&["flux", &format!("{FLUX}/{kustomization}")], object))
}

/// What Argo CD shows: status and message.
pub fn health(object: &Value) -> (String, String) {
    let answer = lua(&format!("{}/health.lua", folder(object)), object);
    let message = answer["message"].as_str().unwrap_or_default();
    (status(&answer), message.to_owned())
}

/// What a script of Argo CD returns.
pub fn lua(script: &str, object: &Value) -> Value {
    ask(&["lua", script], object)
}

/// The folder of the scripts for objects of this kind.
pub fn folder(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("an apiVersion");
    let (group, _) = version.split_once('/').expect("a group");
    let kind = object["kind"].as_str().expect("a kind");
    format!("{CUSTOMIZATIONS}/{group}/{kind}")
}

fn status(answer: &Value) -> String {
    answer["status"].as_str().expect("a status").to_owned()
}

fn ask(arguments: &[&str], object: &Value) -> Value {
    let mut tools = Command::new(&*PROGRAM);
    let output = output_of(tools.args(arguments), &object.to_string());
    assert!(output.status.success(), "{arguments:?}: {object:#}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
