//! Models: the contract, the Responses API over HTTP, and the replay model.
//!
//! A [`ModelRequest`] holds the conversation as the very bytes that the journal holds; a provider
//! turns it into its wire format, streams [`Delta`]s to whoever listens, and returns the whole
//! [`ModelResponse`] or a [`ModelError`] that says whether trying again can help. Retrying is the
//! caller's: one call of [`Model::respond`] is one attempt.
//!
//! This crate must not know tools, sandboxes or journals.

mod contract;

pub use contract::*;
