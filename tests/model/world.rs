//! Two controllers, an API server and a user, as states and actions. The controllers are the
//! product's own step function; everything else is the least that can disturb it.

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyward::clock::{Moment, Now};
use keyward::controller::ledger::{AttemptId, Ledger, Uid, Version};
use keyward::controller::observed::{
    Answer, Bytes, Memory, Observed, PresentSecret, Publish, SecretSeen, View,
};
use keyward::controller::step::{Situation, Step, Timing, next};
use stateright::{Model, Property};

/// How much may happen besides the controllers' own steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Commits, of all controllers.
    pub attempts: u8,
    /// Crashes.
    pub crashes: u8,
    /// Requests lost, answers lost, requests delayed.
    pub faults: u8,
    /// Secrets that the user takes away.
    pub deletions: u8,
    /// Times that the user raises the revision.
    pub rotations: u8,
    /// Times that the user edits something else of the AccessKey.
    pub edits: u8,
    /// Times that the user deletes the AccessKey and makes it again.
    pub recreations: u8,
    /// Times that a run begins from an old copy.
    pub stale: u8,
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    key: View,
    secret: Option<Stored>,
    controllers: [Process; 2],
    /// Requests that nobody waits for any more. They may still arrive.
    orphans: Vec<Write>,
    names: u16,
    versions: u16,
    left: Budget,
    accepted: Vec<(Uid, u32, AttemptId)>,
    published: Vec<AttemptId>,
    taken: Vec<AttemptId>,
    broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    uid: Uid,
    version: Version,
    owner: Uid,
    holds: AttemptId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    memory: Memory,
    run: Option<Run>,
    /// The AccessKey as this process saw it at the begin of its last run.
    old: Option<View>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    observed: Observed,
    read: Option<AttemptId>,
    sent: Option<(Step, Write)>,
}

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Write {
    Status {
        uid: Uid,
        version: Version,
        ledger: Entry,
        attempt: Option<AttemptId>,
    },
    Create {
        owner: Uid,
        attempt: AttemptId,
    },
    Replace {
        uid: Uid,
        version: Version,
        owner: Uid,
        attempt: AttemptId,
    },
    Delete {
        uid: Uid,
        version: Version,
    },
}

/// A ledger with an order, whichever: the orphans are kept sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry(Ledger);

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        format!("{self:?}").cmp(&format!("{other:?}"))
    }
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A controller looks at the AccessKey, as it is or as it saw it last.
    Begin { controller: usize, stale: bool },
    /// A controller reads.
    Read(usize),
    /// A write is carried out and answered.
    Serve(usize),
    /// A write is lost on its way.
    LoseRequest(usize),
    /// A write is carried out, and the answer is lost.
    LoseAnswer(usize),
    /// A write is given up, and may arrive later.
    Delay(usize),
    /// A controller crashes; what it sent may arrive later.
    Crash(usize),
    /// A request that nobody waits for arrives.
    Arrive(usize),
    /// It never does.
    Vanish(usize),
    /// The user takes the Secret away.
    TakeSecret,
    /// The user raises the revision.
    Rotate,
    /// The user edits something else.
    Edit,
    /// The user deletes the AccessKey and makes it again under its name.
    Recreate,
    /// The garbage collector takes a Secret whose owner is gone.
    Collect,
    /// Longer than the grace passes.
    Wait,
}

/// The world of one budget.
pub struct Issuing(pub Budget);

const GRACE: Duration = Duration::from_secs(10);

fn now() -> Now {
    Now {
        monotonic: Moment::default() + GRACE,
        wall: Timestamp::UNIX_EPOCH,
    }
}

fn timing() -> Timing {
    Timing {
        grace: GRACE,
        patience: Duration::ZERO,
        lag: GRACE,
    }
}

impl Model for Issuing {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let key = View {
            uid: Uid("key-0".into()),
            version: Version(0),
            deleted: false,
            suspended: false,
            restored: false,
            wanted: 1,
            ledger: Ledger::default(),
        };
        vec![World {
            key,
            secret: None,
            controllers: [Process::default(), Process::default()],
            orphans: Vec::new(),
            names: 0,
            versions: 0,
            left: self.0,
            accepted: Vec::new(),
            published: Vec::new(),
            taken: Vec::new(),
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for controller in 0..2 {
            world.actions_of(controller, actions);
        }
        for orphan in 0..world.orphans.len() {
            actions.extend([Action::Arrive(orphan), Action::Vanish(orphan)]);
        }
        world.actions_of_others(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, world: &World| {
                world.broken.is_none()
            }),
            Property::always(
                "at rest the Secret is the accepted one, or was taken",
                |_, world: &World| !world.rests() || world.is_delivered(),
            ),
            Property::sometimes("a key is issued", |_, world: &World| world.rests()),
        ]
    }
}

impl World {
    fn actions_of(&self, controller: usize, actions: &mut Vec<Action>) {
        let process = &self.controllers[controller];
        match &process.run {
            None => {
                if self.has_work(process) {
                    actions.push(Action::Begin {
                        controller,
                        stale: false,
                    });
                }
                if self.left.stale > 0 && process.old.as_ref().is_some_and(|old| *old != self.key) {
                    actions.push(Action::Begin {
                        controller,
                        stale: true,
                    });
                }
            }
            Some(Run { sent: None, .. }) => actions.push(Action::Read(controller)),
            Some(Run { sent: Some(_), .. }) => {
                actions.push(Action::Serve(controller));
                if self.left.faults > 0 {
                    actions.extend([
                        Action::LoseRequest(controller),
                        Action::LoseAnswer(controller),
                        Action::Delay(controller),
                    ]);
                }
            }
        }
        if self.left.crashes > 0 && *process != Process::default() {
            actions.push(Action::Crash(controller));
        }
    }

    fn actions_of_others(&self, actions: &mut Vec<Action>) {
        if self.left.deletions > 0 && self.secret.is_some() {
            actions.push(Action::TakeSecret);
        }
        if self.left.rotations > 0 {
            actions.push(Action::Rotate);
        }
        if self.left.edits > 0 {
            actions.push(Action::Edit);
        }
        if self.left.recreations > 0 {
            actions.push(Action::Recreate);
        }
        if self
            .secret
            .as_ref()
            .is_some_and(|secret| secret.owner != self.key.uid)
        {
            actions.push(Action::Collect);
        }
        if self.nothing_is_on_its_way() {
            actions.push(Action::Wait);
        }
    }

    fn has_work(&self, process: &Process) -> bool {
        let observed = Observed::cached(self.key.clone(), process.memory.clone(), now().monotonic);
        !matches!(next(&observed, now(), &timing()), Step::Rest(_))
    }

    /// The grace outlives every request; a process that is paused for longer between commit and
    /// publish is the named hole.
    fn nothing_is_on_its_way(&self) -> bool {
        let publishes =
            |write: &Write| matches!(write, Write::Create { .. } | Write::Replace { .. });
        let may_publish = |process: &Process| {
            let unsent = process
                .memory_now()
                .held
                .as_ref()
                .is_some_and(|held| held.publish == Publish::Unsent);
            let sent = process
                .run
                .iter()
                .flat_map(|run| &run.sent)
                .any(|(_, write)| publishes(write));
            process.run.is_some() && (unsent || sent)
        };
        !self.orphans.iter().any(publishes) && !self.controllers.iter().any(may_publish)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Begin { controller, stale } => self.begin(controller, stale),
            Action::Read(controller) => self.read(controller),
            Action::Serve(controller) => {
                let (step, write) = self.take_sent(controller);
                let answer = self.serve(&write);
                self.answer(controller, &step, answer);
            }
            Action::LoseRequest(controller) => {
                self.left.faults -= 1;
                let (step, _) = self.take_sent(controller);
                self.answer(controller, &step, Answer::Failed);
            }
            Action::LoseAnswer(controller) => {
                self.left.faults -= 1;
                let (step, write) = self.take_sent(controller);
                self.serve(&write);
                self.answer(controller, &step, Answer::Failed);
            }
            Action::Delay(controller) => {
                self.left.faults -= 1;
                let (step, write) = self.take_sent(controller);
                self.orphan(write);
                self.answer(controller, &step, Answer::Failed);
            }
            Action::Crash(controller) => {
                self.left.crashes -= 1;
                let process = std::mem::take(&mut self.controllers[controller]);
                if let Some((_, write)) = process.run.and_then(|run| run.sent) {
                    self.orphan(write);
                }
            }
            Action::Arrive(orphan) => {
                let write = self.orphans.remove(orphan);
                self.serve(&write);
            }
            Action::Vanish(orphan) => {
                self.orphans.remove(orphan);
            }
            Action::TakeSecret => {
                self.left.deletions -= 1;
                self.taken
                    .extend(self.secret.take().map(|secret| secret.holds));
            }
            Action::Rotate => {
                self.left.rotations -= 1;
                self.key.wanted += 1;
                self.key.version = self.new_version();
            }
            Action::Edit => {
                self.left.edits -= 1;
                self.key.version = self.new_version();
            }
            Action::Recreate => {
                self.left.recreations -= 1;
                self.key.uid = self.new_uid();
                self.key.version = self.new_version();
                self.key.wanted = 1;
                self.key.ledger = Ledger::default();
            }
            Action::Collect => self.secret = None,
            Action::Wait => {
                for process in &mut self.controllers {
                    process.memory.age();
                    if let Some(run) = &mut process.run {
                        run.observed.age();
                    }
                }
            }
        }
    }

    fn begin(&mut self, controller: usize, stale: bool) {
        self.left.stale -= u8::from(stale);
        let process = &mut self.controllers[controller];
        let view = if stale {
            process.old.clone().unwrap_or(self.key.clone())
        } else {
            self.key.clone()
        };
        process.old = Some(view.clone());
        let memory = std::mem::take(&mut process.memory);
        let observed = Observed::cached(view, memory, now().monotonic);
        self.go_on(controller, observed, None);
    }

    /// Sends the next write at once, and leaves a read for later.
    fn go_on(&mut self, controller: usize, observed: Observed, read: Option<AttemptId>) {
        let step = next(&observed, now(), &timing());
        match &step {
            Step::Rest(rest) => {
                if matches!(
                    rest.situation,
                    Situation::SecretExists | Situation::SecretModified | Situation::VerifierLost
                ) {
                    self.broken = Some("a person is called without a reason");
                }
                self.end(controller, observed.rested(rest, now().monotonic));
            }
            Step::StartOver => match observed.after(&step, Answer::Done, now().monotonic) {
                Break(memory) => self.end(controller, memory),
                Continue(_) => self.broken = Some("a run goes on after it ended"),
            },
            Step::Commit { .. } if self.left.attempts == 0 => self.end(controller, observed.memory),
            _ => {
                let sent = self.write(&observed, &step).map(|write| (step, write));
                self.controllers[controller].run = Some(Run {
                    observed,
                    read,
                    sent,
                });
            }
        }
    }

    fn end(&mut self, controller: usize, memory: Memory) {
        let process = &mut self.controllers[controller];
        process.run = None;
        process.memory = if memory.is_idle(self.key.version) {
            Memory::default()
        } else {
            memory
        };
    }

    fn write(&mut self, observed: &Observed, step: &Step) -> Option<Write> {
        let view = &observed.view;
        let status = |ledger: Ledger, attempt| Write::Status {
            uid: view.uid.clone(),
            version: view.version,
            ledger: Entry(ledger),
            attempt,
        };
        let ledger = &view.ledger;
        Some(match step {
            Step::Commit { outlived } => {
                self.left.attempts -= 1;
                self.names += 1;
                let attempt = AttemptId(self.names.into());
                status(
                    ledger.commit(attempt, outlived, &view.uid, view.wanted),
                    Some(attempt),
                )
            }
            Step::Publish {
                attempt,
                over: None,
            } => Write::Create {
                owner: view.uid.clone(),
                attempt: *attempt,
            },
            Step::Publish {
                attempt,
                over: Some((uid, version)),
            } => Write::Replace {
                uid: uid.clone(),
                version: *version,
                owner: view.uid.clone(),
                attempt: *attempt,
            },
            Step::Confirm {
                attempt,
                secret,
                settled,
            } => {
                let overlap = SignedDuration::from_hours(24);
                status(
                    ledger.confirm(*attempt, secret, *settled, overlap, now().wall),
                    None,
                )
            }
            Step::DeleteSecret { uid, version } => Write::Delete {
                uid: uid.clone(),
                version: *version,
            },
            Step::ClearMark => status(ledger.settle(), None),
            Step::Rebind => status(ledger.rebind(&view.uid), None),
            Step::Retire => status(ledger.retire(now().wall), None),
            Step::Adopt { .. } | Step::ReadKey | Step::ReadSecret { .. } | Step::Recheck => {
                return None;
            }
            Step::StartOver | Step::Rest(_) => return None,
        })
    }

    fn read(&mut self, controller: usize) {
        let Some(mut run) = self.controllers[controller].run.take() else {
            return;
        };
        let step = next(&run.observed, now(), &timing());
        let answer = match &step {
            Step::ReadKey => {
                let held = run.observed.memory.held.as_ref().map(|held| held.attempt);
                let known = |holds: &AttemptId| {
                    held == Some(*holds) || self.key.ledger.known().any(|known| known == *holds)
                };
                Answer::Key(self.key.clone(), run.read.filter(known))
            }
            Step::ReadSecret { bytes } => {
                if *bytes {
                    run.read = self.secret.as_ref().map(|secret| secret.holds);
                }
                Answer::Secret(self.seen(if *bytes { Bytes::Read } else { Bytes::Unread }))
            }
            Step::Recheck => Answer::Secret(self.seen(Bytes::Unread)),
            _ => Answer::Failed,
        };
        self.controllers[controller].run = Some(run);
        self.answer(controller, &step, answer);
    }

    fn seen(&self, bytes: Bytes) -> SecretSeen {
        match &self.secret {
            None => SecretSeen::Absent(now().monotonic),
            Some(secret) => SecretSeen::Present(PresentSecret {
                uid: secret.uid.clone(),
                version: secret.version,
                owner: Some(secret.owner.clone()),
                namesake: true,
                bytes,
                at: now().monotonic,
            }),
        }
    }

    fn take_sent(&mut self, controller: usize) -> (Step, Write) {
        let run = self.controllers[controller].run.as_mut();
        run.and_then(|run| run.sent.take())
            .expect("the action is for a request in flight")
    }

    fn answer(&mut self, controller: usize, step: &Step, answer: Answer) {
        let Some(run) = self.controllers[controller].run.take() else {
            return;
        };
        match run.observed.after(step, answer, now().monotonic) {
            Continue(observed) => self.go_on(controller, observed, run.read),
            Break(memory) => self.end(controller, memory),
        }
    }

    /// Carries a request out, as the API server does.
    fn serve(&mut self, write: &Write) -> Answer {
        match write {
            Write::Status {
                uid,
                version,
                ledger,
                attempt,
            } => {
                if (uid, version) != (&self.key.uid, &self.key.version) {
                    return Answer::Conflict;
                }
                self.key.ledger = ledger.0.clone();
                self.key.version = self.new_version();
                self.check_accepted();
                match attempt {
                    Some(attempt) => Answer::Committed(self.key.clone(), *attempt),
                    None => Answer::Written(self.key.clone()),
                }
            }
            Write::Create { owner, attempt } => {
                if self.secret.is_some() {
                    return Answer::Conflict;
                }
                let uid = self.new_uid();
                self.store(uid, owner, *attempt)
            }
            Write::Replace {
                uid,
                version,
                owner,
                attempt,
            } => {
                if !self.is_stored(uid, *version) {
                    return Answer::Conflict;
                }
                self.store(uid.clone(), owner, *attempt)
            }
            Write::Delete { uid, version } => {
                if !self.is_stored(uid, *version) {
                    return Answer::Conflict;
                }
                self.secret = None;
                Answer::Done
            }
        }
    }

    fn is_stored(&self, uid: &Uid, version: Version) -> bool {
        self.secret
            .as_ref()
            .is_some_and(|secret| secret.uid == *uid && secret.version == version)
    }

    fn store(&mut self, uid: Uid, owner: &Uid, holds: AttemptId) -> Answer {
        let version = self.new_version();
        let replaced = self.secret.replace(Stored {
            uid: uid.clone(),
            version,
            owner: owner.clone(),
            holds,
        });
        let newest = self.key.ledger.accepted.last().map(|newest| newest.attempt);
        let rotating = self.key.ledger.issuance.is_some();
        if replaced.is_some_and(|replaced| Some(replaced.holds) == newest) && !rotating {
            self.broken = Some("an accepted secret is replaced without a rotation");
        }
        if !self.published.contains(&holds) {
            self.published.push(holds);
        }
        Answer::Published(uid, version)
    }

    fn check_accepted(&mut self) {
        for accepted in &self.key.ledger.accepted {
            let entry = (self.key.uid.clone(), accepted.revision, accepted.attempt);
            let before = self
                .accepted
                .iter()
                .find(|(uid, revision, _)| (uid, revision) == (&entry.0, &entry.1));
            match before {
                Some(before) if *before != entry => {
                    self.broken = Some("two secrets are accepted for one revision")
                }
                Some(_) => {}
                None if !self.published.contains(&entry.2) => {
                    self.broken = Some("a secret is accepted that nobody got")
                }
                None if self
                    .accepted
                    .iter()
                    .any(|(_, _, attempt)| *attempt == entry.2) =>
                {
                    self.broken = Some("a secret is accepted twice");
                }
                None => self.accepted.push(entry),
            }
        }
    }

    fn rests(&self) -> bool {
        let idle = |process: &Process| process.run.is_none() && !self.has_work(process);
        let ledger = &self.key.ledger;
        let done =
            ledger.issuance.is_none() && ledger.unsettled.is_none() && !ledger.accepted.is_empty();
        let asked = self.key.wanted == ledger.requested;
        done && asked && self.orphans.is_empty() && self.controllers.iter().all(idle)
    }

    fn is_delivered(&self) -> bool {
        let newest = self
            .key
            .ledger
            .accepted
            .last()
            .map(|accepted| accepted.attempt);
        match &self.secret {
            Some(secret) => Some(secret.holds) == newest && secret.owner == self.key.uid,
            None => newest.is_some_and(|newest| self.taken.contains(&newest)),
        }
    }

    fn orphan(&mut self, write: Write) {
        self.orphans.push(write);
        self.orphans.sort();
    }

    fn new_version(&mut self) -> Version {
        self.versions += 1;
        Version(self.versions.into())
    }

    fn new_uid(&mut self) -> Uid {
        self.versions += 1;
        Uid(format!("uid-{}", self.versions).into())
    }
}

impl Process {
    fn memory_now(&self) -> &Memory {
        self.run
            .as_ref()
            .map_or(&self.memory, |run| &run.observed.memory)
    }
}
