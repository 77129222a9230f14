//! Programs that tests run and that are built or installed once, by scripts that print where they are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of the program in Go that `deploy/local/go-tool NAME` builds.
pub fn go_tool(name: &str) -> PathBuf {
    printed_by("go-tool", name)
}

/// The folder of the commands of the program in Python that `deploy/local/pinned NAME` installs.
pub fn pinned(name: &str) -> PathBuf {
    printed_by("pinned", name)
}

fn printed_by(script: &str, name: &str) -> PathBuf {
    let script = format!("{}/deploy/local/{script}", env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(&script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output();
    let made = made.expect("bash");
    assert!(made.status.success(), "{script} {name} fails");
    let path = String::from_utf8(made.stdout).expect("UTF-8");
    path.trim_end().into()
}
