//! Two controllers, an API server and a user, as states and actions. The controllers are the product's own step
//! function; everything else is the least that can disturb it.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use keyward::controller::ledger::{AttemptId, Ledger, Uid, Version};
use keyward::controller::life::Life;
use keyward::controller::observed::Answer;
use keyward::controller::rotation::Rotation;
use keyward::controller::view::{Existing, View};
use stateright::{Model, Property};

use crate::budget::Budget;
use crate::mutant::Mutant;
use crate::process::Process;
use crate::rules::{History, Rule};
use crate::server::{Stored, Write};
use crate::shared::Shared;
use crate::user::Event;

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// None between its deletion and its recreation.
    pub key: Shared<Option<View>>,
    pub secret: Option<Stored>,
    pub controllers: [Shared<Process>; 2],
    /// Requests that nobody waits for any more. They may still arrive.
    pub orphans: Vec<Shared<Write>>,
    pub left: Budget,
    /// On the wall, where the clock is not behind.
    pub hour: u8,
    pub history: History,
    pub mutant: Mutant,
    uids: u8,
    attempts: u8,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A controller looks at the AccessKey, as it is or as it saw it last.
    Begin { controller: usize, stale: bool },
    /// A controller reads.
    Read(usize),
    /// A read fails.
    FailRead(usize),
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
    /// Something happens to the objects.
    Happen(Event),
}

/// The product, or a mutant of it, within a budget.
#[derive(Clone, Copy)]
pub struct Issuing {
    pub budget: Budget,
    pub mutant: Mutant,
    /// The only rule that counts, if it is only one.
    pub asked: Option<Rule>,
}

impl Issuing {
    pub fn new(budget: Budget, mutant: Mutant) -> Issuing {
        Issuing {
            budget,
            mutant,
            asked: None,
        }
    }
}

impl Model for Issuing {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(action);
        next.judge();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no rule is broken", |_, world: &World| {
                world.history.broken.is_none()
            }),
            Property::always("at rest the Secret is in order", |_, world: &World| {
                world.is_in_order() || !world.rests()
            }),
            Property::sometimes("a key is issued", |_, world: &World| {
                world.key.is_some() && world.rests()
            }),
        ];
        let budget = &self.budget;
        if budget.attempts > 2 && budget.rotations > 0 && budget.faults > 0 {
            properties.push(Property::sometimes(
                "an attempt is dropped while the Secret holds an older secret",
                |_, world: &World| world.drops_over_an_older(),
            ));
        }
        if budget.pauses > 0 && budget.crashes > 0 && budget.deletions > 0 {
            properties.push(Property::sometimes(
                "a Secret is left that was never accepted",
                |_, world: &World| !world.holds_the_newest() && world.rests(),
            ));
        }
        properties
    }
}

const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
pub const EVERY: SignedDuration = SignedDuration::from_hours(2);
/// The secret of a key that was made elsewhere.
pub const TAKEN_OVER: AttemptId = AttemptId(0);

/// The wall clock.
pub fn wall(hour: u8) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour.into())
}

impl World {
    fn new(model: &Issuing) -> World {
        let process = Shared::new(Process::default());
        let mut key = World::new_key(uid(0), &model.budget);
        let mut history = History::new(model.asked);
        if model.budget.existing > 0 {
            key.existing = Some(Existing::Usable(TAKEN_OVER));
            history.hands_over();
        }
        World {
            key: Shared::new(Some(key)),
            secret: None,
            controllers: [process.clone(), process],
            orphans: Vec::new(),
            left: model.budget,
            hour: model.budget.behind,
            history,
            mutant: model.mutant,
            uids: 0,
            attempts: 0,
        }
    }

    pub fn new_key(uid: Uid, budget: &Budget) -> View {
        View {
            uid,
            version: Version(0),
            deleted: false,
            suspended: false,
            restored: false,
            wanted: 1,
            news: false,
            withdrawal: None,
            rotation: Rotation {
                overlap: OVERLAP,
                every: (budget.dues > 0).then_some(EVERY),
                life: Some(Life::default()),
            },
            existing: None,
            ledger: Ledger::default(),
        }
    }

    pub fn actions(&self, actions: &mut Vec<Action>) {
        if self.history.broken.is_some() {
            return;
        }
        for controller in 0..self.left.controllers.into() {
            self.actions_of(controller, actions);
        }
        for orphan in 0..self.orphans.len() {
            actions.extend([Action::Arrive(orphan), Action::Vanish(orphan)]);
        }
        actions.extend(self.events().into_iter().map(Action::Happen));
    }

    fn actions_of(&self, controller: usize, actions: &mut Vec<Action>) {
        let process = &self.controllers[controller];
        match &process.run {
            None => {
                let begin = |stale| Action::Begin { controller, stale };
                let behind = self.left.stale > 0 && process.old != *self.key;
                if self.has_work(controller) || (behind && self.key.is_some()) {
                    actions.push(begin(false));
                }
                if behind && process.old.is_some() {
                    actions.push(begin(true));
                }
            }
            Some(run) if run.sent.is_none() => {
                actions.push(Action::Read(controller));
                if self.left.faults > 0 {
                    actions.push(Action::FailRead(controller));
                }
            }
            Some(_) => {
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
        if self.left.crashes > 0 && !process.is_new() {
            actions.push(Action::Crash(controller));
        }
    }

    fn drops_over_an_older(&self) -> bool {
        self.controllers
            .iter()
            .any(|process| process.drops_over_an_older())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Begin { controller, stale } => self.begin(controller, stale),
            Action::Read(controller) => self.read(controller),
            Action::FailRead(controller) => self.fail_read(controller),
            Action::Serve(controller) => {
                self.send(controller, |world, write| world.serve(&write));
            }
            Action::LoseRequest(controller) => self.fail(controller, |_, _| ()),
            Action::LoseAnswer(controller) => self.fail(controller, |world, write| {
                world.serve(&write);
            }),
            Action::Delay(controller) => self.fail(controller, World::orphan),
            Action::Crash(controller) => {
                self.left.crashes -= 1;
                let crashed = self.controllers[controller].change(Process::restart);
                if let Some((_, write)) = crashed.and_then(|run| run.sent) {
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
            Action::Happen(event) => self.happen(event),
        }
    }

    /// What becomes of the request under way, and what its sender learns.
    fn send(&mut self, controller: usize, carry: impl FnOnce(&mut World, Write) -> Answer) {
        let Some(run) = self.take_run(controller) else {
            return;
        };
        if let Some((step, write)) = run.sent.clone() {
            let answer = carry(self, write);
            self.answer(controller, run, &step, answer);
        }
    }

    fn fail(&mut self, controller: usize, carry: impl FnOnce(&mut World, Write)) {
        self.left.faults -= 1;
        self.send(controller, |world, write| {
            carry(world, write);
            Answer::Failed
        });
    }

    /// What a controller's clock says.
    pub fn hour_of(&self, controller: usize) -> u8 {
        match controller {
            0 => self.hour,
            _ => self.hour - self.left.behind,
        }
    }

    pub fn edit_key(&mut self, edit: impl FnOnce(&mut View)) -> View {
        self.key.change(|key| {
            let key = key.as_mut().expect("an AccessKey to edit");
            edit(key);
            key.version.0 += 1;
            key.clone()
        })
    }

    pub fn new_attempt(&mut self) -> AttemptId {
        self.left.attempts -= 1;
        self.attempts += 1;
        AttemptId(self.attempts.into())
    }

    pub fn new_uid(&mut self) -> Uid {
        self.uids += 1;
        uid(self.uids)
    }
}

fn uid(number: u8) -> Uid {
    static UIDS: LazyLock<Vec<Uid>> = LazyLock::new(|| {
        let name = |number| Uid(format!("uid-{number}").into());
        (0..=u8::MAX).map(name).collect()
    });
    UIDS[usize::from(number)].clone()
}
