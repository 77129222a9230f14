//! A cluster of a test's own, on which nothing else happens.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime;

use crate::inside::Inside;
use crate::support::process::Folder;

/// A node with the shipped images and that of the device, until it goes out of scope.
pub struct Node {
    /// What it lives as long as.
    pub run: Child,
    /// Its folder.
    pub place: PathBuf,
    purpose: &'static str,
    since: Instant,
    _folder: Folder,
}

impl Node {
    /// Starts one.
    pub fn start(purpose: &'static str) -> Node {
        let folder = Folder::new(purpose);
        let place = folder.path().join("node");
        let images = std::env::var_os("KEYWARD_IMAGES").map(PathBuf::from);
        let images = images.expect("KEYWARD_IMAGES names the folder of images: run `make test`");
        let images =
            ["keyward.tar", "keyward-mosquitto.tar", "device.tar"].map(|it| images.join(it));
        let since = Instant::now();
        let mut run = Command::new("deploy/local/cluster")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["run", "--dir"])
            .arg(&place)
            .args(images)
            .args(["--", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("deploy/local/cluster starts");
        let mut line = String::new();
        let output = run.stdout.take().expect("a pipe");
        let read = BufReader::new(output).read_line(&mut line);
        assert_eq!((read.ok(), &*line), (Some(6), "ready\n"), "a node starts");
        Node {
            run,
            place,
            purpose,
            since,
            _folder: folder,
        }
    }

    /// Does something in its network, where Services and Pods are reached.
    pub fn inside<T: Send>(&self, story: impl AsyncFnOnce(Inside) -> T + Send) -> T {
        let work = || {
            // This thread alone, and those that it starts.
            let network = File::open(format!("/proc/{}/ns/net", self.first_process()));
            let network = network.expect("a namespace");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).expect("a move");
            let mut threads = runtime::Builder::new_multi_thread();
            let threads = threads.worker_threads(2).enable_all().build();
            threads.expect("a runtime").block_on(async {
                let inside = Inside::of(&self.place).await;
                story(inside).await
            })
        };
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Has the node and the control plane die and start again.
    pub fn restart(&self) {
        let restarted = Command::new("deploy/local/cluster")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("restart")
            .arg(&self.place)
            .status();
        assert!(restarted.expect("it starts").success(), "it restarts");
    }

    /// The API server's audit log.
    pub fn audit_log(&self) -> String {
        fs::read_to_string(self.place.join("audit.log")).expect("a log")
    }

    /// The number of the process by which its namespaces are entered.
    pub fn first_process(&self) -> String {
        let text = fs::read_to_string(self.place.join("pids/inside")).expect("a pid");
        let (pid, _) = text.split_once(' ').expect("a pid and more");
        pid.to_owned()
    }
}

impl Drop for Node {
    /// Its logs stay if `KEYWARD_TEST_LOGS` names a folder. It ends when its standard input does.
    fn drop(&mut self) {
        if let Some(logs) = std::env::var_os("KEYWARD_TEST_LOGS") {
            let to = Path::new(&logs).join(format!("node-{}-{}", self.purpose, std::process::id()));
            for name in ["audit.log", "logs", "pod-logs"] {
                copy(&self.place.join(name), &to.join(name));
            }
        }
        drop(self.run.stdin.take());
        self.run.wait().ok();
        println!(
            "measured: node {}: {} s",
            self.purpose,
            self.since.elapsed().as_secs()
        );
    }
}

/// As far as it can be read.
fn copy(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else {
        fs::create_dir_all(to.parent().expect("a folder")).ok();
        fs::copy(from, to).ok();
        return;
    };
    for entry in entries.flatten() {
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
