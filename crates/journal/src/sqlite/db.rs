use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema;
use crate::StorageError;

/// How often a statement that meets another process's lock is tried again, at most. With the
/// pauses below this is about ten seconds.
const ATTEMPTS: i32 = if cfg!(test) { 650 } else { 1450 };
/// About how long a statement waits for another process, in milliseconds.
pub(super) const PATIENCE_MS: u64 = 10_000;

/// Other processes hold the write lock for one durable commit at a time, some tens of microseconds
/// up, and may want it again at once: so short pauses at first, to find the gap between two of
/// them, longer ones later, never a busy loop, and an end.
fn wait_for_others(attempt: i32) -> bool {
    let pause = match attempt {
        0..10 => Duration::from_micros(100),
        10..500 => Duration::from_millis(1),
        _ => Duration::from_millis(10),
    };
    sleep(pause);
    attempt < ATTEMPTS
}

/// A connection that may write. Erased bytes are overwritten, not only unlinked.
pub(super) fn open_writer(data_dir: &Path) -> rusqlite::Result<Connection> {
    let connection = open(data_dir)?;
    // A large transaction may let the log grow; it does not stay that large.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 16777216;",
    )?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_reader(data_dir: &Path) -> rusqlite::Result<Connection> {
    let mut connection = open(data_dir)?;
    // The first statement that needs the file.
    if let Err(error) = connection.pragma_query_value(None, "schema_version", |_| Ok(())) {
        let codes = [ErrorCode::CannotOpen, ErrorCode::ReadOnly];
        let is_refused = error.sqlite_error_code().is_some_and(|code| codes.contains(&code));
        if !is_refused || !is_at_rest(data_dir) {
            return Err(error);
        }
        connection = open_at_rest(data_dir)?;
    }
    connection.execute_batch("PRAGMA query_only = ON;")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn open(data_dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(schema::path_in(data_dir), flags)?;
    connection.busy_handler(Some(wait_for_others))?;
    Ok(connection)
}

/// No write-ahead log: everything is in the file itself.
fn is_at_rest(data_dir: &Path) -> bool {
    let log = std::fs::metadata(data_dir.join("journal.db-wal"));
    log.map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |log| log.len() == 0)
}

/// In a folder that cannot be written SQLite cannot make the memory that readers share. So the
/// file is read as one that does not change, which is true there.
fn open_at_rest(data_dir: &Path) -> rusqlite::Result<Connection> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::absolute(schema::path_in(data_dir))
        .map_err(|_| rusqlite::Error::InvalidPath(data_dir.to_owned()))?;
    let escape = |byte: &u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            char::from(*byte).to_string()
        }
        other => format!("%{other:02x}"),
    };
    let escaped: String = path.as_os_str().as_bytes().iter().map(escape).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

/// What a failure of SQLite means to a caller.
pub(super) fn storage_error(data_dir: &Path, error: rusqlite::Error) -> StorageError {
    let path = data_dir.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StorageError::Busy { path, waited_ms: PATIENCE_MS }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StorageError::ReadOnly { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StorageError::Damaged { path, message: error.to_string() }
        }
        _ => StorageError::Other { path, source: error.into() },
    }
}

/// Whether another process was in the way for too long.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let busy = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    error.sqlite_error_code().is_some_and(|code| busy.contains(&code))
}

/// Whether the failure says that what was touched is damaged, rather than out of reach.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        )
}

impl StorageError {
    /// No random bytes are to be had. A system without them cannot keep secrets, so it stops here.
    pub(super) fn from_random(data_dir: &Path, error: getrandom::Error) -> Self {
        Self::Other { path: data_dir.to_owned(), source: error.into() }
    }

    pub(super) fn from_io(data_dir: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = data_dir.to_owned();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Self::ReadOnly { path },
            _ => Self::Other { path, source: error.into() },
        }
    }
}

/// A number that was stored as SQLite's signed integer. What cannot be is taken as zero: the
/// chain, which covers every number that matters, then does not hold.
pub(super) fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

/// A number as SQLite stores it. Sequence numbers, epochs and times are far below the bound.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
