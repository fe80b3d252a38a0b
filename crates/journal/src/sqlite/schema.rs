use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::db;
use crate::{OpenError, StorageError};

/// `moat`, as SQLite's application id.
const APPLICATION: i64 = 0x6d6f_6174;
/// The newest format that this code reads and writes.
const FORMAT: i64 = 1;

/// Every key begins with the tenant; `runs.number` stands for (tenant, run) inside this file.
///
/// `scopes` and `events` only ever grow at their ends, and what is destroyed in them is
/// overwritten by zeros of the same length. So no row of them is ever moved, no page is split or
/// merged, and no stale copy of a key or a body stays behind in the slack of a page. That is also
/// what makes appends cheap: a group of them fills new pages, whichever runs they belong to.
/// (Inbox entries and listings do move; they are sealed under the scope's key as well.)
const TABLES: &str = "
CREATE TABLE scopes (
    number  INTEGER PRIMARY KEY,
    tenant  TEXT NOT NULL,
    scope   BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    UNIQUE (tenant, scope)
) STRICT;
CREATE TABLE runs (
    number     INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    run        BLOB NOT NULL,
    scope      BLOB NOT NULL,
    generation INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    head       INTEGER NOT NULL,
    chain      BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    erased     INTEGER NOT NULL,
    UNIQUE (tenant, run)
) STRICT;
CREATE INDEX runs_by_age ON runs (tenant, number);
CREATE INDEX runs_by_scope ON runs (tenant, scope);
CREATE TABLE listings (
    number INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    facts  BLOB NOT NULL
) STRICT;
CREATE TABLE events (
    id        INTEGER PRIMARY KEY,
    number    INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    header    BLOB NOT NULL,
    body_hash BLOB NOT NULL,
    chain     BLOB NOT NULL,
    body      BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_runs ON events (number, seq);
CREATE TABLE inbox (
    number   INTEGER PRIMARY KEY,
    tenant   TEXT NOT NULL,
    run      BLOB NOT NULL,
    id       TEXT NOT NULL,
    at       INTEGER NOT NULL,
    consumed INTEGER,
    entry    BLOB,
    UNIQUE (tenant, run, id)
) STRICT;
CREATE INDEX inbox_waiting ON inbox (tenant, run, number) WHERE consumed IS NULL;
";

pub(super) fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("journal.db")
}

/// Opens a connection for reading to the journal in `data_dir`, which is made if there is none.
pub(super) fn open_or_create(data_dir: &Path) -> Result<Connection, OpenError> {
    let path = path_in(data_dir);
    if !path.exists() {
        create(data_dir, &path)?;
    }
    let connection = db::open_reader(data_dir).map_err(|error| open_error(data_dir, error))?;
    check(&connection, data_dir, &path)?;
    Ok(connection)
}

fn open_error(data_dir: &Path, error: rusqlite::Error) -> OpenError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) {
        return OpenError::NotAJournal { path: path_in(data_dir) };
    }
    db::storage_error(data_dir, error).into()
}

fn check(connection: &Connection, data_dir: &Path, path: &Path) -> Result<(), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = pragma("application_id").and_then(|id| Ok((id, pragma("user_version")?)));
    match found {
        Ok((APPLICATION, 1..=FORMAT)) => Ok(()),
        Ok((APPLICATION, found)) => {
            Err(OpenError::Newer { path: data_dir.to_owned(), found, known: FORMAT })
        }
        Ok(_) => Err(OpenError::NotAJournal { path: path.to_owned() }),
        Err(error) => Err(open_error(data_dir, error)),
    }
}

/// Makes the file under another name and links it into place when it is whole, so that neither a
/// crash nor a second process ever meets half a journal.
fn create(data_dir: &Path, path: &Path) -> Result<(), OpenError> {
    let at = |error: io::Error| StorageError::from_io(data_dir, error);
    let is_new = !data_dir.exists();
    for dir in [data_dir.to_owned(), data_dir.join("locks"), data_dir.join("wake")] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(at)?;
    }
    let draft = tempfile_in(data_dir).map_err(at)?;
    let built = build(&draft).map_err(|error| db::storage_error(data_dir, error));
    let linked = built.and_then(|()| link_into_place(&draft, path).map_err(at));
    let _ = fs::remove_file(&draft);
    linked?;
    let dirs = [Some(data_dir), data_dir.parent().filter(|_| is_new)];
    for dir in dirs.into_iter().flatten().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at)?;
    }
    Ok(())
}

fn link_into_place(draft: &Path, path: &Path) -> io::Result<()> {
    File::open(draft)?.sync_all()?;
    match fs::hard_link(draft, path) {
        // Another process was faster; its journal is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

fn tempfile_in(data_dir: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = data_dir.join(format!("journal.db.{:016x}", u64::from_le_bytes(random)));
    let file = File::create_new(&path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn build(draft: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(draft)?;
    // Nobody else sees the draft, and it is synced as a whole before it gets its name.
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; BEGIN;")?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch("COMMIT;")?;
    // Stays in the file. Closing removes the WAL, which is empty.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)
}
