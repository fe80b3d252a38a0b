//! Changing several files as one step that can be done again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use moat_guest::{CommitOutcome, Failure, FileChange, RawBytes, Root, from_hex};
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;

use super::replace::{Prepared, prepare};
use super::resolve::{Path, Target};
use super::{Beneath, Files, NO_FOLLOW, os_failure};

/// Outcomes that are remembered until they are released.
const MAX_OUTCOMES: usize = 4096;

/// Bytes that may be staged, over all commits.
const MAX_STAGED: usize = 64 << 20;

/// Links that are followed from a name to its file.
const MAX_LINKS: usize = 16;

/// Outcomes of commits, and contents of those to come.
#[derive(Default)]
pub(crate) struct Commits {
    outcomes: BTreeMap<String, CommitOutcome>,
    order: VecDeque<String>,
    staged: BTreeMap<String, Vec<u8>>,
}

impl Commits {
    pub(crate) fn outcome(&self, key: &str) -> Option<CommitOutcome> {
        self.outcomes.get(key).cloned()
    }

    /// Whether there was something to forget.
    pub(crate) fn release(&mut self, key: &str) -> bool {
        self.order.retain(|kept| kept != key);
        let staged = self.staged.remove(key).is_some();
        self.outcomes.remove(key).is_some() || staged
    }

    /// Keeps a part of the contents of a commit.
    pub(crate) fn stage(&mut self, key: &str, offset: u64, part: &[u8]) -> Result<(), Failure> {
        if offset == 0 {
            self.staged.remove(key);
        }
        let held: usize = self.staged.values().map(Vec::len).sum();
        if held + part.len() > MAX_STAGED {
            let what = format!("change more than {MAX_STAGED} bytes of files at once");
            return Err(Failure::Unsupported { what });
        }
        let staged = self.staged.entry(key.to_owned()).or_default();
        if staged.len() as u64 != offset {
            return Err(Failure::Unsupported { what: format!("continue at byte {offset}") });
        }
        staged.extend_from_slice(part);
        Ok(())
    }

    pub(crate) fn commit(
        &mut self,
        files: &Files,
        key: &str,
        changes: &[FileChange],
        payload: &[u8],
    ) -> Result<CommitOutcome, Failure> {
        if let Some(outcome) = self.outcome(key) {
            return Ok(outcome);
        }
        let mut contents = self.staged.remove(key).unwrap_or_default();
        contents.extend_from_slice(payload);
        let outcome = commit(&files.beneath(Root::Workspace)?, changes, &contents)?;
        if self.order.len() >= MAX_OUTCOMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
        self.order.push_back(key.to_owned());
        self.outcomes.insert(key.to_owned(), outcome.clone());
        Ok(outcome)
    }
}

/// What is to be done to one file.
struct Change<'a> {
    /// The name as given, without links at its end where the file itself is written.
    path: Path,
    /// The new content; `None`: remove it.
    content: Option<&'a [u8]>,
    mode: u32,
}

fn commit(
    beneath: &Beneath<'_>,
    changes: &[FileChange],
    contents: &[u8],
) -> Result<CommitOutcome, Failure> {
    let mut rest = contents;
    let mut to_do = Vec::new();
    for change in changes {
        let content = match change.size {
            None => None,
            Some(size) => {
                let split = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
                let (content, after) = split.ok_or_else(wrong_size)?;
                rest = after;
                Some(content)
            }
        };
        match check(beneath, change, content)? {
            Check::Done => {}
            Check::ToDo(change) => to_do.push(change),
            Check::Conflict => return Ok(CommitOutcome::Conflict(change.path.clone())),
        }
    }
    if !rest.is_empty() {
        return Err(wrong_size());
    }
    perform(beneath, &to_do)?;
    Ok(CommitOutcome::Done)
}

fn wrong_size() -> Failure {
    Failure::Unsupported { what: "commit contents that do not add up to their sizes".to_owned() }
}

enum Check<'a> {
    Done,
    ToDo(Change<'a>),
    Conflict,
}

fn check<'a>(
    beneath: &Beneath<'_>,
    change: &FileChange,
    content: Option<&'a [u8]>,
) -> Result<Check<'a>, Failure> {
    let named = Path::parse(&change.path)?;
    let before = match &change.before {
        None => None,
        Some(hex) => Some(from_hex(hex).ok_or_else(|| Failure::Unsupported {
            what: "compare with a hash that is none".to_owned(),
        })?),
    };
    let after = content.map(|content| blake3::hash(content).as_bytes().to_vec());
    let current = match current(beneath, &named)? {
        Current::Nothing => None,
        Current::File { hash, mode } => Some((hash, mode)),
        Current::DanglingLink => return Ok(Check::Conflict),
    };
    let hash = current.as_ref().map(|(hash, _)| hash);
    let mode = change.mode.or(current.as_ref().map(|(_, mode)| *mode)).unwrap_or(0o644);
    let same_mode = current.as_ref().is_none_or(|(_, current)| *current == mode);
    if hash == after.as_ref() && same_mode {
        return Ok(Check::Done);
    }
    if hash != before.as_ref() && hash != after.as_ref() {
        return Ok(Check::Conflict);
    }
    // Removing takes the name itself away; writing goes to the file that it stands for.
    let path = if content.is_some() { follow(beneath, named)? } else { named };
    Ok(Check::ToDo(Change { path, content, mode }))
}

enum Current {
    Nothing,
    DanglingLink,
    File { hash: Vec<u8>, mode: u32 },
}

fn current(beneath: &Beneath<'_>, path: &Path) -> Result<Current, Failure> {
    match beneath.open_file(path) {
        Ok(file) => hash(&file).map_err(|error| os_failure("read", path.bytes(), &error)),
        Err(Failure::Os { errno: libc::ENOENT, .. }) => {
            let exists = match beneath.target(path) {
                Ok(target) => rustix::fs::statat(&target.parent, target.name, NO_FOLLOW).is_ok(),
                Err(_) => false,
            };
            Ok(if exists { Current::DanglingLink } else { Current::Nothing })
        }
        // A part on the way is a file: there is nothing at this path.
        Err(Failure::Os { errno: libc::ENOTDIR, .. }) => Ok(Current::Nothing),
        Err(error) => Err(error),
    }
}

fn hash(file: &OwnedFd) -> io::Result<Current> {
    let stat = rustix::fs::fstat(file)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match rustix::io::read(file, &mut buffer[..]) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let hash = hasher.finalize().as_bytes().to_vec();
    Ok(Current::File { hash, mode: stat.st_mode & 0o7777 })
}

/// The path of the file that a name stands for, through links at its end.
fn follow(beneath: &Beneath<'_>, mut path: Path) -> Result<Path, Failure> {
    for _ in 0..MAX_LINKS {
        let target = match beneath.target(&path) {
            Ok(target) => target,
            // Its folder is still to be made.
            Err(Failure::Os { errno: libc::ENOENT, .. }) => return Ok(path),
            Err(error) => return Err(error),
        };
        let Ok(link) = rustix::fs::readlinkat(&target.parent, target.name, Vec::new()) else {
            return Ok(path);
        };
        let link = link.into_bytes();
        let ends_in_a_name =
            !matches!(link.rsplit(|b| *b == b'/').next(), Some(b"" | b"." | b".."));
        let (Some((parent, _)), false, true) =
            (path.split_last(), link.starts_with(b"/"), ends_in_a_name)
        else {
            break;
        };
        path = parent.join(&link);
    }
    Err(Failure::Outside { path: RawBytes(path.bytes().to_vec()) })
}

/// Writes all new contents beside their files, and only when that has worked puts them in place.
fn perform(beneath: &Beneath<'_>, changes: &[Change<'_>]) -> Result<(), Failure> {
    let mut steps: Vec<(&Path, Target<'_>, Option<Prepared>)> = Vec::new();
    let mut result = Ok(());
    for change in changes {
        match begin(beneath, change) {
            Ok(step) => steps.push(step),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    for (path, target, prepared) in &steps {
        if result.is_ok() {
            result = complete(target, prepared.as_ref())
                .map_err(|error| os_failure("replace", path.bytes(), &error.into()));
        } else if let Some(prepared) = prepared {
            prepared.discard(target);
        }
    }
    result
}

fn begin<'c>(
    beneath: &Beneath<'_>,
    change: &'c Change<'_>,
) -> Result<(&'c Path, Target<'c>, Option<Prepared>), Failure> {
    let path = &change.path;
    let Some(content) = change.content else {
        return Ok((path, beneath.target(path)?, None));
    };
    let target = beneath.target_with_parents(path)?;
    let prepared = prepare(&target, content, change.mode)
        .map_err(|error| os_failure("write", path.bytes(), &error))?;
    Ok((path, target, Some(prepared)))
}

fn complete(target: &Target<'_>, prepared: Option<&Prepared>) -> rustix::io::Result<()> {
    match prepared {
        Some(prepared) => renameat(&target.parent, prepared.name(), &target.parent, target.name)
            .inspect_err(|_| prepared.discard(target)),
        None => unlinkat(&target.parent, target.name, AtFlags::empty()),
    }
}
