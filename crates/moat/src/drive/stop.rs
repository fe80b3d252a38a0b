//! One signal for several runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use moat_harness::driver::Interrupt;

use super::on_signals;

/// Pauses all runs that this process drives at the first signal, and those that would begin later.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    asked: AtomicBool,
    running: Mutex<Vec<Interrupt>>,
}

/// Listens for signals; once this is dropped, one ends the process. It does not stop to listen: a
/// signal that was listened for once does nothing by itself any more.
pub(crate) struct Listening(Arc<AtomicBool>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stop {
    pub(crate) fn listen(&self) -> Listening {
        let (stop, over) = (self.clone(), Arc::<AtomicBool>::default());
        // Ends with the process.
        tokio::spawn(on_signals(over.clone(), move || stop.pause_all()));
        Listening(over)
    }

    /// A run is about to be driven.
    pub(crate) fn add(&self, interrupt: Interrupt) {
        if self.is_asked() {
            interrupt.pause();
        }
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).push(interrupt);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    fn pause_all(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().for_each(Interrupt::pause);
    }
}
