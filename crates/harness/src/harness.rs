//! Starting, resuming, continuing and forking runs.

mod again;
mod past;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moat_blobs::BlobStore;
use moat_core::{
    AgentRecord, Checkpointed, Event, EventBody, ForkPoint, Item, KnownSecrets, Origin, ParentLink,
    RunContinued, RunId, RunOptions, RunResumed, RunStarted, SandboxSettings, Seq, TenantId,
    ToolRecord,
};
use moat_journal::{Claim, ClaimError, InboxError, Journal, ReadError, StoredEvent};
use moat_model::Model;
use moat_sandbox::Mounter;
use moat_snapshot::Snapshots;

use crate::compute::{Images, Providers, Redactor};
use crate::driver::{DriveError, Driver, Facts};
use crate::machine::{ApplyError, State, Status};
use crate::network::NetworkOptions;
use crate::tool::Tool;
use crate::transfer::refuse_moved;

pub use again::{Again, Branch};

/// What a harness is made of. Every part is a contract with implementations to choose from.
pub struct HarnessOptions {
    /// Whose runs these are.
    pub tenant: TenantId,
    /// Where events are.
    pub journal: Arc<dyn Journal>,
    /// Where large outputs are.
    pub blobs: Arc<dyn BlobStore>,
    /// Where workspaces are.
    pub snapshots: Snapshots,
    /// Who answers.
    pub model: Arc<dyn Model>,
    /// Where commands run: a provider, or several to choose from; `None`: agents have function
    /// tools only.
    pub provider: Option<Arc<dyn Providers>>,
    /// Where images of sandboxes are; `None`: runs that ask for one cannot be driven.
    pub images: Option<Arc<dyn Images>>,
    /// What networks of sandboxes need; `None`: runs that ask for one cannot be driven.
    pub network: Option<NetworkOptions>,
    /// What makes the folders that manifests mount; `None`: a run with mounts is refused.
    pub mounter: Option<Arc<dyn Mounter>>,
    /// Function tools.
    pub tools: Vec<Arc<dyn Tool>>,
    /// A folder for outputs that are still being written; outlives the process.
    pub spool_dir: PathBuf,
    /// Values that are replaced wherever they come in.
    pub secrets: KnownSecrets,
    /// How long a sandbox outlives its harness.
    pub orphan_grace: Duration,
    /// Fences that may be missing, by name.
    pub allow_missing: Vec<String>,
}

/// The parts, as drivers use them.
pub(crate) struct HarnessParts {
    pub(crate) tenant: TenantId,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) snapshots: Snapshots,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) provider: Option<Arc<dyn Providers>>,
    pub(crate) images: Option<Arc<dyn Images>>,
    pub(crate) network: Option<NetworkOptions>,
    pub(crate) mounter: Option<Arc<dyn Mounter>>,
    pub(crate) secrets: KnownSecrets,
    pub(crate) tools: HashMap<String, Arc<dyn Tool>>,
    pub(crate) spool_dir: PathBuf,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) orphan_grace: Duration,
    pub(crate) allow_missing: Vec<String>,
}

/// Starts and takes up runs. Cheap to clone.
#[derive(Clone)]
pub struct Harness(pub(crate) Arc<HarnessParts>);

/// A run that is to be started.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The agent, with its tools.
    pub agent: AgentRecord,
    /// The first input.
    pub input: Vec<Item>,
    /// How it is to be driven.
    pub options: RunOptions,
    /// The files it begins with, as the first checkpoint.
    pub files: Option<Checkpointed>,
    /// Environment of its commands.
    pub environment: BTreeMap<String, String>,
    /// How its sandboxes are made.
    pub sandbox: SandboxSettings,
    /// The host folder that the files came from.
    pub origin: Option<Origin>,
    /// Facts for people.
    pub labels: BTreeMap<String, String>,
    /// The run that starts this one for a call.
    pub parent: Option<ParentLink>,
}

impl NewRun {
    /// A run of this agent on one message, with the library's limits and without files.
    pub fn new(agent: AgentRecord, prompt: &str) -> Self {
        Self {
            agent,
            input: vec![Item::user_message(prompt)],
            options: RunOptions::default(),
            files: None,
            environment: BTreeMap::new(),
            sandbox: SandboxSettings::default(),
            origin: None,
            labels: BTreeMap::new(),
            parent: None,
        }
    }
}

/// What changes when a run is taken up again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Limits from now on.
    pub options: Option<RunOptions>,
    /// The model from now on.
    pub model: Option<String>,
    /// What makes its sandboxes from now on, as `local` or `docker:IMAGE`.
    pub sandbox: Option<String>,
}

/// Why a run could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum OpenRunError {
    /// Somebody else has it, or it is not there.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its journal could not be understood.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Its first events could not be made.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// Nothing could be put into its inbox.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// Its bodies were destroyed.
    #[error("run {0} was erased")]
    Erased(RunId),
    /// It was exported with its right to go on.
    #[error("run {0} was moved elsewhere by `export`; a fork of it can go on here")]
    Moved(RunId),
    /// A fork without a task, of a conversation that is complete.
    #[error(
        "the conversation of run {run} is complete at event {at}: say what the fork is to do, or cut \
         it earlier"
    )]
    NothingToDo {
        /// The source.
        run: RunId,
        /// Where it was cut.
        at: Seq,
    },
    /// A fork cannot begin there.
    #[error("run {run} has no checkpoint at or before event {at} where its conversation is whole")]
    NoCheckpoint {
        /// The source.
        run: RunId,
        /// Where it was to be cut.
        at: Seq,
    },
}

impl moat_core::Retryable for OpenRunError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Claim(error) => error.is_retryable(),
            Self::Read(error) => error.is_retryable(),
            Self::Drive(error) => error.is_retryable(),
            Self::Inbox(error) => error.is_retryable(),
            Self::Apply(_)
            | Self::Moved(_)
            | Self::Erased(_)
            | Self::NoCheckpoint { .. }
            | Self::NothingToDo { .. } => false,
        }
    }
}

impl Harness {
    /// Puts the parts together.
    pub fn new(options: HarnessOptions) -> Self {
        let tools = options.tools.into_iter().map(|tool| (tool.record().name, tool)).collect();
        Self(Arc::new(HarnessParts {
            tenant: options.tenant,
            journal: options.journal,
            blobs: options.blobs,
            snapshots: options.snapshots,
            model: options.model,
            provider: options.provider,
            images: options.images,
            network: options.network,
            mounter: options.mounter,
            secrets: options.secrets.clone(),
            tools,
            spool_dir: options.spool_dir,
            redactor: Arc::new(Redactor::new(options.secrets)),
            orphan_grace: options.orphan_grace,
            allow_missing: options.allow_missing,
        }))
    }

    /// What the model sees of the function tools, by name.
    pub fn function_tools(&self) -> Vec<ToolRecord> {
        let mut tools: Vec<_> = self.0.tools.values().map(|tool| tool.record()).collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    }

    /// Makes a run. Nothing of it is durable before it is driven.
    pub async fn start(&self, new: NewRun) -> Result<Driver, OpenRunError> {
        let run = RunId::generate();
        let owner = self.0.journal.create(&self.0.tenant, run, None).await?;
        let mut driver = self.driver(owner, State::default(), Facts::default());
        driver.push(
            "user",
            RunStarted {
                agent: new.agent,
                input: self.redacted(new.input),
                options: new.options,
                parent: new.parent,
                forked_from: None,
                environment: new.environment,
                allow_missing: self.0.allow_missing.clone(),
                sandbox: Box::new(new.sandbox),
                origin: new.origin,
                labels: new.labels,
            },
        )?;
        if let Some(files) = new.files {
            driver.push("harness", files)?;
        }
        Ok(driver)
    }

    /// Takes up a run that stopped, whatever stopped it.
    pub async fn resume(
        &self,
        run: RunId,
        claim: Claim,
        changes: Changes,
    ) -> Result<Driver, OpenRunError> {
        let mut driver = self.open(run, claim).await?;
        let again = match driver.state().status() {
            Status::Limited { .. } => true,
            Status::Paused(reason, _) => *reason != moat_core::PauseReason::Approval,
            _ => changes != Changes::default(),
        };
        if again && !matches!(driver.state().status(), Status::Finished(_)) {
            let Changes { options, model, sandbox } = changes;
            driver.push("user", RunResumed { options, model, sandbox })?;
        }
        Ok(driver)
    }

    /// Gives a run that ended, or stopped, more input.
    pub async fn go_on(
        &self,
        run: RunId,
        claim: Claim,
        input: Vec<Item>,
        changes: Changes,
    ) -> Result<Driver, OpenRunError> {
        let mut driver = self.open(run, claim).await?;
        driver.tell_open_calls()?;
        let input = self.redacted(input);
        let Changes { options, model, sandbox } = changes;
        driver.push("user", RunContinued { input, options, model, sandbox })?;
        Ok(driver)
    }

    /// Makes a run whose past is another run's, up to `at`: the last checkpoint at or before it;
    /// absent: its end. Returns where it was cut.
    pub async fn fork(
        &self,
        source: RunId,
        at: Option<Seq>,
        input: Vec<Item>,
        changes: Changes,
    ) -> Result<(Driver, ForkPoint), OpenRunError> {
        self.branch(source, Branch { at, input, changes, ..Branch::default() }).await
    }

    /// The state of a run, read without owning it.
    pub async fn state(&self, run: RunId) -> Result<State, OpenRunError> {
        Ok(self.read_past(run, None).await?.state)
    }

    pub(crate) async fn open(&self, run: RunId, claim: Claim) -> Result<Driver, OpenRunError> {
        let owner = self.0.journal.claim(&self.0.tenant, run, claim).await?;
        let past = self.read_past(run, None).await?;
        if *past.state.status() == Status::Erased {
            return Err(OpenRunError::Erased(run));
        }
        refuse_moved(run, past.state.status())?;
        Ok(self.driver(owner, past.state, past.facts))
    }

    fn driver(&self, owner: Box<dyn moat_journal::RunOwner>, state: State, facts: Facts) -> Driver {
        Driver::new(self.0.clone(), self.0.tenant.clone(), owner, state, facts)
    }

    fn redacted(&self, input: Vec<Item>) -> Vec<Item> {
        let redact = |item: Item| {
            let text = self.0.redactor.redact(item.json().to_owned());
            Item::from_json(text).unwrap_or(item)
        };
        input.into_iter().map(redact).collect()
    }
}

/// Reads a stored event.
pub fn decode(stored: StoredEvent) -> Result<Event, ApplyError> {
    let StoredEvent { header, body } = stored;
    let body = match body {
        Some(bytes) => EventBody::decode(&header, &bytes)?,
        None => EventBody::Erased(header.kind.clone()),
    };
    Ok(Event { header, body })
}
