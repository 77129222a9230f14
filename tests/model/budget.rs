//! How much may go wrong in one exploration.

use std::fmt;

/// How often each thing may happen besides the controllers' own steps; what is not named, never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// One or two controllers.
    pub controllers: u8,
    /// Commits, of both controllers.
    pub attempts: u8,
    /// A controller crashes.
    pub crashes: u8,
    /// A request or an answer is lost, or a request delayed.
    pub faults: u8,
    /// The user takes the Secret away.
    pub deletions: u8,
    /// The user raises `rotation.revision`.
    pub rotations: u8,
    /// A scheduled rotation comes due. Without any there is no schedule.
    pub dues: u8,
    /// The user removes the schedule, or adds it again.
    pub changes: u8,
    /// The spec asks to delete each Secret soon after it was delivered.
    pub withdraws: bool,
    /// By so many hours the second controller's clock is behind.
    pub behind: u8,
    /// The user edits something of the AccessKey or of the Secret that does not matter.
    pub edits: u8,
    /// The user deletes the AccessKey, and may make it again.
    pub recreations: u8,
    /// A run begins from an old copy of the AccessKey.
    pub stale: u8,
    /// The user makes a Secret of that name, or puts other bytes into it.
    pub forgeries: u8,
    /// The status is lost.
    pub losses: u8,
    /// A controller is paused for longer than the grace exactly between commit and publish: the hole that is left.
    pub pauses: u8,
    /// 1: the key was made elsewhere, and is taken over.
    pub existing: u8,
}

impl fmt::Display for Budget {
    /// Like `attempts 3, faults 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempts {}", self.attempts)?;
        if self.controllers == 1 {
            write!(f, ", one controller")?;
        }
        if self.withdraws {
            write!(f, ", withdraws")?;
        }
        let others = [
            ("crashes", self.crashes),
            ("faults", self.faults),
            ("deletions", self.deletions),
            ("rotations", self.rotations),
            ("dues", self.dues),
            ("changes", self.changes),
            ("behind", self.behind),
            ("edits", self.edits),
            ("recreations", self.recreations),
            ("stale", self.stale),
            ("forgeries", self.forgeries),
            ("losses", self.losses),
            ("pauses", self.pauses),
            ("existing", self.existing),
        ];
        for (name, times) in others.into_iter().filter(|(_, times)| *times > 0) {
            write!(f, ", {name} {times}")?;
        }
        Ok(())
    }
}

/// This many attempts, and nothing goes wrong.
pub const fn attempts(attempts: u8) -> Budget {
    Budget {
        controllers: 2,
        attempts,
        crashes: 0,
        faults: 0,
        deletions: 0,
        rotations: 0,
        dues: 0,
        changes: 0,
        withdraws: false,
        behind: 0,
        edits: 0,
        recreations: 0,
        stale: 0,
        forgeries: 0,
        losses: 0,
        pauses: 0,
        existing: 0,
    }
}

/// The same for one controller.
pub const fn alone(tries: u8) -> Budget {
    attempts(tries).controllers(1)
}

impl Budget {
    /// The same, each Secret being deleted once it was delivered.
    pub const fn withdraws(self) -> Budget {
        Budget {
            withdraws: true,
            ..self
        }
    }
}

/// `Budget::faults(1)` and so on: the same budget, with that much of one thing.
macro_rules! with {
    ($($name:ident)*) => {
        impl Budget {
            $(pub const fn $name(self, $name: u8) -> Budget {
                Budget { $name, ..self }
            })*
        }
    };
}

with!(controllers crashes faults deletions rotations dues changes behind edits recreations stale forgeries losses pauses existing);
