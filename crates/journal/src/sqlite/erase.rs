//! Destroying what a run said, and leaving that it was.
//!
//! In one transaction the scope's only key is overwritten, bodies and inbox entries go, and a
//! tombstone is appended to every run of the scope. Bodies in the blob store are deleted next;
//! until that is done their places stay in the rows, so that erasing once more finishes what a
//! crash cut short. Last, the write-ahead log is emptied into the file, so that older versions of
//! the overwritten pages are gone as well.

use std::sync::Arc;

use moat_core::{BlobId, Epoch, EventHeader, RunId, TenantId};
use rusqlite::{Connection, params};

use super::anchor::Anchor;
use super::append::{self, Row};
use super::claim::{self, RunRow};
use super::lock::RunLock;
use super::wake::Topic;
use super::{Shared, blocking, db, now_ms, reader};
use crate::format::{Body, Keys, link, seal_mark, unseal};
use crate::{EraseError, Holder, NewEvent, StorageError};

/// A run of the scope, as it was when its lock was taken.
struct Member {
    run: RunId,
    row: RunRow,
}

pub(super) async fn erase(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    consent: &[RunId],
    tombstone: NewEvent,
) -> Result<(), EraseError> {
    append::check_event(&tombstone).map_err(|what| EraseError::Invalid { what })?;
    let members = members(shared, tenant, run).await?;
    if members.iter().any(|member| !member.row.erased) {
        let named = |member: &Member| member.run == run || consent.contains(&member.run);
        let forks: Vec<_> =
            members.iter().filter(|member| !named(member)).map(|member| member.run).collect();
        if !forks.is_empty() {
            return Err(EraseError::Forks { forks });
        }
        destroy(shared, tenant, &members, tombstone).await?;
    }
    for member in &members {
        clear_blobs(shared, member)
            .await
            .map_err(|reason| EraseError::Unfinished { run, reason })?;
    }
    clear_traces(shared).await.map_err(|reason| EraseError::Unfinished { run, reason })?;
    anchor(shared, tenant, run).await.map_err(|reason| EraseError::Unfinished { run, reason })
}

/// All runs of the run's scope.
async fn members(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
) -> Result<Vec<Member>, EraseError> {
    let tenant = tenant.clone();
    let members = reader::view(shared, move |_, db| {
        let row = RunRow::load(db, &tenant, run)?;
        row.map(|row| load_members(db, &tenant, row.scope)).transpose()
    });
    members.await?.ok_or(EraseError::NoSuchRun { run })
}

fn load_members(db: &Connection, tenant: &TenantId, scope: RunId) -> rusqlite::Result<Vec<Member>> {
    let mut select =
        db.prepare_cached("SELECT run FROM runs WHERE tenant = ?1 AND scope = ?2 ORDER BY number")?;
    let runs = select.query_map(params![tenant.as_str(), scope.as_bytes()], |row| row.get(0))?;
    let mut members = Vec::new();
    for run in runs {
        let run = RunId::from_bytes(run?);
        members.extend(RunRow::load(db, tenant, run)?.map(|row| Member { run, row }));
    }
    Ok(members)
}

/// Under the locks of all runs that go, in one transaction.
async fn destroy(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    members: &[Member],
    tombstone: NewEvent,
) -> Result<(), EraseError> {
    let mut locks: Vec<RunLock> = Vec::with_capacity(members.len());
    let mut wakes = Vec::with_capacity(members.len());
    for member in members {
        let lock = claim::take_lock(shared, tenant, member.run, member.row.generation).await?;
        let Some(lock) = lock else { return Err(held(shared, tenant, member).await?) };
        locks.push(lock);
        let wake = shared.wakes.promise(tenant, member.run, Topic::Events, true);
        wakes.push(wake.map_err(|error| StorageError::from_io(&shared.data_dir, error))?);
    }
    let expected: Vec<_> = members
        .iter()
        .map(|member| (member.run, member.row.generation, member.row.epoch))
        .collect();
    let scope = members.first().map(|member| member.row.scope);
    let (keys, owner) = (Arc::clone(&shared.keys), tenant.clone());
    let destroyed = shared.writer.write(wakes, move |db| {
        let tenant = &owner;
        let Some(scope) = scope else { return Ok(None) };
        let members = load_members(db, tenant, scope)?;
        let found =
            members.iter().map(|member| (member.run, member.row.generation, member.row.epoch));
        // Somebody forked or drove one of them before all locks were held.
        if !found.eq(expected.iter().copied()) {
            return Ok(members.into_iter().next());
        }
        overwrite_key(db, tenant, scope)?;
        for member in &members {
            destroy_run(db, &keys, tenant, member, &tombstone)?;
        }
        Ok(None)
    });
    match destroyed.await? {
        None => Ok(()),
        Some(changed) => Err(held(shared, tenant, &changed).await?),
    }
}

/// Somebody holds one of the runs, or did a moment ago.
async fn held(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    member: &Member,
) -> Result<EraseError, EraseError> {
    let holder = claim::holder_of(shared, tenant, member.run, &member.row).await?;
    let silent_ms = now_ms().saturating_sub(member.row.touched_at);
    let holder = holder.unwrap_or(Holder { pid: 0, silent_ms });
    Ok(EraseError::Held { run: member.run, holder })
}

/// In place: the new value is as long as the old one, so SQLite writes it over the old one.
fn overwrite_key(db: &Connection, tenant: &TenantId, scope: RunId) -> rusqlite::Result<()> {
    let sql = "UPDATE scopes SET wrapped = zeroblob(length(wrapped))
               WHERE tenant = ?1 AND scope = ?2";
    db.execute(sql, params![tenant.as_str(), scope.as_bytes()])?;
    Ok(())
}

fn destroy_run(
    db: &Connection,
    keys: &Keys,
    tenant: &TenantId,
    member: &Member,
    tombstone: &NewEvent,
) -> rusqlite::Result<()> {
    let Member { run, row } = member;
    // In place, as the key. The places of large bodies stay until those are deleted.
    let sql = "UPDATE events SET body = zeroblob(length(body))
               WHERE number = ?1 AND substr(body, 1, 1) <> x'02'";
    db.execute(sql, [row.number])?;
    let sql = "DELETE FROM inbox WHERE tenant = ?1 AND run = ?2";
    db.execute(sql, params![tenant.as_str(), run.as_bytes()])?;
    db.execute("DELETE FROM listings WHERE number = ?1", [row.number])?;
    let stone = tombstone_row(keys, tenant, member, tombstone);
    append::insert(db, row.number, &stone)?;
    let sql = "UPDATE runs SET erased = 1, epoch = ?2, head = ?3, chain = ?4, touched_at = ?5
               WHERE number = ?1";
    let (epoch, head) = (db::signed(row.epoch.next().0), db::signed(stone.seq.0));
    db.execute(sql, params![row.number, epoch, head, stone.chain.0, db::signed(now_ms())])?;
    Ok(())
}

fn tombstone_row(keys: &Keys, tenant: &TenantId, member: &Member, event: &NewEvent) -> Row {
    let seq = member.row.head.next();
    let header = EventHeader {
        tenant: tenant.clone(),
        run: member.run,
        seq,
        epoch: Epoch(member.row.epoch.0).next(),
        at: now_ms(),
        actor: event.actor.clone(),
        kind: event.kind.clone(),
        version: event.version,
        must_understand: event.must_understand,
    };
    // A header of strings and numbers always serialises.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let stored = seal_mark(keys, &header, &event.body);
    let chain = link(member.row.chain, &header, stored.hash);
    Row { seq, header, stored, chain }
}

/// Deletes large bodies, then their places in the rows.
async fn clear_blobs(shared: &Arc<Shared>, member: &Member) -> Result<(), String> {
    let number = member.row.number;
    let places = reader::view(shared, move |shared, db| load_places(shared, db, number));
    let places = places.await.map_err(|error| error.to_string())?;
    if places.is_empty() {
        return Ok(());
    }
    for id in places {
        shared.blobs.delete(id).await.map_err(|error| error.to_string())?;
    }
    shared.blobs.sync().await.map_err(|error| error.to_string())?;
    let cleared = shared.writer.write(Vec::new(), move |db| {
        let sql = "UPDATE events SET body = zeroblob(length(body))
                   WHERE number = ?1 AND substr(body, 1, 1) = x'02'";
        db.execute(sql, [number])
    });
    cleared.await.map(|_| ()).map_err(|error| error.to_string())
}

fn load_places(shared: &Shared, db: &Connection, number: i64) -> rusqlite::Result<Vec<BlobId>> {
    let mut select = db.prepare_cached(
        "SELECT body FROM events WHERE number = ?1 AND substr(body, 1, 1) = x'02'",
    )?;
    let mut rows = select.query([number])?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        let stored: Vec<u8> = row.get(0)?;
        if let Body::InBlob(id) = unseal(&shared.keys, None, &[], &stored) {
            places.push(id);
        }
    }
    Ok(places)
}

/// Older versions of overwritten pages are in the write-ahead log until it is emptied.
async fn clear_traces(shared: &Arc<Shared>) -> Result<(), String> {
    let emptied = blocking(shared, |shared| {
        let db = db::open_writer(&shared.data_dir)?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
    });
    match emptied.await {
        Ok(0) => Ok(()),
        Ok(_) => Err("another process reads or writes at this moment".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Records the tombstones as the runs' heads.
async fn anchor(shared: &Arc<Shared>, tenant: &TenantId, run: RunId) -> Result<(), String> {
    let members = members(shared, tenant, run).await.map_err(|error| error.to_string())?;
    let head = |member: Member| Anchor::new(tenant, member.run, member.row.head, member.row.chain);
    let heads: Vec<_> = members.into_iter().map(head).collect();
    let recorded = blocking(shared, move |shared| shared.anchors.record(&shared.keys, &heads));
    recorded.await.map_err(|error| error.to_string())
}
