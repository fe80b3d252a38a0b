use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction};

use super::{Shared, blocking, db};
use crate::StorageError;

/// Connections that are kept for the next reader.
const KEPT: usize = 8;

/// Connections that read, beside the writer and beside each other.
pub(super) struct Readers {
    data_dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(data_dir: &Path, first: Connection) -> Self {
        Self { data_dir: data_dir.to_owned(), idle: Mutex::new(vec![first]) }
    }

    /// Runs `work` on one consistent view. Blocks.
    pub(super) fn view<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle().pop();
        let mut connection = idle.map_or_else(|| db::open_reader(&self.data_dir), Ok)?;
        let transaction = connection.transaction()?;
        let done = work(&transaction);
        drop(transaction);
        let mut idle = self.idle();
        // A connection that met an error is closed rather than kept.
        if done.is_ok() && idle.len() < KEPT {
            idle.push(connection);
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole whatever a thread was doing with it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` on one consistent view, away from the async threads.
pub(super) async fn view<T, F>(shared: &Arc<Shared>, work: F) -> Result<T, StorageError>
where
    T: Send + 'static,
    F: FnOnce(&Shared, &Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
{
    let viewed = blocking(shared, move |shared| shared.readers.view(|db| work(shared, db))).await;
    viewed.map_err(|error| db::storage_error(&shared.data_dir, error))
}
