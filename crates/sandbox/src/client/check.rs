//! The checks by which a guest is not believed, each of which a test can switch off to show that some
//! case depends on it. Without the feature `mutations` all of them are constantly on.

/// One check of what a guest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutations"), expect(unreachable_pub, reason = "tests see it"))]
pub enum Check {
    /// Frames have a largest size.
    FrameSize,
    /// The version is one that was offered.
    Version,
    /// The nonce has the form of one.
    Nonce,
    /// Who answers another connection is who answered the first.
    Boot,
    /// A guest welcomes once.
    Greeting,
    /// Whoever took the sandbox has a later epoch.
    Epoch,
    /// Requests are answered in time.
    Time,
    /// A started process is the one that was asked for.
    StartedKey,
    /// A read gives no more than was asked for.
    ReadLength,
    /// Mapped files are no more than fit into an answer.
    Mapped,
    /// A stat is one record and nothing else.
    OneRecord,
    /// Paths of a listing are names beneath folders that came before, in order.
    Paths,
    /// A listing has a largest number of paths.
    Entries,
    /// A listing has a largest size in memory.
    Memory,
    /// Output goes on where it was.
    OutputOffset,
    /// Pieces of output have a largest size.
    OutputSize,
    /// Output comes only as allowed.
    OutputCredit,
    /// Numbers can be counted with.
    Countable,
    /// A guest's words are cut to what can be shown.
    Words,
    /// A conflict is about a path of the commit.
    ConflictPath,
    /// Descriptors are the sockets that were asked for.
    Sockets,
    /// As many descriptors come as were announced.
    SocketCount,
}

/// Whether a check is made.
#[cfg(not(feature = "mutations"))]
#[inline]
pub(crate) const fn is_on(_: Check) -> bool {
    true
}

/// A bound, which tests that come to it make smaller.
#[cfg(not(feature = "mutations"))]
#[inline]
pub(crate) const fn bounded(most: usize) -> usize {
    most
}

#[cfg(feature = "mutations")]
mod switched {
    use std::cell::Cell;

    use super::Check;

    thread_local! {
        static OFF: Cell<Option<Check>> = const { Cell::new(None) };
        static SHRUNK: Cell<usize> = const { Cell::new(1) };
    }

    /// Whether a check is made: always, but for what this thread runs inside [`without`].
    pub(crate) fn is_on(check: Check) -> bool {
        OFF.with(|off| off.get() != Some(check))
    }

    /// A bound, divided by what this thread said to [`shrink`].
    pub(crate) fn bounded(most: usize) -> usize {
        most / SHRUNK.get()
    }

    /// Makes the bounds of listings that many times smaller on this thread, for good.
    pub fn shrink(by: usize) {
        SHRUNK.set(by.max(1));
    }

    /// What comes out when one check is not made. Tasks of a runtime of one thread are of this one.
    pub fn without<T>(check: Option<Check>, run: impl FnOnce() -> T) -> T {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                OFF.with(|off| off.set(None));
            }
        }
        let _restore = Restore;
        OFF.with(|off| off.set(check));
        run()
    }
}

#[cfg(feature = "mutations")]
pub(crate) use switched::{bounded, is_on};
#[cfg(feature = "mutations")]
pub use switched::{shrink, without};
