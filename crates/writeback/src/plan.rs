use std::collections::HashMap;
use std::path::{Path, PathBuf};

use moat_snapshot::{Change, ChangeKind, Entry, Listing, RootName, Tree};

use crate::error::WriteBackError;
use crate::git::GitRef;
use crate::host::Host;
use crate::rules::{
    install_scripts_differ, is_in_git, is_of_bare_repository, never, runs_on_sight,
};
use crate::step::{State, Step};

/// Bytes of the largest `package.json` that is looked into.
const LARGEST_PACKAGE: u64 = 4 * 1024 * 1024;

/// What giving back would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is written.
    pub changes: Vec<PlannedChange>,
    /// What is not, because somebody else changed it meanwhile.
    pub conflicts: Vec<Conflict>,
    /// What is not, unless it is confirmed by name.
    pub held_back: Vec<HeldBack>,
    /// What never is.
    pub refused: Vec<Refused>,
    /// Commits of the run, which come in as references.
    pub git: Vec<GitRef>,
    /// Why commits do not come in, if there are any.
    pub git_problem: Option<String>,
}

/// A path that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChange {
    /// Relative to the folder.
    pub path: PathBuf,
    /// How it differs from the start of the run.
    pub kind: ChangeKind,
    pub(crate) steps: Vec<Step>,
}

/// A path that somebody else changed since the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Relative to the folder.
    pub path: PathBuf,
    /// What stands against it, for people.
    pub reason: String,
}

/// A path that some tool would execute on sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The change, if it is confirmed.
    pub change: PlannedChange,
    /// Who would execute it, and when.
    pub reason: String,
}

/// A path that is never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Relative to the folder.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Plan {
    /// Nothing is written, whatever is confirmed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.held_back.is_empty() && self.git.is_empty()
    }

    /// A person has read this path and what it does. Folders above it are confirmed with it.
    /// Returns whether it was held back.
    pub fn confirm(&mut self, path: &Path) -> bool {
        let before = self.held_back.len();
        self.confirm_if(|held| held == path || (path.starts_with(held) && path != held));
        before != self.held_back.len()
    }

    /// A person has read all of [`Plan::held_back`].
    pub fn confirm_all(&mut self) {
        self.confirm_if(|_| true);
    }

    fn confirm_if(&mut self, is_confirmed: impl Fn(&Path) -> bool) {
        let held = std::mem::take(&mut self.held_back);
        let (confirmed, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|held| is_confirmed(&held.change.path));
        self.held_back = held;
        self.changes.extend(confirmed.into_iter().map(|held| held.change));
    }

    /// The steps in the order in which they are taken: what goes first, from the inside out; then
    /// what comes, from the outside in.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let all = || self.changes.iter().flat_map(|change| &change.steps);
        let goes = |step: &&Step| step.after == State::Absent;
        let mut gone: Vec<_> = all().filter(goes).cloned().collect();
        let mut come: Vec<_> = all().filter(|step| !goes(step)).cloned().collect();
        gone.sort_by(|a, b| b.path.cmp(&a.path));
        come.sort_by(|a, b| a.path.cmp(&b.path));
        gone.extend(come);
        gone
    }
}

/// Compares start, end and what is there now.
pub(crate) struct Planner<'a> {
    pub(crate) host: &'a Host,
    /// What earlier writes of this run left, by path.
    pub(crate) ours: HashMap<PathBuf, State>,
    pub(crate) base: &'a Tree,
    pub(crate) last: &'a Tree,
}

impl Planner<'_> {
    pub(crate) fn plan(&self) -> Result<Plan, WriteBackError> {
        let mut plan = Plan::default();
        for change in self.base.changes(self.last) {
            if change.root == RootName::Workspace && !change.path.as_os_str().is_empty() {
                self.path(change, &mut plan)?;
            }
        }
        self.check_parents(&mut plan);
        Ok(plan)
    }

    fn path(&self, change: Change, plan: &mut Plan) -> Result<(), WriteBackError> {
        let Change { path, kind, before, after, .. } = change;
        if is_in_git(&path) {
            plan.refused.extend(refused_in_git(&path, self.base, self.last));
            return Ok(());
        }
        let (base, wanted) = (State::of(before.as_ref()), State::of(after.as_ref()));
        if let Some(reason) = after.as_ref().and_then(refusal) {
            plan.refused.push(Refused { path, reason: reason.to_owned() });
            return Ok(());
        }
        if base == wanted {
            return Ok(());
        }
        let seen = self.host.look(&path)?;
        if seen.state == wanted || (base == State::Absent && both_folders(&seen.state, &wanted)) {
            return Ok(());
        }
        let is_ours = self.ours.get(&path).is_some_and(|ours| ours.matches(&seen.state));
        if !seen.state.matches(&base) && !is_ours {
            let reason = conflict(&base, &seen.state).to_owned();
            plan.conflicts.push(Conflict { path, reason });
            return Ok(());
        }
        if let State::Link { target } = &wanted
            && !self.host.is_plain_target(&path, target)
        {
            let reason = "a link through a link of the folder".to_owned();
            plan.refused.push(Refused { path, reason });
            return Ok(());
        }
        let steps = steps(&path, seen.state, wanted.clone(), seen.mtime_ns);
        let change = PlannedChange { path, kind, steps };
        match self.held_back(&change.path, &base, &wanted) {
            Some(reason) => plan.held_back.push(HeldBack { change, reason }),
            None => plan.changes.push(change),
        }
        Ok(())
    }

    fn held_back(&self, path: &Path, base: &State, wanted: &State) -> Option<String> {
        if *wanted == State::Absent {
            return None;
        }
        if let Some(reason) = runs_on_sight(path) {
            return Some(reason.to_owned());
        }
        if is_of_bare_repository(&self.last.workspace, path) {
            return Some("git takes settings and hooks from it, as from a repository".to_owned());
        }
        if path.file_name().is_some_and(|name| name == "package.json") {
            let before = self.host.content(base, LARGEST_PACKAGE);
            let after = self.host.content(wanted, LARGEST_PACKAGE).unwrap_or_default();
            if install_scripts_differ(before.as_deref(), &after) {
                return Some("an install runs the scripts it names".to_owned());
            }
        }
        None
    }

    /// What is to be written into a folder that is not there, and is not made either, conflicts.
    fn check_parents(&self, plan: &mut Plan) {
        let made: std::collections::HashSet<PathBuf> = plan
            .changes
            .iter()
            .chain(plan.held_back.iter().map(|held| &held.change))
            .filter(|change| change.steps.iter().any(|step| step.after.is_dir()))
            .map(|change| change.path.clone())
            .collect();
        let has_parent = |change: &PlannedChange| {
            let parent = change.path.parent().unwrap_or(Path::new(""));
            let goes = change.steps.iter().all(|step| step.after == State::Absent);
            goes || made.contains(parent) || self.host.has_folder(parent)
        };
        let (kept, orphans): (Vec<_>, Vec<_>) =
            std::mem::take(&mut plan.changes).into_iter().partition(has_parent);
        plan.changes = kept;
        plan.conflicts.extend(orphans.into_iter().map(|change| Conflict {
            path: change.path,
            reason: "the folder that it is in is not there".to_owned(),
        }));
    }
}

fn refusal(entry: &Entry) -> Option<&'static str> {
    never(&entry.path, entry.meta.mode, &entry.node)
}

fn both_folders(a: &State, b: &State) -> bool {
    a.is_dir() && b.is_dir()
}

/// One step, or two where something has to go before something else can come.
fn steps(path: &Path, before: State, after: State, before_mtime_ns: Option<i64>) -> Vec<Step> {
    let step = |before, after, before_mtime_ns| Step {
        path: path.to_owned(),
        before,
        after,
        before_mtime_ns,
        after_mtime_ns: None,
    };
    let changes_kind = before != State::Absent
        && after != State::Absent
        && std::mem::discriminant(&before) != std::mem::discriminant(&after);
    if changes_kind {
        return vec![
            step(before, State::Absent, before_mtime_ns),
            step(State::Absent, after, None),
        ];
    }
    vec![step(before, after, before_mtime_ns)]
}

fn conflict(base: &State, now: &State) -> &'static str {
    match (base, now) {
        (State::Absent, _) => "it is there already, and was not in the run's view",
        (_, State::Absent) => "it was removed since the run began",
        _ => "it was changed since the run began",
    }
}

/// Changes inside a `.git` are never written. Of the many that git itself makes all the time, only
/// those are named that would have mattered.
fn refused_in_git(path: &Path, base: &Tree, last: &Tree) -> Option<Refused> {
    let refused = |reason: &str| Refused { path: path.to_owned(), reason: reason.to_owned() };
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let in_hooks = path.parent().is_some_and(|parent| parent.ends_with("hooks"));
    if in_hooks || ["config", "config.worktree", "attributes", "commondir"].contains(&&*name) {
        return Some(refused("hooks and configuration of git stay as they are"));
    }
    let is_new = |listing: &Listing| listing.get(path).is_none();
    let is_nested_top = is_in_git(Path::new(&*name)) && path.components().count() > 1;
    if is_nested_top && is_new(&base.workspace) && !is_new(&last.workspace) {
        return Some(refused("a repository inside the folder is not written"));
    }
    None
}
