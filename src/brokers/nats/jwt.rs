//! JSON Web Tokens as NATS has them, with an algorithm of its own name.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::nkey::{Kind, Signer, decode, has_signed};

/// `{"typ":"JWT","alg":"ed25519-nkey"}`
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ";

/// What every token begins with.
pub const BEGIN: &[u8] = b"eyJ";

/// The claims, signed.
pub fn sign(signer: &Signer, claims: &impl Serialize) -> String {
    let claims = serde_json::to_vec(claims).expect("JSON");
    let signed = format!("{HEADER}.{}", Base64UrlUnpadded::encode_string(&claims));
    let signature = signer.sign(&signed);
    format!(
        "{signed}.{}",
        Base64UrlUnpadded::encode_string(signature.as_ref())
    )
}

/// Claims that name who has signed them.
pub trait Issued {
    /// The public key.
    fn issuer(&self) -> &str;
}

/// The claims, if the issuer that they name has signed them, and is of this kind.
pub fn read<T: DeserializeOwned + Issued>(token: &[u8], kind: Kind) -> Option<T> {
    let token = str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.')?;
    let (_, claims) = signed.split_once('.')?;
    let claims = Base64UrlUnpadded::decode_vec(claims).map(Zeroizing::new);
    let claims: T = serde_json::from_slice(&claims.ok()?).ok()?;
    let signature = Base64UrlUnpadded::decode_vec(signature).ok()?;
    let issuer = decode(claims.issuer(), kind)?;
    has_signed(&issuer, signed, &signature).then_some(claims)
}
