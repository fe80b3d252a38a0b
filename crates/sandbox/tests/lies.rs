//! Every way in which a guest can lie that this side guards against: as it is, and with the check
//! taken away that it hangs on. What this side holds meanwhile is measured.
//!
//! One test, because it counts the memory of its whole process.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it says"
)]

#[path = "lies/files.rs"]
mod files;
#[path = "lies/liar.rs"]
mod liar;
#[path = "lies/network.rs"]
mod network;
#[path = "lies/processes.rs"]
mod processes;
#[path = "lies/protocol.rs"]
mod protocol;

use std::pin::Pin;
use std::time::Duration;

use moat_sandbox::{Check, shrink, without};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that a connection may take beside listings: a largest frame as it comes in, its message,
/// its copy for whoever asked, and sixteen pieces of output for a listener.
const CONNECTION: usize = 24 << 20;

/// How many times smaller the bounds of listings are here, and so 4 MiB and 15,625 paths.
const SHRUNK: usize = 256;

/// What is wrong, once a lie was told.
type Told = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// One lie.
pub(crate) struct Case {
    name: &'static str,
    /// What it hangs on. `None`: nothing that could be left out, or several things.
    check: Option<Check>,
    /// Time passes where everybody waits.
    paused: bool,
    /// Lies, and says what is wrong if that gets the guest anything.
    lie: fn() -> Told,
}

/// `name, check => what happens`
macro_rules! case {
    ($name:literal, $check:expr => $lie:expr) => {
        crate::Case { name: $name, check: $check, paused: false, lie: || Box::pin($lie) }
    };
    ($name:literal, $check:expr, paused => $lie:expr) => {
        crate::Case { name: $name, check: $check, paused: true, lie: || Box::pin($lie) }
    };
}
use case;

/// What came of a lie, and the most bytes that were held at once.
fn outcome(case: &Case, off: bool) -> (Result<(), String>, usize) {
    shrink(SHRUNK);
    without(case.check.filter(|_| off), || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(case.paused).build().unwrap();
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let said = runtime.block_on(async {
            // By the clock of the test, which jumps where everybody waits.
            let patience = Duration::from_secs(if case.paused { 1000 } else { 5 });
            let said = tokio::time::timeout(patience, (case.lie)()).await;
            said.unwrap_or_else(|_| Err("it still waits".to_owned()))
        });
        (said, MEMORY.peak_usage().saturating_sub(before))
    })
}

#[test]
fn a_guest_that_lies_gets_nothing_by_it() {
    let groups = [protocol::CASES, processes::CASES, files::CASES, network::CASES];
    let count: usize = groups.iter().map(|group| group.len()).sum();
    let mut wrong = Vec::new();
    for case in groups.into_iter().flatten() {
        let name = case.name;
        let (held, bytes) = outcome(case, false);
        println!("{name}: {held:?}, {} KiB", bytes >> 10);
        if let Err(what) = held {
            wrong.push(format!("{name}: {what}"));
        }
        if bytes > CONNECTION {
            wrong.push(format!("{name}: {bytes} bytes are held"));
        }
        if case.check.is_none() {
            continue;
        }
        let (held, bytes) = outcome(case, true);
        if held.is_ok() && bytes <= CONNECTION {
            wrong.push(format!("{name}: nothing hangs on the check {:?}", case.check));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} of {}", wrong.join("\n"), wrong.len(), count);
    assert!(count >= 50, "{count} cases");
}
