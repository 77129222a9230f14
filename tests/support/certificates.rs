//! Authorities, and the certificates that they give out.

use base64ct::{Base64, Encoding};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::process::Folder;

/// Gives out certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Pair {
    pub cert: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn cert(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.cert())
    }

    /// For a server on the loopback interface.
    pub fn server(&self) -> Pair {
        self.give(ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// For a client.
    pub fn client(&self) -> Pair {
        self.give(ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// For a client of this name.
    pub fn client_named(&self, name: &str) -> Pair {
        let name = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, name);
        };
        self.give(ExtendedKeyUsagePurpose::ClientAuth, name)
    }

    /// For a client who came until last century.
    pub fn expired(&self) -> Pair {
        let ends = |params: &mut CertificateParams| params.not_after = date_time_ymd(1999, 12, 31);
        self.give(ExtendedKeyUsagePurpose::ClientAuth, ends)
    }

    /// For a client who is to come next century.
    pub fn early(&self) -> Pair {
        let begins = |params: &mut CertificateParams| params.not_before = date_time_ymd(2101, 1, 1);
        self.give(ExtendedKeyUsagePurpose::ClientAuth, begins)
    }

    fn give(
        &self,
        purpose: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            cert: cert.into(),
            key,
        }
    }
}

impl Pair {
    pub fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    /// Puts both into the folder, as `name.pem` and `name.key`.
    pub fn write(&self, folder: &Folder, name: &str) {
        folder.write(&format!("{name}.pem"), &self.cert_pem());
        folder.write(&format!("{name}.key"), &self.key_pem());
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// RFC 7468.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|begin| &text[begin..text.len().min(begin + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
