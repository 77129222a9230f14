//! NATS as a process of its own, started with what `deploy/brokers` has for it, and the gateway that it asks.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

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
    child: Child,
    gateway: Option<Process>,
    launcher: Launcher,
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
        let folder = Folder::new("nats");
        let [at, core] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut broker = Broker {
            at,
            core,
            child: spawn(&folder, [at, core], &settings),
            gateway: None,
            launcher: Launcher::new(&settings.namespace, &access),
            settings,
            folder,
        };
        broker.listens().await;
        broker.start_gateway().await;
        broker
    }

    /// Starts a gateway, and waits until NATS asks it.
    pub async fn start_gateway(&mut self) {
        self.gateway = Some(self.another_gateway(&[]).await);
    }

    /// One more.
    pub async fn another_gateway(&self, more: &[&str]) -> Process {
        let gateway = self.launched(&self.launcher, more);
        found("NATS may ask", async || {
            gateway
                .log_text()
                .contains("NATS may ask who may connect")
                .then_some(())
        })
        .await;
        gateway
    }

    /// One that may know nothing yet.
    pub fn launched(&self, launcher: &Launcher, more: &[&str]) -> Process {
        let write = |name: &str, text: &str| -> String {
            let file = self.folder.write(name, text);
            file.to_str().expect("a path").to_owned()
        };
        let mut flags = vec![
            format!("--namespace={}", self.settings.namespace),
            "--ephemeral-signing-key".to_owned(),
            "--audit".to_owned(),
            format!("--nats-url=nats://{}", self.core),
            "--nats-account=DEVICES".to_owned(),
            format!(
                "--nats-login={}",
                write("login", "keyward:for-the-callout\n")
            ),
            format!(
                "--nats-system-login={}",
                write("system-login", "keyward-system:for-the-system")
            ),
            format!("--nats-issuer={}", write("issuer", ISSUER_SEED)),
        ];
        if self.settings.are_sealed() {
            flags.push(format!("--nats-xkey={}", write("xkey", XKEY_SEED)));
        }
        let flags: Vec<&str> = flags
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        launcher.start_gateway(&flags)
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
        self.end().await;
        self.child = spawn(&self.folder, [self.at, self.core], &self.settings);
        self.listens().await;
    }

    /// Ends NATS as an administrator does.
    pub async fn end(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it runs");
        found("nats-server ends", async || {
            self.child.try_wait().expect("a child")
        })
        .await;
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

    /// What NATS and the gateways have logged so far.
    pub fn output(&self) -> String {
        let own = fs::read_to_string(output_file(&self.folder, &self.settings));
        let own = own.expect("its output");
        let gateway = self
            .gateway
            .as_ref()
            .map(Process::output)
            .unwrap_or_default();
        own + &self.launcher.log() + &gateway
    }

    /// A way for a client of NATS's own protocol.
    pub fn core_options(&self, user: &str, password: &str) -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            .connection_timeout(Duration::from_secs(10))
            .max_reconnects(1)
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

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Folder, [mqtt, core]: [SocketAddr; 2], settings: &Settings) -> Child {
    let text = configuration(folder.path(), [mqtt, core], settings);
    let file = folder.write("nats-server.conf", &text);
    let output = output_file(folder, settings);
    let output = File::options().create(true).append(true).open(output);
    let output = output.expect("a file");
    let mut command = Command::new("nats-server");
    let command = command
        .arg("-D")
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
    format!("{text}\n{}\n", settings.more)
}
