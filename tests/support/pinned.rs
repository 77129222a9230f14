//! Programs in Python, which are installed once: see `deploy/local/pinned`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The folder of the commands of the program that `deploy/local/pinned NAME` installs.
pub fn pinned(name: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/local/pinned");
    let installed = Command::new(script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output();
    let installed = installed.expect("bash");
    assert!(installed.status.success(), "{script} {name} fails");
    let folder = String::from_utf8(installed.stdout).expect("UTF-8");
    folder.trim_end().into()
}
