//! TLS for listeners: certificate and key from files, read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use self::kept::{Files, Kept};

pub mod kept;

/// What a listener shows of itself, and whom it lets in. Clones are one and the same.
#[derive(Clone)]
pub struct Tls(Arc<Kept<Listeners>>);

/// The files of a listener.
struct Listeners {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What the files hold, in PEM.
#[derive(PartialEq)]
struct Contents {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the certificate chain and its key. With `client_ca` only clients with a certificate of
    /// one of its authorities are let in.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn of_files(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Tls, TlsError> {
        let kept = Kept::of(Listeners {
            cert: cert.to_owned(),
            key: key.to_owned(),
            client_ca: client_ca.map(Path::to_owned),
        });
        Ok(Tls(Arc::new(kept?)))
    }

    /// Accepts connections by what the files say now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.made())
    }

    /// Reads the files from time to time. Never ends.
    pub async fn keep_up(&self) {
        self.0.keep_up().await;
    }
}

impl Files for Listeners {
    type Contents = Contents;
    type Made = Arc<ServerConfig>;

    fn read(&self) -> Result<Contents, TlsError> {
        let client_ca = self.client_ca.as_deref();
        Ok(Contents {
            cert: read(&self.cert, "--tls-cert")?,
            key: read(&self.key, "--tls-key")?.into(),
            client_ca: client_ca
                .map(|file| read(file, "--brokers-client-ca"))
                .transpose()?,
        })
    }

    fn make(&self, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = TlsError::unusable;
        let chain = certificates(&contents.cert).map_err(unusable(&self.cert, "--tls-cert"))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| error.to_string());
        let key = key.map_err(unusable(&self.key, "--tls-key"))?;
        let builder = ServerConfig::builder();
        let builder = match (&contents.client_ca, &self.client_ca) {
            (Some(pem), Some(file)) => {
                let roots = roots(pem).map_err(unusable(file, "--brokers-client-ca"))?;
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                let verifier = verifier.map_err(|error| error.to_string());
                let verifier = verifier.map_err(unusable(file, "--brokers-client-ca"))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let config = config.map_err(|error| error.to_string());
        let mut config = config.map_err(unusable(&self.cert, "--tls-cert"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What a file holds that this flag names.
pub(crate) fn read(file: &Path, flag: &'static str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|cause| TlsError::Read {
        file: file.to_owned(),
        flag,
        cause,
    })
}

/// A chain in PEM, of one at least.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    Ok(chain)
}

/// Authorities in PEM.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Why TLS cannot be spoken.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({flag}): {cause}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Who named it.
        flag: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A file holds something else.
    #[error("cannot use {} ({flag}): {cause}", file.display())]
    Unusable {
        /// Which.
        file: PathBuf,
        /// Who named it.
        flag: &'static str,
        /// Why.
        cause: String,
    },
    /// What the system has for it cannot be used.
    #[error("TLS cannot be spoken by what the system has: {0}")]
    System(String),
}

impl TlsError {
    /// That a file which this flag names cannot be used, once it is known why.
    pub(crate) fn unusable(file: &Path, flag: &'static str) -> impl FnOnce(String) -> TlsError {
        let file = file.to_owned();
        move |cause| TlsError::Unusable { file, flag, cause }
    }
}
