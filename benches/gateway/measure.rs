//! Rounds, medians, and the table at the end.

use std::fs;
use std::process::Child;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of each comparison.
pub const ROUNDS: usize = 9;

/// One goal, and what was measured.
pub struct Row {
    /// Its number.
    pub goal: &'static str,
    /// What is held against what.
    pub what: String,
    /// This, with its unit.
    pub own: String,
    /// Against that.
    pub other: String,
    /// What counts.
    pub figure: f64,
    /// The most that it may be.
    pub most: f64,
    /// Whether something else that is asked for holds, too.
    pub holds: bool,
}

/// Both arms of a comparison, round by round.
#[derive(Default)]
pub struct Compared {
    own: Vec<f64>,
    other: Vec<f64>,
}

impl Compared {
    /// Measures both in each round. Neither always goes first.
    pub fn rounds(mut own: impl FnMut() -> f64, mut other: impl FnMut() -> f64) -> Compared {
        let mut compared = Compared::default();
        for round in 0..ROUNDS {
            let (this, that) = if round % 2 == 0 {
                let this = own();
                (this, other())
            } else {
                let that = other();
                (own(), that)
            };
            compared.add(this, that);
        }
        compared
    }

    /// One more round.
    pub fn add(&mut self, own: f64, other: f64) {
        println!("  {own:>12.3} {other:>12.3} {:>7.3}", own / other);
        self.own.push(own);
        self.other.push(other);
    }

    /// The medians of both arms, and of their ratios.
    pub fn medians(&self) -> (f64, f64, f64) {
        let arms = self.own.iter().zip(&self.other);
        let ratios = arms.map(|(own, other)| own / other).collect();
        (
            median(self.own.clone()),
            median(self.other.clone()),
            median(ratios),
        )
    }

    /// A row whose figure is the ratio.
    pub fn row(&self, goal: &'static str, what: &str, unit: &str, most: f64) -> Row {
        let (own, other, figure) = self.medians();
        Row {
            goal,
            what: what.to_owned(),
            own: format!("{own:.2} {unit}"),
            other: format!("{other:.2} {unit}"),
            figure,
            most,
            holds: true,
        }
    }
}

/// The middle one.
pub fn median(of: Vec<f64>) -> f64 {
    quantile(of, 0.5)
}

/// Of 100 values, the 99th is the quantile 0.99.
pub fn quantile(mut of: Vec<f64>, part: f64) -> f64 {
    of.sort_by(f64::total_cmp);
    let at = (of.len() as f64 * part).ceil() as usize;
    of[at.clamp(1, of.len()) - 1]
}

/// The table at the end, as Markdown.
pub fn show(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "| goal | what | this | against | figure | at most | |\n|---|---|--:|--:|--:|--:|---|"
    );
    for row in rows {
        let Row {
            goal,
            what,
            own,
            other,
            figure,
            most,
            ..
        } = row;
        let is_met = *figure <= *most && row.holds;
        let verdict = if is_met { "met" } else { "**missed**" };
        println!("| {goal} | {what} | {own} | {other} | {figure:.2} | {most} | {verdict} |");
    }
    let missed = rows
        .iter()
        .filter(|row| row.figure > row.most || !row.holds);
    println!("{} of {} goals missed", missed.count(), rows.len());
}

/// A number of this size, or a smaller one where the benches themselves are tried.
pub fn scaled(size: usize) -> usize {
    let scale = std::env::var("KEYWARD_BENCH_SCALE");
    let scale = scale.map_or(1.0, |scale| {
        scale.parse().expect("KEYWARD_BENCH_SCALE is a number")
    });
    (size as f64 * scale).ceil() as usize
}

/// The same, of a time.
pub fn scaled_time(time: Duration) -> Duration {
    Duration::from_millis(scaled(time.as_millis() as usize) as u64)
}

/// What the system says about how busy it is.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A number of KiB of this process, such as `VmRSS`.
pub fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    value.expect("a number of KiB").parse().expect("a number")
}

/// The processor time that a process has taken, in seconds.
pub fn processor_time(of: &Child) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", of.id())).expect("it lives");
    // Its name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<f64> = rest
        .split(' ')
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    (fields[USER] + fields[SYSTEM]) / TICKS_A_SECOND
}

/// The processor time that this thread has taken, in seconds.
pub fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Where in `/proc/PID/stat`, behind the name.
const USER: usize = 12;
const SYSTEM: usize = 13;
const TICKS_A_SECOND: f64 = 100.0;

/// Which processor.
#[derive(Clone, Copy)]
pub enum Core {
    /// Where clients run.
    First,
    /// Where what is measured runs.
    Last,
}

/// Keeps this thread, and those that it starts from now on, on one processor.
pub fn stay_on(core: Core) {
    let allowed = sched_getaffinity(None).expect("a set of processors");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let core = match core {
        Core::First => cores.next(),
        Core::Last => cores.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(core.expect("a processor"));
    sched_setaffinity(None, &one).expect("a processor of its own");
}

/// Lets this thread run everywhere again.
pub fn stay_anywhere() {
    let mut all = CpuSet::new();
    for core in 0..CpuSet::MAX_CPU {
        all.set(core);
    }
    sched_setaffinity(None, &all).expect("all processors");
}
