//! Verifiers: argon2id hashes of secrets, as the PHC strings that status holds.
//!
//! A verifier is read from status, which a mistake in somebody's RBAC may let others write. So one
//! that would cost too much to check is refused when it is read, before any hash is run:
//!
//! | part | accepted | Keyward's own |
//! |---|---|---|
//! | algorithm, version | `argon2id`, `v=19` | the same |
//! | memory `m` | 8 x `p` to 65536 KiB | 1024 or 19456 KiB |
//! | passes `t` | 1 to 10 | 1 or 2 |
//! | lanes `p` | 1 to 4 | 1 |
//! | salt | 16 to 64 bytes | 16 bytes |
//! | tag | 32 bytes | 32 bytes |
//! | spelling | `$argon2id$v=19$m=..,t=..,p=..$salt$tag`, one way to write each value | the same |

mod memory;

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use clap::ValueEnum;
use rand::{TryRng, rngs::SysRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::key::{EntropyError, Secret, fill};

/// What a new verifier costs. A secret of 256 random bits cannot be guessed at any price, so the
/// cheap profile is as safe as the dear one, and a fleet that reconnects at once is let in sooner.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum HashProfile {
    /// 1024 KiB, one pass, one lane.
    #[default]
    Fleet,
    /// 19456 KiB, two passes, one lane: the minimum that OWASP's Password Storage Cheat Sheet asks
    /// for secrets that people choose.
    Owasp,
}

impl HashProfile {
    /// What one hash costs, as [`Verifier::cost`] tells it.
    pub const fn work(self) -> u32 {
        let Cost { m, t, .. } = self.cost();
        m * t
    }

    const fn cost(self) -> Cost {
        match self {
            Self::Fleet => Cost {
                m: 1024,
                t: 1,
                p: 1,
            },
            Self::Owasp => Cost {
                m: 19456,
                t: 2,
                p: 1,
            },
        }
    }
}

/// An argon2id hash within the caps of this module. Checking a secret against it is safe to do.
///
/// It is kept as it is written, and taken apart for each hash: that is small beside the hash, and
/// gateways keep very many.
#[derive(Clone, Eq, PartialEq)]
pub struct Verifier(Box<str>);

/// A verifier, taken apart.
struct Parts {
    params: Params,
    salt: Vec<u8>,
    tag: [u8; TAG_LEN],
}

impl Verifier {
    /// Hashes `secret` with a new salt: 0.4 ms of one core with [`HashProfile::Fleet`], 20 ms with
    /// [`HashProfile::Owasp`].
    ///
    /// # Errors
    /// When the operating system's generator fails, or there is no memory for the hash.
    pub fn of(secret: &Secret, profile: HashProfile) -> Result<Self, HashError> {
        Self::with_rng(secret, profile, &mut SysRng)
    }

    /// Reads a verifier as status holds it. Runs no hash.
    ///
    /// # Errors
    /// When it is no PHC string of argon2id version 19, or lies outside the caps of this module.
    pub fn parse(text: &str) -> Result<Self, UnusableVerifier> {
        Parts::read(text)?;
        Ok(Self(text.into()))
    }

    /// Whether `secret` is the one that was hashed. Runs one hash; the comparison takes the same
    /// time wherever the tags differ. False when there is no memory for the hash.
    pub fn verifies(&self, secret: &Secret) -> bool {
        let Ok(Parts { params, salt, tag }) = Parts::read(&self.0) else {
            return false;
        };
        let hashed = hash(secret.expose().as_bytes(), &salt, &params);
        hashed.is_ok_and(|hashed| hashed.ct_eq(&tag).into())
    }

    /// The PHC string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names it where it would be too long.
    pub fn thumbprint(&self) -> Thumbprint {
        let digest = Sha256::digest(self.as_str());
        Thumbprint(u64::from_be_bytes(std::array::from_fn(|at| digest[at])))
    }

    /// What one hash costs: memory in KiB, times passes.
    pub fn cost(&self) -> u32 {
        Parts::read(&self.0).map_or(0, |parts| parts.params.m_cost() * parts.params.t_cost())
    }

    fn with_rng(
        secret: &Secret,
        profile: HashProfile,
        rng: &mut impl TryRng,
    ) -> Result<Self, HashError> {
        let cost = profile.cost();
        let params = cost.params().map_err(HashError::Hash)?;
        let mut salt = vec![0; SALT_LEN];
        fill(rng, &mut salt)?;
        let tag = hash(secret.expose().as_bytes(), &salt, &params).map_err(HashError::Hash)?;
        let text = format!("$argon2id$v=19${cost}${}${}", base64(&salt), base64(&tag));
        Ok(Self(text.into()))
    }
}

impl Parts {
    fn read(text: &str) -> Result<Self, UnusableVerifier> {
        if text.len() > MAX_TEXT_LEN {
            return Err(UnusableVerifier::Shape);
        }
        let parts: Vec<&str> = text.split('$').collect();
        let [before, algorithm, version, cost, salt, tag] = parts[..] else {
            return Err(UnusableVerifier::Shape);
        };
        if (before, algorithm, version) != ("", "argon2id", "v=19") {
            return Err(UnusableVerifier::Algorithm);
        }
        Ok(Self {
            params: parse_cost(cost)?,
            salt: parse_salt(salt)?,
            tag: parse_tag(tag)?,
        })
    }
}

impl fmt::Debug for Verifier {
    /// Names the cost only: a hash has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = self.0.split('$').nth(3).unwrap_or_default();
        write!(f, "Verifier({cost})")
    }
}

/// The first 64 bits of a verifier's SHA-256, written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint(u64);

impl TryFrom<String> for Thumbprint {
    type Error = MalformedThumbprint;

    fn try_from(text: String) -> Result<Self, MalformedThumbprint> {
        let read = u64::from_str_radix(&text, 16).map(Self);
        let read = read.map_err(|_| MalformedThumbprint)?;
        // Spelled back, so that there is one way to write it.
        (String::from(read) == text)
            .then_some(read)
            .ok_or(MalformedThumbprint)
    }
}

impl From<Thumbprint> for String {
    fn from(of: Thumbprint) -> Self {
        format!("{:016x}", of.0)
    }
}

/// A text that is no [`Thumbprint`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a thumbprint has 16 hexadecimal digits, in lower case")]
pub struct MalformedThumbprint;

/// A secret could not be hashed.
#[derive(Debug, Error)]
pub enum HashError {
    /// There was no randomness for the salt.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Argon2 failed, for want of memory.
    #[error("cannot hash the secret: {0}")]
    Hash(argon2::Error),
}

/// Why a verifier is refused. Holds nothing of it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum UnusableVerifier {
    /// It is not `$argon2id$v=19$m=..,t=..,p=..$salt$tag`, or longer than such a string can be.
    #[error("the verifier is no PHC string `$argon2id$v=19$m=..,t=..,p=..$salt$tag`")]
    Shape,
    /// Another function, or another version of it.
    #[error("the verifier is not of argon2id, version 19")]
    Algorithm,
    /// The cost is outside the caps, or not `m=..,t=..,p=..` in plain decimal.
    #[error(
        "the verifier's cost must be `m=..,t=..,p=..`, at most m={MAX_M},t={MAX_T},p={MAX_P}, and \
         m at least 8 times p"
    )]
    Cost,
    /// The salt is too short, too long or no base64.
    #[error(
        "the verifier's salt must be {MIN_SALT_LEN} to {MAX_SALT_LEN} bytes of unpadded base64"
    )]
    Salt,
    /// The tag has another length or is no base64.
    #[error("the verifier's tag must be {TAG_LEN} bytes of unpadded base64")]
    Tag,
}

/// The three numbers of argon2's cost, spelled as PHC strings spell them.
struct Cost {
    m: u32,
    t: u32,
    p: u32,
}

impl Cost {
    fn params(&self) -> argon2::Result<Params> {
        Params::new(self.m, self.t, self.p, Some(TAG_LEN))
    }

    const fn is_capped(&self) -> bool {
        self.m <= MAX_M && self.t <= MAX_T && self.p <= MAX_P
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={},t={},p={}", self.m, self.t, self.p)
    }
}

fn hash(password: &[u8], salt: &[u8], params: &Params) -> argon2::Result<[u8; TAG_LEN]> {
    let mut tag = [0; TAG_LEN];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    memory::lend(params.block_count(), |blocks| {
        argon2.hash_password_into_with_memory(password, salt, &mut tag, blocks)
    })?;
    Ok(tag)
}

fn parse_cost(text: &str) -> Result<Params, UnusableVerifier> {
    let cost = read_cost(text).ok_or(UnusableVerifier::Cost)?;
    // Spelled back, so that there is one way to write a cost: no sign, no leading zero.
    if !cost.is_capped() || cost.to_string() != text {
        return Err(UnusableVerifier::Cost);
    }
    cost.params().map_err(|_| UnusableVerifier::Cost)
}

fn read_cost(text: &str) -> Option<Cost> {
    let (m, rest) = text.strip_prefix("m=")?.split_once(",t=")?;
    let (t, p) = rest.split_once(",p=")?;
    Some(Cost {
        m: m.parse().ok()?,
        t: t.parse().ok()?,
        p: p.parse().ok()?,
    })
}

fn parse_salt(text: &str) -> Result<Vec<u8>, UnusableVerifier> {
    let salt = Base64Unpadded::decode_vec(text).map_err(|_| UnusableVerifier::Salt)?;
    let fits = (MIN_SALT_LEN..=MAX_SALT_LEN).contains(&salt.len());
    if fits {
        Ok(salt)
    } else {
        Err(UnusableVerifier::Salt)
    }
}

fn parse_tag(text: &str) -> Result<[u8; TAG_LEN], UnusableVerifier> {
    let tag = Base64Unpadded::decode_vec(text).map_err(|_| UnusableVerifier::Tag)?;
    tag.try_into().map_err(|_| UnusableVerifier::Tag)
}

fn base64(bytes: &[u8]) -> String {
    Base64Unpadded::encode_string(bytes)
}

/// KiB. One check of a verifier at all three caps takes about a second.
const MAX_M: u32 = 65536;
const MAX_T: u32 = 10;
const MAX_P: u32 = 4;
const MIN_SALT_LEN: usize = 16;
const MAX_SALT_LEN: usize = 64;
const TAG_LEN: usize = 32;

/// The longest string within the caps has 166 characters; nothing longer is even split.
const MAX_TEXT_LEN: usize = 256;

/// Bytes of a new verifier's salt.
const SALT_LEN: usize = 16;

#[cfg(test)]
mod tests;
