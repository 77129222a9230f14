//! Brokers as processes of their own, started with what `deploy/brokers` has for them.
#![allow(dead_code)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::support::process::{Access, Folder, free_port};
use crate::support::wait::found;

/// mosquitto with the plugin, until this goes out of scope.
pub struct Broker {
    /// Where it listens.
    pub at: SocketAddr,
    child: Child,
    access: Access,
    settings: Settings,
    folder: Folder,
}

/// What a test has otherwise than what is shipped.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespace that is served.
    pub namespace: String,
    /// What is in the place of what.
    pub changes: Vec<(&'static str, String)>,
    /// More lines.
    pub more: String,
    /// Logs errors only, and not each message.
    pub is_quiet: bool,
    /// The program that runs mosquitto, and its arguments; none runs it as it is.
    pub under: Vec<String>,
}

impl Broker {
    /// Starts one with the rights of a gateway, and waits until it listens.
    pub async fn start(settings: Settings) -> Broker {
        Broker::with(settings, Access::admin().as_gateway().await).await
    }

    /// The same, on another way to the API server.
    pub async fn with(settings: Settings, access: Access) -> Broker {
        let folder = Folder::new("mosquitto");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = spawn(&folder, at, &settings, &access);
        let mut broker = Broker {
            at,
            child,
            access,
            settings,
            folder,
        };
        broker.listens().await;
        broker
    }

    /// Ends it as an administrator does, and starts it again.
    pub async fn restart(&mut self) {
        self.end().await;
        self.child = spawn(&self.folder, self.at, &self.settings, &self.access);
        self.listens().await;
    }

    /// Ends it as an administrator does, and gives its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let status = found("mosquitto ends", async || {
            self.child.try_wait().expect("a child")
        })
        .await;
        status.code()
    }

    /// Its process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("an id");
        let process = rustix::process::Pid::from_raw(id).expect("an id");
        rustix::process::kill_process(process, signal).expect("it runs");
    }

    async fn listens(&mut self) {
        found("mosquitto listens", async || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "mosquitto has ended:\n{}", self.output());
            TcpStream::connect(self.at).await.ok()
        })
        .await;
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).expect("its output")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What it says when it does not start.
pub fn refusal(settings: &Settings, access: &Access) -> String {
    let folder = Folder::new("mosquitto");
    let mut child = spawn(
        &folder,
        SocketAddr::from(([127, 0, 0, 1], free_port())),
        settings,
        access,
    );
    let status = child.wait().expect("a child");
    assert!(!status.success(), "it does not start");
    fs::read_to_string(folder.path().join("output")).expect("its output")
}

fn spawn(folder: &Folder, at: SocketAddr, settings: &Settings, access: &Access) -> Child {
    let file = folder.write(
        "mosquitto.conf",
        &configuration(folder.path(), at, settings),
    );
    let kubeconfig = folder.write("kubeconfig", &access.text());
    let output = File::options()
        .create(true)
        .append(true)
        .open(folder.path().join("output"));
    let output = output.expect("a file");
    let mut line = settings
        .under
        .iter()
        .map(String::as_str)
        .chain(["mosquitto"]);
    let mut command = Command::new(line.next().expect("a program"));
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("KEYWARD_")) {
        command.env_remove(name);
    }
    let command = command
        .args(line)
        .arg("-c")
        .arg(file)
        .current_dir(folder.path())
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output);
    command
        .spawn()
        .expect("mosquitto and valgrind are on the PATH: `make test` installs them")
}

/// What is shipped, with this in the place of what it says is to be changed.
fn configuration(folder: &Path, at: SocketAddr, settings: &Settings) -> String {
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/brokers/mosquitto/mosquitto.conf");
    let mut text = fs::read_to_string(shipped).expect("a configuration");
    let mut put = |old: &str, new: String| {
        assert!(text.contains(old), "{old} is to be replaced");
        text = text.replace(old, &new);
    };
    put(
        "listener 1883 127.0.0.1",
        format!("listener {} {}", at.port(), at.ip()),
    );
    put(
        "persistence_location /var/lib/mosquitto/",
        format!("persistence_location {}/", folder.display()),
    );
    put(
        "/usr/lib/keyward/libkeyward_mosquitto.so",
        plugin().display().to_string(),
    );
    put(
        "plugin_opt_namespace plant",
        format!("plugin_opt_namespace {}", settings.namespace),
    );
    for (old, new) in &settings.changes {
        put(old, new.clone());
    }
    let logged = if settings.is_quiet { "error" } else { "all" };
    // It has to read what a test has written.
    format!(
        "{text}\nuser root\nlog_dest stderr\nlog_type {logged}\nset_tcp_nodelay true\n{}\n",
        settings.more
    )
}

/// Where cargo puts it.
fn plugin() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_keyward"));
    let plugin = program.with_file_name("deps/libkeyward_mosquitto.so");
    assert!(
        plugin.exists(),
        "the plugin is not built: `make test` builds it"
    );
    plugin
}
