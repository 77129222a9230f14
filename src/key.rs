//! Key material: the public identifier, the secret, and the check beside a verifier.
//!
//! | type | shape | where it may appear |
//! |---|---|---|
//! | [`KeyId`] | `kwk_` and 26 lower-case Crockford base32 characters: 128 bits | anywhere |
//! | [`Secret`] | `kws_`, 43 base62 characters (256 bits), 6 of CRC-32 | memory, the delivered Secret |
//! | [`Check`] | 8 hexadecimal digits | beside a verifier, in status |
//!
//! The CRC refuses typos without a hash and lets scanners tell a leaked secret from noise; it keeps
//! no attacker out. The check lets a gateway refuse a wrong secret for the price of one SHA-256; it
//! tells 32 bits of a digest over 256 random bits, so it is never stored for secrets that a person
//! chose.
//!
//! All randomness comes from the operating system's generator. When that fails, so does the call:
//! there is no second source.

use std::fmt;

use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// The public identifier of an access key: `kwk_` and 26 characters of lower-case Crockford base32
/// (128 random bits, most significant first). Safe in logs, URLs and MQTT user names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeyId(String);

impl KeyId {
    /// A new identifier.
    ///
    /// # Errors
    /// When the operating system's generator fails.
    pub fn generate() -> Result<Self, EntropyError> {
        Self::from_rng(&mut SysRng)
    }

    /// The identifier as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_rng(rng: &mut impl TryRng) -> Result<Self, EntropyError> {
        let mut bytes = [0; 16];
        fill(rng, &mut bytes)?;
        let bits = u128::from_be_bytes(bytes);
        let digits = (0..KEY_DIGITS)
            .rev()
            .map(|place| base32_digit(bits >> (5 * place)));
        Ok(Self(KEY_PREFIX.chars().chain(digits).collect()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The plaintext of a generated secret: `kws_`, 43 base62 characters (256 random bits), and the
/// CRC-32 (ISO-HDLC) of those 47 as 6 base62 characters. Wiped from memory when dropped;
/// [`Secret::expose`] is the one way out.
///
/// It cannot be printed, serialised or copied by accident: `src/plaintext.rs` has what must not
/// compile.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// When the operating system's generator fails.
    pub fn generate() -> Result<Self, EntropyError> {
        Self::from_rng(&mut SysRng)
    }

    /// Reads a presented secret; nothing around it is trimmed.
    ///
    /// # Errors
    /// When the shape or the CRC is wrong. The error holds nothing of the input.
    pub fn parse(text: &str) -> Result<Self, MalformedSecret> {
        if !is_secret(text) {
            return Err(MalformedSecret);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Takes a secret that was made elsewhere: anything of 1 to 1024 bytes.
    ///
    /// # Errors
    /// When it is empty, or longer.
    pub fn foreign(text: &str) -> Result<Self, MalformedSecret> {
        if is_foreign_secret(text) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(MalformedSecret)
        }
    }

    /// The plaintext. Every caller is a place where the secret leaves this type: keep them few.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn from_rng(rng: &mut impl TryRng) -> Result<Self, EntropyError> {
        // The full capacity at once: a string that grows leaves copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(SECRET_LEN));
        text.push_str(SECRET_PREFIX);
        push_random_base62(rng, &mut text)?;
        let crc = crc_digits(&text);
        text.extend(crc.map(char::from));
        Ok(Self(text))
    }
}

/// Whether [`Secret::parse`] takes this. Copies nothing.
pub fn is_secret(text: &str) -> bool {
    let Some((body, crc)) = text.split_at_checked(BODY_LEN) else {
        return false;
    };
    let is_random = |random: &str| random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    body.strip_prefix(SECRET_PREFIX).is_some_and(is_random) && *crc.as_bytes() == crc_digits(body)
}

/// Whether [`Secret::foreign`] takes this.
pub fn is_foreign_secret(text: &str) -> bool {
    (1..=MAX_FOREIGN_LEN).contains(&text.len())
}

/// 32 bits that a wrong secret misses: the first 8 hexadecimal digits of the SHA-256 over
/// `keyward-check-v1`, NUL, the key, NUL, the secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Check([u8; CHECK_DIGITS]);

impl Check {
    /// The check of `secret` for the access key named `key`.
    pub fn of(key: &str, secret: &Secret) -> Self {
        let digest = Sha256::new()
            .chain_update(CHECK_DOMAIN)
            .chain_update(b"\0")
            .chain_update(key)
            .chain_update(b"\0")
            .chain_update(secret.expose())
            .finalize();
        let mut digits = [0; CHECK_DIGITS];
        for (digits, byte) in digits.chunks_exact_mut(2).zip(digest) {
            let hex = |half: u8| b"0123456789abcdef"[usize::from(half)];
            digits.copy_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        }
        Self(digits)
    }

    /// Reads a check as status holds it: 8 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, MalformedCheck> {
        let digits = text.as_bytes().try_into().map_err(|_| MalformedCheck)?;
        if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(digits))
        } else {
            Err(MalformedCheck)
        }
    }

    /// The check as status holds it.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hexadecimal digits")
    }
}

/// The operating system's random generator failed. Nothing was generated.
#[derive(Debug, Error)]
#[error("the operating system's random generator failed: {0}")]
pub struct EntropyError(String);

impl EntropyError {
    /// With what the generator says of it.
    pub fn because(of: impl fmt::Display) -> Self {
        Self(of.to_string())
    }
}

/// A text that is no secret: wrong length, prefix, alphabet or CRC. It does not say which, and
/// holds none of it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "not a secret: expected `kws_` and 49 letters and digits, the last 6 of which check the others"
)]
pub struct MalformedSecret;

/// A text that is no check.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a check: expected 8 lower-case hexadecimal digits")]
pub struct MalformedCheck;

/// Random bytes of the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    fill(&mut SysRng, &mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` with randomness, or fails.
pub(crate) fn fill(rng: &mut impl TryRng, bytes: &mut [u8]) -> Result<(), EntropyError> {
    rng.try_fill_bytes(bytes).map_err(EntropyError::because)
}

fn base32_digit(bits: u128) -> char {
    char::from(BASE32[(bits % 32) as usize])
}

/// Appends 43 characters, each of the 62 equally likely: of 6 random bits, the values 62 and 63 are
/// drawn again.
fn push_random_base62(rng: &mut impl TryRng, text: &mut String) -> Result<(), EntropyError> {
    let mut bytes = Zeroizing::new([0; 64]);
    while text.len() < BODY_LEN {
        fill(rng, &mut bytes[..])?;
        let digits = bytes
            .iter()
            .filter_map(|byte| BASE62.get(usize::from(byte & 63)));
        let missing = BODY_LEN - text.len();
        text.extend(digits.take(missing).map(|digit| char::from(*digit)));
    }
    Ok(())
}

fn crc_digits(body: &str) -> [u8; CRC_DIGITS] {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [0; CRC_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Scanners find keys and secrets by these prefixes: they never change.
const KEY_PREFIX: &str = "kwk_";
const SECRET_PREFIX: &str = "kws_";

const KEY_DIGITS: u32 = 26;
const RANDOM_DIGITS: usize = 43;
const CRC_DIGITS: usize = 6;
const BODY_LEN: usize = SECRET_PREFIX.len() + RANDOM_DIGITS;
const SECRET_LEN: usize = BODY_LEN + CRC_DIGITS;

/// What is longer costs time to hash, and no client sends it.
const MAX_FOREIGN_LEN: usize = 1024;

const CHECK_DOMAIN: &str = "keyward-check-v1";
const CHECK_DIGITS: usize = 8;

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests;
