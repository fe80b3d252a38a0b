//! Taking in a run that comes from elsewhere.
//!
//! Whoever made the export decides what is in it. Unless he is trusted, nothing is taken over that
//! would act on this machine when the run goes on: the folder that changes are given back to, the
//! network and whose secrets go into it, fences that may be missing, labels, where sandboxes are made.

use std::collections::HashMap;
use std::path::Path;

use moat_core::{
    Event, EventBody, ForkPoint, RunId, RunStarted, SandboxLost, SandboxSettings, Seq,
};
use moat_journal::{Batch, Claim, NewEvent};

use super::TransferError;
use super::copy::Copier;
use super::folder::{self, RunFile, read_events};
use crate::driver::{Facts, index_row};
use crate::harness::Harness;
use crate::machine::State;

/// Events of one append: all of a run of usual length at once, so that it is there as a whole.
const AT_ONCE: usize = 4_096;

/// How far whoever made the export is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// As far as the importer himself.
    Own,
    /// Not at all.
    Nobody,
}

/// A run that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The run here.
    pub run: RunId,
    /// What it was called where it came from.
    pub source: RunId,
    /// Its last event.
    pub head: Seq,
    /// It was moved: the source drives it no longer, and it keeps its id.
    pub moved: bool,
    /// What was not taken over.
    pub dropped: Vec<Dropped>,
}

/// Something that an export wanted and that was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// The folder that its changes are given back to.
    Folder,
    /// Its network, with its secrets.
    Network,
    /// Storage elsewhere and folders that it shared with others.
    Mounts,
    /// Fences that may be missing.
    Fences,
    /// Labels, such as the transcript that answers.
    Labels,
    /// Where its sandboxes are made.
    Sandboxes,
}

impl Dropped {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Network => "network",
            Self::Mounts => "mounts",
            Self::Fences => "fences",
            Self::Labels => "labels",
            Self::Sandboxes => "sandboxes",
        }
    }
}

impl Harness {
    /// Takes in the run of a folder that [`Harness::export`] wrote.
    pub async fn import(&self, folder: &Path, trust: Trust) -> Result<Imported, TransferError> {
        let file = RunFile::read(folder)?;
        let last =
            *file.runs.last().ok_or_else(|| TransferError::Malformed("no run".to_owned()))?;
        let mut lines = Vec::with_capacity(file.runs.len());
        for (place, run) in file.runs.iter().enumerate() {
            lines.push(read_events(folder, place, *run)?);
        }
        check(&lines)?;
        let mut copier = Copier::new(folder::store(folder, &file.key()?), self.store());
        let mut dropped = Vec::new();
        let mut names: HashMap<RunId, RunId> = HashMap::new();
        let mut rewritten = Vec::with_capacity(lines.len());
        for events in lines {
            let source = events.first().map(|event| event.header.run).unwrap_or(last.run);
            let keeps = file.moved && source == last.run && !self.has(source).await?;
            names.insert(source, if keeps { source } else { RunId::generate() });
            let mut events_here = Vec::with_capacity(events.len());
            for Event { header, body } in events {
                let body = match body {
                    EventBody::RunStarted(started) => {
                        let started = adapt(started, source, &names, trust, &mut dropped)?;
                        copier.rewrite(started.into()).await?
                    }
                    body => adapt_later(copier.rewrite(body).await?, trust, &mut dropped),
                };
                events_here.push(Event { header, body });
            }
            rewritten.push(events_here);
        }
        copier.finish().await?;
        self.append_all(&names, rewritten).await?;
        let run = names.get(&last.run).copied().unwrap_or(last.run);
        let head = self.begin_here(run).await?;
        dropped.sort_unstable();
        dropped.dedup();
        Ok(Imported { run, source: last.run, head, moved: run == last.run, dropped })
    }

    async fn append_all(
        &self,
        names: &HashMap<RunId, RunId>,
        lines: Vec<Vec<Event>>,
    ) -> Result<(), TransferError> {
        let (mut state, mut facts) = (State::default(), Facts::default());
        let mut source: Option<RunId> = None;
        for events in lines {
            let Some(old) = events.first().map(|event| event.header.run) else { continue };
            let run = names.get(&old).copied().unwrap_or(old);
            if source.is_some() {
                state.rewind_for_fork();
            }
            let mut owner = self.0.journal.create(&self.0.tenant, run, source).await?;
            for events in events.chunks(AT_ONCE) {
                let mut batch = Batch::default();
                for event in events {
                    let mut event = event.clone();
                    event.header.run = run;
                    event.header.tenant = self.0.tenant.clone();
                    state.apply(&event)?;
                    facts.take_in(&event);
                    let Event { header, body } = event;
                    batch.events.push(NewEvent {
                        actor: header.actor,
                        kind: header.kind,
                        version: header.version,
                        must_understand: header.must_understand,
                        at: Some(header.at),
                        body: body.encode().map_err(crate::driver::DriveError::from)?,
                    });
                }
                batch.index = Some(index_row(&state, &facts));
                owner.append(batch).await?;
            }
            owner.anchor().await?;
            source = Some(run);
        }
        Ok(())
    }

    /// The sandbox of the source is not this run's, even if it is within reach.
    async fn begin_here(&self, run: RunId) -> Result<Seq, TransferError> {
        let mut driver = self.open(run, Claim::IfFree).await?;
        if let Some(sandbox) = driver.state().sandbox() {
            let nonce = sandbox.nonce.clone();
            let reason = "the run was imported".to_owned();
            driver.push("harness", SandboxLost { nonce, reason })?;
            driver.flush().await?;
        }
        Ok(driver.state().head())
    }

    async fn has(&self, run: RunId) -> Result<bool, TransferError> {
        match self.0.journal.read(&self.0.tenant, run, Seq(0), 1).await {
            Ok(_) => Ok(true),
            Err(moat_journal::ReadError::NoSuchRun { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// That the events follow from one another, before anything is written.
fn check(lines: &[Vec<Event>]) -> Result<(), TransferError> {
    let mut state = State::default();
    for (place, events) in lines.iter().enumerate() {
        if place > 0 {
            state.rewind_for_fork();
        }
        let starts = |event: &Event| matches!(event.body, EventBody::RunStarted(_));
        let started_once = events.iter().filter(|event| starts(event)).count() == 1;
        if !started_once || !events.first().is_some_and(starts) {
            let what = "a run begins once, with its first event";
            return Err(TransferError::Malformed(what.to_owned()));
        }
        for event in events {
            state.apply(event)?;
        }
    }
    crate::transfer::refuse_moved(RunId::generate(), state.status()).map_err(|_| {
        TransferError::Malformed("its last event says that it is elsewhere".to_owned())
    })
}

/// The first event of a run, as it may be here.
fn adapt(
    started: RunStarted,
    source: RunId,
    names: &HashMap<RunId, RunId>,
    trust: Trust,
    dropped: &mut Vec<Dropped>,
) -> Result<RunStarted, TransferError> {
    let forked_from = match started.forked_from {
        None => None,
        Some(fork) => {
            let run = names.get(&fork.run).copied();
            let run = run.ok_or_else(|| {
                TransferError::Malformed(format!(
                    "run {source} was forked from one that is missing"
                ))
            })?;
            Some(ForkPoint { run, seq: fork.seq })
        }
    };
    let mut here = RunStarted { forked_from, parent: None, ..started };
    if trust == Trust::Nobody {
        let mut lose = |is_there: bool, what: Dropped| dropped.extend(is_there.then_some(what));
        lose(here.origin.take().is_some(), Dropped::Folder);
        lose(!std::mem::take(&mut here.allow_missing).is_empty(), Dropped::Fences);
        lose(!std::mem::take(&mut here.labels).is_empty(), Dropped::Labels);
        lose(here.sandbox.network.is_some(), Dropped::Network);
        lose(here.sandbox.provider.is_some(), Dropped::Sandboxes);
        lose(!here.sandbox.mounts.is_empty(), Dropped::Mounts);
        // Named one by one, so that what is added later is not taken over unseen.
        let wanted = *here.sandbox;
        here.sandbox = Box::new(SandboxSettings {
            limits: wanted.limits,
            image: wanted.image,
            as_root: wanted.as_root,
            users: wanted.users,
            groups: wanted.groups,
            run_as: wanted.run_as,
            // Files like those of a checkpoint.
            ephemeral: wanted.ephemeral,
            ..SandboxSettings::default()
        });
    }
    here.labels.insert("imported_from".to_owned(), source.to_string());
    Ok(here)
}

/// An event after the first, as it may be here: a stranger does not choose what runs commands.
fn adapt_later(mut body: EventBody, trust: Trust, dropped: &mut Vec<Dropped>) -> EventBody {
    let sandbox = match &mut body {
        EventBody::RunResumed(resumed) => &mut resumed.sandbox,
        EventBody::RunContinued(continued) => &mut continued.sandbox,
        _ => return body,
    };
    if trust == Trust::Nobody && sandbox.take().is_some() {
        dropped.push(Dropped::Sandboxes);
    }
    body
}
