//! Which sandboxes there are: this machine's own, and those of a Docker engine.

mod choice;
#[cfg(feature = "docker")]
mod docker;

use std::sync::Arc;

use moat_harness::Providers;
use moat_sandbox::{Provider, SandboxError};
use moat_sandbox_local::LocalProvider;
use serde_json::Value;

use crate::engine::local_provider;
use crate::home::Home;
pub(crate) use choice::Choice;
#[cfg(feature = "docker")]
pub(crate) use docker::DockerPlace;

/// What the local provider is called, in journals and in `--sandbox`.
pub(crate) const LOCAL: &str = "local";
/// The same for Docker's.
const DOCKER: &str = "docker";

/// All providers of this program.
pub(crate) struct Sandboxes {
    pub(crate) local: LocalProvider,
    #[cfg(feature = "docker")]
    docker: DockerPlace,
}

impl Sandboxes {
    /// Looks at the environment, and speaks to nobody yet.
    pub(crate) fn new(home: &Home, quiet: bool) -> anyhow::Result<Self> {
        let local = local_provider(home)?;
        #[cfg(feature = "docker")]
        return Ok(Self { local, docker: DockerPlace::find(home, quiet) });
        #[cfg(not(feature = "docker"))]
        {
            let _ = quiet;
            Ok(Self { local })
        }
    }

    /// Whether a sandbox lives, without using it. `provider` is what made it; `None`: the usual.
    pub(crate) async fn is_alive(
        &self,
        provider: Option<&str>,
        handle: &Value,
    ) -> Result<bool, SandboxError> {
        match provider.map(kind).unwrap_or(LOCAL) {
            #[cfg(feature = "docker")]
            DOCKER => self.docker.any()?.is_alive(handle).await,
            LOCAL => self.local.is_alive(handle),
            other => Err(unknown(other)),
        }
    }

    /// Removes what sandboxes left that have ended. An engine is only asked when sandboxes of it
    /// were made here before.
    pub(crate) async fn reap(&self) -> Result<(), SandboxError> {
        let local = self.local.clone();
        // The next pass tries again.
        let _ = tokio::task::spawn_blocking(move || local.reap()).await;
        #[cfg(feature = "docker")]
        if self.docker.was_used() {
            self.docker.any()?.reap().await?;
        }
        Ok(())
    }

    fn make(&self, choice: Choice) -> Result<Arc<dyn Provider>, SandboxError> {
        match choice {
            Choice::Local => Ok(Arc::new(self.local.clone())),
            #[cfg(feature = "docker")]
            Choice::Docker(choice) => Ok(Arc::new(self.docker.provider(&choice)?)),
            #[cfg(not(feature = "docker"))]
            Choice::Docker(_) => Err(unknown(DOCKER)),
        }
    }
}

impl Providers for Sandboxes {
    fn choose(self: Arc<Self>, wanted: Option<&str>) -> Result<Arc<dyn Provider>, SandboxError> {
        let choice = wanted.map_or(Ok(Choice::Local), str::parse);
        self.make(choice.map_err(|message: String| SandboxError::Setup {
            step: "tell which sandbox is meant".to_owned(),
            message,
        })?)
    }

    fn named(self: Arc<Self>, name: &str) -> Result<Arc<dyn Provider>, SandboxError> {
        match name {
            LOCAL => Ok(Arc::new(self.local.clone())),
            #[cfg(feature = "docker")]
            DOCKER => Ok(Arc::new(self.docker.any()?)),
            other => Err(unknown(other)),
        }
    }
}

/// The provider's name in what `--sandbox` says.
pub(crate) fn kind(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

fn unknown(name: &str) -> SandboxError {
    let name: String = name.chars().take(80).collect();
    SandboxError::Setup {
        step: format!("use the sandboxes of `{name}`"),
        message: "this program was built without them".to_owned(),
    }
}
