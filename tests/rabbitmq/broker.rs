//! RabbitMQ as a process of its own, started with what `deploy/brokers` has for it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64ct::{Base64, Encoding};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::TcpStream;

use crate::support::certificates::Authority;
use crate::support::gateway::send;
use crate::support::process::{Folder, free_port};
use crate::support::wait::found;

/// Keyward's user there.
pub const LOGIN: &str = "keyward:a-password-of-a-test";

/// RabbitMQ, until this goes out of scope.
pub struct Broker {
    /// Where devices connect.
    pub at: SocketAddr,
    /// Where its management API is.
    pub management: SocketAddr,
    /// Where it is by https, for clients of its authority.
    pub secure_management: SocketAddr,
    /// Has signed its certificate.
    pub authority: Authority,
    server: Child,
    /// Tells Erlang's nodes where they are.
    epmd: Child,
    folder: Folder,
}

impl Broker {
    /// Starts one that asks at this URL, and waits until it listens.
    pub async fn start(asks: &str) -> Broker {
        let folder = Folder::new("rabbitmq");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let management = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let secure_management = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let authority = Authority::named("RabbitMQ's authority");
        folder.write("ca.pem", &authority.pem());
        authority.server().write(&folder, "own");
        let configuration = configuration(at, management, asks);
        let secure = secure(secure_management, folder.path());
        folder.write("rabbitmq.conf", &(configuration + &secure));
        let epmd_port = free_port().to_string();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port, "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut broker = Broker {
            at,
            management,
            secure_management,
            authority,
            epmd: epmd.expect("epmd is on the PATH: `make test` installs it"),
            server: spawn(folder.path(), &epmd_port),
            folder,
        };
        broker.listens().await;
        broker
    }

    async fn listens(&mut self) {
        found("RabbitMQ listens", async || {
            let ended = self.server.try_wait().expect("a child");
            assert!(ended.is_none(), "RabbitMQ has ended:\n{}", self.output());
            TcpStream::connect(self.at).await.ok()?;
            let (status, _) = self.ask("GET /api/whoami", LOGIN).await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Asks the management API.
    pub async fn ask(&self, what: &str, login: &str) -> std::io::Result<(u16, String)> {
        let basic = format!("Basic {}", Base64::encode_string(login.as_bytes()));
        send(self.management, what, &[("authorization", &basic)], "").await
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).expect("its output")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It is the leader of a group, and has processes of its own.
        kill_process_group(Pid::from_child(&self.server), Signal::KILL).ok();
        self.server.wait().ok();
        self.epmd.kill().ok();
        self.epmd.wait().ok();
    }
}

fn spawn(folder: &Path, epmd_port: &str) -> Child {
    let output = File::create(folder.join("output")).expect("a file");
    let dist = free_port().to_string();
    let args = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";
    let shipped = shipped();
    fs::write(folder.join("env.conf"), "").expect("a file");
    fs::copy(shipped.join("enabled_plugins"), folder.join("plugins")).expect("a file");
    // What is on the PATH is a script of Debian's that runs this one as another user.
    let server = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
        .process_group(0)
        // Otherwise it stays between RabbitMQ and who started it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .current_dir(folder)
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", epmd_port)
        .env("RABBITMQ_DIST_PORT", &dist)
        .env("RABBITMQ_NODENAME", format!("keyward-{dist}@localhost"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("env.conf"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
        .env(
            "RABBITMQ_ADVANCED_CONFIG_FILE",
            shipped.join("advanced.config"),
        )
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", args)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output)
        .spawn();
    server.expect("RabbitMQ is there: `make test` installs it")
}

/// What is shipped, with this in the place of what it says is to be changed.
fn configuration(at: SocketAddr, management: SocketAddr, asks: &str) -> String {
    let mut text = fs::read_to_string(shipped().join("rabbitmq.conf")).expect("a configuration");
    let mut put = |old: &str, new: &str| {
        assert!(text.contains(old), "{old} is to be replaced");
        text = text.replace(old, new);
    };
    put("127.0.0.1:1883", &at.to_string());
    put("http://127.0.0.1:8082", asks);
    put("15672", &management.port().to_string());
    put("change-this", LOGIN.split_once(':').expect("a password").1);
    format!("{text}\nlisteners.tcp = none\nlog.console = true\nlog.console.level = info\n")
}

fn secure(at: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let (ip, port) = (at.ip(), at.port());
    format!(
        "management.ssl.ip = {ip}\nmanagement.ssl.port = {port}\n\
         management.ssl.cacertfile = {folder}/ca.pem\nmanagement.ssl.certfile = {folder}/own.pem\n\
         management.ssl.keyfile = {folder}/own.key\nmanagement.ssl.verify = verify_peer\n\
         management.ssl.fail_if_no_peer_cert = true\n"
    )
}

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/brokers/rabbitmq")
}
