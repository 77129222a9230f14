//! One run: users do what the workload says, the faults happen, time passes, and in the end all has
//! to be as the users want it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keyward::api::{AccessKey, EffectiveState, KeyState};
use keyward::clock::{Clock, ManualClock};
use keyward::controller::Nudge;
use kube::ResourceExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::field::{Field, Place};
use super::judge::{Case, accepts, is_consumed, judge, withdrawal};
use super::member::Member;
use super::plan::Line;
use super::recorder::Stored;
use super::support::controller::GRACE;
use super::support::fault::{At, Fault};
use super::support::history::is_done;
use super::workload::{Act, Workload};

/// Invariant I9: once nothing goes wrong any more, all is well after this time.
const LIMIT: Duration = Duration::from_secs(60).saturating_add(GRACE);

/// So many seconds pass at a time, and 30 after that: most happens soon.
const STEPS: [u64; 8] = [1, 2, 4, 8, 15, 30, 120, 120];

/// A machine that has much else to do may keep a controller from its rest for so long.
const STARVED: Duration = Duration::from_secs(240);

/// A request is late by less than the grace, however long a step is.
const LATEST: Duration = GRACE.saturating_sub(Duration::from_secs(150));

/// As long as the product lets a watch be silent.
const SILENCE: Duration = Duration::from_secs(25);

/// As often as the product lists what its watches may have missed.
const RELIST: Duration = Duration::from_secs(330);

/// How long a turn is, how many of them without anything happening are rest, and how many a look is
/// waited for.
const TURN: Duration = Duration::from_millis(4);
const QUIET: u32 = 6;
const PATIENCE: u32 = 60;

/// More requests than any run needs.
const TOO_MANY: u64 = 150;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub line: Line,
    /// What was not as it has to be.
    pub violations: Vec<String>,
    /// What the controllers asked for then.
    pub asked: Vec<String>,
    /// How many faults have happened.
    pub fired: u64,
    /// Of each controller: its requests, those about Events, those that began watches, and the
    /// events that these delivered.
    pub counts: Vec<[u32; 4]>,
    /// The same, when all was done for the first time.
    pub counts_done: Vec<[u32; 4]>,
}

/// What users still have to do.
#[derive(Clone, Copy, PartialEq)]
enum More {
    ToCome,
    Nothing,
}

/// A run under way.
pub struct Run<'a> {
    pub(super) field: &'a Field,
    pub(super) place: &'a Place,
    pub(super) line: &'a Line,
    /// What the names of its objects begin with.
    pub(super) prefix: String,
    pub(super) clock: Clock,
    hand: ManualClock,
    pub(super) members: Vec<Member>,
    random: StdRng,
    /// The AccessKeys as users last wrote them: uid and generation.
    pub(super) wanted: BTreeMap<String, Option<(String, i64)>>,
    /// Secrets that users took.
    pub(super) taken: BTreeSet<String>,
    counts_done: Vec<[u32; 4]>,
    /// Faults that were seen to happen.
    fired: u64,
    /// Faults of watches that a list has made good.
    made_good: u64,
    /// For how long nothing has gone wrong.
    calm: Duration,
    /// For how long a request is late.
    late: Option<Duration>,
}

impl<'a> Run<'a> {
    /// Does it.
    pub async fn of(field: &'a Field, place: &'a Place, line: &'a Line) -> Outcome {
        let start = Timestamp::now();
        let (clock, hand) = Clock::manual(start);
        let mut members = Vec::new();
        for number in 0..line.workload.controllers() {
            let member = Member::start(line, number, &field.controller, &place.name, &clock);
            members.push(member.await);
        }
        let mut run = Run {
            field,
            place,
            line,
            prefix: format!("r{}-", field.next_number()),
            clock,
            hand,
            members,
            random: StdRng::seed_from_u64(line.seed),
            wanted: BTreeMap::new(),
            taken: BTreeSet::new(),
            counts_done: Vec::new(),
            fired: 0,
            made_good: 0,
            calm: Duration::ZERO,
            late: None,
        };
        let mut violations: Vec<String> = run.go().await.err().into_iter().collect();
        violations.extend(run.end(start).await);
        Outcome {
            line: line.clone(),
            asked: run.log().filter(|_| !violations.is_empty()).collect(),
            violations,
            fired: run.all_fired(),
            counts: run.counts(),
            counts_done: run.counts_done,
        }
    }

    fn counts(&self) -> Vec<[u32; 4]> {
        let members = self.members.iter();
        members.map(|member| member.schedule.counts()).collect()
    }

    /// Every request, with the controller that made it.
    fn log(&self) -> impl Iterator<Item = String> {
        let members = self.members.iter().zip(["a", "b"]);
        members.flat_map(|(member, name)| {
            let asked = member.schedule.asked().into_iter();
            asked.map(move |asked| format!("{name}: {} {}", asked.method, asked.path))
        })
    }

    async fn go(&mut self) -> Result<(), String> {
        for act in self.line.workload.acts() {
            if matches!(act, Act::ComeDue | Act::Pass(_)) {
                // More time passes than any request may live.
                self.until_done(More::Nothing).await?;
            }
            self.act(act).await;
            if self.line.seed == 0 {
                self.until_done(More::ToCome).await?;
            } else {
                self.wait_a_moment().await;
            }
        }
        self.until_done(More::Nothing).await?;
        self.counts_done = self.counts();
        self.is_idle_when_nothing_changes().await
    }

    /// Until the controllers have asked for a few more things, or for nothing.
    async fn wait_a_moment(&mut self) {
        let more = self.random.random_range(0..6);
        let (begin, before) = (Instant::now(), self.requests());
        while self.requests() < before + more && begin.elapsed() < Duration::from_millis(200) {
            self.revive();
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Time passes until all is as users want it.
    async fn until_done(&mut self, more: More) -> Result<(), String> {
        self.calm = Duration::ZERO;
        let mut round = 0;
        loop {
            self.wait_for_others().await;
            self.settle().await?;
            if self.all_fired() > self.fired {
                self.fired = self.all_fired();
                self.calm = Duration::ZERO;
                // It may have befallen the list that would have made good what a watch has lost.
                self.made_good = 0;
                round = 0;
            }
            let unfinished = self.unfinished();
            if unfinished.is_none() && (more == More::ToCome || !self.has_late_ones()) {
                return Ok(());
            }
            if self.release(unfinished.is_none()).await {
                // That was the last thing to go wrong.
                self.calm = Duration::ZERO;
                round = 0;
            }
            if unfinished.is_some() {
                if self.calm >= LIMIT {
                    self.outlast().await?;
                    continue;
                }
                self.pass(STEPS.get(round).copied().unwrap_or(30));
            }
            round += 1;
        }
    }

    /// The record may be behind, and a busy machine too: what it does only now counts as the last
    /// thing to go wrong.
    async fn outlast(&mut self) -> Result<(), String> {
        let (begin, before) = (Instant::now(), self.activity());
        while let Some(unfinished) = self.unfinished() {
            if self.activity() != before {
                self.calm = Duration::ZERO;
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(5) {
                let states: Vec<String> = self.members.iter().map(Member::state).collect();
                return Err(format!("I9: {unfinished}, {states:?}"));
            }
            sleep(TURN).await;
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        let before = self.calm;
        self.calm += by;
        self.hand.advance(by);
        if let Some(late) = &mut self.late {
            *late += by;
        }
        for member in &self.members {
            if self.calm >= SILENCE {
                member.proxy.abandon_silent_watches();
            }
        }
        if self.calm >= RELIST && before < RELIST {
            self.nudge(Nudge::Relist);
            let misled = self.members.iter();
            let misled = misled.map(|member| member.schedule.misled()).sum();
            // What a watch has lost goes on to be wrong until now.
            if misled > self.made_good {
                (self.made_good, self.calm) = (misled, Duration::ZERO);
            }
        }
    }

    fn has_late_ones(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.proxy.has_late_ones())
    }

    /// What is late is carried out when nothing else is left to happen, or its time has come. Was something?
    async fn release(&mut self, at_once: bool) -> bool {
        for member in &self.members {
            if self.calm >= Duration::from_secs(7) {
                member.proxy.release_watches();
            }
        }
        if !self.has_late_ones() {
            self.late = None;
            return false;
        }
        let is_time = at_once || *self.late.get_or_insert_default() >= LATEST;
        if is_time {
            for member in &self.members {
                member.proxy.release().await;
            }
            self.late = None;
        }
        is_time
    }

    /// Until the controllers wait for something to happen. It is told from nothing happening for
    /// some turns of this process, which take longer the more it has to do.
    async fn settle(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        let looks: Vec<u64> = self.members.iter().map(Member::looks).collect();
        self.nudge(Nudge::Resync);
        let mut last = self.activity();
        let (mut turns, mut quiet) = (0, 0);
        // A look follows the nudge, unless the cache is empty.
        while quiet < QUIET || (turns < PATIENCE && !self.have_looked_since(&looks)) {
            sleep(TURN).await;
            self.revive();
            turns += 1;
            quiet += 1;
            let now = self.activity();
            if now != last || !self.members.iter().all(Member::is_idle) {
                (last, quiet) = (now, 0);
            }
            if self.requests() > TOO_MANY {
                return Err("I9: it does not end".to_owned());
            }
            if begin.elapsed() > STARVED {
                let states: Vec<String> = self.members.iter().map(Member::state).collect();
                return Err(format!("I9: it does not come to rest: {states:?}"));
            }
        }
        Ok(())
    }

    fn have_looked_since(&self, looks: &[u64]) -> bool {
        let mut members = self.members.iter().zip(looks);
        members.all(|(member, before)| member.looks() > *before)
    }

    /// The garbage collector and the namespace controller work in real time.
    async fn wait_for_others(&mut self) {
        let begin = Instant::now();
        while self.others_have_work() && begin.elapsed() < Duration::from_secs(90) {
            self.revive();
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn others_have_work(&self) -> bool {
        self.wanted.iter().any(|(name, wanted)| {
            let secret = self.field.recorder.secret(&self.place.name, name);
            match wanted {
                Some((uid, _)) => secret.is_some_and(|secret| secret.owner.as_ref() != Some(uid)),
                None => secret.is_some() || self.key(name).is_some(),
            }
        })
    }

    fn revive(&mut self) {
        for member in &mut self.members {
            member.revive();
        }
    }

    fn activity(&self) -> (u64, usize) {
        let versions = self.field.recorder.count(&self.place.name);
        (self.requests(), versions)
    }

    fn requests(&self) -> u64 {
        let members = self.members.iter();
        members.map(|member| member.proxy.requests()).sum()
    }

    /// Those about Events apart.
    fn writes(&self) -> usize {
        let asked = self.members.iter();
        let asked = asked.flat_map(|member| member.schedule.asked());
        asked
            .filter(|asked| asked.method != Method::GET && !asked.is_about_event())
            .count()
    }

    fn all_fired(&self) -> u64 {
        let members = self.members.iter();
        members.map(|member| member.schedule.fired()).sum()
    }

    /// What is not yet as users want it.
    fn unfinished(&self) -> Option<String> {
        self.wanted
            .iter()
            .find_map(|(name, wanted)| match (self.key(name), wanted) {
                (Some(key), Some(wanted)) => self.is_unfinished(&key, wanted),
                (None, None) => {
                    let secret = self.field.recorder.secret(&self.place.name, name);
                    secret.map(|_| format!("Secret {name} is left"))
                }
                (Some(_), None) => Some(format!("{name} is there")),
                (None, Some(_)) => Some(format!("{name} is not there")),
            })
    }

    fn is_unfinished(&self, key: &AccessKey, (uid, generation): &(String, i64)) -> Option<String> {
        let name = key.name_any();
        if key.uid().as_ref() != Some(uid) || key.metadata.generation < Some(*generation) {
            return Some(format!("{name} is not recorded yet"));
        }
        if !is_done(key) {
            return Some(format!("{name} is not done: {:?}", key.status));
        }
        let status = key.status.as_ref()?;
        let next = status.next_rotation.as_ref().map(|next| next.0);
        if key.spec.rotation.every.is_some()
            && next.is_none_or(|next| next <= self.clock.now().wall)
        {
            return Some(format!("{name} is due"));
        }
        if status.state != Some(state_at(key, self.clock.now().wall)) {
            return Some(format!("{name} is said to be {:?}", status.state));
        }
        let newest = status.verifiers.last()?;
        let secret = self.field.recorder.secret(&self.place.name, &name);
        if withdrawal(key).is_some_and(|at| at <= self.clock.now().wall) {
            let is_over = secret.is_none() && is_consumed(status);
            return (!is_over).then(|| format!("Secret {name} is to be withdrawn"));
        }
        let fits = |plaintext: &String| accepts(&newest.verifier, plaintext);
        match secret {
            Some(secret) if fits(&secret.plaintext) => None,
            None if self.taken.iter().any(fits) => None,
            None if self.was_collected(&name, uid, fits) => None,
            Some(_) => Some(format!("Secret {name} is not the accepted one")),
            None => Some(format!("Secret {name} is missing")),
        }
    }

    /// Rule 8: a Secret that was still a restored key's own under its old uid may be taken by the
    /// garbage collector before it is owned again, and counts as consumed.
    fn was_collected(&self, name: &str, uid: &str, fits: impl Fn(&String) -> bool) -> bool {
        let secrets = self.field.recorder.secrets(&self.place.name, name);
        let old = |secret: &Stored| secret.owner.as_deref() != Some(uid);
        self.line.workload == Workload::Restore
            && secrets
                .iter()
                .any(|secret| old(secret) && fits(&secret.plaintext))
    }

    fn key(&self, name: &str) -> Option<Arc<AccessKey>> {
        self.field.recorder.key(&self.place.name, name)
    }

    /// Invariant I8: ten resyncs write nothing.
    async fn is_idle_when_nothing_changes(&mut self) -> Result<(), String> {
        if self.line.workload == Workload::EndNamespace {
            return Ok(());
        }
        // What watches have missed is known before.
        for member in &self.members {
            member.proxy.release_watches();
            member.proxy.abandon_silent_watches();
        }
        self.settle().await?;
        self.nudge(Nudge::Relist);
        self.settle().await?;
        let mut changes = 0;
        // What others do happens once: the garbage collector, or a request that was late.
        for _ in 0..3 {
            let before = self.field.recorder.count(&self.place.name);
            let writes = self.writes();
            for _ in 0..10 {
                self.resync().await?;
            }
            self.settle().await?;
            changes = self.field.recorder.count(&self.place.name) - before;
            let writes = self.writes() - writes;
            if writes > 0 {
                return Err(format!("I8: ten resyncs made {writes} writes"));
            }
            if changes == 0 {
                return Ok(());
            }
        }
        Err(format!("I8: without a write {changes} changes"))
    }

    /// Every controller looks at every key.
    async fn resync(&mut self) -> Result<(), String> {
        let keys = self.line.workload.keys() as u64;
        let wanted: Vec<u64> = self
            .members
            .iter()
            .map(|member| member.looks() + keys)
            .collect();
        self.nudge(Nudge::Resync);
        let begin = Instant::now();
        while self
            .members
            .iter()
            .zip(&wanted)
            .any(|(member, wanted)| member.looks() < *wanted)
        {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err("I9: a resync looks at nothing".to_owned());
            }
            sleep(TURN).await;
            if self.members.iter_mut().any(Member::revive) {
                self.settle().await?;
                self.nudge(Nudge::Resync);
            }
        }
        Ok(())
    }

    pub(super) fn nudge(&self, nudge: Nudge) {
        self.members.iter().for_each(|member| member.nudge(nudge));
    }

    /// Stops the controllers, and holds what was recorded against the invariants.
    async fn end(&mut self, start: Timestamp) -> Vec<String> {
        for member in &self.members {
            member.stop();
            member.proxy.release().await;
        }
        let asked = self.members.iter();
        let asked = asked.flat_map(|member| member.schedule.asked()).collect();
        let recorder = &self.field.recorder;
        let cleared = self.place.clear(recorder, &self.prefix).await;
        let mut versions = recorder.take(&self.place.name, &self.prefix);
        versions.retain(|version| version.at < cleared.end);
        let mut violations = judge(&Case {
            workload: self.line.workload,
            versions: &versions,
            taken: &self.taken,
            refusals: refusals(self.line),
            asked,
            start,
            end: self.clock.now().wall,
        });
        if !cleared.is_recorded || recorder.has_gaps() {
            violations.push("the record is incomplete".to_owned());
        }
        violations
    }
}

/// What an issued key is to be said to be.
fn state_at(key: &AccessKey, now: Timestamp) -> EffectiveState {
    let has_come = |time: &Option<Time>| time.as_ref().is_some_and(|time| time.0 <= now);
    let begins = &key.spec.not_before;
    match key.spec.state {
        KeyState::Inactive => EffectiveState::Inactive,
        KeyState::Active if begins.is_some() && !has_come(begins) => EffectiveState::NotYetValid,
        KeyState::Active if has_come(&key.spec.expires_at) => EffectiveState::Expired,
        KeyState::Active => EffectiveState::Active,
    }
}

/// How often somebody says in the API server's name that a person has to act.
fn refusals(line: &Line) -> usize {
    let faults = line.faults.iter();
    let refusals =
        faults.filter(|fault| matches!(fault.at, At::Request(_, Fault::Refuse(403 | 422))));
    refusals.count()
}
