//! Devices that ask for tokens, and whether the answers were right.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::super::load::{Connection, Stop, auth_device};
use super::fleet::{Device, Fleet, Turn};

/// Tokens a second, of each gateway.
const RATE: usize = 150;
const CONNECTIONS: usize = 8;

/// So that devices whose turns are near each other are not asked about near each other.
const STRIDE: usize = 7919;

/// A device that has read a new secret as soon as it was accepted may be ahead of its gateway by so much.
const AHEAD: SignedDuration = SignedDuration::from_secs(1);

/// One answer.
pub struct Answer {
    device: usize,
    with_new: bool,
    asked: Timestamp,
    answered: Timestamp,
    status: u16,
}

const ALLOWED: u16 = 200;
const REFUSED: u16 = 401;

/// What became of all.
#[derive(Default)]
pub struct Judged {
    pub answers: usize,
    pub allowed: usize,
    pub wrong: usize,
    /// Across the very moment.
    undecided: usize,
    /// For how long a new secret was refused after it was seen to be accepted, at most.
    behind: SignedDuration,
}

/// Asks this gateway for tokens until it is over.
pub fn ask(at: SocketAddr, fleet: &Fleet, stop: &Stop) -> Vec<Answer> {
    thread::scope(|scope| {
        let asking: Vec<_> = (0..CONNECTIONS)
            .map(|first| scope.spawn(move || ask_on_one(at, first, fleet, stop)))
            .collect();
        let answers = asking
            .into_iter()
            .flat_map(|asking| asking.join().expect("no panic"));
        answers.collect()
    })
}

fn ask_on_one(at: SocketAddr, first: usize, fleet: &Fleet, stop: &Stop) -> Vec<Answer> {
    let (begin, mut connection, mut answers) = (Instant::now(), Connection::to(at), Vec::new());
    for turn in (first..).step_by(CONNECTIONS) {
        if stop.is_set() {
            break;
        }
        let due = begin + Duration::from_secs_f64(turn as f64 / RATE as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let number = turn * STRIDE % fleet.devices.len();
        let device = &fleet.devices[number];
        // The new secret every other time, once there is one.
        let new = device
            .new
            .get()
            .filter(|_| (turn / CONNECTIONS).is_multiple_of(2));
        let secret = new.map_or(&device.issued.secret, |(secret, _)| secret);
        let request = auth_device(&device.issued, secret);
        let asked = Timestamp::now();
        let status = connection.ask(&request);
        answers.push(Answer {
            device: number,
            with_new: new.is_some(),
            asked,
            answered: Timestamp::now(),
            status,
        });
    }
    answers
}

/// Holds each answer against what it had to be.
pub fn judge(fleet: &Fleet, answers: impl Iterator<Item = Answer>) -> Judged {
    let mut judged = Judged::default();
    for answer in answers {
        judged.add(&answer, &fleet.devices[answer.device]);
    }
    println!(
        "  {} answers, {} of them allowed, {} across the very moment, {} wrong; a new secret was refused until {:.0} ms \
         after it was seen to be accepted, at most",
        judged.answers,
        judged.allowed,
        judged.undecided,
        judged.wrong,
        judged.behind.as_secs_f64() * 1000.0,
    );
    judged
}

impl Judged {
    fn add(&mut self, answer: &Answer, device: &Device) {
        self.answers += 1;
        self.allowed += usize::from(answer.status == ALLOWED);
        match answer.has_to_be(device) {
            None => self.undecided += 1,
            Some(right) if answer.status == right => {}
            Some(right) => {
                self.wrong += 1;
                let (status, name) = (answer.status, &device.issued.device);
                println!(
                    "  WRONG: {status} instead of {right} for {name} at {}",
                    answer.asked
                );
            }
        }
        let accepted = device.accepted.get();
        if let Some(accepted) = accepted.filter(|_| answer.with_new && answer.status != ALLOWED) {
            let behind = answer.answered.duration_since(accepted.at);
            self.behind = self.behind.max(behind);
        }
    }
}

impl Answer {
    /// What it had to be. None if it went across the very moment.
    fn has_to_be(&self, device: &Device) -> Option<u16> {
        match (device.turn, device.new.get()) {
            (Turn::Expires(end), _) => self.before(end),
            (Turn::Rotates(_), Some((_, known))) if self.with_new => {
                (self.asked >= *known + AHEAD).then_some(ALLOWED)
            }
            (Turn::Rotates(_), _) => match device.accepted.get() {
                Some(accepted) => self.before(accepted.old_until),
                None => Some(ALLOWED),
            },
        }
    }

    fn before(&self, end: Timestamp) -> Option<u16> {
        if self.answered < end {
            Some(ALLOWED)
        } else if self.asked >= end {
            Some(REFUSED)
        } else {
            None
        }
    }
}
