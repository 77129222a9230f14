//! The rules of the crate's documentation, a scenario at a time: what is observed, and the steps
//! that must follow.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::ledger::{Accepted, AttemptId, Issuance, Ledger, Uid, Version};
use super::super::observed::{Answer, Memory};
use super::*;

const GRACE: Duration = Duration::from_secs(300);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn a_first_issue_is_three_writes_and_no_read() {
    let begin = view(1);
    let committed = begin.clone().trying(&[1]).at(2);
    let confirmed = committed.clone().accepting(1, 1).at(3);
    Walk::from(begin)
        .sees(commit(), Answer::Committed(committed, AttemptId(1)))
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(confirm(1, true), Answer::Written(confirmed))
        .ends(Situation::Settled);
}

#[test]
fn after_a_failed_commit_the_run_is_over_and_nothing_is_held() {
    for answer in [Answer::Conflict, Answer::Failed] {
        assert_eq!(Walk::from(view(1)).breaks_off(commit(), answer).held, None);
    }
}

#[test]
fn a_publish_that_is_refused_for_its_name_inspects_at_once() {
    Walk::committed()
        .sees(publish(1), Answer::Conflict)
        .sees(read(false), Answer::Secret(foreign()))
        .sees(Step::ReadKey, Answer::Key(view(1).trying(&[1]).at(2), None))
        .ends(Situation::SecretExists);
}

#[test]
fn a_publish_without_an_answer_is_inspected_by_the_next_run_and_confirmed_with_a_sweep() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
        .sees(read(true), Answer::Secret(ours(Bytes::Read)))
        .sees(Step::ReadKey, Answer::Key(trying, Some(AttemptId(1))))
        .stands_at(&confirm(1, false));
}

#[test]
fn a_publish_that_never_arrived_is_sent_again_and_still_needs_a_sweep() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(trying.clone(), None))
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
        .sees(read(true), Answer::Secret(ours(Bytes::Read)))
        .sees(Step::ReadKey, Answer::Key(trying, Some(AttemptId(1))))
        .stands_at(&confirm(1, false));
}

#[test]
fn plaintext_older_than_a_fifth_of_the_grace_is_not_published() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let trying = view(1).trying(&[1]).at(2);
    Walk::resumed(trying.clone(), memory)
        .after(GRACE / 5 + Duration::from_millis(1))
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(trying, None))
        .stands_at(&commit());
}

#[test]
fn a_confirm_that_lost_against_an_edit_is_decided_again_on_the_live_key() {
    let edited = view(1).trying(&[1]).at(7);
    Walk::committed()
        .sees(publish(1), Answer::Published(uid("secret"), Version(9)))
        .sees(confirm(1, true), Answer::Conflict)
        .sees(Step::ReadKey, Answer::Key(edited, None))
        .stands_at(&confirm(1, true));
}

#[test]
fn a_confirm_of_one_of_several_attempts_asks_for_a_sweep() {
    inspected(view(1).trying(&[1, 2]), ours(Bytes::Read), Some(2)).stands_at(&confirm(2, false));
}

#[test]
fn what_is_decided_on_secret_and_key() {
    let rotation = || view(2).accepting(1, 1);
    let rotating = || rotation().trying(&[5]);
    let over = || Some((uid("secret"), Version(9)));
    let absent = || SecretSeen::Absent(Moment::default());
    let rows: Vec<(&str, View, SecretSeen, Option<u64>, Step)> = vec![
        (
            "absent, nothing held: a new attempt",
            view(1).trying(&[1]),
            absent(),
            None,
            commit(),
        ),
        (
            "absent, a rotation is due: a first attempt",
            rotation(),
            absent(),
            None,
            commit(),
        ),
        (
            "under way: confirmed, whoever made it",
            view(1).trying(&[1]),
            ours(Bytes::Read),
            Some(1),
            confirm(1, false),
        ),
        (
            "an older accepted one: commit, to replace it",
            rotation(),
            ours(Bytes::Read),
            Some(1),
            commit(),
        ),
        (
            "an older one, an attempt of another process open",
            rotating(),
            ours(Bytes::Read),
            Some(1),
            commit(),
        ),
        (
            "the attempt of a rotation",
            rotating(),
            ours(Bytes::Read),
            Some(5),
            confirm(5, false),
        ),
        (
            "foreign",
            view(1).trying(&[1]),
            foreign(),
            None,
            rests(Situation::SecretExists),
        ),
        (
            "foreign, during a rotation",
            rotating(),
            foreign(),
            None,
            rests(Situation::SecretExists),
        ),
        (
            "of the AccessKey's predecessor",
            view(1).trying(&[1]),
            predecessor(),
            None,
            rests(Situation::PredecessorSecret),
        ),
        (
            "ours by its owner, by its bytes nobody's",
            view(1).trying(&[1]),
            ours(Bytes::Read),
            None,
            Step::Recheck,
        ),
        (
            "ours, edited, during a rotation",
            rotating(),
            ours(Bytes::Read),
            None,
            Step::Recheck,
        ),
    ];
    for (case, view, secret, holds, expected) in rows {
        let walk = inspected(view, secret, holds);
        assert_eq!(walk.step(), expected, "{case}");
        if let (Step::Commit { .. }, SecretSeen::Present(_)) =
            (&expected, walk.observed.secret.clone().unwrap())
        {
            let trying = walk.observed.view.clone().also_trying(6).at(20);
            walk.sees(commit(), Answer::Committed(trying, AttemptId(6)))
                .stands_at(&Step::Publish {
                    attempt: AttemptId(6),
                    over: over(),
                });
        }
    }
}

#[test]
fn a_person_is_called_only_if_the_secret_stays_as_it_is() {
    let same = ours(Bytes::Unread);
    let changed = present("secret", 10, Some("key"), Bytes::Unread);
    let replaced = present("other", 9, Some("key"), Bytes::Unread);
    let absent = SecretSeen::Absent(Moment::default());
    let suspect = |view: View| inspected(view, ours(Bytes::Read), None);
    suspect(view(1).trying(&[1]))
        .sees(Step::Recheck, Answer::Secret(same.clone()))
        .ends(Situation::SecretExists);
    suspect(view(2).accepting(1, 1))
        .sees(Step::Recheck, Answer::Secret(same))
        .ends(Situation::SecretModified);
    for seen in [changed, replaced, absent] {
        suspect(view(1).trying(&[1])).breaks_off(Step::Recheck, Answer::Secret(seen));
    }
}

#[test]
fn a_dead_attempt_of_ours_is_taken_back() {
    let other_won = view(1).trying(&[1]).accepting(1, 2).at(5);
    let inspected = |holds| {
        let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
        Walk::resumed(view(1).trying(&[1]).at(2), memory)
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(ours(Bytes::Read)))
            .sees(Step::ReadKey, Answer::Key(other_won.clone(), holds))
    };
    let gone = inspected(Some(AttemptId(1))).breaks_off(delete(), Answer::Done);
    assert_eq!(gone.held, None);
    assert_eq!(
        inspected(Some(AttemptId(2)))
            .breaks_off(Step::StartOver, Answer::Done)
            .held,
        None
    );
}

#[test]
fn the_ninth_attempt_waits_until_one_is_older_than_the_grace() {
    let eight = || view(1).trying(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let absent_at = |elapsed| SecretSeen::Absent(Moment::default() + elapsed);
    let young = inspected_at(
        GRACE,
        eight(),
        absent_at(GRACE - Duration::from_millis(1)),
        None,
    );
    young.ends(Situation::TooManyAttempts);
    let old = inspected_at(GRACE, eight(), absent_at(GRACE), None);
    let all = (1..=8).map(AttemptId).collect();
    old.stands_at(&Step::Commit { outlived: all });
}

#[test]
fn attempts_to_replace_a_secret_are_dropped_once_they_are_older_than_the_grace() {
    let rotating = view(2).accepting(1, 1).trying(&[2, 3, 4, 5, 6, 7, 8, 9]);
    let read_at = |elapsed| match ours(Bytes::Read) {
        SecretSeen::Present(secret) => SecretSeen::Present(PresentSecret {
            at: Moment::default() + elapsed,
            ..secret
        }),
        absent => absent,
    };
    let young = read_at(GRACE - Duration::from_millis(1));
    inspected_at(GRACE, rotating.clone(), young, Some(1)).ends(Situation::TooManyAttempts);
    let outlived = (2..=9).map(AttemptId).collect();
    inspected_at(GRACE, rotating, read_at(GRACE), Some(1)).stands_at(&Step::Commit { outlived });
}

#[test]
fn a_secret_of_the_revision_under_way_is_not_an_older_one() {
    let mut forged = view(1).accepting(1, 1);
    forged.ledger.issuance = Some(Issuance {
        revision: 1,
        attempts: Vec::new(),
    });
    inspected(forged, ours(Bytes::Read), Some(1)).stands_at(&Step::Recheck);
}

#[test]
fn another_process_is_given_a_moment_for_its_issue() {
    let opened = view(1).trying(&[1]);
    let fresh = Walk::from(opened.clone());
    assert_eq!(
        fresh.step(),
        wakes(Situation::Issuing, Duration::from_secs(2))
    );
    fresh.after(Duration::from_secs(2)).stands_at(&read(false));
}

#[test]
fn a_finished_issue_is_left_alone_whatever_became_of_its_secret() {
    Walk::from(view(1).accepting(1, 1)).ends(Situation::Settled);
}

#[test]
fn a_rotation_inspects_before_it_commits() {
    Walk::from(view(2).accepting(1, 1)).stands_at(&read(false));
}

#[test]
fn an_issue_under_way_is_finished_for_its_own_revision_first() {
    let walk = inspected(view(3).trying(&[1]), ours(Bytes::Read), Some(1));
    let confirmed = walk.observed.view.clone().accepting(1, 1).at(30);
    walk.sees(confirm(1, false), Answer::Written(confirmed))
        .stands_at(&read(false));
}

#[test]
fn a_rotation_waits_for_the_sweep_and_the_sweep_for_the_grace() {
    let marked = view(2).accepting(1, 1).unsettled(&[2]);
    let walk = Walk::from(marked.clone());
    assert_eq!(walk.step(), wakes(Situation::AwaitingSweep, GRACE));
    walk.after(GRACE).stands_at(&read(false));
}

#[test]
fn a_mark_alone_shows_nowhere_and_wakes_after_the_grace() {
    let marked = view(1).accepting(1, 1).unsettled(&[]);
    assert_eq!(Walk::from(marked).step(), wakes(Situation::Settled, GRACE));
}

#[test]
fn the_mark_of_another_issue_of_the_same_revision_is_a_new_one() {
    let marked = view(1).accepting(1, 1).unsettled(&[2]);
    let memory = Walk::from(marked).observed.memory;
    let again = view(1).accepting(1, 3).unsettled(&[4]);
    let later = Moment::default() + GRACE;
    let seen = Observed::cached(again, memory, later);
    let timing = Timing::with_grace(GRACE);
    assert_eq!(seen.until_sweep(later, &timing), Some(GRACE));
}

#[test]
fn a_sweep_deletes_only_what_it_looks_for() {
    let marked = || view(1).accepting(1, 1).unsettled(&[2]);
    let rows = [
        ("the lost attempt", ours(Bytes::Read), Some(2), delete()),
        (
            "the accepted one",
            ours(Bytes::Read),
            Some(1),
            Step::ClearMark,
        ),
        ("an edited one", ours(Bytes::Read), None, Step::ClearMark),
        ("a foreign one", foreign(), None, Step::ClearMark),
        (
            "none",
            SecretSeen::Absent(Moment::default()),
            None,
            Step::ClearMark,
        ),
    ];
    for (case, secret, holds, expected) in rows {
        assert_eq!(
            inspected_at(GRACE, marked(), secret, holds).step(),
            expected,
            "{case}"
        );
    }
}

#[test]
fn a_sweep_starts_over_if_the_key_changed_while_the_secret_was_read() {
    let marked = view(1).accepting(1, 1).unsettled(&[2]);
    let memory = Walk::from(marked.clone()).observed.memory;
    Walk::resumed(marked.clone(), memory)
        .after(GRACE)
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Key(marked.at(8), None))
        .stands_at(&Step::StartOver);
}

#[test]
fn verifiers_retire_when_their_overlap_is_over() {
    let rotated = view(2).accepting(1, 1).rotated(2, 2, DAY);
    let walk = Walk::from(rotated);
    assert_eq!(walk.step(), wakes(Situation::Settled, DAY.unsigned_abs()));
    walk.after(DAY.unsigned_abs()).stands_at(&Step::Retire);
}

#[test]
fn suspend_stops_everything_but_an_issue_under_way() {
    let suspended = |view: View| View {
        suspended: true,
        ..view
    };
    Walk::from(suspended(view(1))).ends(Situation::Suspended);
    Walk::from(suspended(view(2).accepting(1, 1))).ends(Situation::Suspended);
    inspected(suspended(view(1).trying(&[1])), ours(Bytes::Read), Some(1))
        .stands_at(&confirm(1, false));
}

#[test]
fn a_deleted_key_is_left_alone() {
    let deleted = View {
        deleted: true,
        ..view(1).trying(&[1])
    };
    Walk::from(deleted).ends(Situation::Deleted);
    Walk::from(view(1).trying(&[1]))
        .after(Duration::from_secs(2))
        .sees(
            read(false),
            Answer::Secret(SecretSeen::Absent(Moment::default())),
        )
        .sees(Step::ReadKey, Answer::Gone)
        .ends(Situation::Deleted);
}

#[test]
fn a_cache_that_is_behind_is_waited_for_and_then_passed_by() {
    let mut memory = Memory::default();
    memory.wrote(&view(1).accepting(1, 1).at(7), Moment::default());
    let stale = Walk::resumed(view(1).trying(&[1]).at(6), memory);
    assert_eq!(
        stale.step(),
        wakes(Situation::Behind, Duration::from_secs(5))
    );
    let memory = stale.rests();
    Walk::resumed(view(1).trying(&[1]).at(6), memory)
        .after(Duration::from_secs(5))
        .sees(
            Step::ReadKey,
            Answer::Key(view(1).accepting(1, 1).at(7), None),
        )
        .ends(Situation::Settled);
}

#[test]
fn a_cache_that_stays_behind_does_not_put_off_a_sweep() {
    let marked = || view(1).accepting(1, 1).unsettled(&[]).at(7);
    let stale = || view(1).at(6);
    let mut memory = Memory::default();
    memory.wrote(&marked(), Moment::default());
    let memory = Walk::resumed(stale(), memory).rests();
    Walk::resumed(stale(), memory)
        .after(GRACE)
        .sees(Step::ReadKey, Answer::Key(marked(), None))
        .stands_at(&read(false));
}

#[test]
fn a_cache_by_which_a_write_was_refused_is_behind() {
    let memory = Walk::from(view(1).at(6)).breaks_off(commit(), Answer::Conflict);
    let stale = Walk::resumed(view(1).at(6), memory);
    assert_eq!(
        stale.step(),
        wakes(Situation::Behind, Duration::from_secs(5))
    );
    let memory = stale.rests();
    Walk::resumed(view(1).at(6), memory.clone())
        .after(Duration::from_secs(5))
        .stands_at(&Step::ReadKey);
    Walk::resumed(view(1).at(7), memory).stands_at(&commit());
}

#[test]
fn an_answer_of_ours_is_forgotten_when_the_live_key_is_older_too() {
    let mut memory = Memory::default();
    memory.wrote(&view(1).accepting(1, 1).at(7), Moment::default());
    let restored = view(1).at(3);
    let memory = Walk::resumed(restored.clone(), memory).rests();
    Walk::resumed(restored.clone(), memory)
        .after(Duration::from_secs(5))
        .sees(Step::ReadKey, Answer::Key(restored, None))
        .stands_at(&commit());
}

#[test]
fn a_recreated_key_begins_anew() {
    let memory = Walk::committed().breaks_off(publish(1), Answer::Failed);
    let again = View {
        uid: uid("again"),
        ..view(1).at(20)
    };
    let walk = Walk::resumed(again, memory);
    assert_eq!(walk.observed.memory.held, None);
    walk.stands_at(&commit());
}

#[test]
fn a_first_issue_creates_and_replaces_nothing_that_was_seen_before() {
    let lost = view(2).at(20);
    let again = View {
        uid: uid("again"),
        ..view(1).at(20)
    };
    for blank in [lost, again] {
        let walk = Walk::from(view(2).accepting(1, 1))
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(ours(Bytes::Read)))
            .sees(Step::ReadKey, Answer::Key(blank.clone(), None));
        let committed = blank.also_trying(5).at(21);
        walk.sees(commit(), Answer::Committed(committed, AttemptId(5)))
            .stands_at(&publish(5));
    }
}

#[test]
fn a_restored_key_waits_for_its_status_and_keeps_its_secret() {
    let bare = View {
        restored: true,
        ..view(1)
    };
    let walk = Walk::from(bare);
    assert_eq!(walk.step(), wakes(Situation::AwaitingRestore, GRACE));
    walk.after(GRACE).stands_at(&commit());

    let moved = || View {
        uid: uid("restored"),
        ..view(1).accepting(1, 1)
    };
    let adopt = Step::Adopt {
        uid: uid("secret"),
        version: Version(9),
    };
    inspected(moved(), ours(Bytes::Read), Some(1))
        .sees(adopt, Answer::Done)
        .stands_at(&Step::Rebind);
    for (secret, holds) in [
        (ours(Bytes::Read), None),
        (foreign(), None),
        (SecretSeen::Absent(Moment::default()), None),
    ] {
        inspected(moved(), secret, holds).stands_at(&Step::Rebind);
    }
}

#[test]
fn a_status_without_its_verifiers_is_not_reissued_by_itself() {
    let mut lost = view(1).accepting(1, 1);
    lost.ledger.accepted.clear();
    Walk::from(lost.clone()).ends(Situation::VerifierLost);
    Walk::from(View { wanted: 2, ..lost }).stands_at(&read(false));
}

/// A run, as far as it got.
struct Walk {
    observed: Observed,
    now: Now,
}

impl Walk {
    fn from(view: View) -> Walk {
        Walk::resumed(view, Memory::default())
    }

    fn resumed(view: View, memory: Memory) -> Walk {
        let now = Now {
            monotonic: Moment::default(),
            wall: Timestamp::UNIX_EPOCH,
        };
        Walk {
            observed: Observed::cached(view, memory, now.monotonic),
            now,
        }
    }

    /// A first issue whose commit was answered.
    fn committed() -> Walk {
        Walk::from(view(1)).sees(
            commit(),
            Answer::Committed(view(1).trying(&[1]).at(2), AttemptId(1)),
        )
    }

    fn after(mut self, wait: Duration) -> Walk {
        self.now.monotonic = self.now.monotonic + wait;
        self.now.wall += SignedDuration::try_from(wait).unwrap();
        self
    }

    fn step(&self) -> Step {
        next(&self.observed, self.now, &Timing::with_grace(GRACE))
    }

    fn sees(self, step: Step, answer: Answer) -> Walk {
        self.stands_at(&step);
        let observed = self
            .observed
            .after(&step, answer, self.now.monotonic)
            .continue_value()
            .expect("the run goes on");
        Walk {
            observed,
            now: self.now,
        }
    }

    fn breaks_off(self, step: Step, answer: Answer) -> Memory {
        self.stands_at(&step);
        self.observed
            .after(&step, answer, self.now.monotonic)
            .break_value()
            .expect("the run ends")
    }

    fn rests(self) -> Memory {
        match self.step() {
            Step::Rest(rest) => self.observed.rested(&rest, self.now.monotonic),
            step => panic!("{step:?}"),
        }
    }

    fn stands_at(&self, step: &Step) {
        assert_eq!(self.step(), *step);
    }

    fn ends(&self, situation: Situation) {
        self.stands_at(&rests(situation));
    }
}

/// A run that has read the Secret, its bytes if it is ours, and then the key.
fn inspected(view: View, secret: SecretSeen, holds: Option<u64>) -> Walk {
    inspected_at(Duration::from_secs(2), view, secret, holds)
}

fn inspected_at(wait: Duration, view: View, secret: SecretSeen, holds: Option<u64>) -> Walk {
    let walk = Walk::from(view.clone()).after(wait);
    let walk = match &secret {
        SecretSeen::Present(PresentSecret {
            bytes: Bytes::Read, ..
        }) => walk
            .sees(read(false), Answer::Secret(ours(Bytes::Unread)))
            .sees(read(true), Answer::Secret(secret)),
        _ => walk.sees(read(false), Answer::Secret(secret)),
    };
    walk.sees(Step::ReadKey, Answer::Key(view, holds.map(AttemptId)))
}

fn view(wanted: u32) -> View {
    let (uid, version) = (uid("key"), Version(1));
    View {
        uid,
        version,
        deleted: false,
        suspended: false,
        restored: false,
        wanted,
        ledger: Ledger::default(),
    }
}

impl View {
    fn at(self, version: u64) -> View {
        View {
            version: Version(version),
            ..self
        }
    }

    fn trying(mut self, attempts: &[u64]) -> View {
        let attempts = attempts.iter().copied().map(AttemptId).collect();
        let revision = self.ledger.revision + 1;
        self.ledger.issuance = Some(Issuance { revision, attempts });
        self.ledger.uid.get_or_insert(uid("key"));
        self.ledger.requested = self.ledger.requested.max(1) + u32::from(revision > 1);
        self
    }

    fn also_trying(self, attempt: u64) -> View {
        let ledger = self
            .ledger
            .commit(AttemptId(attempt), &[], &self.uid, self.wanted);
        View { ledger, ..self }
    }

    fn accepting(mut self, revision: u32, attempt: u64) -> View {
        self.ledger.issuance = None;
        self.ledger.accepted.push(Accepted {
            revision,
            attempt: AttemptId(attempt),
            until: None,
        });
        self.ledger.revision = revision;
        self.ledger.requested = revision;
        self.ledger.uid.get_or_insert(uid("key"));
        self.ledger.secret = Some(uid("secret"));
        self
    }

    fn rotated(mut self, revision: u32, attempt: u64, overlap: SignedDuration) -> View {
        for accepted in &mut self.ledger.accepted {
            accepted.until = Some(Timestamp::UNIX_EPOCH + overlap);
        }
        self.accepting(revision, attempt)
    }

    fn unsettled(mut self, attempts: &[u64]) -> View {
        self.ledger.unsettled = Some(attempts.iter().copied().map(AttemptId).collect());
        self
    }
}

fn uid(text: &str) -> Uid {
    Uid(text.into())
}

fn present(name: &str, version: u64, owner: Option<&str>, bytes: Bytes) -> SecretSeen {
    let (uid, owner) = (uid(name), owner.map(uid));
    SecretSeen::Present(PresentSecret {
        uid,
        version: Version(version),
        owner,
        namesake: false,
        bytes,
        at: Moment::default(),
    })
}

fn ours(bytes: Bytes) -> SecretSeen {
    present("secret", 9, Some("key"), bytes)
}

fn foreign() -> SecretSeen {
    present("foreign", 9, None, Bytes::Unread)
}

fn predecessor() -> SecretSeen {
    let (uid, owner) = (uid("old"), Some(uid("predecessor")));
    SecretSeen::Present(PresentSecret {
        uid,
        version: Version(9),
        owner,
        namesake: true,
        bytes: Bytes::Unread,
        at: Moment::default(),
    })
}

fn commit() -> Step {
    Step::Commit {
        outlived: Vec::new(),
    }
}

fn publish(attempt: u64) -> Step {
    Step::Publish {
        attempt: AttemptId(attempt),
        over: None,
    }
}

fn confirm(attempt: u64, settled: bool) -> Step {
    Step::Confirm {
        attempt: AttemptId(attempt),
        secret: uid("secret"),
        settled,
    }
}

fn delete() -> Step {
    Step::DeleteSecret {
        uid: uid("secret"),
        version: Version(9),
    }
}

fn read(bytes: bool) -> Step {
    Step::ReadSecret { bytes }
}

fn rests(situation: Situation) -> Step {
    Step::Rest(Rest {
        situation,
        wake: None,
    })
}

fn wakes(situation: Situation, wake: Duration) -> Step {
    Step::Rest(Rest {
        situation,
        wake: Some(wake),
    })
}
