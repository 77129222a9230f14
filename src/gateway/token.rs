//! Tokens: what a device gets for its secret, and shows instead of it.
//!
//! A token is a JWT of the shape of RFC 9068, signed with ES256. It names the device, the key, the
//! namespace, and the verifier that admitted the device. A gateway that is shown one asks
//! its directory about these, so a token dies with the key, the verifier, or the device's rights.

use std::borrow::Borrow;

use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::key::{EntropyError, random_bytes};
use crate::text::Text;
use crate::verifier::Thumbprint;

use base64ct::{Base64UrlUnpadded, Encoding};

/// Seconds that a token is valid if nobody asks for less or more.
pub const DEFAULT_TTL: u32 = 3600;

/// Seconds that a token is valid at most.
pub const LONGEST_TTL: u32 = 86_400;

/// What a token says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: Text,
    /// For whom it is.
    pub aud: Text,
    /// The device ID, as the device presented it.
    pub sub: Text,
    /// The access key.
    pub client_id: Text,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// From when it is not valid any more.
    pub exp: i64,
    /// Its number.
    pub jti: Text,
    /// What it may be used for, separated by spaces.
    pub scope: String,
    /// What the directory is asked for.
    pub keyward: Named,
}

/// What a token depends on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Named {
    /// The namespace of key and device.
    pub namespace: Text,
    /// The device ID, without the namespace.
    pub device: Text,
    /// The verifier that admitted the device.
    pub verifier: Thumbprint,
}

impl Claims {
    /// Whether the token is of this issuer, and for this audience.
    pub fn are_for(&self, issuer: &str, audience: &str) -> bool {
        self.iss == *issuer && self.aud == *audience
    }

    /// Whether the token has ended.
    pub fn have_ended(&self, now: Timestamp) -> bool {
        self.exp <= now.as_second()
    }
}

/// A number that no other token has.
///
/// # Errors
/// When the operating system's random generator fails.
pub fn number() -> Result<Text, EntropyError> {
    Ok(base64(&random_bytes::<16>()?).into())
}

/// A key pair that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl SigningKey {
    /// Reads a P-256 key, as PKCS#8 in DER.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey, UnusableKey> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
        Ok(SigningKey::of(pair.map_err(|_| UnusableKey)?))
    }

    /// A new one.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn generate() -> Result<SigningKey, EntropyError> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let made = made.map_err(EntropyError::because)?;
        SigningKey::from_pkcs8(made.as_ref()).map_err(EntropyError::because)
    }

    fn of(pair: EcdsaKeyPair) -> SigningKey {
        let (x, y) = coordinates(&pair);
        // RFC 7638: the members in this order, without spaces.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = base64(&Sha256::digest(members));
        SigningKey { pair, id }
    }

    /// Its thumbprint (RFC 7638), which tokens name it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public part, as a JWK.
    pub fn public(&self) -> Value {
        let (x, y) = coordinates(&self.pair);
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.id, "use": "sig", "alg": "ES256" })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the operating system's random generator fails.
    pub fn sign(&self, claims: &Claims) -> Result<String, EntropyError> {
        let header = Header {
            typ: TYPE.to_owned(),
            alg: ALGORITHM.to_owned(),
            kid: self.id.clone(),
        };
        let signed = format!("{}.{}", json_part(&header), json_part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(EntropyError::because)?;
        Ok(format!("{signed}.{}", base64(signature.as_ref())))
    }

    fn verifies(&self, signed: &str, signature: &[u8]) -> bool {
        let public = self.pair.public_key().as_ref();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        public.verify(signed.as_bytes(), signature).is_ok()
    }
}

/// Reads a token that one of these keys has signed, and says which. It need not be valid.
pub fn read<K: Borrow<SigningKey>>(
    token: &str,
    keys: impl IntoIterator<Item = K>,
) -> Option<(K, Claims)> {
    if token.len() > LONGEST_TOKEN {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = from_part(header)?;
    if (&*header.typ, &*header.alg) != (TYPE, ALGORITHM) {
        return None;
    }
    let mut keys = keys.into_iter();
    let key = keys.find(|key| key.borrow().id == header.kid)?;
    let signature = Base64UrlUnpadded::decode_vec(signature).ok()?;
    if !key.borrow().verifies(signed, &signature) {
        return None;
    }
    Some((key, from_part(claims)?))
}

#[derive(Deserialize, Serialize)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

const TYPE: &str = "at+jwt";
const ALGORITHM: &str = "ES256";

/// Longer than any that is made here.
const LONGEST_TOKEN: usize = 8192;

fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    // An uncompressed point: 4, x, y.
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(32);
    (base64(x), base64(y))
}

fn base64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn json_part(of: &impl Serialize) -> String {
    base64(&serde_json::to_vec(of).expect("JSON"))
}

fn from_part<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let json = Base64UrlUnpadded::decode_vec(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A file that holds no key to sign with.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "it holds no P-256 key in PKCS#8: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
)]
pub struct UnusableKey;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a timestamp")
    }

    fn thumbprint() -> Thumbprint {
        let text = "0123456789abcdef".to_owned();
        text.try_into().expect("16 digits")
    }

    fn claims() -> Claims {
        Claims {
            iss: "https://gateway".into(),
            aud: "things".into(),
            sub: "pump-1".into(),
            client_id: "kwk_0123456789abcdefghjkmnpqrs".into(),
            iat: NOW,
            exp: NOW + 60,
            jti: number().expect("entropy"),
            scope: "all.Device".to_owned(),
            keyward: Named {
                namespace: "plant".into(),
                device: "pump-1".into(),
                verifier: thumbprint(),
            },
        }
    }

    /// What a valid token says.
    fn read<'a>(
        token: &str,
        keys: impl IntoIterator<Item = &'a SigningKey>,
        issuer: &str,
        audience: &str,
        now: Timestamp,
    ) -> Option<Claims> {
        let (_, claims) = super::read(token, keys)?;
        let is_valid = claims.are_for(issuer, audience) && !claims.have_ended(now);
        is_valid.then_some(claims)
    }

    fn read_at(token: &str, key: &SigningKey, seconds: i64) -> Option<Claims> {
        read(token, [key], "https://gateway", "things", now(seconds))
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_ends() {
        let key = SigningKey::generate().expect("entropy");
        let token = key.sign(&claims()).expect("entropy");
        let read = read_at(&token, &key, NOW + 59).expect("valid");
        assert_eq!(
            read,
            Claims {
                jti: read.jti.clone(),
                ..claims()
            }
        );
        assert_eq!(read_at(&token, &key, NOW + 60), None);
    }

    #[test]
    fn a_token_is_for_one_audience_of_one_issuer_and_by_one_key() {
        let (key, other) = (
            SigningKey::generate().expect("entropy"),
            SigningKey::generate().expect("entropy"),
        );
        let token = key.sign(&claims()).expect("entropy");
        let now = now(NOW);
        assert!(read(&token, [&other, &key], "https://gateway", "things", now).is_some());
        assert_eq!(
            read(&token, [&other], "https://gateway", "things", now),
            None
        );
        assert_eq!(
            read(&token, [&key], "https://gateway/", "things", now),
            None
        );
        assert_eq!(read(&token, [&key], "https://gateway", "others", now), None);
    }

    #[test]
    fn what_was_changed_is_no_token() {
        let key = SigningKey::generate().expect("entropy");
        let token = key.sign(&claims()).expect("entropy");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(read_at(&changed, &key, NOW), None, "at {at}");
            assert_eq!(read_at(&token[..at], &key, NOW), None, "up to {at}");
        }
        let (header, rest) = token.split_once('.').expect("parts");
        let none = base64(br#"{"typ":"at+jwt","alg":"none","kid":""}"#);
        let jwt =
            base64(format!(r#"{{"typ":"JWT","alg":"ES256","kid":"{}"}}"#, key.id()).as_bytes());
        for header in [none, jwt] {
            assert_eq!(read_at(&format!("{header}.{rest}"), &key, NOW), None);
        }
        let body = rest.split_once('.').expect("parts").0;
        for wrong in [
            "",
            ".",
            "..",
            &format!("{header}.{body}."),
            &format!("{token}="),
            &format!(" {token}"),
        ] {
            assert_eq!(read_at(wrong, &key, NOW), None, "{wrong}");
        }
    }

    #[test]
    fn the_public_part_and_its_thumbprint_are_those_of_the_key() {
        let key = SigningKey::generate().expect("entropy");
        let public = key.public();
        assert_eq!(public["kid"], key.id());
        let part = |name: &str| {
            Base64UrlUnpadded::decode_vec(public[name].as_str().expect("text")).expect("base64")
        };
        let point = [&[4][..], &part("x"), &part("y")].concat();
        assert_eq!(point, key.pair.public_key().as_ref());
        assert_eq!(part("kid").len(), 32);
        assert!(public.get("d").is_none());
    }

    #[test]
    fn what_is_no_p256_key_is_refused() {
        for der in [&b""[..], b"x", &[0x30; 100]] {
            assert_eq!(SigningKey::from_pkcs8(der).err(), Some(UnusableKey));
        }
    }
}
