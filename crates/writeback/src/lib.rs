//! Gives the changes of a run back to the folder that it started from.
//!
//! This is a way out of the sandbox, so everything that comes from the run is taken for an attack.
//! [`WriteBack::plan`] compares three states: the snapshot at the start, the snapshot at the end
//! and the folder as it is now. A path that somebody else changed meanwhile is a conflict and stays
//! as it is. What tools execute on sight is held back until a person has named it; links that lead
//! out, set-uid files and everything inside a `.git` never get through, except commits, which come
//! in as references under `refs/moat/RUN/` like a fetch.
//!
//! [`WriteBack::apply`] first records on disk what it is going to do, then does it in steps that
//! can be done again, so that a kill at any point is made good by [`WriteBack::resume`] or taken
//! back by [`WriteBack::undo`]. Paths are resolved beneath the folder without following any link.
//!
//! This crate must not know sandboxes, models or terminals.

mod error;
mod git;
mod host;
mod path_text;
mod plan;
mod record;
mod restore;
mod rules;
mod step;
mod write_back;

pub use error::WriteBackError;
pub use git::GitRef;
pub use plan::{Conflict, HeldBack, Plan, PlannedChange, Refused};
pub use restore::{Restored, restore};
pub use rules::{RUN_ON_SIGHT, RunOnSight, Shape};
pub use step::{State, Step};
pub use write_back::{Applied, Options, Undone, WriteBack};
