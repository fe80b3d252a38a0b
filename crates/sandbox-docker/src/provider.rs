use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moat_core::Epoch;
use moat_sandbox::{GuestError, Provider, Sandbox, SandboxError, SandboxSpec};
use serde_json::Value;

use crate::container::{self, label};
use crate::create::{self, Made, Maker};
use crate::engine::{Engine, EngineFacts};
use crate::error::DockerError;
use crate::folder::State;
use crate::handle::Handle;
use crate::options::DockerOptions;
use crate::reach;
use crate::reap;
use crate::sandbox::DockerSandbox;

/// How long a guest that does not answer any more may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Between looks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// Makes sandboxes from containers of one engine.
#[derive(Clone, Debug)]
pub struct DockerProvider {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: DockerOptions,
    pub(crate) engine: Engine,
    pub(crate) state: State,
    /// A guest's socket was seen on this side.
    seen: AtomicBool,
    /// A guest's socket was not seen on this side: engine and harness share no file system.
    not_seen: AtomicBool,
}

impl DockerProvider {
    /// Makes the state folder, and nothing else: the engine is spoken to with the first sandbox.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if the state folder cannot be made.
    pub fn new(options: DockerOptions) -> Result<Self, SandboxError> {
        let state = State::open(&options.state_dir).map_err(|error| SandboxError::Setup {
            step: format!("make `{}`", options.state_dir.display()),
            message: error.to_string(),
        })?;
        let engine = Engine::new(options.endpoint.clone());
        let (seen, not_seen) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { shared: Arc::new(Shared { options, engine, state, seen, not_seen }) })
    }

    /// What the engine says about itself.
    ///
    /// # Errors
    /// [`DockerError`] if it does not answer.
    pub async fn facts(&self) -> Result<EngineFacts, DockerError> {
        Ok(self.shared.engine.facts().await?.clone())
    }

    /// Whether the sandbox lives, without connecting to it, which would count as a use.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if it is no handle of this provider, or the engine does not answer.
    pub async fn is_alive(&self, handle: &Value) -> Result<bool, SandboxError> {
        self.shared.lives(&Handle::from_value(handle)?).await
    }

    /// Removes what sandboxes of this state folder left that have ended, and images of ours that
    /// hold another guest. Sandboxes that live, and those that somebody is making, are left alone.
    /// Answers how many sandboxes were removed.
    ///
    /// # Errors
    /// [`SandboxError::Setup`] if the engine does not answer, or the state folder cannot be read.
    pub async fn reap(&self) -> Result<usize, SandboxError> {
        reap::reap(&self.shared.engine, &self.shared.state).await
    }
}

impl Shared {
    /// Whether new sandboxes are reached through bridges.
    async fn is_bridged(&self) -> Result<bool, SandboxError> {
        if self.options.bridge
            || !self.options.endpoint.is_local()
            || !cfg!(target_os = "linux")
            || self.not_seen.load(Ordering::Relaxed)
        {
            return Ok(true);
        }
        let facts = self.engine.facts().await?;
        let runtime = self.options.runtime.as_deref().unwrap_or(&facts.default_runtime);
        // A socket that is made in gVisor is seen in gVisor only.
        Ok(EngineFacts::is_gvisor(runtime))
    }

    async fn make(&self, spec: &SandboxSpec) -> Result<(Made, bool), SandboxError> {
        let maker = Maker { engine: &self.engine, options: &self.options, state: &self.state };
        let bridged = self.is_bridged().await?;
        let certain = bridged || self.seen.load(Ordering::Relaxed);
        match maker.make(spec, bridged, certain).await? {
            Ok(made) => {
                self.seen.fetch_or(!bridged, Ordering::Relaxed);
                Ok((made, bridged))
            }
            Err(create::NotSeen) => {
                self.not_seen.store(true, Ordering::Relaxed);
                match maker.make(spec, true, true).await? {
                    Ok(made) => Ok((made, true)),
                    Err(create::NotSeen) => {
                        let reason = "the guest does not answer".to_owned();
                        Err(GuestError::Disconnected(reason).into())
                    }
                }
            }
        }
    }

    /// Whether the container that the handle means is there, is ours and runs. A handle is only a
    /// claim: what is talked to, or ended, is what this side's label is on.
    async fn lives(&self, handle: &Handle) -> Result<bool, SandboxError> {
        Ok(self.is_ours(handle).await? == Some(true))
    }

    /// `None`: there is no such container of ours. `Some`: whether it runs.
    async fn is_ours(&self, handle: &Handle) -> Result<Option<bool>, DockerError> {
        let name = container::name(handle.id());
        let found = self.engine.docker().await?.inspect_container(&name, None).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let error = self.engine.error("look at a container", &error);
                return if error.is_absence() { Ok(None) } else { Err(error) };
            }
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let is = |name: &str, value: &str| labels.get(name).is_some_and(|found| found == value);
        if !is(label::SANDBOX, handle.id()) || !is(label::OWNER, self.state.owner()) {
            return Ok(None);
        }
        Ok(Some(found.state.and_then(|state| state.running).unwrap_or(false)))
    }

    /// Waits a moment for its end. Answers whether it has come.
    async fn ends(&self, handle: &Handle) -> Result<bool, SandboxError> {
        let deadline = tokio::time::Instant::now() + LAST_MOMENT;
        while self.lives(handle).await? {
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }
}

#[async_trait]
impl Provider for DockerProvider {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Box<dyn Sandbox>, SandboxError> {
        let (made, bridged) = self.shared.make(spec).await?;
        let runtime = self.shared.options.runtime.clone();
        let handle = Handle::new(&made.id, &made.image, runtime, bridged)
            .with(made.missing_fences, spec.accounts.as_root);
        let sandbox = DockerSandbox::new(&handle, made.guest, self.shared.clone(), spec.epoch)?;
        Ok(Box::new(sandbox))
    }

    async fn reattach(
        &self,
        handle: &Value,
        epoch: Epoch,
    ) -> Result<Option<Box<dyn Sandbox>>, SandboxError> {
        let handle = Handle::from_value(handle)?;
        let Shared { engine, state, .. } = &*self.shared;
        if !self.shared.lives(&handle).await? {
            return Ok(None);
        }
        match reach::connect(engine, state, handle.id(), handle.is_bridged(), epoch).await {
            Ok(guest) => {
                let sandbox = DockerSandbox::new(&handle, guest, self.shared.clone(), epoch)?;
                Ok(Some(Box::new(sandbox)))
            }
            // It ended between the look and the knock, or is just ending.
            Err(error @ SandboxError::Guest(GuestError::Disconnected(_))) => {
                if self.shared.ends(&handle).await? { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, handle: &Value) -> Result<(), SandboxError> {
        let handle = Handle::from_value(handle)?;
        if self.shared.is_ours(&handle).await?.is_some() {
            create::remove_container(&self.shared.engine, handle.id()).await?;
            let gone = self.shared.ends(&handle).await?;
            if !gone {
                let reason = "it goes on after it was removed";
                return Err(DockerError::here("end a container", reason).into());
            }
        }
        self.shared.state.unshare(handle.id()).map_err(|error| SandboxError::Setup {
            step: "remove what was shared with a guest".to_owned(),
            message: error.to_string(),
        })
    }
}
