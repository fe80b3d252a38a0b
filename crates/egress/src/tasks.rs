//! Tasks that end with what owns them.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// Owns the tasks of one sandbox's network; dropping the last one ends them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<Owned>>);

#[derive(Debug, Default)]
struct Owned {
    set: JoinSet<()>,
    closed: bool,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut owned = self.lock();
        while owned.set.try_join_next().is_some() {}
        // What is asked for after the end is not begun.
        if !owned.closed {
            owned.set.spawn(task);
        }
    }

    /// Waits for all tasks, then ends those that are left.
    pub(crate) async fn drain(&self, wait: Duration) {
        let mut set = std::mem::take(&mut self.lock().set);
        let _ = timeout(wait, async { while set.join_next().await.is_some() {} }).await;
        set.shutdown().await;
        self.abort();
    }

    /// Ends all tasks, those to come as well.
    pub(crate) fn abort(&self) {
        let mut owned = self.lock();
        owned.closed = true;
        owned.set.abort_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
