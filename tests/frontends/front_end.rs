//! nginx, Caddy and Envoy, started with what `deploy/frontends` has for them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpStream;

use crate::support::process::Folder;
use crate::support::wait::found;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Nginx,
    Caddy,
    Envoy,
}

/// Who asks whom.
pub struct Wiring {
    /// The gateway's listener for brokers.
    pub gateway: SocketAddr,
    /// What is guarded.
    pub guarded: SocketAddr,
    /// By what the gateway knows the front end.
    pub caller: String,
}

impl Wiring {
    /// The same, with another word for the gateway.
    pub fn called(&self, caller: &str) -> Wiring {
        let caller = caller.to_owned();
        Wiring { caller, ..*self }
    }
}

/// A front end that runs until this goes out of scope.
pub struct FrontEnd {
    pub address: SocketAddr,
    child: Child,
    folder: Folder,
}

impl FrontEnd {
    /// Starts one, and waits until it listens.
    pub async fn start(kind: Kind, wiring: &Wiring) -> FrontEnd {
        let (folder, address) = (Folder::new("front-end"), free_address());
        let file = folder.write(kind.file(), &kind.configuration(wiring, address));
        let output = File::create(folder.path().join("output")).expect("a file");
        let mut command = kind.command(&file);
        command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output);
        let child = command.spawn().unwrap_or_else(|error| {
            assert!(error.kind() != ErrorKind::NotFound, "{}", kind.is_missing());
            panic!("{kind:?} does not start: {error}")
        });
        let mut front_end = FrontEnd {
            address,
            child,
            folder,
        };
        front_end.listens(kind).await;
        front_end
    }

    async fn listens(&mut self, kind: Kind) {
        found(&format!("{kind:?} listens"), async || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "{kind:?} has ended:\n{}", self.output());
            TcpStream::connect(self.address).await.ok()
        })
        .await;
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).expect("its output")
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Kind {
    /// What is shipped, with that in the place of addresses and token which its comment names.
    fn configuration(self, wiring: &Wiring, address: SocketAddr) -> String {
        let at = |at: SocketAddr| match self {
            Kind::Nginx | Kind::Caddy => at.to_string(),
            Kind::Envoy => format!("address: {}, port_value: {}", at.ip(), at.port()),
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/frontends");
        let file = folder.join(self.file());
        let mut text = fs::read_to_string(file).expect("a configuration");
        let mut put = |old: &str, new: &str| {
            assert!(text.contains(old), "{self:?}: {old} is to be replaced");
            text = text.replace(old, new);
        };
        let shipped = |port| at(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        put(&shipped(8082), &at(wiring.gateway));
        put(&shipped(8000), &at(wiring.guarded));
        put("0123456789abcdef0123456789abcdef", &wiring.caller);
        if let Kind::Caddy = self {
            put("bind 127.0.0.1\n", &format!("bind {}\n", address.ip()));
            put(":8080", &format!(":{}", address.port()));
        } else {
            put(&shipped(8080), &at(address));
        }
        self.whole(&text)
    }

    /// What the user has around it.
    fn whole(self, shipped: &str) -> String {
        match self {
            Kind::Nginx => format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
                 http {{\n\
                 access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
                 {shipped}\n\
                 }}\n"
            ),
            Kind::Caddy => format!("{{\n\tadmin off\n\tauto_https off\n}}\n{shipped}"),
            Kind::Envoy => shipped.to_owned(),
        }
    }

    fn command(self, file: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Kind::Nginx => command.args(["-e", "stderr", "-p", ".", "-c"]).arg(file),
            Kind::Caddy => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(file),
            Kind::Envoy => command
                .args(["--concurrency", "1", "--disable-hot-restart"])
                .args(["--log-level", "warn", "--config-path"])
                .arg(file),
        };
        command
    }

    fn file(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx.conf",
            Kind::Caddy => "Caddyfile",
            Kind::Envoy => "envoy.yaml",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Caddy => "caddy",
            Kind::Envoy => "envoy",
        }
    }

    fn is_missing(self) -> String {
        format!(
            "{} is not on the PATH: run `make test`, which installs it and sets the PATH (nginx is \
             a package, Caddy and Envoy come by deploy/local/frontends)",
            self.program()
        )
    }
}

/// An address that nobody else listens on: the loopback interface has one for every process, and no
/// port is asked for that the system gives to those who ask for any.
fn free_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 + high % 64, middle, low);
    SocketAddr::new(IpAddr::V4(address), PORT.fetch_add(1, Ordering::Relaxed))
}
