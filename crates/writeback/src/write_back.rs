use std::collections::HashMap;
use std::path::PathBuf;

use moat_core::{RunId, SnapshotId};
use moat_snapshot::{Snapshots, Tree};
use tokio::runtime::Handle;

use crate::error::WriteBackError;
use crate::git::{GitRef, Importer, new_refs};
use crate::host::{Host, Outcome};
use crate::plan::{Conflict, Plan, Planner};
use crate::record::{Record, Records, Stage, Stored};
use crate::step::Step;

/// Which changes go where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The run; it names references and temporary files.
    pub run: RunId,
    /// The folder that the run's workspace began as a copy of.
    pub folder: PathBuf,
    /// Where this run's writes are on record: a folder of its own, outside `folder`.
    pub records: PathBuf,
    /// Where private folders are made for a while.
    pub scratch: PathBuf,
    /// The snapshot at the start of the run.
    pub base: SnapshotId,
    /// The snapshot to give back.
    pub last: SnapshotId,
}

/// Gives one run's changes back. Cloning is cheap.
#[derive(Clone)]
pub struct WriteBack {
    snapshots: Snapshots,
    options: Options,
    #[cfg(test)]
    pub(crate) kill_after: Option<i64>,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Paths that were written, removed or changed.
    pub written: Vec<PathBuf>,
    /// Paths that somebody changed between plan and write; they are as he left them.
    pub conflicts: Vec<Conflict>,
    /// Folders that were to go and hold something else.
    pub kept_folders: Vec<PathBuf>,
    /// References that came in.
    pub git: Vec<GitRef>,
    /// Why commits did not come in, if there were any; the files did.
    pub git_problem: Option<String>,
}

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Paths that are as they were before.
    pub restored: Vec<PathBuf>,
    /// Paths that somebody changed since; they are as he left them.
    pub conflicts: Vec<Conflict>,
    /// Folders that the run made and that hold something else by now.
    pub kept_folders: Vec<PathBuf>,
    /// References that are gone, or as before.
    pub git: Vec<GitRef>,
}

impl WriteBack {
    /// Does no I/O.
    pub fn new(snapshots: Snapshots, options: Options) -> Self {
        Self {
            snapshots,
            options,
            #[cfg(test)]
            kill_after: None,
        }
    }

    /// What giving back would do. Changes nothing in the folder.
    ///
    /// # Errors
    ///
    /// [`WriteBackError::Interrupted`] if an earlier write was; resume it or undo it first.
    pub async fn plan(&self) -> Result<Plan, WriteBackError> {
        let trees = self.trees().await?;
        let run = self.options.run.to_string();
        let refs = new_refs(&self.snapshots, &run, &trees.0, &trees.1).await?;
        self.blocking(move |this, runtime| {
            let records = Records::open(&this.options.records)?.load()?;
            if records.iter().any(|r| matches!(r.stage, Stage::Applying | Stage::Undoing)) {
                return Err(WriteBackError::Interrupted);
            }
            let mut ours = HashMap::new();
            for stored in records.iter().filter(|stored| stored.stage == Stage::Applied) {
                let steps = stored.record.steps.iter();
                ours.extend(steps.map(|step| (step.path.clone(), step.after.clone())));
            }
            let host = this.host(&runtime, 0)?;
            let (base, last) = (&trees.0, &trees.1);
            let mut plan = Planner { host: &host, ours, base, last }.plan()?;
            if !refs.is_empty() {
                let mut refs = refs;
                let importer = this.importer(&runtime);
                plan.git_problem = importer.problem();
                if plan.git_problem.is_none() {
                    importer.note_before(&mut refs);
                    refs.retain(|r| r.before.as_ref() != Some(&r.commit));
                    plan.git = refs;
                }
            }
            Ok(plan)
        })
        .await
    }

    /// Writes a plan. What it holds back and what it found in conflict stays as it is; every path
    /// is looked at once more before it is written.
    ///
    /// If this fails, or is killed, [`WriteBack::resume`] goes on and [`WriteBack::undo`] takes
    /// everything back.
    pub async fn apply(&self, plan: &Plan) -> Result<Applied, WriteBackError> {
        let trees = self.trees().await?;
        let (steps, refs) = (plan.steps(), plan.git.clone());
        self.blocking(move |this, runtime| {
            let records = Records::open(&this.options.records)?;
            let known = records.load()?;
            if known.iter().any(|r| matches!(r.stage, Stage::Applying | Stage::Undoing)) {
                return Err(WriteBackError::Interrupted);
            }
            if steps.is_empty() && refs.is_empty() {
                return Ok(Applied::default());
            }
            let number = known.last().map_or(0, |stored| stored.number) + 1;
            let (base, last) = (this.options.base, this.options.last);
            let record = Record { version: 1, base, last, steps, refs };
            let mut stored = records.begin(number, record)?;
            this.carry_out(&runtime, &records, &mut stored, &trees)
        })
        .await
    }

    /// Whether an earlier write was interrupted.
    pub async fn is_interrupted(&self) -> Result<bool, WriteBackError> {
        self.blocking(|this, _| {
            let records = Records::open(&this.options.records)?.load()?;
            Ok(records.iter().any(|r| matches!(r.stage, Stage::Applying | Stage::Undoing)))
        })
        .await
    }

    /// Ends a write that was interrupted. `None`: there was none, or what was interrupted was an
    /// undo, which is now ended as well.
    pub async fn resume(&self) -> Result<Option<Applied>, WriteBackError> {
        let interrupted = self
            .blocking(|this, _| {
                let records = Records::open(&this.options.records)?.load()?;
                let stage = |stage| move |stored: &&Stored| stored.stage == stage;
                let applying = records.iter().find(stage(Stage::Applying));
                let ids = applying.map(|stored| (stored.record.base, stored.record.last));
                Ok((ids, records.iter().any(|stored| stored.stage == Stage::Undoing)))
            })
            .await?;
        if interrupted.1 {
            self.undo().await?;
            return Ok(None);
        }
        let Some((base, last)) = interrupted.0 else { return Ok(None) };
        let trees = (self.snapshots.load(base).await?, self.snapshots.load(last).await?);
        self.blocking(move |this, runtime| {
            let records = Records::open(&this.options.records)?;
            let mut known = records.load()?;
            let Some(stored) = known.iter_mut().find(|r| r.stage == Stage::Applying) else {
                return Ok(None);
            };
            this.carry_out(&runtime, &records, stored, &trees).map(Some)
        })
        .await
    }

    /// Takes back everything that this run wrote, the latest write first. A path that somebody
    /// changed since stays as he left it.
    pub async fn undo(&self) -> Result<Undone, WriteBackError> {
        self.blocking(|this, runtime| {
            let records = Records::open(&this.options.records)?;
            let mut undone = Undone::default();
            for stored in records.load()?.iter_mut().rev() {
                if stored.stage != Stage::Undone {
                    this.take_back(&runtime, &records, stored, &mut undone)?;
                }
            }
            Ok(undone)
        })
        .await
    }

    fn carry_out(
        &self,
        runtime: &Handle,
        records: &Records,
        stored: &mut Stored,
        trees: &(Tree, Tree),
    ) -> Result<Applied, WriteBackError> {
        let host = self.host(runtime, stored.number)?;
        let mut applied = Applied::default();
        for (number, step) in stored.record.steps.iter().enumerate() {
            match host.take(step, number)? {
                Outcome::Done | Outcome::Already => {
                    // A change of kind is two steps on one path.
                    if applied.written.last() != Some(&step.path) {
                        applied.written.push(step.path.clone());
                    }
                }
                // The first of two steps on one path, after both were taken by the try before.
                Outcome::Conflict if host.look(&step.path)?.state == *stored.record.end(step) => {}
                Outcome::Conflict => applied.conflicts.push(late(&step.path)),
                Outcome::NotEmpty => applied.kept_folders.push(step.path.clone()),
            }
        }
        host.sync(&stored.record.steps)?;
        let refs = stored.record.refs.clone();
        if !refs.is_empty() {
            // Files and commits do not depend on each other: a refused commit is told, no more.
            match self.importer(runtime).fetch(&trees.0, &trees.1, &refs) {
                Ok(()) => applied.git = refs,
                Err(error) => applied.git_problem = Some(error.to_string()),
            }
        }
        records.advance(stored, Stage::Applied)?;
        Ok(applied)
    }

    fn take_back(
        &self,
        runtime: &Handle,
        records: &Records,
        stored: &mut Stored,
        undone: &mut Undone,
    ) -> Result<(), WriteBackError> {
        if stored.stage != Stage::Undoing {
            records.advance(stored, Stage::Undoing)?;
        }
        let host = self.host(runtime, stored.number)?;
        let backwards: Vec<_> = stored.record.steps.iter().map(Step::backwards).collect();
        for (number, step) in backwards.iter().enumerate().rev() {
            match host.take(step, number)? {
                Outcome::Done => undone.restored.push(step.path.clone()),
                Outcome::Already => {}
                // The second of two steps on one path, of which none was ever taken.
                Outcome::Conflict if host.look(&step.path)?.state == *stored.record.start(step) => {
                }
                Outcome::Conflict => undone.conflicts.push(late(&step.path)),
                Outcome::NotEmpty => undone.kept_folders.push(step.path.clone()),
            }
        }
        host.sync(&backwards)?;
        let importer = self.importer(runtime);
        if !stored.record.refs.is_empty() && importer.problem().is_none() {
            importer.take_back(&stored.record.refs)?;
            undone.git.extend(stored.record.refs.iter().cloned());
        }
        records.advance(stored, Stage::Undone)
    }

    async fn trees(&self) -> Result<(Tree, Tree), WriteBackError> {
        let base = self.snapshots.load(self.options.base).await?;
        Ok((base, self.snapshots.load(self.options.last).await?))
    }

    fn host(&self, runtime: &Handle, number: u32) -> Result<Host, WriteBackError> {
        let mark = format!("{}-{number}", self.options.run);
        let folder = &self.options.folder;
        let host = Host::open(folder, mark, self.snapshots.clone(), runtime.clone())?;
        #[cfg(test)]
        if let Some(changes) = self.kill_after {
            host.kill.after(changes);
        }
        Ok(host)
    }

    fn importer<'a>(&'a self, runtime: &'a Handle) -> Importer<'a> {
        Importer {
            snapshots: &self.snapshots,
            runtime,
            git_dir: self.options.folder.join(".git"),
            scratch: &self.options.scratch,
        }
    }

    /// Runs file operations away from the async threads. They are not aborted when the caller goes:
    /// what they do is on record.
    async fn blocking<T, F>(&self, work: F) -> Result<T, WriteBackError>
    where
        F: FnOnce(&Self, Handle) -> Result<T, WriteBackError> + Send + 'static,
        T: Send + 'static,
    {
        let (this, runtime) = (self.clone(), Handle::current());
        let done = tokio::task::spawn_blocking(move || work(&this, runtime)).await;
        done.map_err(|_| WriteBackError::GivenUp)?
    }
}

fn late(path: &std::path::Path) -> Conflict {
    Conflict { path: path.to_owned(), reason: "it was changed meanwhile".to_owned() }
}

#[cfg(test)]
mod tests;
