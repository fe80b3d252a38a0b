//! Runs that begin where another one stood, or as another one began.

use std::collections::BTreeMap;

use moat_core::{
    Checkpointed, EventBody, ForkPoint, Item, RunId, RunOptions, RunStarted, SandboxSettings, Seq,
    ToolRecord,
};
use moat_journal::{Claim, InboxEntry};
use serde_json::json;

use super::{Changes, Harness, OpenRunError, decode};
use crate::driver::{Driver, Facts};
use crate::machine::{State, Status};

/// What a run that is forked off another one is to be.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    /// Cut at the last checkpoint at or before this event; absent: at the end.
    pub at: Option<Seq>,
    /// What is added to the conversation.
    pub input: Vec<Item>,
    /// Limits and model.
    pub changes: Changes,
    /// Facts for people, laid over the source's.
    pub labels: BTreeMap<String, String>,
    /// The tools, instead of the source's.
    pub tools: Option<Vec<ToolRecord>>,
}

/// What is other than it was in a run that begins as another one began.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// How it is driven; absent: as the other one was.
    pub options: Option<RunOptions>,
    /// How its sandboxes are made; absent: as the other one's were.
    pub sandbox: Option<SandboxSettings>,
    /// Facts for people, laid over the other one's.
    pub labels: BTreeMap<String, String>,
}

impl Harness {
    /// [`Harness::fork`], with more to say about what the fork is.
    pub async fn branch(
        &self,
        source: RunId,
        branch: Branch,
    ) -> Result<(Driver, ForkPoint), OpenRunError> {
        let Branch { at, input, changes, labels, tools } = branch;
        let mut past = self.read_past(source, at).await?;
        let cut = match at {
            None => past.state.head(),
            Some(at) => {
                let none = OpenRunError::NoCheckpoint { run: source, at };
                let cut = past.clean_checkpoint.ok_or(none)?;
                past = self.read_past(source, Some(cut)).await?;
                cut
            }
        };
        if input.is_empty() && matches!(past.state.status(), Status::Finished(_)) {
            return Err(OpenRunError::NothingToDo { run: source, at: cut });
        }
        let fork = ForkPoint { run: source, seq: cut };
        let mut started = past.started.take().ok_or(OpenRunError::Erased(source))?;
        let run = RunId::generate();
        let owner = self.0.journal.create(&self.0.tenant, run, Some(source)).await?;
        past.state.rewind_for_fork();
        let mut agent = past.state.agent().clone();
        agent.model = changes.model.unwrap_or_else(|| past.state.model().to_owned());
        agent.tools = tools.unwrap_or(agent.tools);
        let options = changes.options.unwrap_or_else(|| past.state.options().clone());
        started.labels.extend(labels);
        let mut sandbox = Box::new(past.state.sandbox_settings().clone());
        sandbox.provider = changes.sandbox.or(sandbox.provider);
        let mut driver = self.driver(owner, past.state, Facts::default());
        driver.push(
            "user",
            RunStarted {
                agent,
                input: self.redacted(input),
                options,
                parent: None,
                forked_from: Some(fork),
                sandbox,
                ..*started
            },
        )?;
        Ok((driver, fork))
    }

    /// Makes a run that begins as another one began: the same agent, input, past and files. What
    /// it holds is erased together with the other one.
    pub async fn again(&self, run: RunId, again: Again) -> Result<Driver, OpenRunError> {
        let (mut started, files) = self.beginning(run).await?;
        let mut state = State::default();
        if let Some(fork) = started.forked_from {
            state = self.read_past(fork.run, Some(fork.seq)).await?.state;
            state.rewind_for_fork();
        }
        let own = RunId::generate();
        let owner = self.0.journal.create(&self.0.tenant, own, Some(run)).await?;
        started.labels.extend(again.labels);
        started.options = again.options.unwrap_or(started.options);
        if let Some(sandbox) = again.sandbox {
            *started.sandbox = sandbox;
        }
        started.allow_missing.clone_from(&self.0.allow_missing);
        started.parent = None;
        let mut driver = self.driver(owner, state, Facts::default());
        driver.push("user", *started)?;
        if let Some(files) = files {
            driver.push("harness", files)?;
        }
        Ok(driver)
    }

    /// The first event of a run, and the files that it was given with it. A fork's are its
    /// source's.
    async fn beginning(
        &self,
        run: RunId,
    ) -> Result<(Box<RunStarted>, Option<Checkpointed>), OpenRunError> {
        let first = self.0.journal.read(&self.0.tenant, run, Seq(0), 2).await?;
        let mut bodies = first.into_iter().map(|stored| decode(stored).map(|event| event.body));
        let Some(EventBody::RunStarted(started)) = bodies.next().transpose()? else {
            return Err(OpenRunError::Erased(run));
        };
        let files = match bodies.next().transpose()? {
            Some(EventBody::Checkpointed(files)) if started.forked_from.is_none() => Some(files),
            _ => None,
        };
        Ok((Box::new(started), files))
    }

    /// Ends a run that nobody drives, wherever it stands, and removes its sandbox.
    pub async fn end(&self, run: RunId, reason: &str) -> Result<State, OpenRunError> {
        self.post(run, "cancel", json!({ "reason": reason }).to_string()).await?;
        let mut driver = self.resume(run, Claim::IfFree, Changes::default()).await?;
        driver.drive().await?;
        Ok(driver.state().clone())
    }

    /// Puts an entry of the harness itself into a run's inbox.
    pub(crate) async fn post(
        &self,
        run: RunId,
        kind: &str,
        body: String,
    ) -> Result<(), OpenRunError> {
        let entry = InboxEntry {
            id: RunId::generate().to_string(),
            kind: kind.to_owned(),
            body,
            who: "harness".to_owned(),
            at: 0,
        };
        self.0.journal.post(&self.0.tenant, run, entry).await?;
        Ok(())
    }
}
