//! What is typed into a terminal.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use moat_guest::Failure;
use rustix::io::Errno;

/// Bytes that may wait for a program that does not read.
const MAX_PENDING: usize = 1 << 20;

/// Calls that are remembered so that doing one again changes nothing.
const MAX_CALLS: usize = 1024;

/// Typed bytes on their way into a terminal.
#[derive(Default)]
pub(super) struct Stdin {
    pending: VecDeque<u8>,
    calls: VecDeque<String>,
}

impl Stdin {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn has_seen(&self, call: &str) -> bool {
        self.calls.iter().any(|seen| seen == call)
    }

    /// Queues bytes, once per call.
    pub(super) fn push(&mut self, call: &str, bytes: &[u8]) -> Result<(), Failure> {
        if self.has_seen(call) {
            return Ok(());
        }
        if self.pending.len() + bytes.len() > MAX_PENDING {
            let what = format!("take more input: {} bytes are not read yet", self.pending.len());
            return Err(Failure::Unsupported { what });
        }
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call.to_owned());
        self.pending.extend(bytes);
        Ok(())
    }

    /// Writes as much as the terminal takes now.
    pub(super) fn flush(&mut self, terminal: impl AsFd) {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match rustix::io::write(&terminal, front) {
                Ok(count) => {
                    self.pending.drain(..count.min(self.pending.len()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody is left to read it.
                Err(_) => self.pending.clear(),
            }
        }
    }
}
