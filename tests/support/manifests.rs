//! The shipped manifests, read from the files that users apply.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// The text of a file, by its path from the repository's root.
pub fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("failed to read {file}: {error}"))
}

/// The objects in a file.
pub fn objects(file: &str) -> Vec<Value> {
    let found: Vec<Value> = serde_saphyr::from_multiple(&text(file))
        .unwrap_or_else(|error| panic!("failed to parse {file}: {error}"));
    found
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

/// The one object in a file.
pub fn object_of(file: &str) -> Value {
    let mut found = objects(file);
    assert_eq!(found.len(), 1, "{file} holds one object");
    found.remove(0)
}

/// The one object of this kind and name in a file.
pub fn object(file: &str, kind: &str, name: &str) -> Value {
    let is_it = |o: &Value| o["kind"] == kind && o["metadata"]["name"] == name;
    let found: Vec<Value> = objects(file).into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{file} holds {kind}/{name} once");
    found.into_iter().next().unwrap()
}

/// The flags of the gateway that this file starts for a broker, but for those that say where it listens and how it logs. What it
/// has mounted is in this folder.
pub fn gateway_flags(file: &str, mounted: &Path) -> Vec<String> {
    let objects = objects(file);
    let containers = objects
        .iter()
        .filter_map(|object| object.pointer("/spec/template/spec/containers")?.as_array());
    let mut gateways = containers
        .flatten()
        .filter(|container| container["name"] == "gateway");
    let gateway = gateways.next().expect("a gateway");
    let flags = gateway["args"].as_array().expect("arguments").iter();
    let flags = flags.map(|flag| flag.as_str().expect("a text"));
    let is_own = |flag: &&str| {
        *flag != "gateway" && !flag.contains("-listen=") && !flag.starts_with("--log-")
    };
    let mounted = mounted.display().to_string();
    let own = flags.filter(is_own);
    own.map(|flag| flag.replace("/etc/keyward", &mounted))
        .collect()
}

/// The flags that a subcommand of keyward has.
pub fn flags_of(subcommand: &str) -> Vec<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args([subcommand, "--help"])
        .output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("UTF-8");
    let words = help.split_whitespace();
    let flags = words.filter(|word| word.starts_with("--"));
    flags.map(str::to_owned).collect()
}

/// The paths of all examples, from the repository's root.
pub fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let files = fs::read_dir(folder).expect("deploy/examples exists");
    files
        .map(|file| {
            let name = file
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name in UTF-8");
            format!("deploy/examples/{name}")
        })
        .collect()
}
