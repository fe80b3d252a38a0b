//! The journal: append-only events of runs, who owns a run, and its inbox.
//!
//! One process owns a run ([`RunOwner`]) and alone appends to it; anyone may read, follow and put
//! entries into the inbox. Bodies are opaque bytes here: this crate must not know agents or models.
//!
//! How data passes through: the owner hands in a [`Batch`]; each event gets its header, its body
//! is sealed under the key of the run's scope, and both are linked into the run's chain
//! (`format`). The store makes the batch durable in one transaction together with the index row
//! and the inbox entries that it takes up, then wakes readers in every process. Heads are
//! authenticated and recorded outside the data folder (anchors), which is what
//! [`Journal::verify`] holds the chain against.
//!
//! [`Journal`] is the contract, with one [`conformance`] suite for every implementation;
//! [`sqlite`] is the embedded one.

pub mod conformance;
mod contract;
mod error;
mod format;
pub mod sqlite;

pub use contract::*;
pub use error::*;
