//! What every provider has to do, as checks by name.
//!
//! [`run`] takes any provider and checks the whole contract: processes, terminals, signals, output
//! by offset, attaching after the harness was replaced, files and races over them, commits,
//! workspaces, limits, and how a sandbox ends. A check makes sandboxes of its own and removes them. Inside,
//! a POSIX shell and the usual small programs are expected.
//!
//! ```no_run
//! # async fn example(provider: &dyn moat_sandbox::Provider) {
//! let report = moat_sandbox::conformance::run(provider, "").await;
//! for failed in report.failed() {
//!     eprintln!("{}: {}", failed.name, failed.problem.as_deref().unwrap_or_default());
//! }
//! # }
//! ```

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::Provider;

/// Fails a check unless something holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(crate::conformance::bench::Problem(format!($($message)+)));
        }
    };
}

mod bench;
mod commits;
mod escapes;
mod files;
mod lifecycle;
mod limits;
mod network;
mod output;
mod processes;
mod terminals;
mod trees;
mod users;
mod workspaces;

use bench::{Bench, Problem};

/// Longer than any check takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

type Verdict = Result<(), Problem>;
type Pending<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;
type Check = for<'a> fn(&'a Bench<'a>) -> Pending<'a>;

macro_rules! checks {
    ($($module:ident: $($name:ident)+;)+) => {
        &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            |bench| Box::pin($module::$name(bench)),
        ),)+)+]
    };
}

const CHECKS: &[(&str, Check)] = checks! {
    processes: exit_codes argv_is_exact environment working_folder input_is_empty
        start_is_idempotent a_started_key_is_never_run_again listed_until_released unknown_keys
        signals_reach_descendants a_daemon_keeps_nothing_waiting;
    output: streams_apart from_an_offset whole_when_large bounded_when_unread any_bytes;
    terminals: typed_once sizes control_characters no_input_without;
    files: written_and_read ranges absence any_name trees renamed commands_and_guest_share
        outputs_are_read_only;
    escapes: paths links races special_files;
    commits: done_once conflicts_change_nothing finished_when_half_done;
    workspaces: frozen scanned applied applied_over_what_is_there;
    trees: any_tree_comes_back holes_stay_holes;
    network: none_unless_asked_for its_sockets_are_handed_over the_same_for_the_next_owner
        ports_inside nobody_listens;
    users: each_is_himself modes_hold_between_them processes_are_their_owners
        none_without_being_asked_for commands_of_nobody_are_somebodys owners_come_back;
    limits: output time processor_time memory disk one_file processes metered paused;
    lifecycle: boots_differ found_again earlier_owners_are_refused shutdown_is_final
        destroyed_is_gone ends_with_its_connection ends_after_its_grace strange_handles;
};

/// What came of one check.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which one.
    pub name: &'static str,
    /// Why it failed; absent: it passed.
    pub problem: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// What came of all checks that were run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were run.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.problem.is_some())
    }
}

/// The names of all checks.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// Runs all checks whose name contains `filter`, one after the other.
pub async fn run(provider: &dyn Provider, filter: &str) -> Report {
    let mut report = Report::default();
    for (name, check) in CHECKS.iter().filter(|(name, _)| name.contains(filter)) {
        let bench = Bench::new(provider);
        let start = Instant::now();
        let verdict = tokio::time::timeout(PATIENCE, check(&bench)).await;
        bench.clear().await;
        let problem = match verdict {
            Ok(Ok(())) => None,
            Ok(Err(Problem(problem))) => Some(problem),
            Err(_) => Some(format!("it did not end within {} s", PATIENCE.as_secs())),
        };
        report.outcomes.push(Outcome { name, problem, took: start.elapsed() });
    }
    report
}
