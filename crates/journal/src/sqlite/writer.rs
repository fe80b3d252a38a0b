//! One thread of the process writes. It takes everything that waits and makes it durable in one
//! transaction, so that the cost of a sync is shared by all who wait for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::db;
use super::wake::Wake;
use crate::StorageError;

/// Writes that may wait before their callers do.
const QUEUE: usize = 1024;
/// Writes of one transaction.
const GROUP: usize = 256;

pub(super) struct Writer {
    data_dir: PathBuf,
    /// Started by the first write: a process that only reads needs no thread.
    running: OnceLock<Running>,
}

struct Running {
    jobs: mpsc::Sender<Box<dyn Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A write that waits. It may be tried more than once, each time in a new transaction. It must not
/// hold the journal itself: the last holder waits for this thread, so it cannot be this thread.
trait Job: Send {
    /// Does the work. What it refuses it must refuse before it writes.
    fn attempt(&mut self, db: &Connection) -> rusqlite::Result<()>;
    /// Tells the caller, and the readers if there is something to see.
    fn answer(self: Box<Self>, committed: Result<(), StorageError>);
}

struct Write<T, F> {
    work: F,
    done: Option<T>,
    wakes: Vec<Arc<Wake>>,
    reply: oneshot::Sender<Result<T, StorageError>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn attempt(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.done = Some((self.work)(db)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StorageError>) {
        let Self { done, wakes, reply, .. } = *self;
        if committed.is_ok() {
            #[cfg(test)]
            super::tests::between_commit_and_wake();
            wakes.into_iter().for_each(Wake::announce);
        }
        // `done` is there whenever the transaction was committed.
        let answer = committed
            .and_then(|()| done.ok_or_else(|| StorageError::Closed { path: PathBuf::new() }));
        // The caller may have given up; the write happened all the same.
        let _ = reply.send(answer);
    }
}

impl Writer {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), running: OnceLock::new() }
    }

    /// Has `work` done in a transaction that it shares with others, and waits until that is
    /// durable. `wakes` are touched then. What `work` refuses it must refuse before it writes.
    pub(super) async fn write<T, F>(
        &self,
        wakes: Vec<Arc<Wake>>,
        work: F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let closed = || StorageError::Closed { path: self.data_dir.clone() };
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Write { work, done: None, wakes, reply });
        self.running()?.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    fn running(&self) -> Result<&Running, StorageError> {
        if let Some(running) = self.running.get() {
            return Ok(running);
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let data_dir = self.data_dir.clone();
        let thread = std::thread::Builder::new().name("journal-writer".to_owned());
        let thread = thread
            .spawn(move || write_groups(&data_dir, queue))
            .map_err(|error| StorageError::from_io(&self.data_dir, error))?;
        // If another caller was faster, this queue is dropped, and with it its thread ends.
        Ok(self.running.get_or_init(|| Running { jobs, thread: Mutex::new(Some(thread)) }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.jobs = closed;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Whoever drops the last handle waits for writes whose callers gave up.
            let _ = thread.join();
        }
    }
}

fn write_groups(data_dir: &Path, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut connection = None;
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        let db = match connection.take().map_or_else(|| db::open_writer(data_dir), Ok) {
            Ok(db) => connection.insert(db),
            Err(error) => {
                let message = error.to_string();
                let first = db::storage_error(data_dir, error);
                answer_all(group.drain(..), first, data_dir, &message);
                continue;
            }
        };
        write_group(data_dir, db, &mut group);
    }
}

fn write_group(data_dir: &Path, db: &mut Connection, group: &mut Vec<Box<dyn Job>>) {
    match commit(db, group) {
        Ok(()) => group.drain(..).for_each(|job| job.answer(Ok(()))),
        // One of them may be what the store cannot take: the others must not fail with it. (If
        // another process is in the way, it is so for all.)
        Err(error) if group.len() > 1 && !db::is_busy(&error) => {
            for mut job in group.drain(..) {
                let done = commit(db, std::slice::from_mut(&mut job));
                job.answer(done.map_err(|error| db::storage_error(data_dir, error)));
            }
        }
        Err(error) => {
            let message = error.to_string();
            answer_all(group.drain(..), db::storage_error(data_dir, error), data_dir, &message);
        }
    }
}

fn commit(db: &mut Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    // Dropping the transaction rolls it back.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group {
        job.attempt(&transaction)?;
    }
    transaction.commit()
}

/// Gives `first` to one job and an equal error to the others.
fn answer_all(
    jobs: impl Iterator<Item = Box<dyn Job>>,
    first: StorageError,
    data_dir: &Path,
    message: &str,
) {
    let mut error = Some(first);
    for job in jobs {
        let other = || StorageError::Other { path: data_dir.to_owned(), source: message.into() };
        job.answer(Err(error.take().unwrap_or_else(other)));
    }
}
