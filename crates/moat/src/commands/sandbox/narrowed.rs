//! The command for which the network of a sandbox was narrowed, in the file that is locked by
//! whoever serves that network.
//!
//! What such a command left running is ended before the network is wider again: by the command that
//! started it, or, should that have been killed, by whoever serves the network next.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use anyhow::Context as _;
use moat_core::CallKey;
use moat_sandbox::{Guest, GuestError};

/// A key is far shorter.
const MAX_KEY: u64 = 4096;

const SIGKILL: i32 = 9;

/// Notes for whom it is narrowed, before that command is started.
pub(super) fn note(mut lock: &File, command: CallKey) -> anyhow::Result<()> {
    let key = serde_json::to_vec(&command)?;
    let mut write = || {
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(&key)
    };
    write().context("cannot note for whom the sandbox's network is narrowed")
}

/// Ends what the command left running for which it was narrowed last, if it was.
pub(super) async fn end_noted(mut lock: &File, guest: &dyn Guest) -> anyhow::Result<()> {
    let mut noted = Vec::new();
    let read = lock.rewind().and_then(|()| lock.take(MAX_KEY).read_to_end(&mut noted));
    read.context("cannot read for whom the sandbox's network was narrowed")?;
    // One that was being written when its writer died was not started yet.
    if let Ok(command) = serde_json::from_slice(&noted) {
        end(guest, command).await?;
    }
    lock.set_len(0).context("cannot note that the sandbox's network is not narrowed any more")
}

/// Ends a command with all that it left running.
pub(super) async fn end(guest: &dyn Guest, command: CallKey) -> anyhow::Result<()> {
    match guest.signal(command, SIGKILL).await {
        // Never started, or ended in an orderly way.
        Err(GuestError::UnknownKey(_)) => Ok(()),
        signalled => signalled.context("cannot end what a command of a narrower network left"),
    }
}
