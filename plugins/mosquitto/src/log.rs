//! What is logged, on whatever thread, until the broker's thread writes it: its log is for that thread alone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem::take;
use std::sync::{Mutex, PoisonError};

use keyward::telemetry::{self, TelemetryError};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// So many lines wait at most.
const MOST: usize = 1024;

/// There is one log in a process.
static WAITING: Mutex<VecDeque<Line>> = Mutex::new(VecDeque::new());

/// A line.
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl Line {
    /// Something that somebody has to do something about.
    pub fn error(text: String) -> Line {
        Line {
            level: Level::Error,
            text,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy)]
pub enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

/// Logs from now on, at most of this level. The second plugin in a process logs as the first one does.
///
/// # Errors
/// When the level cannot be read.
pub fn begin(level: &str) -> Result<(), TelemetryError> {
    match telemetry::init_plain(level, Lines) {
        Err(TelemetryError::Twice(_)) => Ok(()),
        begun => begun,
    }
}

/// The lines that wait.
pub fn drain() -> Vec<Line> {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.drain(..).collect()
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer::at(Level::Info)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Writer {
        Writer::at(match *meta.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        })
    }
}

/// One line in the making.
struct Writer {
    level: Level,
    bytes: Vec<u8>,
}

impl Writer {
    fn at(level: Level) -> Writer {
        Writer {
            level,
            bytes: Vec::new(),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&take(&mut self.bytes))
            .trim_end()
            .to_owned();
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the broker stands still, what happened first says more than what came of it.
        if !text.is_empty() && waiting.len() < MOST {
            waiting.push_back(Line {
                level: self.level,
                text,
            });
        }
    }
}
