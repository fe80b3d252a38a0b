//! The files of an export, written and read. What is read may come from anywhere.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use moat_blobs::FolderBlobs;
use moat_core::{Event, EventBody, EventHeader, RunId, Seq, TenantKey};
use moat_snapshot::Snapshots;
use serde::{Deserialize, Serialize};

use super::TransferError;
use super::copy::Store;

pub(super) const RUN_FILE: &str = "run.json";
pub(super) const FORMAT: &str = "moat run";
pub(super) const VERSION: u32 = 1;
/// Bytes of `run.json`.
const MAX_RUN_FILE: u64 = 1 << 20;
/// Bytes of one event: a body, escaped twice, and its header.
const MAX_LINE: u64 = 256 << 20;
/// Runs of one line of forks.
const MAX_RUNS: usize = 1_000;
/// Events of one run.
const MAX_EVENTS: usize = 4_000_000;

/// `run.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunFile {
    /// Always [`FORMAT`].
    pub(super) format: String,
    pub(super) version: u32,
    /// What names of contents are keyed with, as 64 hexadecimal digits.
    pub(super) key: String,
    /// The source drives the run no longer.
    pub(super) moved: bool,
    /// Every run of the line, the oldest first; the last is what was exported.
    pub(super) runs: Vec<ExportedRun>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ExportedRun {
    pub(super) run: RunId,
    /// Its last event that belongs to the line.
    pub(super) head: Seq,
}

/// One line of `events.N.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    header: EventHeader,
    /// The body's JSON text.
    body: String,
}

impl RunFile {
    pub(super) fn write(&self, folder: &Path) -> Result<(), TransferError> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| std::fs::write(folder.join(RUN_FILE), text))
            .map_err(file_error("write", RUN_FILE))
    }

    pub(super) fn read(folder: &Path) -> Result<Self, TransferError> {
        let fail = file_error("read", RUN_FILE);
        let mut text = Vec::new();
        let file = File::open(folder.join(RUN_FILE)).map_err(fail)?;
        let fail = file_error("read", RUN_FILE);
        file.take(MAX_RUN_FILE + 1).read_to_end(&mut text).map_err(fail)?;
        let malformed = |what: &str| TransferError::Malformed(format!("`{RUN_FILE}` {what}"));
        if text.len() as u64 > MAX_RUN_FILE {
            return Err(malformed("is larger than 1 MiB"));
        }
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u32,
        }
        let version: Version =
            serde_json::from_slice(&text).map_err(|error| malformed(&error.to_string()))?;
        match version {
            Version { format, .. } if format != FORMAT => {
                return Err(malformed("is something else"));
            }
            Version { version, .. } if version > VERSION => {
                return Err(TransferError::TooNew(version));
            }
            _ => {}
        }
        let file: Self =
            serde_json::from_slice(&text).map_err(|error| malformed(&error.to_string()))?;
        if file.runs.is_empty() || file.runs.len() > MAX_RUNS {
            return Err(malformed("names no run, or too many"));
        }
        Ok(file)
    }

    pub(super) fn key(&self) -> Result<TenantKey, TransferError> {
        let wrong = || TransferError::Malformed(format!("the key in `{RUN_FILE}` is none"));
        let mut key = [0; 32];
        if self.key.len() != 64 || !self.key.is_ascii() {
            return Err(wrong());
        }
        for (byte, digits) in key.iter_mut().zip(self.key.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(TenantKey::new(key))
    }
}

/// The contents of an export.
pub(super) fn store(folder: &Path, key: &TenantKey) -> Store {
    let blobs = FolderBlobs::new(folder.join("blobs"), *Snapshots::blob_key(key));
    let blobs: Arc<dyn moat_blobs::BlobStore> = Arc::new(blobs);
    (Snapshots::new(blobs.clone(), key), blobs)
}

fn events_file(place: usize) -> String {
    format!("events.{place}.jsonl")
}

pub(super) struct EventsWriter {
    name: String,
    file: BufWriter<File>,
    count: u64,
}

impl EventsWriter {
    pub(super) fn create(folder: &Path, place: usize) -> Result<Self, TransferError> {
        let name = events_file(place);
        let file = File::create_new(folder.join(&name)).map_err(file_error("write", &name))?;
        Ok(Self { name, file: BufWriter::new(file), count: 0 })
    }

    pub(super) fn write(
        &mut self,
        header: &EventHeader,
        body: &EventBody,
    ) -> Result<(), TransferError> {
        let fail = file_error("write", &self.name);
        let line = || -> std::io::Result<Vec<u8>> {
            let body = String::from_utf8(body.encode()?).map_err(std::io::Error::other)?;
            let mut line = serde_json::to_vec(&Line { header: header.clone(), body })?;
            line.push(b'\n');
            Ok(line)
        };
        line().and_then(|line| self.file.write_all(&line)).map_err(fail)?;
        self.count += 1;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u64, TransferError> {
        self.file.flush().map_err(file_error("write", &self.name))?;
        Ok(self.count)
    }
}

/// The events of one run, in order, as they were decoded.
pub(super) fn read_events(
    folder: &Path,
    place: usize,
    of: ExportedRun,
) -> Result<Vec<Event>, TransferError> {
    let name = events_file(place);
    let file = File::open(folder.join(&name)).map_err(file_error("read", &name))?;
    let mut file = BufReader::new(file);
    let mut events = Vec::new();
    let malformed = |at: usize, what: &str| {
        TransferError::Malformed(format!("line {} of `{name}` {what}", at + 1))
    };
    loop {
        let mut line = Vec::new();
        let read = (&mut file).take(MAX_LINE + 1).read_until(b'\n', &mut line);
        read.map_err(file_error("read", &name))?;
        let at = events.len();
        if line.is_empty() {
            break;
        }
        if line.len() as u64 > MAX_LINE || at >= MAX_EVENTS {
            return Err(malformed(at, "is beyond what a run can have"));
        }
        let Line { header, body } =
            serde_json::from_slice(&line).map_err(|error| malformed(at, &error.to_string()))?;
        if header.run != of.run || header.seq != Seq(at as u64 + 1) {
            return Err(malformed(at, "is no event that follows"));
        }
        let body = EventBody::decode(&header, body.as_bytes())
            .map_err(crate::machine::ApplyError::Decode)?;
        events.push(Event { header, body });
    }
    match events.last() {
        Some(last) if last.header.seq == of.head => Ok(events),
        _ => Err(TransferError::Malformed(format!("`{name}` does not end with event {}", of.head))),
    }
}

fn file_error<'a>(
    verb: &'static str,
    name: &'a str,
) -> impl FnOnce(std::io::Error) -> TransferError + use<'a> {
    move |source| TransferError::File { verb, name: name.to_owned(), source }
}
