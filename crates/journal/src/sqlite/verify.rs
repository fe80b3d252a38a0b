//! Holds runs against their chains, their keys and their anchors. Memory is bounded by a page of
//! rows, whatever a run's length.

use std::collections::BTreeSet;
use std::sync::Arc;

use moat_core::{BlobId, EventHeader, Hash, RunId, Seq, TenantId};
use rusqlite::{Connection, params};

use super::anchor::{Anchor, Recorded};
use super::claim::{RunRow, wrapped_key};
use super::read::RawEvent;
use super::{MAX_BODY, Shared, blocking, db, reader};
use crate::format::{Body, DataKey, genesis, unseal};
use crate::{Problem, RunReport, StorageError, VerifyError, VerifyReport};

/// Rows of one look at the file.
const PAGE: usize = 512;
/// Bytes of one look at the file, after which it ends early.
const PAGE_BYTES: usize = 8 << 20;
/// Problems after which a run is not looked at any further.
const ENOUGH: usize = 20;

pub(super) async fn verify(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: Option<RunId>,
) -> Result<VerifyReport, VerifyError> {
    let runs = match run {
        Some(run) => BTreeSet::from([run]),
        None => known_runs(shared, tenant).await?,
    };
    let mut report = VerifyReport::default();
    for run in runs {
        report.runs.push(verify_run(shared, tenant, run).await?);
    }
    Ok(report)
}

/// Those in the file, and those that only an anchor knows any more.
async fn known_runs(
    shared: &Arc<Shared>,
    tenant: &TenantId,
) -> Result<BTreeSet<RunId>, VerifyError> {
    let owner = tenant.clone();
    let anchored = blocking(shared, move |shared| shared.anchors.runs(&owner)).await;
    let mut runs: BTreeSet<_> =
        anchored.map_err(|source| anchors_error(shared, source))?.into_iter().collect();
    let owner = tenant.clone();
    let stored = reader::view(shared, move |_, db| {
        let mut select = db.prepare_cached("SELECT run FROM runs WHERE tenant = ?1")?;
        let rows = select.query_map([owner.as_str()], |row| row.get(0).map(RunId::from_bytes))?;
        rows.collect::<Result<Vec<_>, _>>()
    });
    runs.extend(stored.await?);
    Ok(runs)
}

fn anchors_error(shared: &Shared, source: std::io::Error) -> VerifyError {
    VerifyError::Anchors { path: shared.anchors.dir().to_owned(), source }
}

async fn verify_run(
    shared: &Arc<Shared>,
    tenant: &TenantId,
    run: RunId,
) -> Result<RunReport, VerifyError> {
    let owner = tenant.clone();
    let recorded =
        blocking(shared, move |shared| shared.anchors.load(&shared.keys, &owner, run)).await;
    let recorded = recorded.map_err(|source| anchors_error(shared, source))?;
    let mut walk = Walk::new(tenant, run, recorded);
    loop {
        let page = {
            let (tenant, after) = (tenant.clone(), walk.last.0);
            reader::view(shared, move |_, db| load_page(db, &tenant, run, after)).await
        };
        let page = match page {
            Ok(Some(page)) => page,
            Ok(None) if walk.knows_nothing() => return Err(VerifyError::NoSuchRun { run }),
            Ok(None) => return Ok(walk.gone()),
            // The run's own row, or the way to it, is damaged.
            Err(StorageError::Damaged { message, .. }) => {
                walk.problem(None, format!("its row cannot be read: {message}"));
                return Ok(walk.report);
            }
            Err(error) => return Err(error.into()),
        };
        let is_last = page.is_last;
        walk.take(shared, page).await;
        if is_last || walk.report.problems.len() >= ENOUGH {
            break;
        }
    }
    Ok(walk.end())
}

struct Page {
    row: RunRow,
    wrapped: Vec<u8>,
    events: Vec<RawEvent>,
    damaged: Option<String>,
    is_last: bool,
}

fn load_page(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    after: Seq,
) -> rusqlite::Result<Option<Page>> {
    let Some(row) = RunRow::load(db, tenant, run)? else { return Ok(None) };
    let wrapped = wrapped_key(db, tenant, row.scope)?.unwrap_or_default();
    let mut page = Page { row, wrapped, events: Vec::new(), damaged: None, is_last: true };
    if let Err(error) = load_events(db, after, &mut page) {
        if !db::is_damage(&error) {
            return Err(error);
        }
        page.damaged = Some(error.to_string());
    }
    Ok(Some(page))
}

/// Whatever lies in the run's range, also beyond the head that its row names.
fn load_events(db: &Connection, after: Seq, page: &mut Page) -> rusqlite::Result<()> {
    let mut select = db.prepare_cached(
        "SELECT seq, header, body_hash, chain, body FROM events
         WHERE number = ?1 AND seq > ?2 ORDER BY seq",
    )?;
    let mut rows = select.query(params![page.row.number, db::signed(after.0)])?;
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let event = RawEvent::from_row(row)?;
        bytes = bytes.saturating_add(event.size());
        page.events.push(event);
        if page.events.len() >= PAGE || bytes >= PAGE_BYTES {
            page.is_last = false;
            break;
        }
    }
    Ok(())
}

/// How far a run was looked at.
struct Walk<'a> {
    tenant: &'a TenantId,
    report: RunReport,
    anchor: Option<Anchor>,
    last: (Seq, Hash),
    epoch: moat_core::Epoch,
    has_tombstone: bool,
    row: Option<RunRow>,
}

impl<'a> Walk<'a> {
    fn new(tenant: &'a TenantId, run: RunId, recorded: Recorded) -> Self {
        let report =
            RunReport { run, head: Seq(0), anchored: None, erased: false, problems: Vec::new() };
        let mut walk = Self {
            tenant,
            report,
            anchor: None,
            last: (Seq(0), genesis(tenant, run)),
            epoch: moat_core::Epoch(0),
            has_tombstone: false,
            row: None,
        };
        match recorded {
            Recorded::Nothing => {}
            Recorded::Anchor(anchor) => walk.anchor = Some(anchor),
            Recorded::Forged => walk.problem(
                None,
                "its anchor was not written with the tenant's key, or was altered".to_owned(),
            ),
        }
        walk.meet_anchor();
        walk
    }

    fn problem(&mut self, seq: Option<Seq>, message: String) {
        self.report.problems.push(Problem { seq, message });
    }

    fn knows_nothing(&self) -> bool {
        self.anchor.is_none() && self.report.problems.is_empty()
    }

    fn gone(mut self) -> RunReport {
        let message = match &self.anchor {
            Some(anchor) => {
                format!("an anchor records its event {}, but the run is gone", anchor.seq)
            }
            None => "the run is gone".to_owned(),
        };
        self.problem(None, message);
        self.report
    }

    async fn take(&mut self, shared: &Shared, page: Page) {
        let key = DataKey::unwrap(&shared.keys, self.tenant, page.row.scope, &page.wrapped);
        if key.is_none() && !page.row.erased && self.row.is_none() {
            let message = "its key is gone, altered, or under another tenant's key";
            self.problem(None, message.to_owned());
        }
        self.report.erased = page.row.erased;
        for raw in page.events {
            self.event(shared, key.as_ref(), raw, page.row.erased).await;
            if self.report.problems.len() >= ENOUGH {
                break;
            }
        }
        if let Some(message) = page.damaged {
            self.problem(Some(self.last.0.next()), format!("it cannot be read: {message}"));
        }
        self.row = Some(page.row);
    }

    async fn event(&mut self, shared: &Shared, key: Option<&DataKey>, raw: RawEvent, erased: bool) {
        let seq = raw.seq;
        self.has_tombstone = false;
        match raw.check(self.tenant, self.report.run, self.last, erased) {
            Ok(header) => {
                self.header(&header);
                if let Some(stored) = &raw.body {
                    self.body(shared, key, &raw.header, seq, stored, erased).await;
                }
            }
            Err(message) => self.problem(Some(seq), message),
        }
        // Goes on from what is stored, so that one bad event does not hide the next.
        self.last = (seq, raw.chain);
        self.meet_anchor();
    }

    fn header(&mut self, header: &EventHeader) {
        if header.epoch < self.epoch {
            let message = format!("its epoch {} is before {}", header.epoch, self.epoch);
            self.problem(Some(header.seq), message);
        }
        self.epoch = header.epoch;
    }

    async fn body(
        &mut self,
        shared: &Shared,
        key: Option<&DataKey>,
        header: &[u8],
        seq: Seq,
        stored: &[u8],
        erased: bool,
    ) {
        let body = unseal(&shared.keys, key, header, stored);
        let problem = match body {
            // Without a key only what stays readable opens: the tombstone.
            Body::Plain(_) if erased => {
                self.has_tombstone = true;
                None
            }
            Body::Plain(_) => None,
            _ if erased => Some("it was not cleared yet; erase the run once more".to_owned()),
            Body::InBlob(id) => large_body(shared, key, header, id).await,
            // Said once for the whole run.
            Body::Forged if key.is_none() => None,
            Body::Forged => Some("its body was not written under this run's key".to_owned()),
        };
        if let Some(message) = problem {
            self.problem(Some(seq), message);
        }
    }

    fn meet_anchor(&mut self) {
        let Some(anchor) = &self.anchor else { return };
        let (seq, chain) = self.last;
        if anchor.seq == seq && anchor.chain == chain {
            self.report.anchored = Some(seq);
        } else if anchor.seq == seq {
            let message =
                "the anchor records another chain up to here: what is before was rewritten";
            self.problem(Some(seq), message.to_owned());
        }
    }

    fn end(mut self) -> RunReport {
        let (last, chain) = self.last;
        self.report.head = last;
        // The anchor is beyond what was looked at only if the run ends before it.
        let looked_at_all = self.report.problems.len() < ENOUGH;
        if let Some(seq) = self.anchor.as_ref().map(|anchor| anchor.seq)
            && seq > last
            && looked_at_all
        {
            let message = format!("an anchor records event {seq}: what follows {last} was cut off");
            self.problem(Some(last.next()), message);
        }
        if let Some(row) = self.row.take()
            && looked_at_all
        {
            if (row.head, row.chain) != (last, chain) {
                let message = format!("the run's row names event {} as its last", row.head);
                self.problem(Some(last), message);
            }
            if row.epoch < self.epoch {
                let message = format!("the run's row names epoch {}", row.epoch);
                self.problem(Some(last), message);
            }
            if row.erased && !self.has_tombstone {
                self.problem(Some(last), "it was erased without a tombstone".to_owned());
            }
        }
        self.report
    }
}

async fn large_body(
    shared: &Shared,
    key: Option<&DataKey>,
    header: &[u8],
    id: BlobId,
) -> Option<String> {
    match shared.blobs.get(id, MAX_BODY as u64 + 1024).await {
        Err(error) => Some(error.to_string()),
        Ok(_) if key.is_none() => None,
        Ok(sealed) => match unseal(&shared.keys, key, header, &sealed) {
            Body::Plain(_) => None,
            _ => Some("its body was not written under this run's key".to_owned()),
        },
    }
}
