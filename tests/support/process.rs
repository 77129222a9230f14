//! The `keyward` binary, started as a process of its own with the rights of the part's ServiceAccount.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keyward::controller;
use kube::Client;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal,
    waitid,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::cluster;

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// A folder that nobody else can read, removed when it goes out of scope.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new(purpose: &str) -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("keyward-{purpose}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.unwrap_or_else(|error| panic!("failed to make {}: {error}", path.display()));
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that nobody else can read, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&path).expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A way to an API server, as a kubeconfig says it.
pub struct Access(Kubeconfig);

impl Access {
    /// An admin's, from `KUBECONFIG`.
    pub fn admin() -> Access {
        Access(Kubeconfig::read().expect("KUBECONFIG names an API server: run `make test`"))
    }

    /// One without TLS and without credentials.
    pub fn at(url: &str) -> Access {
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": url } }],
            "users": [{ "name": "it", "user": {} }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        Access(serde_json::from_value(config).expect("a kubeconfig"))
    }

    /// The one in a file.
    pub fn in_file(path: &Path) -> Access {
        Access(Kubeconfig::read_from(path).expect("a kubeconfig"))
    }

    /// The controller's, to the same API server.
    pub async fn as_controller(&self) -> Access {
        self.as_account(cluster::CONTROLLER).await
    }

    /// The gateway's, to the same API server.
    pub async fn as_gateway(&self) -> Access {
        self.as_account(cluster::GATEWAY).await
    }

    async fn as_account(&self, name: &str) -> Access {
        let admin = self.client().await;
        let token = cluster::token_from(&admin, cluster::SYSTEM, name).await;
        let mut access = self.0.clone();
        for user in &mut access.auth_infos {
            user.auth_info = Some(AuthInfo {
                token: Some(token.clone().into()),
                ..AuthInfo::default()
            });
        }
        Access(access)
    }

    /// The same, by way of another address.
    pub fn by_way_of(&self, address: SocketAddr) -> Access {
        let mut access = self.0.clone();
        for cluster in &mut access.clusters {
            let cluster = cluster.cluster.as_mut().expect("a cluster");
            cluster.server = Some(format!("https://{address}"));
        }
        Access(access)
    }

    /// The same, without a look at the server's certificate: a clock that was moved makes it invalid.
    pub fn unverified(&self) -> Access {
        let mut access = self.0.clone();
        for cluster in &mut access.clusters {
            let cluster = cluster.cluster.as_mut().expect("a cluster");
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority_data = None;
        }
        Access(access)
    }

    /// A client that goes this way.
    pub async fn client(&self) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(self.0.clone(), &options).await;
        controller::client(config.expect("a usable kubeconfig")).expect("a client")
    }

    /// Where the API server listens.
    pub async fn address(&self) -> SocketAddr {
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(self.0.clone(), &options).await;
        let url = config.expect("a usable kubeconfig").cluster_url;
        let authority = url.authority().expect("an address").as_str();
        authority.parse().expect("an address with a port")
    }

    /// As the kubeconfig that says it.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.0).expect("JSON")
    }
}

/// What a program prints, with this on its standard input.
pub fn output_of(program: &mut Command, input: &str) -> Output {
    let started = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = started.unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let mut stdin = running.stdin.take().expect("it was asked for");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    running.wait_with_output().expect("it ends")
}

/// A port where nobody listens. It is none of those that clients are given: while nobody listens there, a client
/// that connects to its own port reaches itself.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts processes, and keeps what they log at TRACE.
pub struct Launcher {
    folder: Folder,
    logs: PathBuf,
    kubeconfig: PathBuf,
    purpose: String,
    level: &'static str,
    environment: Vec<(&'static str, String)>,
    starts: AtomicU32,
}

impl Launcher {
    /// Starts processes that reach the API server this way. Their logs stay if `KEYWARD_TEST_LOGS` names a folder.
    pub fn new(purpose: &str, access: &Access) -> Launcher {
        let folder = Folder::new(purpose);
        let kubeconfig = folder.write("kubeconfig", &access.text());
        let logs = std::env::var_os("KEYWARD_TEST_LOGS");
        Launcher {
            logs: logs.map_or_else(|| folder.path().to_owned(), PathBuf::from),
            purpose: format!("{purpose}-{}", std::process::id()),
            folder,
            kubeconfig,
            level: "trace",
            environment: Vec::new(),
            starts: AtomicU32::new(0),
        }
    }

    /// For the controller's ServiceAccount, on the API server that the tests share.
    pub async fn as_controller(purpose: &str) -> Launcher {
        Launcher::new(purpose, &Access::admin().as_controller().await)
    }

    /// With logs of this level.
    pub fn logging(self, level: &'static str) -> Launcher {
        Launcher { level, ..self }
    }

    /// With this variable, too.
    pub fn with(mut self, name: &'static str, value: &str) -> Launcher {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// `keyward controller` with these flags, in an environment that says nothing else.
    pub fn command(&self, flags: &[&str]) -> Command {
        self.command_of("controller", flags)
    }

    fn command_of(&self, part: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("KEYWARD_")) {
            command.env_remove(name);
        }
        command
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .arg(part)
            .args(flags);
        command
    }

    /// Starts a controller with these flags, besides those that a test needs.
    pub fn start(&self, flags: &[&str]) -> Process {
        self.start_part("controller", 0, flags)
    }

    /// Starts a gateway with these flags, besides those that a test needs.
    pub fn start_gateway(&self, flags: &[&str]) -> Process {
        self.start_gateway_at([0; 3], flags)
    }

    /// The same, at these ports for devices, brokers and admins.
    pub fn start_gateway_at(&self, ports: [u16; 3], flags: &[&str]) -> Process {
        let [devices, brokers, admin] = ports;
        let devices = format!("--devices-listen=127.0.0.1:{devices}");
        let brokers = format!("--brokers-listen=127.0.0.1:{brokers}");
        self.start_part("gateway", admin, &[&[&*devices, &brokers], flags].concat())
    }

    fn start_part(&self, part: &str, admin: u16, flags: &[&str]) -> Process {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let addresses = self.folder.path().join(format!("addresses-{number}"));
        let log = self.log_of(number);
        let admin = format!("--admin-listen=127.0.0.1:{admin}");
        let own = [&*admin, "--log-level", self.level];
        let mut command = self.command_of(part, &own);
        command
            .arg("--address-file")
            .arg(&addresses)
            .args(flags)
            .stdout(File::create(self.output_of(number)).expect("a file"))
            .stderr(File::create(&log).expect("a log file"));
        Process {
            child: command.spawn().expect("the binary starts"),
            addresses,
            output: self.output_of(number),
            log,
        }
    }

    fn output_of(&self, number: u32) -> PathBuf {
        self.log_of(number).with_extension("out.log")
    }

    fn log_of(&self, number: u32) -> PathBuf {
        self.logs.join(format!("{}-{number}.log", self.purpose))
    }

    /// All that the processes have logged.
    pub fn log(&self) -> String {
        let starts = self.starts.load(Ordering::Relaxed);
        let logs = (0..starts).map(|number| fs::read(self.log_of(number)).expect("a log"));
        let bytes: Vec<u8> = logs.flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A part of Keyward that runs until it is told to end, or killed, at the latest when this goes out of scope.
pub struct Process {
    child: Child,
    addresses: PathBuf,
    output: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready: it knows all AccessKeys.
    pub async fn is_ready(&mut self) {
        let begin = Instant::now();
        while self.get("/readyz").await.0 != 200 {
            let late = begin.elapsed() > Duration::from_secs(30);
            assert!(!late, "not ready in time:\n{}", self.log_text());
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Asks its admin listener, once there is one.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let address = self.admin().await;
        let answer = ask(address, path).await;
        answer.unwrap_or_else(|error| panic!("failed to ask for {path}: {error}"))
    }

    /// The value of a metric, with its labels as they are written.
    pub async fn metric(&mut self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        value.parse().expect("a count")
    }

    /// Waits until it has counted as many, since what it does can be seen before it is counted.
    pub async fn counts_at_least(&mut self, name: &str, many: u64) {
        let begin = Instant::now();
        while self.metric(name).await < many {
            let late = begin.elapsed() > Duration::from_secs(120);
            assert!(!late, "{name} has not come to {many}:\n{}", self.log_text());
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The same, and no more than that.
    pub async fn counts(&mut self, name: &str, many: u64) {
        self.counts_at_least(name, many).await;
        assert_eq!(self.metric(name).await, many, "{name}");
    }

    /// How many requests it has sent to the API server, by the steps that they belong to.
    pub async fn requests(&mut self) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let sent = text
            .lines()
            .filter(|line| line.starts_with("keyward_api_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        sent.sum()
    }

    /// A number of KiB from its `/proc/PID/status`, such as `VmRSS`.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process lives");
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
        value.expect("a number of KiB").parse().expect("a number")
    }

    /// Kills it, as a crash of its machine would.
    pub fn kill(mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert!(
            ended.is_none(),
            "it ended by itself: {ended:?}\n{}",
            self.log_text()
        );
        self.child.kill().expect("it is killed");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9));
    }

    /// What kills it, whenever that may be.
    pub fn killer(&self) -> impl FnOnce() + Send + 'static {
        // Means this process for ever, unlike its number.
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        let process = process.expect("a process");
        move || _ = pidfd_send_signal(process, Signal::KILL)
    }

    /// Waits for its end, after something else has killed it.
    pub fn was_killed(mut self) {
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9), "{}", self.log_text());
    }

    /// Tells it to end, as Kubernetes does, and waits until it has; at most this long.
    pub async fn end(mut self, patience: Duration) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it is told");
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            let late = begin.elapsed() > patience;
            assert!(!late, "it does not end:\n{}", self.log_text());
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Stops it, without its knowing, until it is resumed.
    pub fn pause(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("it is told to stop");
        // Its threads go on for a moment.
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).expect("a child");
        assert!(stopped.is_some_and(|status| status.stopped()));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("it goes on");
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).expect("its output")
    }

    /// What it has logged so far.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Is it still there?
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    async fn admin(&mut self) -> SocketAddr {
        self.address("admin").await
    }

    /// Where it listens: for `devices`, `brokers` or `admin`.
    pub async fn address(&mut self, listener: &str) -> SocketAddr {
        let begin = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&self.addresses) {
                let addresses: Value = serde_json::from_str(&text).expect("JSON");
                let address = addresses[listener].as_str().expect("an address");
                return address.parse().expect("an address");
            }
            assert!(self.lives(), "it has ended:\n{}", self.log_text());
            let late = begin.elapsed() > Duration::from_secs(30);
            assert!(!late, "no address in time:\n{}", self.log_text());
            sleep(BETWEEN_LOOKS).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let code = head.split(' ').nth(1).expect("a status line");
    Ok((code.parse().expect("a code"), body.to_owned()))
}

/// Panics if a log holds one of the secrets, as text, in base64 or as a list of numbers, or anything that begins like
/// one.
pub fn holds_no_secret(log: &str, secrets: &[String]) {
    assert!(!log.is_empty(), "the logs are kept");
    // By its random part: what breaks a secret up would break it there.
    let forms = secrets.iter().map(|secret| secret[4..47].to_owned());
    let beginnings = [
        "kws_[0-9A-Za-z]{8}",
        "a3dzX[0-9A-Za-z+/]{8}",
        "107, 119, 115, 95",
    ];
    let patterns: Vec<String> = forms.chain(beginnings.map(str::to_owned)).collect();
    let regex = regex::RegexBuilder::new(&patterns.join("|"))
        .size_limit(1 << 28)
        .build()
        .expect("a pattern");
    let found = regex.find(log).map(|found| &log[..found.start()]);
    // Where it stands, and not what it is.
    let line = found.map(|before| before.lines().count());
    assert_eq!(line, None, "a secret stands in this line of the log");
}
