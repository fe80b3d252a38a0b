use std::sync::Arc;

use moat_core::{EventHeader, Hash, Seq};
use rusqlite::{Connection, params};

use super::anchor::{Anchor, Anchors};
use super::owner::{Head, SqliteOwner};
use super::{MAX_BATCH, MAX_BODY, claim, db, now_ms};
use crate::format::{DataKey, Stored, link, seal_small};
use crate::{AppendError, Batch, IndexRow, NewEvent, StorageError};

/// Sealed bodies up to this many bytes are kept in the row, larger ones in the blob store.
pub(super) const IN_ROW: usize = 64 << 10;
/// From this many bytes on sealing moves away from the async threads.
const MUCH: usize = 256 << 10;

/// An event as it goes into its row.
pub(super) struct Row {
    pub(super) seq: Seq,
    pub(super) header: Vec<u8>,
    pub(super) stored: Stored,
    pub(super) chain: Hash,
}

pub(super) async fn append(owner: &mut SqliteOwner, batch: Batch) -> Result<Seq, AppendError> {
    if owner.uncertain {
        return Err(AppendError::Uncertain { run: owner.run });
    }
    check(&batch)?;
    let Batch { events, consumed, index } = batch;
    let index = index.map(|index| seal_index(owner, &index)).transpose()?;
    let (rows, head) = seal(owner, events).await?;
    // If this future is dropped from here on, the write may happen or not.
    owner.uncertain = true;
    let appended = commit(owner, rows, head, consumed, index).await;
    match &appended {
        // A store that failed in any other way may have written the batch.
        Err(AppendError::Storage(error)) => {
            owner.uncertain =
                !matches!(error, StorageError::Full { .. } | StorageError::Busy { .. });
        }
        _ => owner.uncertain = false,
    }
    appended?;
    owner.head = head;
    Anchors::note(&owner.shared, Anchor::new(&owner.tenant, owner.run, head.seq, head.chain));
    Ok(head.seq)
}

fn check(batch: &Batch) -> Result<(), AppendError> {
    let invalid = |what: String| Err(AppendError::Invalid { what });
    if batch.events.len() > MAX_BATCH || batch.consumed.len() > MAX_BATCH {
        return invalid(format!("it holds more than {MAX_BATCH} events or inbox entries"));
    }
    batch.events.iter().try_for_each(check_event).map_err(|what| AppendError::Invalid { what })
}

pub(super) fn check_event(event: &NewEvent) -> Result<(), String> {
    let NewEvent { actor, kind, body, .. } = event;
    match () {
        () if kind.is_empty() || kind.len() > 64 => {
            Err(format!("a kind has 1 to 64 bytes, not {}", kind.len()))
        }
        () if actor.is_empty() || actor.len() > 256 => {
            Err(format!("an actor has 1 to 256 bytes, not {}", actor.len()))
        }
        () if body.len() > MAX_BODY => {
            Err(format!("a body has at most {MAX_BODY} bytes, not {}", body.len()))
        }
        () => Ok(()),
    }
}

/// Status and sealed facts.
type SealedIndex = (String, Vec<u8>);

fn seal_index(owner: &SqliteOwner, index: &IndexRow) -> Result<SealedIndex, AppendError> {
    let IndexRow { status, facts } = index;
    if status.len() > 64 || facts.len() > IN_ROW {
        let what = "an index row has at most 64 bytes of status and 64 KiB of facts";
        return Err(AppendError::Invalid { what: what.to_owned() });
    }
    let aad = super::read::facts_aad(&owner.tenant, owner.run);
    let sealed = owner.key.seal(&[], &aad, facts.as_bytes());
    let sealed =
        sealed.map_err(|error| StorageError::from_random(&owner.shared.data_dir, error))?;
    Ok((status.clone(), sealed))
}

async fn seal(owner: &SqliteOwner, events: Vec<NewEvent>) -> Result<(Vec<Row>, Head), AppendError> {
    let (key, head, now) = (Arc::clone(&owner.key), owner.head, now_ms());
    let mut seq = head.seq;
    let headed = events.into_iter().map(|event| {
        seq = seq.next();
        let NewEvent { actor, kind, version, must_understand, at, body } = event;
        let at = at.unwrap_or(now);
        let (tenant, run, epoch) = (owner.tenant.clone(), owner.run, owner.epoch);
        (EventHeader { tenant, run, seq, epoch, at, actor, kind, version, must_understand }, body)
    });
    let headed: Vec<_> = headed.collect();
    let much = headed.iter().map(|(_, body)| body.len()).sum::<usize>() > MUCH;
    let seal = move || seal_bodies(&key, headed);
    let sealed = if much { super::blocking(&owner.shared, move |_| seal()).await } else { seal() };
    let mut bodies =
        sealed.map_err(|error| StorageError::from_random(&owner.shared.data_dir, error))?;
    move_large_out(owner, &mut bodies).await?;
    Ok(chain_up(head, bodies))
}

struct Sealed {
    seq: Seq,
    header: Vec<u8>,
    stored: Stored,
}

fn seal_bodies(
    key: &DataKey,
    headed: Vec<(EventHeader, Vec<u8>)>,
) -> Result<Vec<Sealed>, getrandom::Error> {
    let seal = |(header, body): (EventHeader, Vec<u8>)| {
        let seq = header.seq;
        // A header of strings and numbers always serialises.
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let stored = seal_small(key, &header, &body)?;
        Ok(Sealed { seq, header, stored })
    };
    headed.into_iter().map(seal).collect()
}

/// Puts large bodies into the blob store, durably, before any event can refer to them.
async fn move_large_out(owner: &SqliteOwner, bodies: &mut [Sealed]) -> Result<(), AppendError> {
    let mut moved = false;
    for body in bodies.iter_mut().filter(|body| body.stored.bytes.len() > IN_ROW) {
        let bytes = std::mem::take(&mut body.stored.bytes);
        let size = bytes.len() as u64;
        body.stored = Stored::in_blob(owner.shared.blobs.put(bytes).await?, size);
        moved = true;
    }
    if moved {
        owner.shared.blobs.sync().await?;
    }
    Ok(())
}

fn chain_up(mut head: Head, bodies: Vec<Sealed>) -> (Vec<Row>, Head) {
    let rows = bodies.into_iter().map(|Sealed { seq, header, stored }| {
        head = Head { seq, chain: link(head.chain, &header, stored.hash) };
        Row { seq, header, stored, chain: head.chain }
    });
    (rows.collect(), head)
}

async fn commit(
    owner: &SqliteOwner,
    rows: Vec<Row>,
    head: Head,
    consumed: Vec<String>,
    index: Option<SealedIndex>,
) -> Result<(), AppendError> {
    let write = BatchWrite {
        tenant: owner.tenant.clone(),
        run: owner.run,
        number: owner.number,
        epoch: owner.epoch,
        before: owner.head.seq,
        head,
        rows,
        consumed,
        index,
    };
    let wakes = vec![Arc::clone(&owner.wake)];
    let refused = match owner.shared.writer.write(wakes, move |db| write.attempt(db)).await? {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    let run = owner.run;
    Err(match refused {
        Refused::Erased => AppendError::Erased { run },
        Refused::NotInInbox(id) => AppendError::NotInInbox { run, id },
        Refused::Moved(row) if row.epoch == owner.epoch => {
            AppendError::Altered { run, expected: owner.head.seq, found: row.head }
        }
        Refused::Moved(row) => {
            let holder = claim::holder_of(&owner.shared, &owner.tenant, run, &row).await?;
            AppendError::Stale { run, mine: owner.epoch, current: row.epoch, holder }
        }
    })
}

/// Everything that one append writes.
struct BatchWrite {
    tenant: moat_core::TenantId,
    run: moat_core::RunId,
    number: i64,
    epoch: moat_core::Epoch,
    before: Seq,
    head: Head,
    rows: Vec<Row>,
    consumed: Vec<String>,
    index: Option<SealedIndex>,
}

/// Why the transaction has not written it.
enum Refused {
    Erased,
    NotInInbox(String),
    /// The run's epoch or head is not the owner's.
    Moved(claim::RunRow),
}

impl BatchWrite {
    /// In the writer's transaction. Refuses before it writes.
    fn attempt(&self, db: &Connection) -> rusqlite::Result<Result<(), Refused>> {
        for id in &self.consumed {
            if !self.is_waiting(db, id)? {
                return Ok(Err(Refused::NotInInbox(id.clone())));
            }
        }
        if !self.move_head(db)? {
            return Ok(Err(match claim::RunRow::load(db, &self.tenant, self.run)? {
                Some(row) if !row.erased => Refused::Moved(row),
                _ => Refused::Erased,
            }));
        }
        for row in &self.rows {
            insert(db, self.number, row)?;
        }
        for id in &self.consumed {
            self.consume(db, id)?;
        }
        if let Some((status, facts)) = &self.index {
            let mut replace = db.prepare_cached(
                "INSERT OR REPLACE INTO listings (number, status, facts) VALUES (?1, ?2, ?3)",
            )?;
            replace.execute(params![self.number, status, facts])?;
        }
        Ok(Ok(()))
    }

    /// The one place that decides whether an append may happen.
    fn move_head(&self, db: &Connection) -> rusqlite::Result<bool> {
        let mut update = db.prepare_cached(
            "UPDATE runs SET head = ?1, chain = ?2, touched_at = ?3
             WHERE number = ?4 AND tenant = ?5 AND run = ?6
                 AND epoch = ?7 AND head = ?8 AND erased = 0",
        )?;
        let changed = update.execute(params![
            db::signed(self.head.seq.0),
            self.head.chain.0,
            db::signed(now_ms()),
            self.number,
            self.tenant.as_str(),
            self.run.as_bytes(),
            db::signed(self.epoch.0),
            db::signed(self.before.0),
        ])?;
        Ok(changed == 1)
    }

    fn is_waiting(&self, db: &Connection, id: &str) -> rusqlite::Result<bool> {
        let mut find = db.prepare_cached(
            "SELECT 1 FROM inbox WHERE tenant = ?1 AND run = ?2 AND id = ?3 AND consumed IS NULL",
        )?;
        find.exists(params![self.tenant.as_str(), self.run.as_bytes(), id])
    }

    /// The id stays, so that putting the same entry again changes nothing; its text goes.
    fn consume(&self, db: &Connection, id: &str) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE inbox SET consumed = ?4, entry = NULL
             WHERE tenant = ?1 AND run = ?2 AND id = ?3",
        )?;
        let at = db::signed(self.head.seq.0);
        update.execute(params![self.tenant.as_str(), self.run.as_bytes(), id, at])?;
        Ok(())
    }
}

pub(super) fn insert(db: &Connection, number: i64, row: &Row) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO events (number, seq, header, body_hash, chain, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let Row { seq, header, stored, chain } = row;
    let seq = db::signed(seq.0);
    insert.execute(params![number, seq, header, stored.hash.0, chain.0, stored.bytes])?;
    Ok(())
}
