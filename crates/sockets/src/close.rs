//! Closing what may linger.

use std::os::fd::OwnedFd;

/// Bytes of the stack of a thread that only closes or copies.
pub(crate) const SMALL_STACK: usize = 64 << 10;

/// Drops something on a thread of its own, because closing it may take as long as somebody hostile
/// likes.
pub fn close_elsewhere(what: impl Send + 'static) {
    let thread = std::thread::Builder::new().name("moat-close".to_owned()).stack_size(SMALL_STACK);
    // Where there are no more threads it is closed here.
    drop(thread.spawn(move || drop(what)));
}

/// Descriptors that somebody hostile sent. Those that nobody takes are closed elsewhere.
#[derive(Debug, Default)]
pub struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the one that came last.
    pub fn pop(&mut self) -> Option<OwnedFd> {
        self.0.pop()
    }

    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = OwnedFd>) {
        self.0.extend(more);
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.0);
        if !left.is_empty() {
            close_elsewhere(left);
        }
    }
}
