//! Plaintext must not turn up anywhere but in the Secret: everything that the process logs is kept, at TRACE, and
//! searched.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use keyward::telemetry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A place in the log of this process.
#[derive(Clone, Copy)]
pub struct Bookmark(usize);

/// Keeps all logs of this process from now on, within the product's own limits, and writes them into the folder `KEYWARD_TEST_LOGS`,
/// if that is set.
pub fn listen() -> Bookmark {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = fmt::layer().with_ansi(false).with_writer(Everything::open);
        tracing_subscriber::registry()
            .with(lines.with_filter(filter_fn(telemetry::is_within_limits)))
            .init();
    });
    Bookmark(log().len())
}

/// Searches all logs of this process from now on, within the product's own limits, and keeps none:
/// there are too many.
pub fn search_as_it_is_written() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = fmt::layer().with_ansi(false).with_writer(|| Search);
        tracing_subscriber::registry()
            .with(lines.with_filter(filter_fn(telemetry::is_within_limits)))
            .init();
    });
}

static SEARCHED: AtomicU64 = AtomicU64::new(0);
static FOUND: AtomicU64 = AtomicU64::new(0);

/// Panics if one of the logs that were searched holds what looks like a secret. Says how many bytes
/// they had.
pub fn nothing_was_found() -> u64 {
    let searched = SEARCHED.load(Ordering::SeqCst);
    assert!(searched > 0, "the logs are searched");
    let found = FOUND.load(Ordering::SeqCst);
    assert_eq!(found, 0, "lines of the log hold what looks like a secret");
    searched
}

/// Searches what is written to it: a line at a time.
struct Search;

impl Write for Search {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let found = looks_like_a_secret(&String::from_utf8_lossy(line));
        FOUND.fetch_add(u64::from(found), Ordering::SeqCst);
        SEARCHED.fetch_add(line.len() as u64, Ordering::SeqCst);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Panics if `text` holds one of the `secrets`, or anything that looks like a secret.
pub fn holds_no_secret(what: &str, text: &str, secrets: &[String]) {
    for secret in secrets {
        let known = text.contains(secret.as_str());
        assert!(!known, "{what} holds a secret of this test");
    }
    let found = looks_like_a_secret(text);
    assert!(!found, "{what} holds what looks like a secret");
}

/// The same, for all logs from there so far.
pub fn logs_hold_no_secret(from: Bookmark, secrets: &[String]) {
    let log = log()[from.0..].to_vec();
    assert!(!log.is_empty(), "the logs are kept");
    holds_no_secret("the log", &String::from_utf8_lossy(&log), secrets);
}

/// Was this logged so far?
pub fn logs_say(words: &str) -> bool {
    String::from_utf8_lossy(&log()).contains(words)
}

/// `kws_` and enough behind it, as text, in base64, or as the list of numbers that Debug makes of bytes.
pub fn looks_like_a_secret(text: &str) -> bool {
    let follows = |start: &str, length: usize| {
        text.match_indices(start).any(|(at, _)| {
            let rest = &text.as_bytes()[at + start.len()..];
            rest.len() >= length && rest[..length].iter().all(u8::is_ascii_alphanumeric)
        })
    };
    follows("kws_", 40) || follows("a3dzX", 20) || text.contains("107, 119, 115, 95")
}

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to memory and to the file.
struct Everything(Option<File>);

impl Everything {
    fn open() -> Everything {
        static FILE: Mutex<Option<File>> = Mutex::new(None);
        let Some(folder) = std::env::var_os("KEYWARD_TEST_LOGS") else {
            return Everything(None);
        };
        let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let file = file.get_or_insert_with(|| {
            let exe = std::env::current_exe().expect("a name of this process");
            let exe = exe.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{exe}-{}.log", std::process::id());
            File::create(Path::new(&folder).join(name)).expect("KEYWARD_TEST_LOGS is a folder")
        });
        Everything(Some(file.try_clone().expect("a file")))
    }
}

impl Write for Everything {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().extend_from_slice(bytes);
        if let Some(file) = &mut self.0 {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
