//! A secret from standard input, or asked for at a terminal: arguments and environment variables can
//! be read by other processes, and end up in histories.

use std::io::{self, IsTerminal, Read};

use thiserror::Error;
use zeroize::Zeroizing;

/// Why there is no secret. Holds nothing of what was read.
#[derive(Debug, Error)]
pub enum UnreadableInput {
    /// It cannot be read.
    #[error("cannot read the secret from standard input: {0}")]
    Input(#[from] io::Error),
    /// It holds this instead of one line.
    #[error(
        "cannot read the secret from standard input: it holds {0}; pass one line, such as \
         `printf %s \"$SECRET\" |`"
    )]
    NotOneLine(&'static str),
}

/// Reads one line, or asks for it at a terminal, where nothing is shown of it.
///
/// # Errors
/// When that is nothing, or more than one line.
pub fn secret() -> Result<Zeroizing<String>, UnreadableInput> {
    if io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("Secret: ")?;
        return one_line(Zeroizing::new(typed.into_bytes()));
    }
    // The full capacity at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT));
    io::stdin()
        .lock()
        .take(MAX_INPUT as u64)
        .read_to_end(&mut bytes)?;
    one_line(bytes)
}

/// The line, without its end.
///
/// # Errors
/// When there is none, or more than one.
pub fn one_line(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, UnreadableInput> {
    let text = str::from_utf8(&bytes)
        .map_err(|_| UnreadableInput::NotOneLine("something else than text"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(UnreadableInput::NotOneLine("nothing"));
    }
    if line.contains('\n') {
        return Err(UnreadableInput::NotOneLine("more than one line"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Bytes of standard input that are looked at. What is longer is no secret, and is refused as such.
const MAX_INPUT: usize = 4096;
