//! The manifests that are shipped are what the chart renders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::helm::{CHART, DEFINITIONS, helm};
use crate::support::process::Folder;

#[test]
fn the_manifests_are_as_rendered() {
    let folder = Folder::new("rendered");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let render = Command::new(root.join("deploy/render"))
        .arg(folder.path())
        .status();
    assert!(render.expect("bash").success());
    let files = files(folder.path());
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let name = file.strip_prefix(folder.path()).unwrap();
        let shipped = fs::read_to_string(root.join("deploy").join(name)).unwrap_or_default();
        let rendered = fs::read_to_string(&file).unwrap();
        assert!(
            shipped == rendered,
            "deploy/{} is not what the chart renders: run `make manifests`",
            name.display()
        );
    }
}

/// Those whose head says so are rendered again.
#[test]
fn whatever_says_that_it_is_rendered_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("deploy/render")).unwrap();
    let mut count = 0;
    for file in files(&root.join("deploy")) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let is_rendered = text
            .lines()
            .any(|line| line == "# Rendered from deploy/chart: change it there.");
        if is_rendered
            && file
                .extension()
                .is_some_and(|extension| extension == "yaml")
        {
            let name = file
                .strip_prefix(root.join("deploy"))
                .unwrap()
                .display()
                .to_string();
            assert!(script.contains(&format!("\"$to/{name}\"")), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 9);
}

#[test]
fn helm_finds_nothing_wrong() {
    for chart in [CHART, DEFINITIONS] {
        helm(
            &[
                "lint",
                "--strict",
                "--quiet",
                "--kube-version",
                "1.33",
                chart,
            ],
            "",
        )
        .unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}
