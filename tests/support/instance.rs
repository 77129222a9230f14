//! A control plane of a test's own, on which nothing else happens: what its API server counts is the test's work.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use http::Request;
use kube::Client;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::process::{Access, Folder};

/// Runs until it goes out of scope.
pub struct Instance {
    run: Child,
    /// An admin's client.
    pub admin: Client,
    place: PathBuf,
    folder: Folder,
}

impl Instance {
    /// Starts one with these manifests, by their paths from the repository's root.
    pub async fn with(purpose: &str, manifests: &[&str]) -> Instance {
        let folder = Folder::new(purpose);
        let place = folder.path().join("instance");
        let mut run = Command::new("deploy/local/run")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("--dir")
            .arg(&place)
            .args(["--", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("deploy/local/run starts");
        let output = run.stdout.take().expect("a pipe");
        let ready = tokio::task::spawn_blocking(move || says_ready(output));
        assert!(ready.await.expect("a line"), "the control plane starts");
        let mut kubectl = Command::new(place.join("bin/kubectl"));
        kubectl
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("--kubeconfig")
            .arg(place.join("kubeconfig"))
            .args(["apply", "--server-side"])
            .args(manifests.iter().map(|manifest| format!("-f={manifest}")))
            .stdout(Stdio::null());
        let applied = kubectl.status().expect("kubectl starts");
        assert!(applied.success(), "the manifests are applied");
        let admin = Access::in_file(&place.join("kubeconfig")).client().await;
        Instance {
            run,
            admin,
            place,
            folder,
        }
    }

    /// An admin's way to it.
    pub fn access(&self) -> Access {
        Access::in_file(&self.place.join("kubeconfig"))
    }

    /// Has `deploy/local/servers` do this to servers of it, or to etcd's data.
    pub async fn servers(&self, action: &str, what: &[&str]) {
        let mut command = Command::new("deploy/local/servers");
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg(action)
            .arg(&self.place)
            .args(what);
        let ended = tokio::task::spawn_blocking(move || command.output());
        let output = ended.await.expect("it ends").expect("it starts");
        assert!(
            output.status.success(),
            "{action} {what:?}: {output:?}\n{}",
            self.last_words_of("kube-apiserver")
        );
    }

    /// Kills one of its servers, at once, and waits until it is gone.
    pub async fn kill(&self, server: &str) {
        let file = self.place.join("pids").join(server);
        let text = fs::read_to_string(file).expect("a server's pid");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [pid, _, tick] = words[..] else {
            panic!("a pid, a boot and a tick: {text}");
        };
        let group = pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
        assert_eq!(started_at(group).as_deref(), Some(tick), "{server} runs");
        kill_process_group(group, Signal::KILL).expect("it is killed");
        while lives(group) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// A folder beside it, which goes away with it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How often its API server was asked for what, so far, by its own count.
    pub async fn requests(&self) -> Requests {
        let request = Request::get("/metrics")
            .body(Vec::new())
            .expect("a request");
        let text = self.admin.request_text(request).await.expect("metrics");
        let lines = text.lines();
        Requests(lines.filter_map(count).collect())
    }

    /// What a user has asked it for since it started, by its audit log.
    pub fn audited(&self, user: &str) -> Requests {
        let mut asked = BTreeMap::new();
        for line in fs::read_to_string(self.audit_log())
            .expect("an audit log")
            .lines()
        {
            let entry: Audited = serde_json::from_str(line).expect("JSON");
            if entry.user.username == user {
                *asked.entry(entry.asked()).or_default() += 1;
            }
        }
        Requests(asked)
    }

    fn last_words_of(&self, server: &str) -> String {
        let log = self.place.join("logs").join(format!("{server}.log"));
        let log = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn audit_log(&self) -> PathBuf {
        Path::join(&self.place, "audit.log")
    }
}

impl Drop for Instance {
    /// Closes the standard input for which it waits. The servers end even if this process is killed.
    fn drop(&mut self) {
        drop(self.run.stdin.take());
        self.run.wait().ok();
    }
}

/// A zombie does not: it may stay where process 1 does not reap.
fn lives(pid: Pid) -> bool {
    fields(pid).is_some_and(|fields| !["Z", "X"].contains(&fields[0].as_str()))
}

/// The tick at which it started, which tells it from an earlier one of its number.
fn started_at(pid: Pid) -> Option<String> {
    fields(pid)?.get(19).cloned()
}

/// What `/proc` says of it, from its state on.
fn fields(pid: Pid) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn says_ready(output: ChildStdout) -> bool {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).is_ok() && line == "ready\n"
}

/// What was asked for: a verb as RBAC has it, a resource with its subresource, and the code of the answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or another.
    pub verb: String,
    /// Such as `accesskeys/status`.
    pub resource: String,
    /// Such as 200.
    pub code: u16,
}

/// How often what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests(pub BTreeMap<Asked, u64>);

impl Requests {
    /// What came on top of what was asked for before.
    pub fn since(&self, before: &Requests) -> Requests {
        let more = self.0.iter().map(|(asked, count)| {
            let known = before.0.get(asked).copied().unwrap_or_default();
            (asked.clone(), count - known)
        });
        Requests(more.filter(|(_, count)| *count > 0).collect())
    }

    /// How many changed a resource of this name, or tried to, by verb and code.
    pub fn writes(&self, resource: &str) -> Vec<(&str, u16, u64)> {
        let writes = self.0.iter().filter(|(asked, _)| {
            asked.resource == resource && !["get", "list", "watch"].contains(&asked.verb.as_str())
        });
        writes
            .map(|(asked, count)| (asked.verb.as_str(), asked.code, *count))
            .collect()
    }

    /// How many changed anything, or tried to.
    pub fn all_writes(&self) -> u64 {
        let writes = self
            .0
            .iter()
            .filter(|(asked, _)| !["get", "list", "watch"].contains(&asked.verb.as_str()));
        writes.map(|(_, count)| count).sum()
    }

    /// How many read a resource of this name.
    pub fn reads(&self, resource: &str) -> u64 {
        let reads = self.0.iter().filter(|(asked, _)| {
            asked.resource == resource && ["get", "list", "watch"].contains(&asked.verb.as_str())
        });
        reads.map(|(_, count)| count).sum()
    }

    /// How many were answered with this code.
    pub fn answered(&self, code: u16) -> u64 {
        let answered = self.0.iter().filter(|(asked, _)| asked.code == code);
        answered.map(|(_, count)| count).sum()
    }
}

/// One line of `apiserver_request_total`.
fn count(line: &str) -> Option<(Asked, u64)> {
    let (labels, count) = line
        .strip_prefix("apiserver_request_total{")?
        .split_once("} ")?;
    let label = |name: &str| {
        labels.split(',').find_map(|label| {
            let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
            value.strip_suffix('"')
        })
    };
    let verb = match label("verb")? {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" | "APPLY" => "patch",
        other => &other.to_lowercase(),
    };
    let asked = Asked {
        verb: verb.to_owned(),
        resource: with_subresource(label("resource")?, label("subresource")?),
        code: label("code")?.parse().ok()?,
    };
    Some((asked, count.parse().ok()?))
}

fn with_subresource(resource: &str, subresource: &str) -> String {
    if subresource.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}/{subresource}")
    }
}

/// A line of an audit log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Value,
    #[serde(default)]
    response_status: Value,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

impl Audited {
    fn asked(&self) -> Asked {
        let text = |name: &str| self.object_ref[name].as_str().unwrap_or_default();
        Asked {
            verb: self.verb.clone(),
            resource: with_subresource(text("resource"), text("subresource")),
            code: self.response_status["code"].as_u64().unwrap_or_default() as u16,
        }
    }
}
