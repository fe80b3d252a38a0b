use std::sync::Arc;

use moat_core::{Epoch, RunId, TenantId};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::claim::{RunRow, wrapped_key};
use super::wake::Topic;
use super::{MAX_WAITING, Shared, db, reader};
use crate::format::DataKey;
use crate::{InboxEntry, InboxError, ReadError, StorageError};

/// Bytes of an entry's body.
const MAX_ENTRY: usize = 1 << 20;

/// What of an entry is sealed; the rest is in the row.
#[derive(Serialize, Deserialize)]
struct Sealed {
    kind: String,
    body: String,
    who: String,
}

pub(super) async fn post(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    entry: InboxEntry,
) -> Result<bool, InboxError> {
    check(&entry)?;
    let viewed = {
        let tenant = tenant.clone();
        reader::view(shared, move |_, db| {
            let row = RunRow::load(db, &tenant, run)?;
            let wrapped =
                row.as_ref().map(|row| wrapped_key(db, &tenant, row.scope)).transpose()?.flatten();
            Ok(row.map(|row| (row, wrapped.unwrap_or_default())))
        })
    };
    let (row, wrapped) = viewed.await?.ok_or(InboxError::NoSuchRun { run })?;
    if row.erased {
        return Err(InboxError::Erased { run });
    }
    let key = DataKey::unwrap(&shared.keys, tenant, row.scope, &wrapped);
    let sealed = seal(&key.ok_or(InboxError::WrongKey { run })?, tenant, run, &entry);
    let sealed = sealed.map_err(|error| StorageError::from_random(&shared.data_dir, error))?;
    let promised = shared.wakes.promise(tenant, run, Topic::Inbox, false);
    let wake = promised.map_err(|error| StorageError::from_io(&shared.data_dir, error))?;
    let (tenant, id, at) = (tenant.clone(), entry.id, entry.at);
    let posted =
        shared.writer.write(vec![wake], move |db| insert(db, &tenant, run, &id, at, &sealed));
    posted.await?
}

fn check(entry: &InboxEntry) -> Result<(), InboxError> {
    let InboxEntry { id, kind, body, who, .. } = entry;
    let what = match () {
        () if id.is_empty() || id.len() > 256 => {
            format!("an id has 1 to 256 bytes, not {}", id.len())
        }
        () if kind.is_empty() || kind.len() > 64 => {
            format!("a kind has 1 to 64 bytes, not {}", kind.len())
        }
        () if who.len() > 256 => format!("`who` has at most 256 bytes, not {}", who.len()),
        () if body.len() > MAX_ENTRY => {
            format!("a body has at most {MAX_ENTRY} bytes, not {}", body.len())
        }
        () => return Ok(()),
    };
    Err(InboxError::Invalid { what })
}

fn seal(
    key: &DataKey,
    tenant: &TenantId,
    run: RunId,
    entry: &InboxEntry,
) -> Result<Vec<u8>, getrandom::Error> {
    let InboxEntry { id, kind, body, who, .. } = entry.clone();
    // Strings always serialise.
    let plain = serde_json::to_vec(&Sealed { kind, body, who }).unwrap_or_default();
    key.seal(&[], &aad(tenant, run, &id), &plain)
}

/// Binds a sealed entry to its run and id.
fn aad(tenant: &TenantId, run: RunId, id: &str) -> Vec<u8> {
    [b"inbox", tenant.as_str().as_bytes(), &[0], run.as_bytes(), id.as_bytes()].concat()
}

/// In the writer's transaction.
fn insert(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    id: &str,
    at: u64,
    sealed: &[u8],
) -> rusqlite::Result<Result<bool, InboxError>> {
    match RunRow::load(db, tenant, run)? {
        None => return Ok(Err(InboxError::NoSuchRun { run })),
        Some(row) if row.erased => return Ok(Err(InboxError::Erased { run })),
        Some(_) => {}
    }
    let key = params![tenant.as_str(), run.as_bytes()];
    let mut count = db.prepare_cached(
        "SELECT count(*) FROM inbox WHERE tenant = ?1 AND run = ?2 AND consumed IS NULL",
    )?;
    let waiting: i64 = count.query_row(key, |row| row.get(0))?;
    if db::unsigned(waiting) >= MAX_WAITING as u64 {
        return Ok(Err(InboxError::Full { run, limit: MAX_WAITING }));
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO inbox (tenant, run, id, at, entry) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    let at = db::signed(at);
    let changed = insert.execute(params![tenant.as_str(), run.as_bytes(), id, at, sealed])?;
    Ok(Ok(changed == 1))
}

/// What waits, oldest first, and the newest entry's number.
pub(super) async fn waiting(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    key: Arc<DataKey>,
) -> Result<(i64, Vec<InboxEntry>), ReadError> {
    let owner = tenant.clone();
    let rows = reader::view(shared, move |_, db| {
        let mut find = db.prepare_cached(
            "SELECT number, id, at, entry FROM inbox
             WHERE tenant = ?1 AND run = ?2 AND consumed IS NULL ORDER BY number",
        )?;
        let rows = find.query_map(params![owner.as_str(), run.as_bytes()], |row| {
            let at = db::unsigned(row.get(2)?);
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, at, row.get::<_, Vec<u8>>(3)?))
        })?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    let rows = rows.await?;
    let newest = rows.last().map_or(0, |row| row.0);
    let open = |(_, id, at, sealed): (i64, String, u64, Vec<u8>)| {
        let plain = key.open(&aad(tenant, run, &id), &sealed)?;
        let Sealed { kind, body, who } = serde_json::from_slice(&plain).ok()?;
        Some(InboxEntry { id, kind, body, who, at })
    };
    // An entry that does not open was not put there by a holder of the key: it is no message.
    Ok((newest, rows.into_iter().filter_map(open).collect()))
}

/// Whether an entry waits that is newer than `newest`, or the run has another owner.
pub(super) async fn is_newer(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    epoch: Epoch,
    newest: i64,
) -> Result<bool, StorageError> {
    let tenant = tenant.clone();
    let found = reader::view(shared, move |_, db| {
        let row = RunRow::load(db, &tenant, run)?;
        let mut find = db.prepare_cached(
            "SELECT 1 FROM inbox
             WHERE tenant = ?1 AND run = ?2 AND consumed IS NULL AND number > ?3",
        )?;
        let waits = find.exists(params![tenant.as_str(), run.as_bytes(), newest])?;
        Ok(waits || row.is_none_or(|row| row.epoch != epoch))
    });
    found.await
}
