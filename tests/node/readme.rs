//! The commands that README gives, as they stand there.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::inside::{Inside, PLANT};
use crate::node::Node;
use crate::support::manifests::text;
use crate::support::process::Folder;
use crate::support::tools::go_tool;

#[test]
#[ignore = "takes a node"]
fn what_readme_says_installs_upgrades_and_uninstalls() {
    Node::start("readme").inside(story);
}

async fn story(inside: Inside) {
    let readme = text("README.md");
    inside.kubectl(&["create", "namespace", PLANT]);
    run(&inside, &install(&readme));
    for part in ["controller", "gateway"] {
        inside.is_rolled_out(&format!("keyward-{part}")).await;
    }
    for command in commands(&readme, "see it work").chain(commands(&readme, "have only Pods")) {
        run(&inside, command);
    }
    inside.issued("pumps", 1).await;
    let before = inside.delivered().await;
    for command in commands(&readme, "upgrade").chain(commands(&readme, "go back")) {
        run(&inside, command);
        for part in ["controller", "gateway"] {
            inside.is_rolled_out(&format!("keyward-{part}")).await;
        }
    }
    let mut uninstall = commands(&readme, "uninstall");
    run(&inside, uninstall.next().expect("a command"));
    assert_eq!(inside.delivered().await, before);
}

/// The commands of the block that installs the charts.
fn install(readme: &str) -> String {
    let (_, block) = readme
        .split_once("    helm install keyward-crds")
        .expect("a block");
    let lines = block.lines().take_while(|line| !line.is_empty());
    let lines = lines.map(|line| line.trim_start());
    format!(
        "helm install keyward-crds {}",
        Vec::from_iter(lines).join("\n")
    )
}

/// The commands in a row of the table that says what to do.
fn commands<'a>(readme: &'a str, to: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("| {to}");
    let row = readme.lines().find(|line| line.starts_with(&start));
    let marked = row.expect("a row").split('`').skip(1).step_by(2);
    marked.filter(|command| command.starts_with("helm ") || command.starts_with("kubectl "))
}

fn run(inside: &Inside, command: &str) {
    let tools = Folder::new("tools");
    symlink(go_tool("helm"), tools.path().join("helm")).expect("a link");
    let told = format!("PATH={}:$PATH\n{command}", tools.path().display());
    inside.said(
        Command::new("bash").args(["-euo", "pipefail", "-c", &told]),
        "",
    );
}
