//! What is printed while a run goes on.

mod json;
mod lanes;
mod live;
mod style;

use std::io::Write as _;
use std::sync::Arc;

use moat_harness::driver::Observer;

pub(crate) use json::{JsonLines, event_line, print_line};
pub(crate) use lanes::{Lane, Lanes};
pub(crate) use live::{Live, describe_call, not_kept};
pub(crate) use style::{Style, columns, count, duration, usd};

/// The observer that the flags ask for.
pub(crate) fn observer(json: bool, quiet: bool, style: Style) -> Arc<dyn Observer> {
    if json {
        Arc::new(JsonLines::default())
    } else if quiet {
        Arc::new(Quiet)
    } else {
        Live::start(style)
    }
}

/// Says only what a person has to know of.
struct Quiet;

impl Observer for Quiet {
    fn left(&self, what: &str) {
        let line = format!("moat: {}", crate::escape::escape(what));
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
