//! The agent loop: what an agent is, what happens in a run, and the tools over a sandbox.
//!
//! How data passes: events of the journal fold into a [`machine::State`], which says what to do
//! ([`machine::Action`]); a driver does it (asks the model, makes calls, takes checkpoints) and
//! appends the outcome. Nothing else is kept; resuming folds the same events again.
//!
//! This crate must not know HTTP servers or concrete providers, and never prints.

pub mod agent;
mod builtin;
mod compute;
pub mod driver;
pub mod exec_reply;
mod harness;
pub mod history;
pub mod image;
pub mod machine;
pub mod network;
pub mod patch;
pub mod prompt;
pub mod replay;
pub mod tool;
pub mod transfer;
pub mod truncate;

pub use builtin::sandbox_tools;
pub use compute::{ComputeError, Images, Providers};
pub use harness::{Again, Branch, Changes, Harness, HarnessOptions, NewRun, OpenRunError, decode};
