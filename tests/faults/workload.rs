//! What users do in a run.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde_json::{Value, json};

/// The things that users do, one list each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    Create,
    Toggle,
    Recreate,
    Consume,
    Rotate,
    Restrict,
    EndNamespace,
    Two,
    TwoRotate,
    Restore,
    Schedule,
    Withdraw,
    Limit,
    Many,
}

/// One thing that a user does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Makes every AccessKey.
    Create,
    /// Changes the spec.
    Change(Value),
    /// Deletes the AccessKey and makes it again.
    Recreate,
    /// Takes the Secret and deletes it.
    TakeSecret,
    /// The first controller is restarted.
    Restart,
    /// Deletes the namespace.
    EndNamespace,
    /// Deletes the AccessKey, and restores it with its status, but without its Secret.
    Restore,
    /// Lets time pass until the next scheduled rotation is due.
    ComeDue,
    /// Has the key's time begin in so many hours, and be over in as many.
    Limit(i64, i64),
    /// Lets so many hours pass.
    Pass(u64),
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 14] = [
        Workload::Create,
        Workload::Toggle,
        Workload::Recreate,
        Workload::Consume,
        Workload::Rotate,
        Workload::Restrict,
        Workload::EndNamespace,
        Workload::Two,
        Workload::TwoRotate,
        Workload::Restore,
        Workload::Schedule,
        Workload::Withdraw,
        Workload::Limit,
        Workload::Many,
    ];

    /// How many controllers there are.
    pub fn controllers(self) -> usize {
        match self {
            Workload::Two | Workload::TwoRotate => 2,
            _ => 1,
        }
    }

    /// How many AccessKeys there are.
    pub fn keys(self) -> usize {
        match self {
            Workload::Many => 4,
            _ => 1,
        }
    }

    /// What happens, one after the other.
    pub fn acts(self) -> Vec<Act> {
        let state = |state: &str| Act::Change(json!({ "state": state }));
        let restricted = |ids: &[&str]| {
            let restrictions = json!({ "allDevices": null, "deviceIds": ids });
            Act::Change(json!({ "restrictions": restrictions }))
        };
        let rotated = |revision: i32, overlap: &str| {
            let rotation = json!({ "revision": revision, "overlap": overlap });
            Act::Change(json!({ "rotation": rotation }))
        };
        match self {
            Workload::Create | Workload::Two | Workload::Many => vec![Act::Create],
            Workload::Toggle => vec![Act::Create, state("Inactive"), state("Active")],
            Workload::Recreate => vec![Act::Create, Act::Recreate],
            Workload::Consume => vec![Act::Create, Act::TakeSecret, Act::Restart],
            Workload::Rotate => vec![Act::Create, rotated(2, "1h"), rotated(3, "0s")],
            Workload::Restrict => vec![Act::Create, restricted(&["pump"]), restricted(&["valve"])],
            Workload::EndNamespace => vec![Act::Create, Act::EndNamespace],
            Workload::TwoRotate => vec![Act::Create, rotated(2, "1h")],
            Workload::Restore => vec![Act::Create, Act::Restore],
            // The last tenth of its time, too, is a turn.
            Workload::Limit => vec![
                Act::Create,
                Act::Limit(1, 11),
                Act::Pass(1),
                Act::Pass(9),
                Act::Pass(1),
            ],
            // What is late may be the request that withdraws the first Secret: it must not take the second.
            Workload::Withdraw => vec![
                Act::Create,
                Act::Change(json!({ "secret": { "deleteAfter": "10h" } })),
                Act::Pass(10),
                rotated(2, "1h"),
                Act::Pass(10),
            ],
            Workload::Schedule => {
                let rotation = json!({ "every": "10h", "overlap": "1h" });
                let change = Act::Change(json!({ "rotation": rotation }));
                vec![
                    Act::Create,
                    change,
                    Act::ComeDue,
                    Act::TakeSecret,
                    Act::ComeDue,
                ]
            }
        }
    }
}

impl Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::Create => "create",
            Workload::Toggle => "toggle",
            Workload::Recreate => "recreate",
            Workload::Consume => "consume",
            Workload::Rotate => "rotate",
            Workload::Restrict => "restrict",
            Workload::EndNamespace => "end-namespace",
            Workload::Two => "two",
            Workload::TwoRotate => "two-rotate",
            Workload::Restore => "restore",
            Workload::Schedule => "schedule",
            Workload::Withdraw => "withdraw",
            Workload::Limit => "limit",
            Workload::Many => "many",
        })
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let mut all = Workload::ALL.into_iter();
        all.find(|workload| workload.to_string() == text)
            .ok_or_else(|| {
                format!(
                    "{text:?} is no workload: {}",
                    Workload::ALL.map(|w| w.to_string()).join(", ")
                )
            })
    }
}
