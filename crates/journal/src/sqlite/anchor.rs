//! Authenticated heads, recorded outside the data folder.
//!
//! One file for each run: a line of JSON, and a line with its MAC under a key that is derived
//! from the tenant's. An anchor says that the run had this chain up to this event, so a journal
//! that was cut, rolled back or rewritten before it is found out. A file is replaced as a whole
//! and never by an older anchor.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moat_core::{Hash, RunId, Seq, TenantId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Shared, now_ms};
use crate::format::Keys;

/// Heads are recorded by themselves at most this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// From this many files on, one sync of the file system is cheaper than one for each.
const MANY: usize = 4;
/// Bytes of an anchor's file, at most.
const MAX_FILE: u64 = 4096;

/// What an anchor says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Anchor {
    version: u16,
    pub(super) tenant: TenantId,
    pub(super) run: RunId,
    pub(super) seq: Seq,
    pub(super) chain: Hash,
    at: u64,
}

/// What is recorded for a run.
pub(super) enum Recorded {
    Nothing,
    Anchor(Anchor),
    /// The file is there, but nobody with the tenant's key wrote it for this run.
    Forged,
}

pub(super) struct Anchors {
    dir: PathBuf,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    heads: HashMap<(TenantId, RunId), Anchor>,
    last: Instant,
    busy: bool,
}

impl Anchor {
    pub(super) fn new(tenant: &TenantId, run: RunId, seq: Seq, chain: Hash) -> Self {
        Self { version: 1, tenant: tenant.clone(), run, seq, chain, at: now_ms() }
    }
}

impl Anchors {
    pub(super) fn new(dir: PathBuf) -> Self {
        // Counted from the start, so that a short run records its end only.
        let waiting = Waiting { heads: HashMap::new(), last: Instant::now(), busy: false };
        Self { dir, waiting: Mutex::new(waiting) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Losing a head that waits costs coverage, not truth; the next append brings it again.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a head. Once a second the latest heads of all runs are recorded, in the
    /// background; nobody waits for it, and what fails is tried again a second later.
    pub(super) fn note(shared: &Arc<Shared>, anchor: Anchor) {
        let anchors = &shared.anchors;
        let mut waiting = anchors.waiting();
        waiting.heads.insert((anchor.tenant.clone(), anchor.run), anchor);
        if waiting.busy || waiting.last.elapsed() < INTERVAL {
            return;
        }
        waiting.busy = true;
        let heads: Vec<_> = waiting.heads.drain().map(|(_, anchor)| anchor).collect();
        drop(waiting);
        let shared = Arc::clone(shared);
        tokio::task::spawn_blocking(move || {
            let failed = shared.anchors.record(&shared.keys, &heads).is_err();
            let mut waiting = shared.anchors.waiting();
            waiting.busy = false;
            waiting.last = Instant::now();
            if failed {
                for anchor in heads {
                    waiting.heads.entry((anchor.tenant.clone(), anchor.run)).or_insert(anchor);
                }
            }
        });
    }

    /// Records heads, durably. Blocks.
    pub(super) fn record(&self, keys: &Keys, anchors: &[Anchor]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let _lock = self.lock()?;
        let mut written = Vec::new();
        for anchor in anchors {
            match self.load(keys, &anchor.tenant, anchor.run)? {
                Recorded::Anchor(recorded) if recorded.seq >= anchor.seq => {}
                _ => written.push(self.write_draft(keys, anchor)?),
            }
        }
        // Bytes before names, so that a power cut leaves the old anchor or the new one.
        if written.len() >= MANY {
            rustix::fs::syncfs(File::open(&self.dir)?)?;
        } else {
            written.iter().try_for_each(|(file, ..)| file.sync_all())?;
        }
        written.iter().try_for_each(|(_, draft, path)| fs::rename(draft, path))?;
        if written.is_empty() { Ok(()) } else { File::open(&self.dir)?.sync_all() }
    }

    fn write_draft(&self, keys: &Keys, anchor: &Anchor) -> io::Result<(File, PathBuf, PathBuf)> {
        let path = self.path(&anchor.tenant, anchor.run);
        let draft = path.with_extension("draft");
        let line = serde_json::to_string(anchor)?;
        let mac = keys.anchor_mac(line.as_bytes());
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(file, "{line}\n{mac}")?;
        Ok((file, draft, path))
    }

    /// One process at a time. Bounded, because a process can be stopped while it holds the lock.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.dir.join("lock"))?;
        for _ in 0..500 {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                locked => return locked.map(|()| file).map_err(io::Error::from),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps the anchors locked"))
    }

    /// Reads what is recorded for a run. Blocks.
    pub(super) fn load(&self, keys: &Keys, tenant: &TenantId, run: RunId) -> io::Result<Recorded> {
        let file = match File::open(self.path(tenant, run)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Recorded::Nothing),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(authenticate(keys, tenant, run, &bytes).map_or(Recorded::Forged, Recorded::Anchor))
    }

    /// The tenant's runs that have an anchor. Blocks.
    pub(super) fn runs(&self, tenant: &TenantId) -> io::Result<Vec<RunId>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".anchor"));
            let parts = name.and_then(|name| name.split_once('.'));
            runs.extend(
                parts
                    .filter(|(owner, _)| *owner == tenant.as_str())
                    .and_then(|(_, run)| run.parse::<RunId>().ok()),
            );
        }
        Ok(runs)
    }

    fn path(&self, tenant: &TenantId, run: RunId) -> PathBuf {
        self.dir.join(format!("{tenant}.{run}.anchor"))
    }
}

fn authenticate(keys: &Keys, tenant: &TenantId, run: RunId, bytes: &[u8]) -> Option<Anchor> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let (line, mac) = (lines.next()?, lines.next()?);
    // Compares in constant time.
    if blake3::Hash::from_hex(mac).ok()? != keys.anchor_mac(line.as_bytes()) {
        return None;
    }
    let anchor: Anchor = serde_json::from_str(line).ok()?;
    ((&anchor.tenant, anchor.run) == (tenant, run)).then_some(anchor)
}
