use std::path::{Path, PathBuf};

use moat_core::{Hash, Retryable};
use moat_sandbox::FileChange;

use super::files::{Files, Slot, hash_file, read_whole};
use super::path::{WorkspacePath, normalise};
use super::view::{FileNode, FileSource, ResolveError, Resolved, SourceError, View};
use super::{
    Action, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Operation, PatchError, PatchErrorClass, hunk, quoted,
    rewrite,
};

/// Permission bits of a file that a patch makes.
const NEW_FILE_MODE: u32 = 0o644;

/// What a patch changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whole files, for [`moat_sandbox::Guest::commit`]; removals first. A file that does not
    /// change is not among them.
    pub changes: Vec<FileChange>,
    /// Symbolic links that are to be removed before the changes are committed, relative to the
    /// workspace. Their targets stay.
    pub unlinked: Vec<PathBuf>,
    /// The tool's reply.
    pub output: String,
}

impl Plan {
    /// Every path that changes, relative to the workspace.
    pub fn changed_paths(&self) -> Vec<String> {
        let changed = self.changes.iter().map(|change| &change.path).chain(&self.unlinked);
        changed.map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The patch does not fit; [`PatchError::reply`] is the tool's reply.
    #[error(transparent)]
    Rejected(#[from] PatchError),
    /// The sandbox could not be asked.
    #[error(transparent)]
    Source(moat_sandbox::GuestError),
}

impl Retryable for PlanError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(error) => error.is_retryable(),
            Self::Source(error) => error.is_retryable(),
        }
    }
}

/// Works out what `operations` change. `cwd` is where relative paths start, relative to the
/// workspace. All paths are checked before the first operation; each operation sees what those
/// before it do.
pub async fn plan(
    operations: &[Operation],
    cwd: &Path,
    source: &dyn FileSource,
) -> Result<Plan, PlanError> {
    let mut planner = Planner { cwd, view: View::new(source), files: Files::default() };
    for (index, operation) in operations.iter().enumerate() {
        planner.check_paths(operation).await.map_err(|fault| fault.at(index))?;
    }
    for (index, operation) in operations.iter().enumerate() {
        planner.apply(operation).await.map_err(|fault| fault.at(index))?;
    }
    Ok(planner.files.into_plan(success_text(operations, cwd)))
}

/// The tool's reply when all of `operations` are done. It depends on nothing else, so that a patch
/// whose reply was lost in a crash can still be answered.
pub fn success_text(operations: &[Operation], cwd: &Path) -> String {
    let shown = |path: &str| match normalise(path, cwd) {
        Ok(path) => path.shown,
        Err(_) => path.to_owned(),
    };
    let line = |operation: &Operation| {
        let path = shown(&operation.path);
        match &operation.action {
            Action::Create { .. } => format!("Created {path}"),
            Action::Delete => format!("Deleted {path}"),
            Action::Update { move_to: None, .. } => format!("Updated {path}"),
            Action::Update { move_to: Some(target), .. } => {
                format!("Updated {path}\nMoved {path} to {}", shown(target))
            }
        }
    };
    operations.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Why one operation fails.
enum Fault {
    Patch(PatchErrorClass, String),
    Source(moat_sandbox::GuestError),
}

impl Fault {
    fn at(self, operation: usize) -> PlanError {
        match self {
            Self::Source(error) => PlanError::Source(error),
            Self::Patch(class, message) => {
                PatchError { class, operation: Some(operation), message }.into()
            }
        }
    }

    /// For a source that failed on the file that is shown as `path`.
    fn source(path: &str, error: SourceError) -> Self {
        match error {
            SourceError::Refused(reason) => io(format!("{}: {reason}", quoted(path))),
            SourceError::Guest(error) => Self::Source(error),
        }
    }
}

fn fault(class: PatchErrorClass, message: String) -> Fault {
    Fault::Patch(class, message)
}

fn io(message: String) -> Fault {
    fault(PatchErrorClass::Io, message)
}

struct Planner<'a> {
    cwd: &'a Path,
    view: View<'a>,
    files: Files,
}

impl Planner<'_> {
    /// Whether the paths of an operation lie in the workspace, as far as can be said before it.
    async fn check_paths(&mut self, operation: &Operation) -> Result<(), Fault> {
        let follow_last = operation.action != Action::Delete;
        let mut paths = vec![operation.path.as_str()];
        if let Action::Update { move_to: Some(target), .. } = &operation.action {
            paths.push(target);
        }
        for path in paths {
            let path = self.normalise(path)?;
            match self.view.resolve(&path.names, follow_last).await {
                // Something that is no folder on the way may be gone when the operation's turn
                // comes.
                Ok(_) | Err(ResolveError::NotDir(_)) => {}
                Err(error) => return Err(resolve_fault(&path.shown, error)),
            }
        }
        Ok(())
    }

    async fn apply(&mut self, operation: &Operation) -> Result<(), Fault> {
        let path = self.normalise(&operation.path)?;
        match &operation.action {
            Action::Create { diff } => self.create(&path, diff, operation.diff_line).await,
            Action::Delete => self.delete(&path).await,
            Action::Update { diff, move_to: None } => {
                let (file, text) = self.updated(&path, diff, operation.diff_line).await?;
                self.write(file.path, text, file.mode)
            }
            Action::Update { diff, move_to: Some(target) } => {
                let target = self.normalise(target)?;
                self.move_file(&path, &target, diff, operation.diff_line).await
            }
        }
    }

    async fn create(
        &mut self,
        path: &WorkspacePath,
        diff: &str,
        diff_line: Option<usize>,
    ) -> Result<(), Fault> {
        let content = hunk::created_content(diff)
            .map_err(|bad| diff_message(path, diff_line, bad.line, &bad.message))
            .map_err(|message| fault(PatchErrorClass::Diff, message))?;
        let target = self.free_place(path, "update it instead, or delete it first").await?;
        self.write(target, content, NEW_FILE_MODE)
    }

    async fn delete(&mut self, path: &WorkspacePath) -> Result<(), Fault> {
        let at = self.resolve(path, false).await?;
        match at.node {
            None => return Err(not_found(path)),
            Some(FileNode::Symlink(_)) => self.files.unlinked.push(at.path.clone()),
            Some(FileNode::File { size, .. }) => self.remove(&at.path, size, &path.shown).await?,
            Some(FileNode::Dir) => {
                return Err(io(format!("{} is a folder; use `rm -r`", quoted(&path.shown))));
            }
            Some(FileNode::Other) => {
                return Err(io(format!("{} is no regular file; use `rm`", quoted(&path.shown))));
            }
        }
        self.view.plan_removal(&at.path);
        Ok(())
    }

    async fn move_file(
        &mut self,
        from: &WorkspacePath,
        to: &WorkspacePath,
        diff: &str,
        diff_line: Option<usize>,
    ) -> Result<(), Fault> {
        let (file, text) = self.updated(from, diff, diff_line).await?;
        let name = self.resolve(from, false).await?;
        let size = text.len() as u64;
        if self.resolve(to, false).await?.path == name.path {
            self.write(file.path, text, file.mode)?;
        } else {
            let target = self.free_place(to, "a move never overwrites").await?;
            self.write(target, text, file.mode)?;
            // What moves is the name: behind a link, the file that it leads to stays as it is.
            match name.node {
                Some(FileNode::Symlink(_)) => self.files.unlinked.push(name.path.clone()),
                _ => self.remove(&name.path, size, &from.shown).await?,
            }
            self.view.plan_removal(&name.path);
        }
        Ok(())
    }

    /// Where a file can be made, with `advice` if something is there.
    async fn free_place(&mut self, path: &WorkspacePath, advice: &str) -> Result<PathBuf, Fault> {
        let at = self.resolve(path, false).await?;
        match at.node {
            None => Ok(at.path),
            Some(FileNode::Dir) => Err(io(format!("{} is a folder", quoted(&path.shown)))),
            Some(_) => Err(fault(
                PatchErrorClass::Exists,
                format!("{} exists already; {advice}", quoted(&path.shown)),
            )),
        }
    }

    /// The file at `path` and its text after `diff`.
    async fn updated(
        &mut self,
        path: &WorkspacePath,
        diff: &str,
        diff_line: Option<usize>,
    ) -> Result<(UpdatedFile, String), Fault> {
        let at = self.resolve(path, true).await?;
        let (mode, size) = match at.node {
            Some(FileNode::File { mode, size }) => (mode & 0o777, size),
            None => return Err(not_found(path)),
            Some(FileNode::Dir) => {
                return Err(io(format!("{} is a folder", quoted(&path.shown))));
            }
            Some(_) => return Err(io(format!("{} is no regular file", quoted(&path.shown)))),
        };
        self.load(&at.path, size, &path.shown).await?;
        let bytes = self.files.now(&at.path).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            let message = format!(
                "{} is not UTF-8 at byte {at}; change it with a command instead",
                quoted(&path.shown)
            );
            fault(PatchErrorClass::Decode, message)
        })?;
        let text = rewrite::rewrite(text, diff).map_err(|misfit| {
            fault(misfit.class, diff_message(path, diff_line, misfit.line, &misfit.message))
        })?;
        Ok((UpdatedFile { path: at.path, mode }, text))
    }

    fn write(&mut self, path: PathBuf, text: String, mode: u32) -> Result<(), Fault> {
        self.view.plan_file(&path, mode, text.len() as u64);
        self.files.set(path, Some((text.into_bytes(), mode)));
        if self.files.held > MAX_TOTAL_BYTES {
            return Err(io(format!(
                "the patch changes more than {MAX_TOTAL_BYTES} bytes of files; send it in parts"
            )));
        }
        Ok(())
    }

    async fn remove(&mut self, path: &Path, size: u64, shown: &str) -> Result<(), Fault> {
        if !self.files.slots.contains_key(path) {
            let before = hash_file(self.view.source, path, size)
                .await
                .map_err(|error| Fault::source(shown, error))?;
            let slot = Slot { before: Some(before), original: Vec::new(), now: None };
            self.files.add(path.to_owned(), slot);
        }
        self.files.set(path.to_owned(), None);
        Ok(())
    }

    /// Reads a file for the first update of it.
    async fn load(&mut self, path: &Path, size: u64, shown: &str) -> Result<(), Fault> {
        if self.files.now(path).is_some() {
            return Ok(());
        }
        if size > MAX_FILE_BYTES {
            return Err(io(format!(
                "{} has {size} bytes; files of at most {MAX_FILE_BYTES} are updated. Use a command",
                quoted(shown)
            )));
        }
        let content = read_whole(self.view.source, path, size)
            .await
            .map_err(|error| Fault::source(shown, error))?;
        let slot = Slot { before: Some(Hash::of(&content)), original: content, now: None };
        self.files.add(path.to_owned(), slot);
        Ok(())
    }

    fn normalise(&self, path: &str) -> Result<WorkspacePath, Fault> {
        normalise(path, self.cwd).map_err(|reason| {
            let message =
                format!("{} {reason}; use a path relative to the workspace", quoted(path));
            fault(PatchErrorClass::Path, message)
        })
    }

    async fn resolve(
        &mut self,
        path: &WorkspacePath,
        follow_last: bool,
    ) -> Result<Resolved, Fault> {
        let resolved = self.view.resolve(&path.names, follow_last).await;
        resolved.map_err(|error| resolve_fault(&path.shown, error))
    }
}

struct UpdatedFile {
    path: PathBuf,
    mode: u32,
}

fn not_found(path: &WorkspacePath) -> Fault {
    fault(PatchErrorClass::NotFound, format!("there is no file {}", quoted(&path.shown)))
}

fn resolve_fault(shown: &str, error: ResolveError) -> Fault {
    match error {
        ResolveError::Outside(link) => {
            let link = link.to_string_lossy();
            let message =
                format!("{} leads outside the workspace through {}", quoted(shown), quoted(&link));
            fault(PatchErrorClass::Path, message)
        }
        ResolveError::Loop => {
            let message = format!("{} leads through too many links", quoted(shown));
            fault(PatchErrorClass::Path, message)
        }
        ResolveError::NotDir(file) => {
            let file = file.to_string_lossy();
            io(format!("{}: {} is no folder", quoted(shown), quoted(&file)))
        }
        ResolveError::Source(error) => Fault::source(shown, error),
    }
}

/// Names the file and the line of the patch, or of the diff in the JSON forms.
fn diff_message(
    path: &WorkspacePath,
    diff_line: Option<usize>,
    line: usize,
    message: &str,
) -> String {
    let place = match diff_line {
        Some(first) => format!("line {} of the patch", first + line),
        None => format!("line {} of the diff", line + 1),
    };
    format!("{}, {place}: {message}", quoted(&path.shown))
}
