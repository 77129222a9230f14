//! Keys as NATS writes them: base32 of a kind, 32 bytes and a CRC.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

/// What a key is for: the letter that it begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// `A`: it signs what users may.
    Account = 0,
    /// `N`: a server.
    Server = 13 << 3,
    /// `X`: it encrypts.
    Curve = 23 << 3,
}

const SEED: u8 = 18 << 3;

/// A key that nobody else knows.
pub struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    /// Reads the file of a seed, which may have lines that are none.
    ///
    /// # Errors
    /// When there is no seed of this kind.
    pub fn in_file(file: &Path, kind: Kind) -> Result<Seed, UnreadableSeed> {
        let text = fs::read_to_string(file).map(Zeroizing::new);
        let text = text.map_err(|error| UnreadableSeed::File(file.to_owned(), error))?;
        let mut lines = text.lines().map(str::trim);
        let seed = lines.find_map(|line| Seed::parse(line, kind));
        seed.ok_or_else(|| UnreadableSeed::Kind(file.to_owned(), kind.letter()))
    }

    fn parse(text: &str, kind: Kind) -> Option<Seed> {
        let bytes = checked(text)?;
        let [begin, end, rest @ ..] = &**bytes else {
            return None;
        };
        let kind = kind as u8;
        let is_own = [*begin, *end] == [SEED | kind >> 5, (kind & 31) << 3];
        let rest = rest.try_into().ok().filter(|_| is_own)?;
        Some(Seed(Zeroizing::new(rest)))
    }

    #[cfg(test)]
    pub fn of(bytes: [u8; 32]) -> Seed {
        Seed(Zeroizing::new(bytes))
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Kind {
    fn letter(self) -> char {
        char::from(ALPHABET[usize::from(self as u8 >> 3)])
    }
}

/// Why there is no seed.
#[derive(Debug, Error)]
pub enum UnreadableSeed {
    /// The file cannot be read.
    #[error("the NATS seed file {0} cannot be read: {1}")]
    File(PathBuf, io::Error),
    /// It is another's.
    #[error("the NATS seed file {0} has no line with a seed that begins with S{1}")]
    Kind(PathBuf, char),
}

/// An account that signs.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// As it is written.
    pub public: String,
}

impl Signer {
    /// The account with this seed.
    pub fn of(seed: &Seed) -> Signer {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.bytes()).expect("32 bytes are a seed");
        let public = encode(Kind::Account, pair.public_key().as_ref());
        Signer { pair, public }
    }

    /// Its signature.
    pub fn sign(&self, text: &str) -> impl AsRef<[u8]> {
        self.pair.sign(text.as_bytes())
    }
}

/// Whether who has this public key has signed the text.
pub fn has_signed(public: &[u8; 32], text: &str, signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public);
    key.verify(text.as_bytes(), signature).is_ok()
}

/// The 32 bytes of a public key of this kind.
pub fn decode(text: &str, kind: Kind) -> Option<[u8; 32]> {
    let bytes = checked(text)?;
    let (begin, rest) = bytes.split_first()?;
    rest.try_into().ok().filter(|_| *begin == kind as u8)
}

/// A public key as it is written.
pub fn encode(kind: Kind, public: &[u8]) -> String {
    let mut bytes = [&[kind as u8], public].concat();
    bytes.extend(crc16(&bytes).to_le_bytes());
    base32(&bytes)
}

/// What is written, without the CRC.
fn checked(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(from_base32(text)?);
    let length = bytes.len().checked_sub(2)?;
    let (body, crc) = bytes.split_at(length);
    let is_right = *crc == crc16(body).to_le_bytes();
    bytes.truncate(length);
    is_right.then_some(bytes)
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut many) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        many += 8;
        while many >= 5 {
            many -= 5;
            text.push(char::from(ALPHABET[(bits >> many & 31) as usize]));
        }
    }
    if many > 0 {
        text.push(char::from(ALPHABET[(bits << (5 - many) & 31) as usize]));
    }
    text
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    // At once: what grows leaves copies behind.
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut many) = (0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|own| *own == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        many += 5;
        if many >= 8 {
            many -= 8;
            bytes.push((bits >> many & 255) as u8);
        }
    }
    Some(bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of NATS's own tools.
    const ACCOUNT: &str = "SAAFHVKYGNFDR36Z7OOMXF72UZCAYOQIGLD22MMSJAA55IQ57QFIGWUWJM";
    const ACCOUNT_PUBLIC: &str = "AD4LKH77GYWVO7YYM26JOQ7B2FILYO4CAF5DZHZE746LYULL6BMBUNHQ";
    const CURVE: &str = "SXAFHVKYGNFDR36Z7OOMXF72UZCAYOQIGLD22MMSJAA55IQ57QFIGWTGEI";

    #[test]
    fn a_seed_gives_the_public_key_that_others_find() {
        let seed = Seed::parse(ACCOUNT, Kind::Account).expect("a seed");
        let signer = Signer::of(&seed);
        assert_eq!(signer.public, ACCOUNT_PUBLIC);
        let public = decode(ACCOUNT_PUBLIC, Kind::Account).expect("a public key");
        assert_eq!(encode(Kind::Account, &public), ACCOUNT_PUBLIC);
        let signature = signer.sign("text");
        assert!(has_signed(&public, "text", signature.as_ref()));
        assert!(!has_signed(&public, "Text", signature.as_ref()));
    }

    #[test]
    fn what_is_no_such_key_is_not_read() {
        assert!(Seed::parse(CURVE, Kind::Curve).is_some());
        assert!(Seed::parse(CURVE, Kind::Account).is_none());
        assert!(Seed::parse(ACCOUNT, Kind::Curve).is_none());
        assert!(decode(ACCOUNT_PUBLIC, Kind::Server).is_none());
        let typo = ACCOUNT.replacen('A', "B", 1);
        for text in ["", "S", "SA", &typo, &ACCOUNT[1..], &ACCOUNT.to_lowercase()] {
            assert!(Seed::parse(text, Kind::Account).is_none(), "{text}");
        }
    }
}
