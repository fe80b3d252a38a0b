//! What is written down about sandboxes that stay: enough to find them again, and nothing secret.
//!
//! One file for each in `DATA/sandbox-records`, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use moat_core::{RunId, SandboxSettings};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::usage;
use crate::home::make_private;

/// Bytes of a record that are read.
const MAX_RECORD: u64 = 1 << 20;

/// What is known of one sandbox. The format is read for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    /// Twelve hexadecimal digits.
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What it calls its owner.
    pub(super) run: RunId,
    /// What finds it, by the provider's word.
    pub(super) handle: Value,
    /// Milliseconds since 1970.
    pub(super) created_at: u64,
    /// Seconds that it stays after it was last used.
    pub(super) keep_seconds: u64,
    /// How it was asked for.
    pub(super) settings: SandboxSettings,
    /// Fences that it was made without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) missing_fences: Vec<String>,
}

impl Record {
    /// A record with an id of its own.
    pub(super) fn new(run: RunId, settings: SandboxSettings) -> anyhow::Result<Self> {
        let random =
            getrandom::u64().map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Ok(Self {
            v: 1,
            id: format!("{:012x}", random >> 16),
            name: None,
            run,
            handle: Value::Null,
            created_at: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            keep_seconds: 0,
            settings,
            missing_fences: Vec::new(),
        })
    }

    /// What people call it.
    pub(super) fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// The folder of all records.
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(super) fn open(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("sandbox-records");
        make_private(&folder)?;
        Ok(Self { folder })
    }

    /// All records, oldest first. What is no record is left out.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Record>> {
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read `{}`", self.folder.display()))?;
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "json") {
                // One that another command removes at this moment is gone.
                all.extend(read(&path).ok().filter(|record| self.path(record) == path));
            }
        }
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }

    /// The one with this name or id, or the only one whose id begins so.
    pub(super) fn find(&self, text: &str) -> anyhow::Result<Record> {
        let mut all = self.all()?;
        let exact = |record: &Record| record.name.as_deref() == Some(text) || record.id == text;
        if let Some(at) = all.iter().position(exact) {
            return Ok(all.swap_remove(at));
        }
        let long_enough = text.len() >= 3;
        all.retain(|record| long_enough && record.id.starts_with(text));
        match (all.len(), all.pop()) {
            (1, Some(record)) => Ok(record),
            (0, _) => Err(usage(format!(
                "there is no sandbox `{text}`; `moat sandbox ls` lists them, `moat sandbox create` \
                 makes one"
            ))),
            (count, _) => {
                Err(usage(format!("{count} sandboxes have ids that begin with `{text}`")))
            }
        }
    }

    /// Writes a record down, unless another sandbox has its name.
    pub(super) fn add(&self, record: &Record) -> anyhow::Result<()> {
        let _alone = self.lock()?;
        let taken = |other: &Record| {
            let named = |name: &String| other.name.as_ref() == Some(name) || other.id == *name;
            record.name.as_ref().is_some_and(named) || other.id == record.id
        };
        if self.all()?.iter().any(taken) {
            let shown = record.shown();
            return Err(usage(format!(
                "there is a sandbox `{shown}` already; choose another --name, or \
                 `moat sandbox rm {shown}`"
            )));
        }
        let path = self.path(record);
        let draft = path.with_extension("draft");
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().with_context(|| {
            // A full disk may have taken a part of it.
            let _ = fs::remove_file(&draft);
            format!("cannot write `{}`", path.display())
        })
    }

    /// Forgets a sandbox. One that is forgotten already is no error.
    pub(super) fn remove(&self, record: &Record) -> anyhow::Result<()> {
        let path = self.path(record);
        // It may never have been made.
        let _ = fs::remove_file(path.with_extension("network"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Locked by whoever serves the network of a sandbox.
    pub(super) fn network_lock(&self, record: &Record) -> anyhow::Result<File> {
        self.open_lock(&format!("{}.network", record.id))
    }

    fn path(&self, record: &Record) -> PathBuf {
        self.folder.join(format!("{}.json", record.id))
    }

    /// Held until dropped: nobody else adds a record.
    fn lock(&self) -> anyhow::Result<File> {
        let file = self.open_lock("lock")?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> anyhow::Result<File> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let open =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        open.with_context(|| format!("cannot open `{}`", path.display()))
    }
}

fn read(path: &Path) -> anyhow::Result<Record> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_RECORD).read_to_end(&mut text)?;
    let record: Record = serde_json::from_slice(&text)?;
    anyhow::ensure!(record.v == 1, "version {} is not known here", record.v);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_is_read_and_names_are_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let fixture = r#"{"v":1,"id":"0123456789ab","name":"lab",
            "run":"01a1fbda-0000-7000-8000-000000000000","handle":{"id":"x"},
            "created_at":5,"keep_seconds":60,"settings":{}}"#;
        fs::write(records.folder.join("0123456789ab.json"), fixture).unwrap();
        fs::write(records.folder.join("else.json"), fixture).unwrap();
        fs::write(records.folder.join("damaged.json"), "{").unwrap();
        assert_eq!(records.all().unwrap().len(), 1);
        for text in ["lab", "0123456789ab", "0123"] {
            assert_eq!(records.find(text).unwrap().keep_seconds, 60);
        }
        for text in ["01", "la", "", "0124", "../0123456789ab"] {
            assert!(records.find(text).is_err(), "{text}");
        }
        let mut other = Record::new(RunId::generate(), SandboxSettings::default()).unwrap();
        other.name = Some("lab".to_owned());
        assert!(records.add(&other).is_err());
        other.name = Some("0123456789ab".to_owned());
        assert!(records.add(&other).is_err());
        other.name = Some("lab-2".to_owned());
        records.add(&other).unwrap();
        let mode = fs::metadata(records.path(&other)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        records.remove(&records.find("lab").unwrap()).unwrap();
        assert_eq!(records.all().unwrap().len(), 1);
    }
}
