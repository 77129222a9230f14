//! NATS as a process of its own, started with what `deploy/brokers` has for it, and the gateway that it asks.
#![allow(dead_code)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::support::manifests::gateway_flags;
use crate::support::process::{Access, Folder, Launcher, Process, free_port};
use crate::support::wait::found;

/// Signs what users may.
pub const ISSUER_SEED: &str = "SAAFHVKYGNFDR36Z7OOMXF72UZCAYOQIGLD22MMSJAA55IQ57QFIGWUWJM";
const ISSUER: &str = "AD4LKH77GYWVO7YYM26JOQ7B2FILYO4CAF5DZHZE746LYULL6BMBUNHQ";
const XKEY_SEED: &str = "SXAFHVKYGNFDR36Z7OOMXF72UZCAYOQIGLD22MMSJAA55IQ57QFIGWTGEI";
const XKEY: &str = "XB2M3YLM7XI5HT6GBX4W7VWMJ4ZGGYHUDKXR3UZC5IDHCFA7U45UYW7Q";

/// NATS and a gateway, until this goes out of scope.
pub struct Broker {
    /// Where it listens for MQTT.
    pub at: SocketAddr,
    /// And for its own protocol.
    pub core: SocketAddr,
    server: Server,
    gateway: Option<Process>,
    launcher: Launcher,
}

/// NATS alone, until this goes out of scope.
pub struct Server {
    /// Where it listens for MQTT.
    pub at: SocketAddr,
    /// And for its own protocol.
    pub core: SocketAddr,
    child: Child,
    settings: Settings,
    folder: Folder,
}

/// What a test has otherwise than what is shipped.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespace that is served.
    pub namespace: String,
    /// More lines of its configuration; with `# no xkey` requests are not sealed.
    pub more: String,
    /// What is in the place of what.
    pub changes: Vec<(&'static str, String)>,
    /// A folder with `ca.pem`, and certificates and keys for `server` and `client`: all goes by TLS.
    pub certificates: Option<PathBuf>,
    /// Logs no more than a real one does, and no line about every decision.
    pub is_quiet: bool,
}

impl Settings {
    /// With more lines.
    pub fn with(more: &str) -> Settings {
        Settings {
            more: more.to_owned(),
            ..Settings::default()
        }
    }

    fn are_sealed(&self) -> bool {
        !self.more.contains("# no xkey")
    }
}

impl Broker {
    /// Starts both, the gateway on this way to the API server, and waits until clients may be admitted.
    pub async fn with(settings: Settings, access: Access) -> Broker {
        let launcher = launcher(&settings, &access);
        let server = Server::start(settings).await;
        let mut broker = Broker {
            at: server.at,
            core: server.core,
            server,
            gateway: None,
            launcher,
        };
        broker.start_gateway().await;
        broker
    }

    /// Starts a gateway, and waits until NATS asks it.
    pub async fn start_gateway(&mut self) {
        self.gateway = Some(self.another_gateway(&[]).await);
    }

    /// One more.
    pub async fn another_gateway(&self, more: &[&str]) -> Process {
        let more = more.iter().map(|flag| (*flag).to_owned());
        let flags: Vec<String> = self.flags().into_iter().chain(more).collect();
        let gateway = self.launch(&flags);
        found("NATS may ask", async || {
            gateway
                .log_text()
                .contains("NATS may ask who may connect")
                .then_some(())
        })
        .await;
        gateway
    }

    /// Starts one with these flags, whatever comes of it.
    pub fn launch(&self, flags: &[String]) -> Process {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.launcher.start_gateway(&flags)
    }

    /// The flags of a gateway.
    pub fn flags(&self) -> Vec<String> {
        let settings = &self.server.settings;
        let folder = &self.server.folder;
        for (name, text) in [
            ("login", "keyward:for-the-callout\n"),
            ("system-login", "keyward-system:for-the-system"),
            ("issuer", ISSUER_SEED),
            ("xkey", XKEY_SEED),
        ] {
            folder.write(name, text);
        }
        let mut flags = gateway_flags("deploy/brokers/nats/sidecar.yaml", folder.path());
        let own = match settings.are_sealed() {
            true => &["--namespace", "--nats-url"][..],
            false => &["--namespace", "--nats-url", "--nats-xkey"],
        };
        flags.retain(|flag| !own.iter().any(|own| flag.starts_with(own)));
        flags.push(format!("--namespace={}", settings.namespace));
        if !settings.is_quiet {
            flags.push("--audit".to_owned());
        }
        match &settings.certificates {
            None => flags.push(format!("--nats-url=nats://{}", self.core)),
            Some(folder) => {
                let flag = |flag: &str, name: &str| {
                    format!("--nats-{flag}={}", folder.join(name).display())
                };
                flags.extend([
                    format!("--nats-url=tls://{}", self.core),
                    flag("ca", "ca.pem"),
                    flag("cert", "client.pem"),
                    flag("key", "client.key"),
                ]);
            }
        }
        flags
    }

    /// The number of NATS's process.
    pub fn id(&self) -> u32 {
        self.server.child.id()
    }

    /// The gateway.
    pub fn gateway(&mut self) -> &mut Process {
        self.gateway.as_mut().expect("a gateway")
    }

    /// Kills the gateway.
    pub fn kill_gateway(&mut self) {
        self.gateway.take().expect("a gateway").kill();
    }

    /// Ends NATS as an administrator does, and starts it again.
    pub async fn restart(&mut self) {
        self.server.restart().await;
    }

    /// Ends NATS as an administrator does.
    pub async fn end(&mut self) {
        self.server.end().await;
    }

    /// What NATS and the gateways have logged so far.
    pub fn output(&self) -> String {
        let gateway = self.gateway.as_ref().map(Process::output);
        self.server.output() + &self.launcher.log() + &gateway.unwrap_or_default()
    }

    /// A way for a client of NATS's own protocol.
    pub fn core_options(&self, user: &str, password: &str) -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            .connection_timeout(Duration::from_secs(10))
            .max_reconnects(1)
    }

    /// The same, by TLS.
    pub fn core_options_by_tls(&self, user: &str, password: &str) -> async_nats::ConnectOptions {
        let folder = self.server.settings.certificates.as_ref();
        let file = |name: &str| folder.expect("certificates").join(name);
        self.core_options(user, password)
            .require_tls(true)
            .add_root_certificates(file("ca.pem"))
            .add_client_certificate(file("client.pem"), file("client.key"))
    }

    /// Whoever works with devices.
    pub async fn backend(&self) -> async_nats::Client {
        let options = self.core_options("backend", "for-the-backend");
        options
            .connect(self.core.to_string())
            .await
            .expect("a connection")
    }
}

impl Server {
    /// Starts it, and waits until it listens.
    pub async fn start(settings: Settings) -> Server {
        let folder = Folder::new("nats");
        let [at, core] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut server = Server {
            at,
            core,
            child: spawn(&folder, [at, core], &settings),
            settings,
            folder,
        };
        server.listens().await;
        server
    }

    /// Ends it as an administrator does, and starts it again.
    pub async fn restart(&mut self) {
        self.end().await;
        self.child = spawn(&self.folder, [self.at, self.core], &self.settings);
        self.listens().await;
    }

    /// Ends it as an administrator does.
    pub async fn end(&mut self) {
        self.signal(Signal::TERM);
        found("nats-server ends", async || {
            self.child.try_wait().expect("a child")
        })
        .await;
    }

    /// Stops it, without its knowing, until it is resumed.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    async fn listens(&mut self) {
        found("nats-server listens", async || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "nats-server has ended:\n{}", self.output());
            // Its own listener is the last.
            TcpStream::connect(self.at).await.ok()?;
            TcpStream::connect(self.core).await.ok()
        })
        .await;
    }

    /// What it has logged so far.
    pub fn output(&self) -> String {
        fs::read_to_string(output_file(&self.folder, &self.settings)).expect("its output")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launcher(settings: &Settings, access: &Access) -> Launcher {
    // A controller may log under the namespace's name.
    let launcher = Launcher::new(&format!("nats-{}", settings.namespace), access);
    match settings.is_quiet {
        true => launcher.logging("info"),
        false => launcher,
    }
}

fn spawn(folder: &Folder, [mqtt, core]: [SocketAddr; 2], settings: &Settings) -> Child {
    let text = configuration(folder.path(), [mqtt, core], settings);
    let file = folder.write("nats-server.conf", &text);
    let output = output_file(folder, settings);
    let output = File::options().create(true).append(true).open(output);
    let output = output.expect("a file");
    let mut command = Command::new("nats-server");
    if !settings.is_quiet {
        command.arg("-D");
    }
    let command = command
        .arg("-c")
        .arg(file)
        .current_dir(folder.path())
        .env("NATS_BACKEND_PASSWORD", "for-the-backend")
        .env("NATS_CALLOUT_PASSWORD", "for-the-callout")
        .env("NATS_SYSTEM_PASSWORD", "for-the-system")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output);
    command
        .spawn()
        .expect("nats-server is on the PATH: `make test` installs it")
}

/// What it logs stays, as what gateways log does.
fn output_file(folder: &Folder, settings: &Settings) -> PathBuf {
    let logs = std::env::var_os("KEYWARD_TEST_LOGS");
    let logs = logs.map_or_else(|| folder.path().to_owned(), PathBuf::from);
    logs.join(format!("{}-nats-server.log", settings.namespace))
}

/// What is shipped, with this in the place of what it says is to be changed.
fn configuration(folder: &Path, [mqtt, core]: [SocketAddr; 2], settings: &Settings) -> String {
    let shipped: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/brokers/nats/nats-server.conf");
    let mut text = fs::read_to_string(shipped).expect("a configuration");
    let mut put = |old: &str, new: String| {
        assert!(text.contains(old), "{old} is to be replaced");
        text = text.replace(old, &new);
    };
    put("listen: 127.0.0.1:4222", format!("listen: \"{core}\""));
    put("listen: 127.0.0.1:1883", format!("listen: \"{mqtt}\""));
    put(
        "/var/lib/nats",
        format!("\"{}\"", folder.join("js").display()),
    );
    put("ISSUER_PUBLIC_KEY", ISSUER.to_owned());
    match settings.are_sealed() {
        true => put("XKEY_PUBLIC_KEY", XKEY.to_owned()),
        false => put("xkey: XKEY_PUBLIC_KEY", String::new()),
    }
    if let Some(folder) = &settings.certificates {
        let pair = format!(
            "cert_file: \"{0}/server.pem\", key_file: \"{0}/server.key\"",
            folder.display()
        );
        put("mqtt {", format!("mqtt {{\n  tls {{ {pair} }}"));
        let verify = format!("ca_file: \"{}/ca.pem\", verify: true", folder.display());
        put(
            "server_name: nats",
            format!("server_name: nats\ntls {{ {pair}, {verify} }}"),
        );
    }
    for (old, new) in &settings.changes {
        put(old, new.clone());
    }
    format!("{text}\n{}\n", settings.more)
}
