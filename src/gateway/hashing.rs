//! Hashing where nobody waits for it: on threads of its own, as many as there are processors, which
//! yield to all others. What waits is bounded, and nothing is hashed twice at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::Instant;

use tokio::sync::watch;

use super::metrics::Metrics;
use crate::key::Secret;
use crate::policy::Hashed;

/// As many wait at most; with the default profile for less than a second.
const QUEUE: usize = 1024;

/// Secrets that are known to be wrong.
const MOST_WRONG: usize = 8192;

/// A keyed digest of a secret: who does not know this process's key learns nothing from it.
pub(super) type Fingerprint = crate::policy::Digest;

/// One secret, to be held against one verifier.
pub(super) struct Question {
    pub hashed: Arc<Hashed>,
    pub secret: Secret,
    /// Of the secret.
    pub fingerprint: Fingerprint,
    /// Of secret and verifier, where it is worth remembering that they do not match: a generated
    /// secret that is wrong fails its check.
    pub if_wrong: Option<Fingerprint>,
}

/// Too much is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overload;

/// The threads, and what waits for them.
pub(super) struct Hashing {
    /// Until the end.
    jobs: Option<SyncSender<Job>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Jobs that no thread has taken yet.
    waiting: AtomicUsize,
    /// Nobody waits for what still does.
    has_ended: AtomicBool,
    metrics: Metrics,
    /// Nothing is hashed while a test holds it.
    #[cfg(test)]
    gate: Mutex<()>,
}

#[derive(Default)]
struct State {
    flights: HashMap<Flight, watch::Receiver<Option<bool>>>,
    wrong: Wrong,
}

/// The verifier, by where it lies, and the secret.
type Flight = (usize, Fingerprint);

struct Job {
    question: Question,
    flight: Flight,
    answer: watch::Sender<Option<bool>>,
}

impl Hashing {
    /// Starts the threads. They end with this, which waits for them.
    pub fn start(metrics: Metrics) -> Hashing {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
            metrics,
            #[cfg(test)]
            gate: Mutex::default(),
        });
        let start = |_| {
            let (queue, shared) = (Arc::clone(&queue), Arc::clone(&shared));
            let thread = thread::Builder::new().name("keyward-hash".to_owned());
            let started = thread.spawn(move || shared.work(&queue));
            started.expect("the system starts threads")
        };
        let threads = available_parallelism().map_or(1, usize::from);
        Hashing {
            jobs: Some(jobs),
            threads: (0..threads).map(start).collect(),
            shared,
        }
    }

    /// Whether a question would be refused now.
    pub fn is_full(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) >= QUEUE
    }

    /// Nothing is hashed until this goes out of scope.
    #[cfg(test)]
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.gate)
    }

    /// As if as many waited as may.
    #[cfg(test)]
    pub fn fill(&self) {
        self.shared.waiting.store(QUEUE, Ordering::Relaxed);
    }

    /// Whether this is known to be wrong.
    pub fn is_wrong(&self, fingerprint: &Fingerprint) -> bool {
        lock(&self.shared.state).wrong.contains(fingerprint)
    }

    /// The same as [`Hashing::answer`], on this thread.
    pub fn answer_here(&self, question: Question) -> bool {
        let known = lock(&self.shared.state).known(&question);
        known.unwrap_or_else(|| self.shared.hash(question, |_| {}))
    }

    /// Has the question answered by and by; whoever asks it later knows.
    pub fn begin(&self, question: Question) -> Result<(), Overload> {
        self.ask(question).map(drop)
    }

    /// Whether the secret is the one that was hashed. An answer of yes is left with the verifier.
    pub async fn answer(&self, question: Question) -> Result<bool, Overload> {
        let mut answer = match self.ask(question)? {
            Asked::Known(known) => return Ok(known),
            Asked::Waiting(answer) => answer,
        };
        let answer = answer.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| *answer).ok_or(Overload)
    }

    fn ask(&self, question: Question) -> Result<Asked, Overload> {
        let mut state = lock(&self.shared.state);
        // Somebody may have had the answer since it was looked for.
        if let Some(known) = state.known(&question) {
            return Ok(Asked::Known(known));
        }
        let flight = (Arc::as_ptr(&question.hashed).addr(), question.fingerprint);
        if let Some(answer) = state.flights.get(&flight) {
            return Ok(Asked::Waiting(answer.clone()));
        }
        let (sender, answer) = watch::channel(None);
        let job = Job {
            question,
            flight,
            answer: sender,
        };
        // Before a thread can take it.
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let jobs = self.jobs.as_ref().ok_or(Overload)?;
        match jobs.try_send(job) {
            Ok(()) => {
                state.flights.insert(flight, answer.clone());
                self.shared.metrics.hashes_waiting.inc();
                Ok(Asked::Waiting(answer))
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(Overload)
            }
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        self.jobs = None;
        // One that has panicked is gone, too.
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

enum Asked {
    Known(bool),
    Waiting(watch::Receiver<Option<bool>>),
}

impl Shared {
    fn work(&self, queue: &Mutex<Receiver<Job>>) {
        // Where this is not allowed, hashing competes with the rest.
        let _ = rustix::process::nice(19);
        loop {
            let job = lock(queue).recv();
            let Ok(job) = job else { return };
            if self.has_ended.load(Ordering::Relaxed) {
                return;
            }
            #[cfg(test)]
            drop(lock(&self.gate));
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.hashes_waiting.dec();
            // Only once the answer is left, or somebody could find neither it nor whoever looks for it.
            let land = |state: &mut State| _ = state.flights.remove(&job.flight);
            let is_right = self.hash(job.question, land);
            job.answer.send(Some(is_right)).ok();
        }
    }

    /// Leaves the answer where the next question finds it.
    fn hash(&self, question: Question, then: impl FnOnce(&mut State)) -> bool {
        let Question {
            hashed,
            secret,
            fingerprint,
            if_wrong,
        } = question;
        let begin = Instant::now();
        let is_right = hashed.verifier.verifies(&secret);
        self.metrics.hashes.inc();
        self.metrics
            .hash_seconds
            .observe(begin.elapsed().as_secs_f64());
        let mut state = lock(&self.state);
        match if_wrong {
            _ if is_right => _ = hashed.matched.set(fingerprint),
            Some(wrong) => state.wrong.insert(wrong),
            None => {}
        }
        then(&mut state);
        is_right
    }
}

impl State {
    fn known(&self, question: &Question) -> Option<bool> {
        let matched = question.hashed.matched.get();
        let matched = matched.map(|matched| *matched == question.fingerprint);
        let is_wrong = |wrong: &Fingerprint| self.wrong.contains(wrong).then_some(false);
        matched.or_else(|| question.if_wrong.as_ref().and_then(is_wrong))
    }
}

/// A bounded set: the oldest make room for new ones.
#[derive(Default)]
struct Wrong {
    all: HashSet<Fingerprint>,
    oldest_first: VecDeque<Fingerprint>,
}

impl Wrong {
    fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.all.contains(fingerprint)
    }

    fn insert(&mut self, fingerprint: Fingerprint) {
        if !self.all.insert(fingerprint) {
            return;
        }
        self.oldest_first.push_back(fingerprint);
        if self.oldest_first.len() > MOST_WRONG
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
