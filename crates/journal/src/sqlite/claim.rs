//! Making a run, taking one, and who has it.

use std::sync::Arc;

use moat_core::{Epoch, Hash, RunId, Seq, TenantId};
use rusqlite::{Connection, OptionalExtension, params};

use super::lock::RunLock;
use super::owner::{Head, SqliteOwner};
use super::wake::Topic;
use super::{Shared, blocking, db, now_ms, reader};
use crate::format::{DataKey, genesis};
use crate::{Claim, ClaimError, Holder, ReadError, StorageError};

/// How often a claim that meets another claimer starts again.
const ATTEMPTS: u32 = 16;

/// A run's row, as far as ownership needs it.
pub(super) struct RunRow {
    pub(super) number: i64,
    pub(super) scope: RunId,
    pub(super) generation: u64,
    pub(super) epoch: Epoch,
    pub(super) head: Seq,
    pub(super) chain: Hash,
    pub(super) touched_at: u64,
    pub(super) erased: bool,
}

impl RunRow {
    pub(super) fn load(
        db: &Connection,
        tenant: &TenantId,
        run: RunId,
    ) -> rusqlite::Result<Option<Self>> {
        let mut find = db.prepare_cached(
            "SELECT number, scope, generation, epoch, head, chain, touched_at, erased
             FROM runs WHERE tenant = ?1 AND run = ?2",
        )?;
        let row = find.query_row(params![tenant.as_str(), run.as_bytes()], |row| {
            Ok(Self {
                number: row.get(0)?,
                scope: RunId::from_bytes(row.get(1)?),
                generation: db::unsigned(row.get(2)?),
                epoch: Epoch(db::unsigned(row.get(3)?)),
                head: Seq(db::unsigned(row.get(4)?)),
                chain: Hash(row.get(5)?),
                touched_at: db::unsigned(row.get(6)?),
                erased: row.get(7)?,
            })
        });
        row.optional()
    }
}

/// The stored form of a scope's key.
pub(super) fn wrapped_key(
    db: &Connection,
    tenant: &TenantId,
    scope: RunId,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut find =
        db.prepare_cached("SELECT wrapped FROM scopes WHERE tenant = ?1 AND scope = ?2")?;
    find.query_row(params![tenant.as_str(), scope.as_bytes()], |row| row.get(0)).optional()
}

pub(super) async fn create(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    scope: Option<RunId>,
) -> Result<SqliteOwner, ClaimError> {
    let lock = take_lock(shared, tenant, run, 1).await?;
    // Somebody is making the very same run.
    let lock = lock.ok_or(ClaimError::Exists { run })?;
    let fresh = DataKey::generate(&shared.keys, tenant, run);
    let (_, wrapped) = fresh.map_err(|error| StorageError::from_random(&shared.data_dir, error))?;
    let owner_tenant = tenant.clone();
    let made = shared
        .writer
        .write(Vec::new(), move |db| insert_run(db, &owner_tenant, run, scope, &wrapped));
    let (row, wrapped) = made.await??;
    owner(shared, tenant, run, row, &wrapped, lock).await
}

/// In the writer's transaction: the run's row, and its scope if that is new.
fn insert_run(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    scope: Option<RunId>,
    fresh: &[u8],
) -> rusqlite::Result<Result<(RunRow, Vec<u8>), ClaimError>> {
    if RunRow::load(db, tenant, run)?.is_some() {
        return Ok(Err(ClaimError::Exists { run }));
    }
    let (scope, wrapped) = match scope {
        None => {
            let sql = "INSERT INTO scopes (tenant, scope, wrapped) VALUES (?1, ?2, ?3)";
            db.execute(sql, params![tenant.as_str(), run.as_bytes(), fresh])?;
            (run, fresh.to_vec())
        }
        Some(named) => match RunRow::load(db, tenant, named)? {
            None => return Ok(Err(ClaimError::NoSuchRun { run: named })),
            Some(row) if row.erased => return Ok(Err(ClaimError::Erased { run: named })),
            // A fork of a fork is in the scope of them all.
            Some(row) => (row.scope, wrapped_key(db, tenant, row.scope)?.unwrap_or_default()),
        },
    };
    let (chain, now) = (genesis(tenant, run), now_ms());
    let sql = "INSERT INTO runs
        (tenant, run, scope, generation, epoch, head, chain, created_at, touched_at, erased)
        VALUES (?1, ?2, ?3, 1, 1, 0, ?4, ?5, ?5, 0)";
    let at = db::signed(now);
    db.execute(sql, params![tenant.as_str(), run.as_bytes(), scope.as_bytes(), chain.0, at])?;
    let row = RunRow {
        number: db.last_insert_rowid(),
        scope,
        generation: 1,
        epoch: Epoch(1),
        head: Seq(0),
        chain,
        touched_at: now,
        erased: false,
    };
    Ok(Ok((row, wrapped)))
}

pub(super) async fn claim(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    claim: Claim,
) -> Result<SqliteOwner, ClaimError> {
    for _ in 0..ATTEMPTS {
        let row = find(shared, tenant, run).await?.ok_or(ClaimError::NoSuchRun { run })?;
        if row.erased {
            return Err(ClaimError::Erased { run });
        }
        let (old, mut generation) = (row.generation, row.generation);
        let mut lock = take_lock(shared, tenant, run, generation).await?;
        if lock.is_none() {
            if claim == Claim::IfFree {
                let holder = holder_of(shared, tenant, run, &row).await?;
                match holder {
                    Some(holder) => return Err(ClaimError::Held { run, holder }),
                    // It has just let go.
                    None => continue,
                }
            }
            generation = generation.saturating_add(1);
            lock = take_lock(shared, tenant, run, generation).await?;
        }
        // Without a lock here somebody else takes the run over at this moment.
        let Some(lock) = lock else { continue };
        if let Some((row, wrapped)) = raise(shared, tenant, run, old, generation).await? {
            return owner(shared, tenant, run, row, &wrapped, lock).await;
        }
    }
    let row = find(shared, tenant, run).await?.ok_or(ClaimError::NoSuchRun { run })?;
    let holder = holder_of(shared, tenant, run, &row).await?;
    Err(ClaimError::Held { run, holder: holder.unwrap_or(Holder { pid: 0, silent_ms: 0 }) })
}

/// Raises the epoch, under a lock that is held; `None`: the lock was of an outdated generation.
async fn raise(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    old: u64,
    generation: u64,
) -> Result<Option<(RunRow, Vec<u8>)>, ClaimError> {
    let promised = shared.wakes.promise(tenant, run, Topic::Inbox, false);
    let wake = promised.map_err(|error| StorageError::from_io(&shared.data_dir, error))?;
    let tenant = tenant.clone();
    let raised = shared.writer.write(vec![wake], move |db| {
        let sql = "UPDATE runs SET epoch = epoch + 1, generation = ?4, touched_at = ?5
                   WHERE tenant = ?1 AND run = ?2 AND generation = ?3 AND erased = 0";
        let (old, new, now) = (db::signed(old), db::signed(generation), db::signed(now_ms()));
        let changed = db.prepare_cached(sql)?.execute(params![
            tenant.as_str(),
            run.as_bytes(),
            old,
            new,
            now
        ])?;
        if changed == 0 {
            return Ok(None);
        }
        let row = RunRow::load(db, &tenant, run)?;
        let Some(row) = row else { return Ok(None) };
        let wrapped = wrapped_key(db, &tenant, row.scope)?.unwrap_or_default();
        Ok(Some((row, wrapped)))
    });
    Ok(raised.await?)
}

async fn owner(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    row: RunRow,
    wrapped: &[u8],
    lock: RunLock,
) -> Result<SqliteOwner, ClaimError> {
    let key = DataKey::unwrap(&shared.keys, tenant, row.scope, wrapped);
    let key = key.ok_or(ClaimError::WrongKey { run })?;
    let promised = shared.wakes.promise(tenant, run, Topic::Events, true);
    let wake = promised.map_err(|error| StorageError::from_io(&shared.data_dir, error))?;
    let head = Head { seq: row.head, chain: row.chain };
    let tenant = tenant.clone();
    Ok(SqliteOwner::new(
        Arc::clone(shared),
        tenant,
        run,
        row.number,
        row.epoch,
        head,
        key,
        lock,
        wake,
    ))
}

async fn find(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<RunRow>, StorageError> {
    let tenant = tenant.clone();
    reader::view(shared, move |_, db| RunRow::load(db, &tenant, run)).await
}

pub(super) async fn take_lock(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    generation: u64,
) -> Result<Option<RunLock>, StorageError> {
    let tenant = tenant.clone();
    let taken = blocking(shared, move |shared| shared.locks.take(&tenant, run, generation)).await;
    taken.map_err(|error| StorageError::from_io(&shared.data_dir, error))
}

/// Who holds the run whose row is given.
pub(super) async fn holder_of(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    row: &RunRow,
) -> Result<Option<Holder>, StorageError> {
    let (tenant, generation) = (tenant.clone(), row.generation);
    let pid = blocking(shared, move |shared| shared.locks.holder(&tenant, run, generation)).await;
    let pid = pid.map_err(|error| StorageError::from_io(&shared.data_dir, error))?;
    Ok(pid.map(|pid| Holder { pid, silent_ms: now_ms().saturating_sub(row.touched_at) }))
}

pub(super) async fn holder(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
) -> Result<Option<Holder>, ReadError> {
    let row = find(shared, tenant, run).await?.ok_or(ReadError::NoSuchRun { run })?;
    Ok(holder_of(shared, tenant, run, &row).await?)
}
