//! A run, as one line that replays it: `create seed=0 a2:drop a5:late-1`.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::support::fault::{AT_BEGIN, At, Fault, Planned, WatchFault};
use super::support::proxy::{Asked, Rules};
use super::workload::Workload;

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// What users do.
    pub workload: Workload,
    /// With 0 users wait until all is done before they do the next thing. Otherwise it says how
    /// long they wait instead.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Vec<Planned>,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seed={}", self.workload, self.seed)?;
        self.faults
            .iter()
            .try_for_each(|fault| write!(f, " {fault}"))
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Line, String> {
        let mut words = text.split_whitespace();
        let workload = words.next().unwrap_or_default().parse()?;
        let seed = words.next().and_then(|word| word.strip_prefix("seed="));
        let seed = seed.and_then(|digits| digits.parse().ok());
        Ok(Line {
            workload,
            seed: seed.ok_or("the second word of a run is seed=NUMBER")?,
            faults: words.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

/// Has the faults of one controller happen, and counts what it asks for.
#[derive(Clone)]
pub struct Schedule(Arc<Counts>);

struct Counts {
    faults: Vec<At>,
    requests: AtomicU32,
    about_events: AtomicU32,
    begun: AtomicU32,
    watched: AtomicU32,
    fired: AtomicU64,
    misled: AtomicU64,
    asked: Mutex<Vec<Asked>>,
}

impl Schedule {
    /// The faults of this controller.
    pub fn of(line: &Line, controller: usize) -> Schedule {
        let own = line.faults.iter();
        let own = own.filter(|fault| fault.controller == controller);
        Schedule(Arc::new(Counts {
            faults: own.map(|fault| fault.at).collect(),
            requests: AtomicU32::new(0),
            about_events: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            watched: AtomicU32::new(0),
            fired: AtomicU64::new(0),
            misled: AtomicU64::new(0),
            asked: Mutex::default(),
        }))
    }

    /// How many faults have happened.
    pub fn fired(&self) -> u64 {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// How many faults have happened to the events of watches: what these have lost is not known
    /// before the next list.
    pub fn misled(&self) -> u64 {
        self.0.misled.load(Ordering::SeqCst)
    }

    /// How many requests there were, how many about Events, how many that began watches, and how
    /// many events these delivered.
    pub fn counts(&self) -> [u32; 4] {
        let counts = &self.0;
        [
            &counts.requests,
            &counts.about_events,
            &counts.begun,
            &counts.watched,
        ]
        .map(|count| count.load(Ordering::SeqCst))
    }

    /// What was asked for, but for watches.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.0.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn due<T>(&self, find: impl Fn(&At) -> Option<T>) -> Option<T> {
        let fault = self.0.faults.iter().find_map(find)?;
        self.0.fired.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }
}

impl Rules for Schedule {
    fn request(&self, asked: &Asked) -> Option<Fault> {
        if asked.is_watch() {
            let count = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
            return self.due(|at| match at {
                At::Begin(n, fault) if *n == count => Some(*fault),
                _ => None,
            });
        }
        let log = self.0.asked.lock();
        log.unwrap_or_else(PoisonError::into_inner)
            .push(asked.clone());
        if asked.is_about_event() {
            let count = self.0.about_events.fetch_add(1, Ordering::SeqCst) + 1;
            return self.due(|at| match at {
                At::Event(n, fault) if *n == count => Some(*fault),
                _ => None,
            });
        }
        let count = self.0.requests.fetch_add(1, Ordering::SeqCst) + 1;
        self.due(|at| match at {
            At::Request(n, fault) if *n == count => Some(*fault),
            _ => None,
        })
    }

    fn event(&self) -> Option<WatchFault> {
        let count = self.0.watched.fetch_add(1, Ordering::SeqCst) + 1;
        self.due(|at| match at {
            At::Watch(n, fault) if *n == count => Some(*fault),
            _ => None,
        })
        .inspect(|_| _ = self.0.misled.fetch_add(1, Ordering::SeqCst))
    }
}

#[test]
fn every_fault_is_read_as_it_is_written() {
    for workload in Workload::ALL {
        let requests = Fault::ALL.map(|fault| At::Request(3, fault));
        let events = Fault::ALL.map(|fault| At::Event(1, fault));
        let begins = AT_BEGIN.map(|fault| At::Begin(2, fault));
        let watch = WatchFault::ALL.map(|fault| At::Watch(12, fault));
        let all = [&requests[..], &events[..], &begins[..], &watch[..]].concat();
        let faults = all.into_iter().enumerate().map(|(i, at)| Planned {
            controller: i % 2,
            at,
        });
        let line = Line {
            workload,
            seed: 7,
            faults: faults.collect(),
        };
        assert_eq!(line.to_string().parse(), Ok(line));
    }
    for wrong in [
        "",
        "create",
        "create seed=x",
        "create seed=0 a1",
        "create seed=0 c1:drop",
        "create seed=0 a1:delay-1",
    ] {
        assert!(wrong.parse::<Line>().is_err(), "{wrong:?}");
    }
}
