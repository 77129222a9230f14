//! Certificates of the gateway that are replaced while it serves, and of the brokers that ask it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::certificates::{Authority, Pair};
use crate::support::gateway::Gateway;
use crate::support::process::{Access, Folder, Launcher};
use crate::support::wait::found;

/// Answered to everybody.
const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_is_served_once_its_key_is_there() {
    let scene = Scene::set("tls-written").await;
    let (first, second) = (scene.authority.server(), scene.authority.server());
    let cert = scene.folder.write("tls.crt", &first.cert_pem());
    let key = scene.folder.write("tls.key", &first.key_pem());
    let gateway = scene.start(&cert, &key, None).await;
    let visitor = Visitor::trusting(&scene.authority, None);
    let mut stays = visitor.connect(gateway.devices).await.unwrap();
    let regulars = Regulars::send(&visitor, gateway.devices);

    scene.folder.write("tls.crt", &second.cert_pem());
    let words = "the certificate stays as it is: cannot use";
    found("it says so", async || {
        gateway.process.log_text().contains(words).then_some(())
    })
    .await;
    visitor.is_served(&gateway, &first).await;
    scene.folder.write("tls.key", &second.key_pem());
    visitor.is_served(&gateway, &second).await;

    assert_eq!(stays.ask(JWKS).await.unwrap(), 200);
    assert_eq!(stays.served(), first.cert);
    assert_eq!(regulars.end().await, certificates([&first, &second]));
}

/// As kubelet replaces what is mounted of a Secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_in_one_step_is_served() {
    let scene = Scene::set("tls-mounted").await;
    let (first, second) = (scene.authority.server(), scene.authority.server());
    scene.mount("..first", &first);
    let [cert, key] = ["tls.crt", "tls.key"].map(|name| {
        let path = scene.folder.path().join(name);
        symlink(PathBuf::from("..data").join(name), &path).unwrap();
        path
    });
    let gateway = scene.start(&cert, &key, None).await;
    let visitor = Visitor::trusting(&scene.authority, None);
    let regulars = Regulars::send(&visitor, gateway.devices);
    visitor.is_served(&gateway, &first).await;
    scene.mount("..second", &second);
    fs::remove_dir_all(scene.folder.path().join("..first")).unwrap();
    visitor.is_served(&gateway, &second).await;
    assert_eq!(regulars.end().await, certificates([&first, &second]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_let_in_by_certificates_of_their_authority() {
    let scene = Scene::set("tls-brokers").await;
    let own = scene.authority.server();
    let (brokers, others) = (Authority::named("brokers"), Authority::named("others"));
    let cert = scene.folder.write("tls.crt", &own.cert_pem());
    let key = scene.folder.write("tls.key", &own.key_pem());
    let ca = scene.folder.write("ca.crt", &brokers.pem());
    let gateway = scene.start(&cert, &key, Some(&*ca)).await;
    let comes_with = |pair: Option<&Pair>| Visitor::trusting(&scene.authority, pair);

    let broker = comes_with(Some(&brokers.client()));
    let other = comes_with(Some(&others.client()));
    // Without a token it is refused, but it is answered.
    assert_eq!(
        broker.ask(gateway.brokers, "/forward-auth").await.unwrap(),
        401
    );
    let rows = [
        (other.clone(), "UnknownIssuer"),
        (comes_with(Some(&brokers.expired())), "expired"),
        (comes_with(Some(&brokers.early())), "not valid yet"),
        (comes_with(Some(&brokers.server())), "extended key usage"),
        (
            comes_with(Some(&Authority::named("brokers").client())),
            "BadSignature",
        ),
        (comes_with(None), "no certificates"),
    ];
    for (visitor, why) in rows {
        visitor
            .ask(gateway.brokers, "/forward-auth")
            .await
            .expect_err(why);
        found(why, async || {
            let log = gateway.process.log_text();
            let says = |line: &str| line.contains("no TLS") && line.contains(why);
            log.lines().any(says).then_some(())
        })
        .await;
    }
    let device = comes_with(None);
    assert_eq!(device.ask(gateway.devices, JWKS).await.unwrap(), 200);

    scene.folder.write("ca.crt", &others.pem());
    found("the others are let in", async || {
        other.ask(gateway.brokers, "/forward-auth").await.ok()
    })
    .await;
    broker
        .ask(gateway.brokers, "/forward-auth")
        .await
        .expect_err("it is no broker any more");
}

/// A gateway's files, and who vouches for it.
struct Scene {
    folder: Folder,
    authority: Authority,
    launcher: Launcher,
}

impl Scene {
    async fn set(purpose: &str) -> Scene {
        Scene {
            folder: Folder::new(purpose),
            authority: Authority::named("gateways"),
            // TLS needs no API server.
            launcher: Launcher::new(purpose, &Access::at("http://127.0.0.1:9")).logging("debug"),
        }
    }

    async fn start(&self, cert: &Path, key: &Path, client_ca: Option<&Path>) -> Gateway {
        let mut flags = vec![
            "--namespace=plant".to_owned(),
            "--ephemeral-signing-key".to_owned(),
            format!("--tls-cert={}", cert.display()),
            format!("--tls-key={}", key.display()),
        ];
        flags.extend(client_ca.map(|ca| format!("--brokers-client-ca={}", ca.display())));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Gateway::of(self.launcher.start_gateway(&flags)).await
    }

    /// Has `..data` show this, and nothing else for a moment.
    fn mount(&self, name: &str, pair: &Pair) {
        let root = self.folder.path();
        fs::create_dir(root.join(name)).unwrap();
        self.folder
            .write(&format!("{name}/tls.crt"), &pair.cert_pem());
        self.folder
            .write(&format!("{name}/tls.key"), &pair.key_pem());
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    }
}

/// Somebody who speaks TLS.
#[derive(Clone)]
struct Visitor(Arc<ClientConfig>);

impl Visitor {
    fn trusting(authority: &Authority, own: Option<&Pair>) -> Visitor {
        let mut roots = RootCertStore::empty();
        roots.add(authority.cert()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match own {
            Some(pair) => config
                .with_client_auth_cert(vec![pair.cert.clone()], pair.key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        Visitor(Arc::new(config))
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Visit> {
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let connector = TlsConnector::from(Arc::clone(&self.0));
        Ok(Visit(connector.connect(name, stream).await?))
    }

    /// On a connection of its own.
    async fn ask(&self, to: SocketAddr, path: &str) -> io::Result<u16> {
        self.connect(to).await?.ask(path).await
    }

    /// Waits until both listeners show this certificate.
    async fn is_served(&self, gateway: &Gateway, pair: &Pair) {
        for address in [gateway.devices, gateway.brokers] {
            found("the certificate is served", async || {
                let visit = self.connect(address).await.unwrap();
                (visit.served() == pair.cert).then_some(())
            })
            .await;
        }
    }
}

/// A connection.
struct Visit(TlsStream<TcpStream>);

impl Visit {
    fn served(&self) -> CertificateDer<'static> {
        let chain = self.0.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }

    async fn ask(&mut self, path: &str) -> io::Result<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head)
            .map_err(|_| ErrorKind::InvalidData)?
            .to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).await?;
        Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
    }
}

/// Somebody comes again and again, and is never turned away.
struct Regulars {
    is_over: Arc<AtomicBool>,
    coming: JoinHandle<BTreeSet<Vec<u8>>>,
}

impl Regulars {
    fn send(visitor: &Visitor, to: SocketAddr) -> Regulars {
        let (visitor, is_over) = (visitor.clone(), Arc::new(AtomicBool::default()));
        let over = Arc::clone(&is_over);
        let coming = tokio::spawn(async move {
            let mut served = BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                let mut visit = visitor.connect(to).await.unwrap();
                served.insert(visit.served().to_vec());
                for _ in 0..2 {
                    assert_eq!(visit.ask(JWKS).await.unwrap(), 200);
                }
            }
            served
        });
        Regulars { is_over, coming }
    }

    /// All certificates that they saw.
    async fn end(self) -> BTreeSet<Vec<u8>> {
        self.is_over.store(true, Ordering::SeqCst);
        self.coming.await.unwrap()
    }
}

fn certificates(pairs: [&Pair; 2]) -> BTreeSet<Vec<u8>> {
    pairs.map(|pair| pair.cert.to_vec()).into()
}
