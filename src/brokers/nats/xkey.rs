//! What goes between a server and us, sealed so that nobody between can read it: NaCl's box, as NATS writes it.

use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use zeroize::Zeroizing;

use super::nkey::{Kind, Seed, decode};
use crate::key::random_bytes;

const VERSION: &[u8] = b"xkv1";
const NONCE: usize = 24;

/// A key that opens and seals.
pub struct Xkey(SecretKey);

impl Xkey {
    /// The key with this seed.
    pub fn of(seed: &Seed) -> Xkey {
        Xkey(SecretKey::from(*seed.bytes()))
    }

    /// What who has this public key has sealed for us.
    pub fn open(&self, from: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = sealed.strip_prefix(VERSION)?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let opened = self.shared_with(from)?.decrypt(nonce.into(), sealed);
        opened.ok().map(Zeroizing::new)
    }

    /// Sealed, for who has this public key.
    pub fn seal(&self, to: &str, text: &[u8]) -> Option<Vec<u8>> {
        let nonce = random_bytes::<NONCE>().ok()?;
        let sealed = self.shared_with(to)?.encrypt(&nonce.into(), text).ok()?;
        Some([VERSION, &nonce, &sealed].concat())
    }

    fn shared_with(&self, public: &str) -> Option<SalsaBox> {
        let public = PublicKey::from(decode(public, Kind::Curve)?);
        Some(SalsaBox::new(&public, &self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::nkey::encode;
    use super::*;

    fn pair(byte: u8) -> (Xkey, String) {
        let secret = SecretKey::from([byte; 32]);
        let public = encode(Kind::Curve, secret.public_key().as_bytes());
        (Xkey(secret), public)
    }

    #[test]
    fn only_who_it_is_for_opens_what_is_sealed() {
        let ((one, one_public), (two, two_public), (third, _)) = (pair(1), pair(2), pair(3));
        let mut sealed = one.seal(&two_public, b"text").expect("sealed");
        assert_eq!(**two.open(&one_public, &sealed).expect("opened"), *b"text");
        assert!(third.open(&one_public, &sealed).is_none());
        assert!(two.open(&two_public, &sealed).is_none());
        *sealed.last_mut().expect("a byte") ^= 1;
        for length in [0, 3, 10, 28, sealed.len()] {
            assert!(two.open(&one_public, &sealed[..length]).is_none());
        }
    }
}
