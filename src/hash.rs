//! `keyward hash`: makes a verifier from a secret, for `spec.existing` of an AccessKey.
//!
//! The secret is read from standard input, or asked for at a terminal, and appears nowhere else.
//! Standard output gets the verifier and nothing beside it.
//!
//! A secret from elsewhere may have been chosen by a person, and then the hash is all that keeps
//! whoever reads the verifier from guessing it: so it is a dear one by default. That secret may also
//! look like anything; one that begins as Keyward's do has to be one of them, since a typo would be
//! found out by the devices.

use std::io::{self, Write};

use clap::Args;
use thiserror::Error;

use crate::input::{self, UnreadableInput};
use crate::key::{Secret, is_secret};
use crate::verifier::{self, HashProfile, Verifier};

/// Makes a verifier from a secret, which is read from standard input.
#[derive(Args, Clone, Debug)]
pub struct HashArgs {
    /// How dear the hash is: owasp (20 ms and 19 MiB) or, for secrets that nobody can guess, fleet
    /// (0.4 ms and 1 MiB).
    #[arg(
        long,
        env = "KEYWARD_HASH_PROFILE",
        value_enum,
        default_value = "owasp"
    )]
    pub hash_profile: HashProfile,
}

/// Writes the verifier to standard output, and to standard error what speaks against the secret.
///
/// # Errors
/// When there is no secret, or none that gateways accept.
pub fn run(args: &HashArgs) -> Result<(), CannotHash> {
    let secret = secret(&input::secret()?)?;
    if looks_weak(secret.expose()) {
        // Advice only: with standard error closed the verifier is what was asked for.
        _ = writeln!(io::stderr(), "{WEAK}");
    }
    let verifier = Verifier::of(&secret, args.hash_profile)?;
    Ok(writeln!(io::stdout(), "{}", verifier.as_str())?)
}

/// Why there is no verifier. Holds nothing of the secret.
#[derive(Debug, Error)]
pub enum CannotHash {
    /// Nothing could be read.
    #[error(transparent)]
    Input(#[from] UnreadableInput),
    /// It is longer than any that gateways accept.
    #[error(
        "the secret is longer than 1024 bytes, which no gateway accepts: check what was passed"
    )]
    TooLong,
    /// It begins like one of Keyward's.
    #[error(
        "the secret begins with kws_ and is none that Keyward made, since its last 6 characters do \
         not fit the others: look for a typo"
    )]
    Typo,
    /// It cannot be hashed.
    #[error(transparent)]
    Hash(#[from] verifier::HashError),
    /// The verifier cannot be written.
    #[error("cannot write the verifier to standard output: {0}")]
    Output(#[from] io::Error),
}

fn secret(line: &str) -> Result<Secret, CannotHash> {
    if line.starts_with("kws_") && !is_secret(line) {
        return Err(CannotHash::Typo);
    }
    Secret::foreign(line).map_err(|_| CannotHash::TooLong)
}

/// Whether a person may have chosen it, or another guess it: short, or of few different characters.
fn looks_weak(secret: &str) -> bool {
    let mut different: Vec<char> = secret.chars().collect();
    let length = different.len();
    different.sort_unstable();
    different.dedup();
    length < STRONG || different.len() < VARIED
}

const WEAK: &str = "keyward: warning: the secret looks as if it could be guessed, by whoever may read \
    the AccessKey: issue a new one for the key (rotation.revision) as soon as its devices can get it";

/// What NIST SP 800-63B asks of a password that stands alone.
const STRONG: usize = 15;

/// A random hexadecimal secret of 128 bits has fewer once in a million times.
const VARIED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";

    #[test]
    fn any_secret_of_1_to_1024_bytes_is_taken_as_it_is() {
        let longest = "x".repeat(1024);
        for text in ["x", " pass word ", "p\u{e4}ss", MADE, "KWS_", &longest] {
            let secret = secret(text).expect("a secret");
            assert_eq!(secret.expose(), text);
        }
        let too_long = secret(&"x".repeat(1025)).err().expect("an error");
        assert!(matches!(too_long, CannotHash::TooLong), "{too_long}");
    }

    #[test]
    fn what_begins_as_keyward_s_has_to_be_one_of_them() {
        let typo = MADE.replace('A', "B");
        for text in ["kws_", &typo, &MADE[..52]] {
            let typo = secret(text).err().expect("an error");
            assert!(matches!(typo, CannotHash::Typo), "{typo}");
            assert!(!typo.to_string().contains(&text[3..]) || text == "kws_");
        }
    }

    #[test]
    fn short_and_monotonous_secrets_look_weak_and_random_ones_do_not() {
        let weak = [
            "x",
            "hunter2",
            "correct horses",
            "aaaaaaaaaaaaaaaaaaaaaaaaa",
            "123123123123123123",
        ];
        for secret in weak {
            assert!(looks_weak(secret), "{secret}");
        }
        let strong = [
            MADE,
            "correct horse battery staple",
            "8c6f1b3a9d204e57",
            "0d3c5e0f7c1b4a2e8f9d6c5b4a392817065f4e3d2c1b0a998877665544332211",
        ];
        for secret in strong {
            assert!(!looks_weak(secret), "{secret}");
        }
    }
}
