//! By which certificates RabbitMQ's management API and the gateway know each other.

use std::path::PathBuf;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::way::{HttpClient, client};
use crate::tls::kept::Files;
use crate::tls::{TlsError, certificates, read, roots};

const CA: &str = "--rabbitmq-ca";
const CERT: &str = "--rabbitmq-cert";
const KEY: &str = "--rabbitmq-key";

/// The files, in PEM.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Certificates {
    /// Authorities that have signed RabbitMQ's; none if they are those that the system knows.
    pub ca: Option<PathBuf>,
    /// The gateway's own, with its chain, and the key of it.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What they hold.
#[derive(Default, PartialEq)]
pub struct Contents {
    ca: Option<Vec<u8>>,
    own: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// Without any TLS is not spoken.
impl Files for Option<Certificates> {
    type Contents = Contents;
    type Made = HttpClient;

    fn read(&self) -> Result<Contents, TlsError> {
        let Some(Certificates { ca, own }) = self else {
            return Ok(Contents::default());
        };
        let own = own.as_ref().map(|(cert, key)| {
            let cert = read(cert, CERT)?;
            Ok((cert, read(key, KEY)?.into()))
        });
        Ok(Contents {
            ca: ca.as_ref().map(|file| read(file, CA)).transpose()?,
            own: own.transpose()?,
        })
    }

    fn make(&self, contents: &Contents) -> Result<HttpClient, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| TlsError::System(error.to_string()))?;
        let Some(Certificates { ca, own }) = self else {
            let nobody = tls.with_root_certificates(RootCertStore::empty());
            return Ok(client(nobody.with_no_client_auth()));
        };
        let tls = match (ca, &contents.ca) {
            (Some(file), Some(pem)) => {
                let roots = roots(pem).map_err(TlsError::unusable(file, CA))?;
                tls.with_root_certificates(roots)
            }
            _ => {
                let tls = tls.with_native_roots();
                tls.map_err(|error| TlsError::System(error.to_string()))?
            }
        };
        let tls = match (own, &contents.own) {
            (Some((cert_file, key_file)), Some((cert, key))) => {
                let chain = certificates(cert).map_err(TlsError::unusable(cert_file, CERT))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string());
                let key = key.map_err(TlsError::unusable(key_file, KEY))?;
                let tls = tls.with_client_auth_cert(chain, key);
                let tls = tls.map_err(|error| error.to_string());
                tls.map_err(TlsError::unusable(cert_file, CERT))?
            }
            _ => tls.with_no_client_auth(),
        };
        Ok(client(tls))
    }
}
