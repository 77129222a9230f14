//! Processes of their own: this program again, told by an environment variable what to be.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{decision, misses, records, served};

const VARIABLE: &str = "KEYWARD_BENCH_CHILD";

/// What this process was told to be.
pub fn wanted() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Is it.
pub fn run(part: &str) {
    let words: Vec<&str> = part.split(' ').collect();
    let number = |at: usize| words[at].parse().expect("a number");
    match words[0] {
        "gateway" => served::gateway(number(1), number(2), number(3)),
        "bare" => served::bare(),
        "verify" => decision::verify(words[1], number(2)),
        "misses" => misses::queue(number(1)),
        "records" => records::fill(number(1)),
        "objects" => records::keep(number(1)),
        _ => panic!("nobody knows what {part} is"),
    }
}

/// One that lives until this goes out of scope.
pub struct Other {
    pub process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// It ends when this is closed, also if nobody is left to kill it.
    _tether: ChildStdin,
}

impl Other {
    /// Starts one.
    pub fn start(part: &str) -> Other {
        let this = std::env::current_exe().expect("a program");
        let mut command = Command::new(this);
        command
            .env(VARIABLE, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let output = process.stdout.take().expect("a pipe");
        Other {
            lines: BufReader::new(output).lines(),
            _tether: process.stdin.take().expect("a pipe"),
            process,
        }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let line = self.lines.next().expect("it goes on");
        line.expect("text")
    }

    /// The same, as a number.
    pub fn number(&mut self) -> f64 {
        self.line().parse().expect("a number")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Waits until whoever started this process is gone.
pub fn until_the_end() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
}
