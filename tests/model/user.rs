//! Everyone but the controllers: the user, the garbage collector, time.

use jiff::Timestamp;
use keyward::controller::ledger::{Ledger, Version};
use keyward::controller::memory::Publish;
use keyward::controller::view::{Existing, View};

use crate::process::Process;
use crate::server::Stored;
use crate::world::{EVERY, World, wall};

/// What happens to the objects, whatever the controllers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The user takes the Secret away.
    TakeSecret,
    /// The user edits the Secret, but not its bytes.
    TouchSecret,
    /// The user puts other bytes into the Secret.
    ForgeBytes,
    /// The user makes a Secret of that name, with or without the AccessKey as its owner.
    ForgeSecret { owned: bool },
    /// The user raises the revision.
    Rotate,
    /// A scheduled rotation comes due, by the first controller's clock.
    ComeDue,
    /// It does by the second's, which is behind.
    CatchUp,
    /// The user removes the schedule, or adds it.
    Reschedule,
    /// The user edits something else.
    Edit,
    /// The user deletes the AccessKey.
    Delete,
    /// The user makes it again.
    Recreate,
    /// The status is lost.
    LoseStatus,
    /// The garbage collector takes a Secret whose owner is gone.
    Collect,
    /// Longer than the grace passes.
    Wait,
    /// It passes while a controller is about to publish.
    Pause,
    /// The overlap of an older verifier ends.
    EndOverlap,
}

impl World {
    pub fn events(&self) -> Vec<Event> {
        let left = &self.left;
        let here = self.key.is_some();
        let forged = |secret: &Stored| secret.holds.is_none();
        let collectable = self.secret.as_ref().is_some_and(|secret| {
            let owner = secret.owner.as_ref();
            owner.is_some() && owner != self.key.as_ref().map(|key| &key.uid)
        });
        let present = self.secret.is_some();
        let quiet = self.nothing_is_on_its_way();
        let genuine = self.secret.as_ref().is_some_and(|secret| !forged(secret));
        [
            (left.deletions > 0 && present, Event::TakeSecret),
            (left.edits > 0 && present, Event::TouchSecret),
            (left.forgeries > 0 && genuine, Event::ForgeBytes),
            (
                left.forgeries > 0 && !present,
                Event::ForgeSecret { owned: false },
            ),
            (
                left.forgeries > 0 && !present && here,
                Event::ForgeSecret { owned: true },
            ),
            (left.rotations > 0 && here, Event::Rotate),
            (left.dues > 0 && self.will_be_due(0), Event::ComeDue),
            (!self.will_be_due(0) && self.will_be_due(1), Event::CatchUp),
            (left.changes > 0 && here, Event::Reschedule),
            (left.edits > 0 && here, Event::Edit),
            (left.recreations > 0 && here, Event::Delete),
            (!here, Event::Recreate),
            (left.losses > 0 && here, Event::LoseStatus),
            (collectable, Event::Collect),
            (quiet, Event::Wait),
            (left.pauses > 0 && !quiet, Event::Pause),
            (self.overlap_ends(), Event::EndOverlap),
        ]
        .into_iter()
        .filter_map(|(possible, event)| possible.then_some(event))
        .collect()
    }

    pub fn happen(&mut self, event: Event) {
        match event {
            Event::TakeSecret => {
                self.left.deletions -= 1;
                let taken = self.secret.take();
                taken.iter().for_each(|secret| self.history.takes(secret));
            }
            Event::TouchSecret => {
                self.left.edits -= 1;
                self.secret.iter_mut().for_each(touch);
            }
            Event::ForgeBytes => {
                self.left.forgeries -= 1;
                self.history.forges();
                if let Some(secret) = &mut self.secret {
                    self.history.takes(secret);
                    secret.holds = None;
                    touch(secret);
                }
            }
            Event::ForgeSecret { owned } => {
                self.left.forgeries -= 1;
                self.history.forges();
                self.forge(owned);
            }
            Event::Rotate => {
                self.left.rotations -= 1;
                let key = self.edit_key(|key| {
                    key.wanted += 1;
                    key.existing = key.existing.map(|_| Existing::Unusable);
                });
                self.history.asks_again(&key);
            }
            Event::ComeDue => {
                self.left.dues -= 1;
                self.hour = self.due_hour().expect("a due time");
                self.history.comes_due(self.secret.as_ref());
            }
            Event::CatchUp => self.hour += self.left.behind,
            Event::Reschedule => {
                self.left.changes -= 1;
                self.edit_key(|key| {
                    let every = &mut key.rotation.every;
                    *every = every.is_none().then_some(EVERY);
                });
            }
            Event::Edit => {
                self.left.edits -= 1;
                self.edit_key(|_| ());
            }
            Event::Delete => {
                self.left.recreations -= 1;
                self.key.change(|key| *key = None);
            }
            Event::Recreate => {
                let uid = self.new_uid();
                let key = World::new_key(uid, &self.left);
                self.key.change(|gone| *gone = Some(key));
            }
            Event::LoseStatus => {
                self.left.losses -= 1;
                self.history.loses();
                self.edit_key(|key| key.ledger = Ledger::default());
            }
            Event::Collect => self.secret = None,
            Event::Wait => self.wait(),
            Event::Pause => {
                self.left.pauses -= 1;
                self.history.pauses();
                self.wait();
            }
            Event::EndOverlap => self.hour += 1,
        }
    }

    fn wait(&mut self) {
        for process in &mut self.controllers {
            process.change(Process::age);
        }
    }

    fn forge(&mut self, owned: bool) {
        let owner = self.key.as_ref().map(|key| key.uid.clone());
        self.secret = Some(Stored {
            uid: self.new_uid(),
            version: Version(0),
            owner: owner.filter(|_| owned),
            holds: None,
        });
    }

    /// The grace outlives every request; a process that is paused for longer between commit and publish is the named
    /// hole.
    fn nothing_is_on_its_way(&self) -> bool {
        let may_publish = |process: &Process| {
            let held = &process.memory_now().held;
            let unsent = held
                .as_ref()
                .is_some_and(|held| held.publish == Publish::Unsent);
            process.run.is_some()
                && (unsent || process.sent().is_some_and(|(_, write)| write.publishes()))
        };
        !self.orphans.iter().any(|write| write.publishes())
            && !self.controllers.iter().any(|process| may_publish(process))
    }

    /// The time of the next rotation is set, and has not come by a controller's clock.
    fn will_be_due(&self, controller: usize) -> bool {
        let hour = self.hour_of(controller);
        self.due_hour().is_some_and(|due| due > hour)
    }

    fn due_hour(&self) -> Option<u8> {
        let due = self.key.as_ref()?.ledger.next_rotation?;
        u8::try_from(due.as_second() / 3600).ok()
    }

    fn overlap_ends(&self) -> bool {
        let retires = |key: &View| key.ledger.next_retirement();
        let end: Option<Timestamp> = self.key.as_ref().and_then(retires);
        end.is_some_and(|end| end > wall(self.hour))
    }
}

fn touch(secret: &mut Stored) {
    secret.version.0 += 1;
}
