//! The journal: append-only events of runs, who owns a run, and its inbox.
//!
//! One process owns a run ([`RunOwner`]) and alone appends to it; anyone may read, follow and put
//! entries into the inbox. Bodies are opaque bytes here: this crate must not know agents or models.
//!
//! [`Journal`] is the contract, with one conformance suite for every implementation;
//! [`sqlite`] is the embedded one.

mod contract;

pub use contract::*;
