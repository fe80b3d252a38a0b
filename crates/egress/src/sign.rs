//! Signatures that are made on this side, so that keys never enter a sandbox.

mod ssh_key;

pub use ssh_key::{SshKey, SshKeyError};
