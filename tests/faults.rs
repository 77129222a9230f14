//! Every fault at every request: controllers behind a proxy that fails as a line says, in front of
//! the real API server. Whatever happens, the invariants hold, judged from outside by every version
//! that the API server stored.
//!
//! `create seed=0 a2:lose-answer a4:kill-after` is a run: what users do, how patient they are, and
//! what goes wrong at which request of which controller. To replay one:
//!
//! ```text
//! KEYWARD_FAULTS="create seed=0 a2:lose-answer" make replay
//! ```

#[path = "faults/campaign.rs"]
mod campaign;
#[path = "faults/chance.rs"]
mod chance;
#[path = "faults/field.rs"]
mod field;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/member.rs"]
mod member;
#[path = "faults/plan.rs"]
mod plan;
#[path = "faults/recorder.rs"]
mod recorder;
#[path = "faults/run.rs"]
mod run;
mod support;
#[path = "faults/users.rs"]
mod users;
#[path = "faults/workload.rs"]
mod workload;

use campaign::{all, judge, pairs, single_lines, singles};
use field::Field;
use plan::Line;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use workload::Workload;

/// Users who wait, and users who do not.
const PATIENT: u64 = 0;
const IMPATIENT: u64 = 1;
/// Those who do not wait either, but for as long as it takes to begin a withdrawal.
const HASTY: u64 = 4;

/// What is chosen in `make test`: the same each time, since a change should fail for what it does. New
/// ones are looked for in `make prove`.
const SEED: u64 = 1;

/// Every single fault on one workload.
macro_rules! single_faults {
    ($($(#[$when:meta])? $name:ident => $workload:ident $users:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$when])?
        async fn $name() {
            let workload = Workload::$workload;
            let outcomes = singles(&Field::new().await, workload, $users).await;
            judge(&format!("single faults on {workload} seed={}", $users), &outcomes);
        }
    )* };
}

single_faults! {
    single_faults_on_create => Create PATIENT,
    single_faults_on_recreate => Recreate PATIENT,
    single_faults_on_two => Two PATIENT,
    single_faults_on_consume => Consume PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_schedule => Schedule PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_withdraw => Withdraw PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_impatient_withdraw => Withdraw HASTY,
    #[ignore = "long: make prove"]
    single_faults_on_limit => Limit PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_impatient_schedule => Schedule IMPATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_impatient_consume => Consume IMPATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_impatient_recreate => Recreate IMPATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_toggle => Toggle PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_rotate => Rotate PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_impatient_rotate => Rotate IMPATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_two_rotate => TwoRotate PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_restrict => Restrict PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_end_namespace => EndNamespace PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_restore => Restore PATIENT,
    #[ignore = "long: make prove"]
    single_faults_on_many => Many PATIENT,
}

/// Some of them, of a workload that takes more requests than most.
async fn some_single_faults(workload: Workload, users: u64) {
    let field = Field::new().await;
    let lines = single_lines(&field, workload, users).await;
    let mut random = StdRng::seed_from_u64(chance::seed().unwrap_or(SEED));
    let some = lines.sample(&mut random, 200).cloned().collect();
    let what = format!("some single faults on {workload} seed={users}");
    judge(&what, &all(&field, some).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_single_faults_on_schedule() {
    some_single_faults(Workload::Schedule, PATIENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_single_faults_on_withdraw() {
    some_single_faults(Workload::Withdraw, PATIENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_pairs_of_faults() {
    let field = Field::new().await;
    let pairs = pairs(&field, Workload::Create).await;
    let seed = chance::seed().unwrap_or(SEED);
    println!(
        "pairs: {} of them, chosen by KEYWARD_SEED={seed}",
        pairs.len()
    );
    let mut random = StdRng::seed_from_u64(seed);
    let some = pairs.sample(&mut random, 300).cloned().collect();
    judge("some pairs of faults", &all(&field, some).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make prove"]
async fn all_pairs_of_faults() {
    let field = Field::new().await;
    let pairs = pairs(&field, Workload::Create).await;
    judge("all pairs of faults", &all(&field, pairs).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_faults_by_chance() {
    chance::campaign(72, chance::seed().unwrap_or(SEED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make prove"]
async fn many_faults_by_chance() {
    chance::campaign(2400, chance::seed().unwrap_or_else(rand::random)).await;
}

/// Replays the run in `KEYWARD_FAULTS`; `KEYWARD_TIMES` as often, since what goes wrong may need a race.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a line"]
async fn one_run() {
    let line = std::env::var("KEYWARD_FAULTS").expect("KEYWARD_FAULTS holds a line");
    let line: Line = line
        .parse()
        .unwrap_or_else(|error| panic!("KEYWARD_FAULTS: {error}"));
    let times = std::env::var("KEYWARD_TIMES").map_or(1, |times| times.parse().expect("a number"));
    let outcomes = all(&Field::new().await, vec![line; times]).await;
    if let Some(wrong) = outcomes
        .iter()
        .find(|outcome| !outcome.violations.is_empty())
    {
        println!("{:#?}", wrong.asked);
    }
    judge("one line", &outcomes);
}
