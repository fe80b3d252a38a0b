//! A whole run as files: what `export` writes and `import` takes in.
//!
//! ```text
//! run.json          what it is: version, key, the runs, whether it was moved
//! events.N.jsonl    the events of one run: those that the run was forked from first, itself last
//! blobs/            every snapshot and output that the events name
//! ```
//!
//! Names of stored contents are keyed by tenant, and the key of one tenant must not travel. So the
//! folder has a key of its own, and whatever names a content is rewritten on the way out and on the
//! way in. Both ways every content is hashed again: what arrives is what left.
//!
//! An import is a run like any other, in the importer's journal, under the importer's keys. It gets
//! a new id, unless the source was *moved*: then nobody drives it there any more, and it keeps its
//! own.

mod copy;
mod folder;
mod import;
mod rewrite;

use std::path::Path;

use moat_blobs::{BlobStore, ReadBlobError, WriteBlobError};
use moat_core::{EventBody, RunId, RunMoved, Seq, TenantKey};
use moat_journal::{AppendError, Claim, ClaimError, ReadError};
use moat_snapshot::{CommitError, LoadError, PutError, Snapshots};

use crate::driver::{DriveError, Driver};
use crate::harness::{Harness, OpenRunError};
use crate::machine::{ApplyError, Status};
use copy::Copier;
use folder::{EventsWriter, ExportedRun, RunFile, VERSION};

pub use import::{Dropped, Imported, Trust};

/// Events that are read at once.
const PAGE: usize = 256;

/// Why a run could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The run could not be had.
    #[error(transparent)]
    Open(#[from] OpenRunError),
    /// A journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Somebody drives the run.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A journal could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The move could not be recorded.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A snapshot could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A snapshot could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A content could not be written.
    #[error(transparent)]
    Put(#[from] PutError),
    /// An output could not be read.
    #[error(transparent)]
    ReadBlob(#[from] ReadBlobError),
    /// An output could not be written.
    #[error(transparent)]
    WriteBlob(#[from] WriteBlobError),
    /// A file of the export could not be read or written.
    #[error("cannot {verb} `{name}`: {source}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which file.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The export is not what an export is.
    #[error("this is no export of a run: {0}")]
    Malformed(String),
    /// A later version of Moat wrote it.
    #[error("version {0} of exports was written by a newer Moat; upgrade to import it")]
    TooNew(u32),
    /// The events do not follow from one another.
    #[error("the run's events do not make sense: {0}")]
    Inconsistent(#[from] ApplyError),
}

/// A run that was written to a folder.
#[derive(Debug)]
pub struct Exported {
    /// The run.
    pub run: RunId,
    /// Its last event.
    pub head: Seq,
    /// Events in all, with those of the runs that it was forked from.
    pub events: u64,
    /// Snapshots and outputs.
    pub contents: u64,
    /// Bytes of files and outputs, each content once, before they are compressed.
    pub bytes: u64,
    /// Held for a run that is being moved.
    driver: Option<Box<Driver>>,
}

impl Exported {
    /// Seals the source of a move: from now on it can be read and forked here, and no longer
    /// driven. To be called when the export is where it is to be, durably.
    ///
    /// # Errors
    ///
    /// [`TransferError::Drive`] if that could not be recorded: then the export must not be
    /// imported as a moved run.
    pub async fn seal(self) -> Result<(), TransferError> {
        if let Some(mut driver) = self.driver {
            driver.push("user", RunMoved::default())?;
            Box::pin(driver.drive()).await?;
        }
        Ok(())
    }
}

impl Harness {
    /// Writes a run into an empty folder. With `moves` nobody can drive it meanwhile, and
    /// [`Exported::seal`] is to be called.
    pub async fn export(
        &self,
        run: RunId,
        folder: &Path,
        moves: bool,
    ) -> Result<Exported, TransferError> {
        let driver = match moves {
            true => Some(Box::new(self.open(run, Claim::IfFree).await?)),
            false => None,
        };
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| TransferError::File {
            verb: "make a key for",
            name: folder::RUN_FILE.to_owned(),
            source: std::io::Error::other(error),
        })?;
        let store = folder::store(folder, &TenantKey::new(key));
        let mut copier = Copier::new(self.store(), store);
        let mut exported = Exported { run, head: Seq(0), events: 0, contents: 0, bytes: 0, driver };
        let mut runs = Vec::new();
        for (place, (run, until)) in self.line_of(run, None).await?.into_iter().enumerate() {
            let mut events = EventsWriter::create(folder, place)?;
            let head = self.write_events(run, until, &mut copier, &mut events).await?;
            exported.events = exported.events.saturating_add(events.finish()?);
            exported.head = head;
            runs.push(ExportedRun { run, head });
        }
        (exported.contents, exported.bytes) = copier.finish().await?;
        let file = RunFile {
            format: folder::FORMAT.to_owned(),
            version: VERSION,
            key: hex(&key),
            moved: moves,
            runs,
        };
        file.write(folder)?;
        Ok(exported)
    }

    async fn write_events(
        &self,
        run: RunId,
        until: Option<Seq>,
        copier: &mut Copier,
        events: &mut EventsWriter,
    ) -> Result<Seq, TransferError> {
        let mut after = Seq(0);
        loop {
            let page = self.0.journal.read(&self.0.tenant, run, after, PAGE).await?;
            if page.is_empty() {
                return Ok(after);
            }
            for stored in page {
                if until.is_some_and(|until| stored.header.seq > until) {
                    return Ok(after);
                }
                after = stored.header.seq;
                let event = crate::harness::decode(stored)?;
                if matches!(event.body, EventBody::Erased(_)) {
                    return Err(OpenRunError::Erased(run).into());
                }
                let body = copier.rewrite(event.body).await?;
                events.write(&event.header, &body)?;
            }
        }
    }

    /// Where this harness keeps files and outputs.
    fn store(&self) -> (Snapshots, std::sync::Arc<dyn BlobStore>) {
        (self.0.snapshots.clone(), self.0.blobs.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a moved run cannot be driven here.
pub(crate) fn refuse_moved(run: RunId, status: &Status) -> Result<(), OpenRunError> {
    match status {
        Status::Moved => Err(OpenRunError::Moved(run)),
        _ => Ok(()),
    }
}
