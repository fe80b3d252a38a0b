//! What manifests mount, made on the harness's side: storage elsewhere through rclone and FUSE, and
//! folders of this machine that several runs share.
//!
//! [`Mounts::prepare`] makes a folder of the host for each record and answers what the provider is
//! to bind into the sandbox. Credentials are read by name and go to rclone in a file that only the
//! caller can read; they are in no argument, no journal and no sandbox. What a run has mounted
//! outlives its harness as long as its sandbox does: a record in the run's folder says what is
//! there, a lock on it that somebody looks after it, and [`Mounts::reap`] takes away what nobody
//! has looked after for longer than that. Nothing is taken away before what was written to it is
//! uploaded. This crate must not know providers, models or agents.

mod error;
mod mount;
mod rclone;
mod record;
mod serving;
mod shared;
mod table;

pub use error::MountError;
pub use mount::{Mounts, MountsOptions, Prepared};
pub use rclone::{MountsStatus, status};
