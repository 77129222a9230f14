//! What may go wrong with a request or with an event of a watch, each with the name by which a line
//! calls it.

use std::fmt::{self, Display};
use std::str::FromStr;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is lost, and the connection closed.
    Drop,
    /// It is lost, and the connection reset.
    Reset,
    /// It is carried out, and the connection closed instead of an answer.
    LoseAnswer,
    /// It is not carried out, and nothing answers.
    Hold,
    /// It is carried out, and nothing answers.
    HoldAnswer,
    /// It is given up at once, and carried out later.
    Late(Later),
    /// The same, and the controller is killed in between.
    RestartLate(Later),
    /// It is carried out twice; this answer is given.
    Twice(Answer),
    /// It is carried out, and the answer ends too soon, as if it were whole.
    Truncate,
    /// It is carried out, and the connection breaks in the middle of the answer.
    BreakOff,
    /// It is carried out, and the answer comes with some bytes changed.
    Corrupt,
    /// It is refused by a Status with this code, as the API server or something before it would.
    Refuse(u16),
    /// It is refused by a page that is no Status, as a proxy would.
    Page(u16),
    /// It is carried out, and this code is the answer.
    Applied(u16),
    /// The controller is killed, and the request lost.
    KillBefore,
    /// The controller is killed once it is carried out, before the answer.
    KillAfter,
    /// The controller is killed once it has the answer.
    KillAnswered,
}

/// When a late request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Later {
    /// Before the controller's next request but so many.
    After(u8),
    /// When nothing else is left to happen, but within the grace.
    AtLast,
}

/// Of two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    First,
    Second,
}

/// What happens to one event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchFault {
    /// It and all behind it wait for the controller's next request but so many.
    Delay(u8),
    /// It is lost.
    Lose,
    /// It comes twice.
    Duplicate,
    /// The next one comes first.
    Reorder,
    /// The watch ends before it.
    Close,
    /// The connection breaks in the middle of it.
    BreakOff,
    /// It comes with some bytes changed.
    Corrupt,
    /// The watch ends before it, with 410 Gone.
    Gone,
    /// What was delivered first is delivered again, behind it.
    GoBack,
    /// Nothing is delivered any more, and the watch does not end.
    Silence,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 34] = [
        Fault::Drop,
        Fault::Reset,
        Fault::LoseAnswer,
        Fault::Hold,
        Fault::HoldAnswer,
        Fault::Late(Later::After(0)),
        Fault::Late(Later::After(1)),
        Fault::Late(Later::After(2)),
        Fault::Late(Later::AtLast),
        Fault::RestartLate(Later::After(0)),
        Fault::RestartLate(Later::After(1)),
        Fault::RestartLate(Later::After(2)),
        Fault::RestartLate(Later::AtLast),
        Fault::Twice(Answer::First),
        Fault::Twice(Answer::Second),
        Fault::Truncate,
        Fault::BreakOff,
        Fault::Corrupt,
        Fault::Refuse(401),
        Fault::Refuse(403),
        Fault::Refuse(404),
        Fault::Refuse(409),
        Fault::Refuse(422),
        Fault::Refuse(429),
        Fault::Refuse(500),
        Fault::Refuse(503),
        Fault::Refuse(504),
        Fault::Page(404),
        Fault::Page(502),
        Fault::Applied(500),
        Fault::Applied(504),
        Fault::KillBefore,
        Fault::KillAfter,
        Fault::KillAnswered,
    ];
}

/// What may happen to a request that begins a watch: those of [`Fault::ALL`] after which there is
/// none, and 410 Gone.
pub const AT_BEGIN: [Fault; 13] = [
    Fault::Drop,
    Fault::Reset,
    Fault::Refuse(401),
    Fault::Refuse(403),
    Fault::Refuse(404),
    Fault::Refuse(410),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::Refuse(504),
    Fault::Page(404),
    Fault::Page(502),
    Fault::KillBefore,
];

impl WatchFault {
    /// All of them.
    pub const ALL: [WatchFault; 12] = [
        WatchFault::Delay(0),
        WatchFault::Delay(1),
        WatchFault::Delay(2),
        WatchFault::Lose,
        WatchFault::Duplicate,
        WatchFault::Reorder,
        WatchFault::Close,
        WatchFault::BreakOff,
        WatchFault::Corrupt,
        WatchFault::Gone,
        WatchFault::GoBack,
        WatchFault::Silence,
    ];
}

/// One fault at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planned {
    /// Of which controller: 0 is called `a`, 1 is called `b`.
    pub controller: usize,
    /// Where.
    pub at: At,
}

/// Counted from 1, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// At the n-th request, those about Events and the beginnings of watches apart: `a3:drop`.
    Request(u32, Fault),
    /// At the n-th request about an Event: `ae1:500`.
    Event(u32, Fault),
    /// At the n-th beginning of a watch: `as1:503`.
    Begin(u32, Fault),
    /// At the n-th event that a watch delivers: `aw2:lose`.
    Watch(u32, WatchFault),
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Drop => f.write_str("drop"),
            Fault::Reset => f.write_str("reset"),
            Fault::LoseAnswer => f.write_str("lose-answer"),
            Fault::Hold => f.write_str("hold"),
            Fault::HoldAnswer => f.write_str("hold-answer"),
            Fault::Late(later) => write!(f, "late-{later}"),
            Fault::RestartLate(later) => write!(f, "restart-late-{later}"),
            Fault::Twice(Answer::First) => f.write_str("twice"),
            Fault::Twice(Answer::Second) => f.write_str("twice-second"),
            Fault::Truncate => f.write_str("truncate"),
            Fault::BreakOff => f.write_str("break-off"),
            Fault::Corrupt => f.write_str("corrupt"),
            Fault::Refuse(code) => write!(f, "{code}"),
            Fault::Page(code) => write!(f, "{code}-page"),
            Fault::Applied(code) => write!(f, "{code}-applied"),
            Fault::KillBefore => f.write_str("kill-before"),
            Fault::KillAfter => f.write_str("kill-after"),
            Fault::KillAnswered => f.write_str("kill-answered"),
        }
    }
}

impl Display for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Later::After(requests) => write!(f, "{requests}"),
            Later::AtLast => f.write_str("last"),
        }
    }
}

impl Display for WatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchFault::Delay(requests) => write!(f, "delay-{requests}"),
            WatchFault::Lose => f.write_str("lose"),
            WatchFault::Duplicate => f.write_str("duplicate"),
            WatchFault::Reorder => f.write_str("reorder"),
            WatchFault::Close => f.write_str("close"),
            WatchFault::BreakOff => f.write_str("break-off"),
            WatchFault::Corrupt => f.write_str("corrupt"),
            WatchFault::Gone => f.write_str("gone"),
            WatchFault::GoBack => f.write_str("go-back"),
            WatchFault::Silence => f.write_str("silence"),
        }
    }
}

impl Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["a", "b"][self.controller])?;
        match self.at {
            At::Request(n, fault) => write!(f, "{n}:{fault}"),
            At::Event(n, fault) => write!(f, "e{n}:{fault}"),
            At::Begin(n, fault) => write!(f, "s{n}:{fault}"),
            At::Watch(n, fault) => write!(f, "w{n}:{fault}"),
        }
    }
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Planned, String> {
        let unreadable =
            || format!("{text:?} names no fault: write one as a3:drop, ae1:500 or bw2:lose");
        let (place, name) = text.split_once(':').ok_or_else(unreadable)?;
        let (controller, place) = match place.split_at_checked(1) {
            Some(("a", place)) => (0, place),
            Some(("b", place)) => (1, place),
            _ => return Err(unreadable()),
        };
        let number = |digits: &str| digits.parse().map_err(|_| unreadable());
        let at = if let Some(digits) = place.strip_prefix('e') {
            At::Event(
                number(digits)?,
                named(&Fault::ALL, name).ok_or_else(unreadable)?,
            )
        } else if let Some(digits) = place.strip_prefix('s') {
            At::Begin(
                number(digits)?,
                named(&AT_BEGIN, name).ok_or_else(unreadable)?,
            )
        } else if let Some(digits) = place.strip_prefix('w') {
            At::Watch(
                number(digits)?,
                named(&WatchFault::ALL, name).ok_or_else(unreadable)?,
            )
        } else {
            At::Request(
                number(place)?,
                named(&Fault::ALL, name).ok_or_else(unreadable)?,
            )
        };
        Ok(Planned { controller, at })
    }
}

fn named<T: Display + Copy>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|fault| fault.to_string() == name)
}
