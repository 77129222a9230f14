//! Scanners look through what is shipped. What they find is mended, or stands in `scans/accepted.yaml` with a reason.

#![allow(clippy::unwrap_used)]

mod support;

#[path = "scans/accepted.rs"]
mod accepted;
#[path = "scans/scanners.rs"]
mod scanners;

use std::fs;
use std::path::Path;

use accepted::{Accepted, Finding, wrong};
use scanners::{Report, checkov, hadolint, kube_score};
use serde_json::json;
use support::helm::{CHART, everything, rendered};
use support::manifests::text;
use support::process::Folder;

const ACCEPTED: &str = "tests/scans/accepted.yaml";

#[test]
fn nothing_is_found_but_what_is_accepted() {
    let mut files = Files::new("shipped");
    for file in shipped() {
        files.put(&file, &text(&file));
    }
    // In a folder of its own: its policies would be taken for those of what is installed without it.
    let mut chart = Files::new("everything");
    let objects = rendered(CHART, &everything()).unwrap();
    let documents = objects.iter().map(|object| format!("---\n{object}\n"));
    chart.put("everything.yaml", &documents.collect::<String>());

    let report = files.scanned().and(chart.scanned());
    let accepted: Vec<Accepted> = serde_saphyr::from_str(&text(ACCEPTED)).unwrap();
    let wrong = wrong(&report.findings, &accepted);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!(
        "measured: scanners of what is shipped: {} checks pass, {} findings, which are accepted for {} reasons",
        report.passed.len(),
        report.findings.len(),
        accepted.len()
    );
}

#[test]
fn what_is_not_accepted_is_wrong_and_so_is_what_is_not_found() {
    let of = |on: &str, files: &str| -> Vec<Accepted> {
        let accepted = json!([{ "found": ["a"], "on": [on], "in": [files], "because": "so" }]);
        serde_json::from_value(accepted).unwrap()
    };
    let found = [Finding {
        what: "a".into(),
        file: "b.yaml".into(),
        object: "c".into(),
    }];
    let none = Vec::<String>::new();
    assert_eq!(wrong(&found, &of("c", "b.yaml")), none);
    assert_eq!(wrong(&found, &[]), ["b.yaml: c: a"]);
    assert_eq!(
        wrong(&[], &of("c", "b.yaml")),
        ["a", "c", "b.yaml"].map(|name| format!("accepted, but no longer found: {name} (so)"))
    );
    for other in [of("d", "b.yaml"), of("c", "d.yaml")] {
        assert_eq!(wrong(&found, &other).len(), 4);
    }
}

/// Files that are scanned with each other.
struct Files {
    folder: Folder,
    manifests: Vec<String>,
    dockerfiles: Vec<String>,
}

/// Anything would be found in these.
const PLANTED: [(&str, &str); 2] = [
    (
        "planted.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: { name: planted }\nspec: { containers: [{ name: it, image: it }] }\n",
    ),
    ("planted.Dockerfile", "FROM debian:latest\nRUN sudo true\n"),
];

impl Files {
    fn new(purpose: &str) -> Files {
        let mut files = Files {
            folder: Folder::new(purpose),
            manifests: Vec::new(),
            dockerfiles: Vec::new(),
        };
        for (name, text) in PLANTED {
            files.put(name, text);
        }
        files
    }

    fn put(&mut self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let kind = match name.ends_with("Dockerfile") {
            true => &mut self.dockerfiles,
            false => &mut self.manifests,
        };
        kind.push(name.to_owned());
    }

    /// What the scanners say of the files, but of those that show that they look.
    fn scanned(&self) -> Report {
        let folder = self.folder.path();
        let reports = [
            checkov(folder),
            kube_score(folder, &self.manifests),
            hadolint(folder, &self.dockerfiles),
        ];
        let of_files = reports.map(|mut report| {
            let is_planted = |file: &str| file.starts_with("planted");
            assert!(report.findings.iter().any(|it| is_planted(&it.file)));
            report.passed.retain(|file| !is_planted(file));
            report.findings.retain(|it| !is_planted(&it.file));
            report
        });
        of_files.into_iter().fold(Report::default(), Report::and)
    }
}

/// Manifests and Dockerfiles, by their paths.
fn shipped() -> Vec<String> {
    let mut folders = vec![
        "deploy/".to_owned(),
        "deploy/examples/".into(),
        "deploy/image/".into(),
    ];
    folders.extend(entries("deploy/brokers/").map(|broker| format!("{broker}/")));
    let files = folders.iter().flat_map(|folder| entries(folder));
    let files = files.filter(|file| file.ends_with(".yaml") || file.ends_with("Dockerfile"));
    files.collect()
}

/// What is in a folder; nothing, if it is a file.
fn entries(folder: &str) -> impl Iterator<Item = String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
    entries.map(move |entry| format!("{folder}{}", entry.unwrap().file_name().display()))
}
