//! `keyward check`, run as people run it.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::process::{Access, Folder};

/// Who asks `keyward check`, and where.
pub struct Asker {
    folder: Folder,
    kubeconfig: PathBuf,
}

impl Asker {
    /// Somebody who reaches an API server this way.
    pub fn of(access: &Access) -> Self {
        Self::changed(access, |_| {})
    }

    /// The same, but for a change to the kubeconfig.
    pub fn changed(access: &Access, change: impl FnOnce(&mut Value)) -> Self {
        let folder = Folder::new("check");
        let mut text = serde_json::from_str(&access.text()).expect("JSON");
        change(&mut text);
        Self {
            kubeconfig: folder.write("kubeconfig", &text.to_string()),
            folder,
        }
    }

    /// The same, but for the token.
    pub fn holding(access: &Access, token: &str) -> Self {
        Self::changed(access, |config| {
            config["users"][0]["user"] = json!({ "token": token });
        })
    }

    /// The way that this one goes.
    pub fn access(&self) -> Access {
        Access::in_file(&self.kubeconfig)
    }

    /// Asks, with a secret on standard input.
    pub fn ask(&self, flags: &[&str], input: &str) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .arg("check")
            .args(flags)
            // Nothing else has a say.
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keyward starts");
        // It may end without reading: that is no failure of the test.
        let _ = child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("keyward ends");
        Answer {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// What `keyward check` answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}
