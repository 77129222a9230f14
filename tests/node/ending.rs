//! What is left of a cluster: nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::node::Node;
use crate::support::wait::found;

#[test]
#[ignore = "takes a node"]
fn a_cluster_leaves_nothing_behind() {
    let node = Node::start("ending");
    let left = Left::of(&node);
    node.inside(async |inside| inside.install());
    assert!(left.processes() > 10, "Pods run");
    drop(node);
    left.runs_nothing();
    left.is_nothing();
}

#[test]
#[ignore = "takes a node"]
fn a_cluster_ends_with_what_started_it_even_if_that_is_killed() {
    let mut node = Node::start("killed");
    let left = Left::of(&node);
    node.inside(async |inside| inside.install());
    let starter = Pid::from_child(&node.run);
    kill_process(starter, Signal::KILL).expect("it is killed");
    let status = node.run.wait().expect("it ends");
    assert_eq!(status.signal(), Some(9));
    left.runs_nothing();
    // Nobody was there to remove the folder and the cgroups.
    let removed = Command::new("deploy/local/cluster")
        .arg("down")
        .arg(&left.place)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(removed.expect("it runs").success());
    left.is_nothing();
}

#[test]
#[ignore = "takes a node"]
fn whoever_may_not_make_namespaces_is_told_so_in_a_sentence() {
    let check = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", "deploy/local/cluster", "check"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("it runs");
    let said = String::from_utf8(check.stderr).expect("UTF-8");
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("namespaces of its own"), "{said}");
}

/// By what a cluster would be found.
struct Left {
    network: String,
    place: std::path::PathBuf,
}

impl Left {
    fn of(node: &Node) -> Left {
        let first = node.first_process();
        Left {
            network: network_of(Path::new(&format!("/proc/{first}"))).expect("it runs"),
            place: node.place.clone(),
        }
    }

    /// How many processes are in its network, but for Pods, which have networks of their own.
    fn processes(&self) -> usize {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let found = processes.filter(|it| network_of(&it.path()).as_ref() == Some(&self.network));
        found.count()
    }

    #[tokio::main(flavor = "current_thread")]
    async fn runs_nothing(&self) {
        let what = "what ran in it has ended";
        found(what, async || (self.processes() == 0).then_some(())).await;
    }

    fn is_nothing(&self) {
        let place = self.place.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains(&place), "{mounts}");
        assert_eq!(groups(&place), Vec::<String>::new());
        assert!(!self.place.exists());
    }
}

fn network_of(process: &Path) -> Option<String> {
    let network = fs::read_link(process.join("ns/net")).ok()?;
    Some(network.display().to_string())
}

/// The cgroups that the node in this folder makes for its Pods.
fn groups(place: &str) -> Vec<String> {
    let digest = Command::new("sh")
        .args(["-c", "echo \"$0\" | sha256sum | cut -c1-12", place])
        .output();
    let digest = String::from_utf8(digest.expect("it runs").stdout).expect("UTF-8");
    let name = format!("keyward-{}", digest.trim());
    let trees = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let trees = trees
        .map(|tree| tree.path())
        .chain(["/sys/fs/cgroup".into()]);
    let found = trees
        .map(|tree| tree.join(&name))
        .filter(|group| group.exists());
    found.map(|group| group.display().to_string()).collect()
}
