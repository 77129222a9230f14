//! Programs in Go, which are built once: see `deploy/local/go-tool`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of the program that `deploy/local/go-tool NAME` builds.
pub fn go_tool(name: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/go-tool");
    let built = Command::new(script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output();
    let built = built.expect("bash");
    assert!(built.status.success(), "{script} {name} fails");
    let path = String::from_utf8(built.stdout).expect("UTF-8");
    path.trim_end().into()
}
