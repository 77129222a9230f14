//! The bill of materials that is shipped in the images says what the programs are built of, and nothing else.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use support::manifests::text;
use support::process::output_of;
use support::tools::pinned;

/// A name and a version.
type Package = (String, String);

static BILL: LazyLock<String> = LazyLock::new(bill);

#[test]
fn each_package_that_is_linked_is_there_and_each_macro_is_marked() {
    let [program, plugin] = [
        planned("rustc --bin keyward"),
        planned("build --package keyward-mosquitto"),
    ];
    let linked = &program.linked() | &plugin.linked();
    let compiled = &program.compiled() | &plugin.compiled();
    let macros = &compiled - &linked;
    assert!(linked.iter().any(|(name, _)| name == "kube"));
    assert!(macros.iter().any(|(name, _)| name == "serde_derive"));

    let (listed_macros, listed): (Vec<_>, Vec<_>) = components()
        .into_iter()
        .partition(|component| component["scope"] == "excluded");
    assert_eq!(packages(&listed), linked);
    assert_eq!(packages(&listed_macros), macros);
}

#[test]
fn each_has_the_checksum_of_the_lock_file() {
    let locked = locked();
    for component in components() {
        let checksum = &locked[&package(&component)];
        let expected = json!([{ "alg": "SHA-256", "content": checksum }]);
        assert_eq!(component["hashes"], expected, "{component}");
    }
}

#[test]
fn each_is_there_once_and_what_needs_it_is_there() {
    let bill: Value = serde_json::from_str(&BILL).unwrap();
    let mut there = vec![string(&bill["metadata"]["component"]["bom-ref"])];
    there.extend(components().iter().map(|it| string(&it["bom-ref"])));
    let known: BTreeSet<_> = there.iter().collect();
    assert_eq!(known.len(), there.len());

    let mut needed = BTreeSet::from(["keyward".to_owned()]);
    for dependency in bill["dependencies"].as_array().unwrap() {
        assert!(known.contains(&string(&dependency["ref"])), "{dependency}");
        let on = dependency["dependsOn"].as_array().unwrap().iter();
        needed.extend(on.map(string));
    }
    assert_eq!(needed.iter().collect::<BTreeSet<_>>(), known);
}

#[test]
fn it_is_the_same_twice() {
    assert_eq!(bill(), *BILL);
}

#[test]
fn it_is_cyclonedx_and_its_licences_are_of_spdx() {
    assert_eq!(complaints(&BILL), "");
    // Both are looked at.
    let without_version = BILL.replace("\"specVersion\": \"1.5\",", "");
    assert!(complaints(&without_version).contains("specVersion"));
    let old_form = BILL.replace("\"Zlib\"", "\"Zlib-Of-Old\"");
    assert!(complaints(&old_form).contains("Zlib-Of-Old"));
}

fn bill() -> String {
    printed(Command::new("deploy/image/bill"))
}

fn components() -> Vec<Value> {
    let mut bill: Value = serde_json::from_str(&BILL).unwrap();
    serde_json::from_value(bill["components"].take()).unwrap()
}

fn packages(components: &[Value]) -> BTreeSet<Package> {
    components.iter().map(package).collect()
}

fn package(component: &Value) -> Package {
    (string(&component["name"]), string(&component["version"]))
}

/// The checksums in Cargo.lock.
fn locked() -> BTreeMap<Package, String> {
    let lock = text("Cargo.lock");
    let entries = lock.split("[[package]]\n").skip(1);
    let field = |entry: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = entry.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|rest| rest.trim_end_matches('"').to_owned())
    };
    let checked = entries.filter_map(|entry| {
        let package = (field(entry, "name")?, field(entry, "version")?);
        Some((package, field(entry, "checksum")?))
    });
    checked.collect()
}

/// What cargo compiles for a program, and what uses what.
struct Plan(Value);

/// By cargo's own plan of the build, which is what it follows. To print it is not a stable feature.
fn planned(command: &str) -> Plan {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(command.split(' '))
        .args(["--locked", "--unit-graph", "-Zunstable-options"])
        .env("RUSTC_BOOTSTRAP", "1");
    Plan(serde_json::from_str(&printed(cargo)).unwrap())
}

impl Plan {
    /// All that is compiled, but for build scripts and what these need.
    fn compiled(&self) -> BTreeSet<Package> {
        self.reached(|_| true)
    }

    /// What becomes part of the program.
    fn linked(&self) -> BTreeSet<Package> {
        self.reached(|unit| unit["target"]["kind"] != json!(["proc-macro"]))
    }

    fn reached(&self, taken: fn(&Value) -> bool) -> BTreeSet<Package> {
        let indices = |list: &Value| list.as_array().unwrap().clone();
        let mut seen = BTreeSet::new();
        let mut next = indices(&self.0["roots"]);
        while let Some(index) = next.pop() {
            let index = usize::try_from(index.as_u64().unwrap()).unwrap();
            let unit = &self.0["units"][index];
            if unit["mode"] != "build" || !taken(unit) || !seen.insert(index) {
                continue;
            }
            let dependencies = indices(&unit["dependencies"]).into_iter();
            next.extend(dependencies.map(|mut it| it["index"].take()));
        }
        let ids = seen
            .iter()
            .map(|&index| string(&self.0["units"][index]["pkg_id"]));
        ids.filter_map(|id| from_registry(&id)).collect()
    }
}

/// The package of such an id as `registry+https://...#name@version`; none if it lies in this repository.
fn from_registry(id: &str) -> Option<Package> {
    let (source, package) = id.split_once('#').unwrap();
    if source.starts_with("path+") {
        return None;
    }
    let (name, version) = package.split_once('@').unwrap();
    Some((name.to_owned(), version.to_owned()))
}

/// What is wrong with a bill.
fn complaints(bill: &str) -> String {
    let mut python = Command::new(pinned("checkov").join("python"));
    python.arg("tests/bill/valid.py");
    let output = output_of(&mut python, bill);
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.success(),
        complaints.is_empty(),
        "{complaints}"
    );
    complaints
}

fn printed(mut command: Command) -> String {
    let output = output_of(&mut command, "");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
