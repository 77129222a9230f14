//! The two brokers: mosquitto with the plugin, and mosquitto with files of its own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use super::broker::{Broker, Settings};
use super::fleet::Fleet;
use super::support::plant::Issued;
use super::support::process::{Access, Folder, free_port};
use super::support::wait::found;

/// Puts a program on the last processor.
fn aside() -> Vec<String> {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    vec![
        "taskset".to_owned(),
        "--cpu-list".to_owned(),
        last.to_string(),
    ]
}

/// With the plugin, once it lets the chief in.
pub async fn with_plugin(fleet: &Fleet) -> Broker {
    let settings = Settings {
        namespace: fleet.plant.namespace.clone(),
        more: "max_connections -1".to_owned(),
        is_quiet: true,
        under: aside(),
        ..Settings::default()
    };
    let broker = Broker::with(settings, Access::admin().as_gateway().await).await;
    found("the broker knows the keys", async || {
        fleet.chief().to(broker.at).await.ok()
    })
    .await;
    broker
}

/// With a password file and an ACL file.
pub struct Plain {
    /// Where it listens.
    pub at: SocketAddr,
    /// Its process.
    pub child: Child,
    _folder: Folder,
}

impl Plain {
    /// With a user for each key of the fleet.
    pub async fn start(fleet: &Fleet) -> Plain {
        let folder = Folder::new("mosquitto-plain");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let users: String = fleet.keys.iter().chain([&fleet.all]).map(line).collect();
        let users = folder.write("users", &users);
        let hashed = Command::new("mosquitto_passwd")
            .arg("-U")
            .arg(&users)
            .status();
        assert!(hashed.expect("mosquitto_passwd is on the PATH").success());
        let mut rules = format!("user {}\ntopic readwrite devices/#\n", fleet.all.key);
        rules += "pattern write devices/%c/state\npattern read devices/%c/command\n";
        let rules = folder.write("rules", &rules);
        let mut text = String::new();
        writeln!(text, "listener {} {}", at.port(), at.ip()).expect("text");
        writeln!(text, "allow_anonymous false\nuser root\nmax_connections -1").expect("text");
        writeln!(
            text,
            "password_file {}\nacl_file {}",
            users.display(),
            rules.display()
        )
        .expect("text");
        writeln!(
            text,
            "persistence true\npersistence_location {}/",
            folder.path().display()
        )
        .expect("text");
        writeln!(
            text,
            "set_tcp_nodelay true\nlog_dest stderr\nlog_type error"
        )
        .expect("text");
        let aside = aside();
        let child = Command::new(&aside[0])
            .args(&aside[1..])
            .args(["mosquitto", "-c"])
            .arg(folder.write("mosquitto.conf", &text))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is on the PATH");
        found("mosquitto listens", async || {
            TcpStream::connect(at).await.ok()
        })
        .await;
        Plain {
            at,
            child,
            _folder: folder,
        }
    }
}

fn line(issued: &Issued) -> String {
    format!("{}:{}\n", issued.key, issued.secret)
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
