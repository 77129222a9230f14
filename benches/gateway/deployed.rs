//! The environment that `deploy/install.yaml` gives a gateway: some of it counts from the first allocation on.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::support::manifests::object;

/// Says that this process has it, as all have that it starts.
const MARK: &str = "KEYWARD_BENCH_DEPLOYED";

/// Begins this program again in that environment, unless it is.
pub fn as_it_is() {
    if env::var_os(MARK).is_some() {
        return;
    }
    let program = env::current_exe().expect("a program");
    let mut again = Command::new(program);
    again.args(env::args_os().skip(1)).env(MARK, "");
    let error = again.envs(variables()).exec();
    panic!("this program does not begin again: {error}");
}

fn variables() -> Vec<(String, String)> {
    let deployment = object("deploy/install.yaml", "Deployment", "keyward-gateway");
    let set = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let set = set.as_array().expect("variables").iter();
    set.map(|one| (text(&one["name"]), text(&one["value"])))
        .collect()
}
