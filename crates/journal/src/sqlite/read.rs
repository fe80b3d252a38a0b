use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream;
use moat_core::{EventHeader, Hash, RunId, Seq, TenantId};
use rusqlite::{Connection, OptionalExtension, params};

use super::claim::{RunRow, wrapped_key};
use super::wake::Subscription;
use super::{MAX_BODY, Shared, db, reader};
use crate::format::{Body, DataKey, genesis, link, unseal};
use crate::{Events, IndexRow, Listed, ReadError, StoredEvent};

/// Bytes of rows that one read holds at most (but always one event).
const MAX_BYTES: usize = 16 << 20;
/// Events that a follower reads at a time.
const FOLLOW: usize = 256;

/// Binds a run's sealed facts to the run.
pub(super) fn facts_aad(tenant: &TenantId, run: RunId) -> Vec<u8> {
    [b"facts", tenant.as_str().as_bytes(), &[0], run.as_bytes()].concat()
}

/// An event's row as it lies in the file.
pub(super) struct RawEvent {
    pub(super) seq: Seq,
    pub(super) header: Vec<u8>,
    pub(super) body_hash: Hash,
    pub(super) chain: Hash,
    /// Absent: overwritten by an erasure.
    pub(super) body: Option<Vec<u8>>,
}

impl RawEvent {
    /// Reads a row that selects `seq, header, body_hash, chain, body`.
    pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let body: Vec<u8> = row.get(4)?;
        Ok(Self {
            seq: Seq(db::unsigned(row.get(0)?)),
            header: row.get(1)?,
            body_hash: Hash(row.get(2)?),
            chain: Hash(row.get(3)?),
            body: body.iter().any(|byte| *byte != 0).then_some(body),
        })
    }

    /// Bytes that it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.header.len().saturating_add(self.body.as_ref().map_or(0, Vec::len))
    }

    /// What is wrong with it as the event after `before`; otherwise its header.
    pub(super) fn check(
        &self,
        tenant: &TenantId,
        run: RunId,
        before: (Seq, Hash),
        erased: bool,
    ) -> Result<EventHeader, String> {
        if self.seq != before.0.next() {
            return Err(format!("it follows event {}; what is between is missing", before.0));
        }
        match &self.body {
            Some(body) if Hash::of(body) != self.body_hash => {
                return Err("its body does not have the recorded hash".to_owned());
            }
            None if !erased => return Err("its body is missing".to_owned()),
            _ => {}
        }
        if link(before.1, &self.header, self.body_hash) != self.chain {
            return Err("it does not continue the chain".to_owned());
        }
        let header: EventHeader = serde_json::from_slice(&self.header)
            .map_err(|error| format!("its header cannot be read ({error})"))?;
        if (&header.tenant, header.run, header.seq) != (tenant, run, self.seq) {
            return Err(format!("it is event {} of run {}", header.seq, header.run));
        }
        Ok(header)
    }
}

/// What one look at the file brought.
struct Page {
    row: RunRow,
    wrapped: Vec<u8>,
    before: Hash,
    events: Vec<RawEvent>,
    /// The first row that could not be read, and why.
    damaged: Option<(Seq, String)>,
}

pub(super) async fn read(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    after: Seq,
    limit: usize,
) -> Result<Vec<StoredEvent>, ReadError> {
    let viewed = {
        let tenant = tenant.clone();
        reader::view(shared, move |_, db| load_page(db, &tenant, run, after, limit))
    };
    let page = viewed.await?.ok_or(ReadError::NoSuchRun { run })?;
    let key = DataKey::unwrap(&shared.keys, tenant, page.row.scope, &page.wrapped);
    if key.is_none() && !page.row.erased {
        return Err(ReadError::WrongKey { run });
    }
    let mut events = Vec::with_capacity(page.events.len());
    let mut before = (after, page.before);
    for raw in page.events {
        let link = (raw.seq, raw.chain);
        match open(shared, tenant, run, key.as_ref(), raw, before, page.row.erased).await {
            Ok(event) => events.push(event),
            // What is before the damage can be read; the next read starts at it and says so.
            Err(error) if events.is_empty() => return Err(error),
            Err(_) => return Ok(events),
        }
        before = link;
    }
    match page.damaged {
        Some((seq, message)) if events.is_empty() => Err(ReadError::Damaged { run, seq, message }),
        _ => Ok(events),
    }
}

fn load_page(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Option<Page>> {
    let Some(row) = RunRow::load(db, tenant, run)? else { return Ok(None) };
    let wrapped = wrapped_key(db, tenant, row.scope)?.unwrap_or_default();
    let mut page =
        Page { wrapped, before: genesis(tenant, run), events: Vec::new(), damaged: None, row };
    if after >= page.row.head || limit == 0 {
        return Ok(Some(page));
    }
    let head = page.row.head;
    if let Err(error) = load_events(db, after, limit, &mut page) {
        if !db::is_damage(&error) {
            return Err(error);
        }
        let seq = page.events.last().map_or(after, |event| event.seq).next();
        page.damaged = Some((seq, error.to_string()));
    } else if page.events.is_empty() {
        let message = format!("it is missing, although the run's head is {head}");
        page.damaged = Some((after.next(), message));
    }
    Ok(Some(page))
}

fn load_events(db: &Connection, after: Seq, limit: usize, page: &mut Page) -> rusqlite::Result<()> {
    let (number, first, last) = (page.row.number, db::signed(after.0), db::signed(page.row.head.0));
    if after.0 > 0 {
        let mut find =
            db.prepare_cached("SELECT chain FROM events WHERE number = ?1 AND seq = ?2")?;
        let before = find.query_row([number, first], |row| row.get(0)).optional()?;
        page.before = Hash(before.unwrap_or_default());
    }
    let mut select = db.prepare_cached(
        "SELECT seq, header, body_hash, chain, body FROM events
         WHERE number = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query(params![number, first, last, limit])?;
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let event = RawEvent::from_row(row)?;
        bytes = bytes.saturating_add(event.size());
        page.events.push(event);
        if bytes >= MAX_BYTES {
            break;
        }
    }
    Ok(())
}

async fn open(
    shared: &Shared,
    tenant: &TenantId,
    run: RunId,
    key: Option<&DataKey>,
    raw: RawEvent,
    before: (Seq, Hash),
    erased: bool,
) -> Result<StoredEvent, ReadError> {
    let expected = before.0.next();
    let damaged = |message: String| ReadError::Damaged { run, seq: expected, message };
    let header = raw.check(tenant, run, before, erased).map_err(damaged)?;
    let Some(stored) = raw.body else { return Ok(StoredEvent { header, body: None }) };
    let forged = || damaged("its body was not written under this run's key".to_owned());
    let body = match unseal(&shared.keys, key, &raw.header, &stored) {
        Body::Plain(body) => body,
        // Without a key only the tombstone opens; the rest is being cleared.
        _ if erased => return Ok(StoredEvent { header, body: None }),
        Body::Forged => return Err(forged()),
        Body::InBlob(id) => {
            let sealed = shared.blobs.get(id, MAX_BODY as u64 + 1024).await;
            let sealed = sealed.map_err(|source| ReadError::Blob { run, seq: expected, source })?;
            match unseal(&shared.keys, key, &raw.header, &sealed) {
                Body::Plain(body) => body,
                _ => return Err(forged()),
            }
        }
    };
    Ok(StoredEvent { header, body: Some(body) })
}

pub(super) async fn list(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    limit: usize,
) -> Result<Vec<Listed>, ReadError> {
    let tenant = tenant.clone();
    Ok(reader::view(shared, move |shared, db| load_list(shared, db, &tenant, limit)).await?)
}

fn load_list(
    shared: &Shared,
    db: &Connection,
    tenant: &TenantId,
    limit: usize,
) -> rusqlite::Result<Vec<Listed>> {
    // A process that was killed between making a run and its first event left nothing to list.
    let mut select = db.prepare_cached(
        "SELECT run, head, created_at, touched_at, status, facts, generation, runs.scope, wrapped,
                erased
         FROM runs LEFT JOIN listings USING (number) LEFT JOIN scopes USING (tenant, scope)
         WHERE tenant = ?1 AND head > 0 ORDER BY runs.number DESC LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![tenant.as_str(), limit], |row| {
        let run = RunId::from_bytes(row.get(0)?);
        let scope = RunId::from_bytes(row.get(7)?);
        let wrapped: Option<Vec<u8>> = row.get(8)?;
        let (status, sealed): (Option<String>, Option<Vec<u8>>) = (row.get(4)?, row.get(5)?);
        let open = |sealed: Vec<u8>| {
            let key = DataKey::unwrap(&shared.keys, tenant, scope, wrapped.as_deref()?)?;
            String::from_utf8(key.open(&facts_aad(tenant, run), &sealed)?).ok()
        };
        let facts = sealed.and_then(open);
        let index = status.zip(facts).map(|(status, facts)| IndexRow { status, facts });
        let generation = db::unsigned(row.get(6)?);
        Ok(Listed {
            run,
            head: Seq(db::unsigned(row.get(1)?)),
            created_at: db::unsigned(row.get(2)?),
            updated_at: db::unsigned(row.get(3)?),
            index,
            erased: row.get(9)?,
            owned: shared.locks.holder(tenant, run, generation).is_ok_and(|pid| pid.is_some()),
        })
    })?;
    rows.collect()
}

/// A follower between two events.
struct Follower {
    shared: Arc<Shared>,
    tenant: TenantId,
    run: RunId,
    after: Seq,
    read: VecDeque<StoredEvent>,
    changes: Subscription,
    failed: bool,
}

pub(super) async fn follow(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
    after: Seq,
) -> Result<Events, ReadError> {
    // Watching starts before the first read, so nothing falls between them.
    let changes = shared.wakes.subscribe(tenant, run);
    let changes = changes.map_err(|error| crate::StorageError::from_io(&shared.data_dir, error))?;
    read(shared, tenant, run, after, 0).await?;
    let (shared, tenant) = (Arc::clone(shared), tenant.clone());
    let read = VecDeque::new();
    let follower = Follower { shared, tenant, run, after, read, changes, failed: false };
    Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
        let next = follower.next().await;
        Some((next, follower))
    })))
}

impl Follower {
    async fn next(&mut self) -> Result<StoredEvent, ReadError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.header.seq;
                return Ok(event);
            }
            if std::mem::take(&mut self.failed) {
                // Whatever it was, it is not better at once.
                self.changes.changed().await;
            }
            self.changes.mark_seen();
            match read(&self.shared, &self.tenant, self.run, self.after, FOLLOW).await {
                Ok(events) if events.is_empty() => self.changes.changed().await,
                Ok(events) => self.read = events.into(),
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }
}
