//! Making a sandbox, from the image to the guest that answers.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, RemoveContainerOptions, StartContainerOptions,
    UploadToContainerOptions,
};
use futures_util::{Stream, StreamExt as _};
use moat_core::Epoch;
use moat_sandbox::network::NetworkPlan;
use moat_sandbox::roster;
use moat_sandbox::{GuestClient, GuestError, RootFilesystem, SandboxError, SandboxSpec};

use crate::base::{self, Base};
use crate::config::{self, Told};
use crate::container::{self, Parts, STATE};
use crate::engine::{Engine, EngineFacts};
use crate::error::{DockerError, unsupported};
use crate::folder::State;
use crate::image;
use crate::limits::{self, Held};
use crate::options::DockerOptions;
use crate::reach;
use crate::trust;

/// How long a guest that was started may take to answer.
const TO_ANSWER: Duration = Duration::from_secs(20);

/// How long it may take where it is not known yet whether its socket is seen here at all.
const TO_BE_SEEN: Duration = Duration::from_secs(3);

/// Between looks whether it answers.
const LOOK: Duration = Duration::from_millis(2);

/// How long the engine may take to pass on why a guest ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Fences that an engine may lack.
const SECCOMP: &str = "seccomp";

/// What sandboxes of one provider are made with.
pub(crate) struct Maker<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) options: &'a DockerOptions,
    pub(crate) state: &'a State,
}

/// A sandbox whose guest answers.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) missing_fences: Vec<String>,
    pub(crate) guest: GuestClient,
}

/// What was settled before anything was made.
struct Settled {
    base: Base,
    held: Held,
    network: Option<NetworkPlan>,
    missing_fences: Vec<String>,
}

/// The guest began, and its socket is not seen on this side.
pub(crate) struct NotSeen;

impl Maker<'_> {
    /// Makes a sandbox. `certain`: it is known that this engine shares a file system with us, or it
    /// is reached through bridges.
    pub(crate) async fn make(
        &self,
        spec: &SandboxSpec,
        bridged: bool,
        certain: bool,
    ) -> Result<Result<Made, NotSeen>, SandboxError> {
        let settled = self.settle(spec, bridged).await?;
        let number = getrandom::u64()
            .map_err(|error| DockerError::here("be given a name for a sandbox", error))?;
        let id = format!("{number:016x}");
        let newborn = Newborn { maker: self, id: &id };
        match newborn.begin(spec, &settled, bridged, certain).await {
            Ok(Some(guest)) => Ok(Ok(Made {
                image: settled.base.origin,
                missing_fences: settled.missing_fences,
                guest,
                id,
            })),
            Ok(None) => {
                newborn.remove().await;
                Ok(Err(NotSeen))
            }
            Err(error) => {
                newborn.remove().await;
                Err(error)
            }
        }
    }

    async fn settle(&self, spec: &SandboxSpec, bridged: bool) -> Result<Settled, SandboxError> {
        let facts = self.engine.facts().await?;
        let gvisor = self.check(spec, facts, bridged)?;
        let missing_fences = fences(spec, facts, gvisor)?;
        let held = limits::resolve(spec.limits, self.options.limits, facts, gvisor)?;
        let network = spec.network.as_ref().map(NetworkPlan::new).transpose();
        let network = network.map_err(|error| SandboxError::Setup {
            step: "give the sandbox a network".to_owned(),
            message: error.to_string(),
        })?;
        let image = image::find(self.engine, self.options).await?;
        if let Some(path) = container::volume_in_ours(&image.volumes) {
            let (image, path) = (self.options.image.clone(), path.to_owned());
            return Err(DockerError::Volume { image, path }.into());
        }
        let base = base::find(self.engine, &image, &spec.accounts).await?;
        Ok(Settled { base, held, network, missing_fences })
    }

    /// Refuses what this provider or engine does not have. Answers whether containers have gVisor's
    /// kernel.
    fn check(
        &self,
        spec: &SandboxSpec,
        facts: &EngineFacts,
        bridged: bool,
    ) -> Result<bool, SandboxError> {
        if let RootFilesystem::Image { .. } = spec.root {
            return Err(unsupported(
                "be on an image that was unpacked here: a Docker sandbox names its image itself \
                 (`docker:IMAGE`)",
            ));
        }
        let runtime = self.options.runtime.as_deref();
        if let Some(runtime) = runtime
            && !facts.runtimes.contains(runtime)
        {
            let known: Vec<_> = facts.runtimes.iter().map(String::as_str).collect();
            let (runtime, known) = (runtime.to_owned(), known.join(", "));
            return Err(DockerError::NoRuntime { runtime, known }.into());
        }
        if !spec.mounts.is_empty() {
            return Err(unsupported(
                "see folders that are mounted on this machine: copy what is needed into the \
                 workspace, or use a local sandbox",
            ));
        }
        if spec.network.is_some() && bridged {
            return Err(unsupported(
                "have a network: its sockets are handed over as descriptors, which needs an engine \
                 on this machine that shares its file system (not gVisor's runtime, not a virtual \
                 machine's)",
            ));
        }
        let gvisor = EngineFacts::is_gvisor(runtime.unwrap_or(&facts.default_runtime));
        if gvisor && (roster::asks_for_others(&spec.accounts) || spec.accounts.as_root) {
            return Err(unsupported(
                "have several users: in gVisor one user's processes are not kept from looking into \
                 another's",
            ));
        }
        Ok(gvisor)
    }
}

/// Fences that the engine lacks, all of which may be missing.
fn fences(
    spec: &SandboxSpec,
    facts: &EngineFacts,
    gvisor: bool,
) -> Result<Vec<String>, SandboxError> {
    // gVisor's kernel answers all calls itself.
    if facts.seccomp || gvisor {
        return Ok(Vec::new());
    }
    if spec.allow_missing.iter().any(|name| name == SECCOMP) {
        return Ok(vec![SECCOMP.to_owned()]);
    }
    Err(SandboxError::MissingFence {
        fence: SECCOMP.to_owned(),
        reason: format!(
            "the engine at {} gives containers no filter on system calls",
            facts.endpoint
        ),
        remedy: "Use an engine that was built with seccomp, and take \
                 `seccomp-profile: unconfined` out of its daemon.json"
            .to_owned(),
    })
}

/// A container that nobody has taken charge of.
struct Newborn<'a> {
    maker: &'a Maker<'a>,
    id: &'a str,
}

impl Newborn<'_> {
    /// `None`: the guest began and cannot be seen.
    async fn begin(
        &self,
        spec: &SandboxSpec,
        settled: &Settled,
        bridged: bool,
        certain: bool,
    ) -> Result<Option<GuestClient>, SandboxError> {
        let Maker { engine, options, state } = self.maker;
        let share = |error: std::io::Error| SandboxError::Setup {
            step: "make the folder that is shared with the guest".to_owned(),
            message: error.to_string(),
        };
        let shared = match bridged {
            true => None,
            false => Some(state.share(self.id).map_err(share)?),
        };
        let body = container::body(&Parts {
            id: self.id,
            owner: state.owner(),
            spec,
            base: &settled.base,
            limits: &settled.held.container,
            runtime: options.runtime.as_deref(),
            shared: shared.as_deref(),
        });
        let docker = engine.docker().await?;
        let name = container::name(self.id);
        let named = CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        let made = docker.create_container(Some(named), body).await;
        made.map_err(|error| engine.error("make a container", &error))?;
        let told = config::archive(&Told {
            trusted: trust::of(engine, &name, spec).await?,
            spec,
            base: &settled.base,
            held: &settled.held,
            network: settled.network.as_ref(),
            bridged,
            output_spool: options.output_spool,
        })?;
        let path = UploadToContainerOptions {
            path: STATE.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let put = docker.upload_to_container(&name, Some(path), bollard::body_full(told.into()));
        put.await.map_err(|error| engine.error("tell the guest what it is to do", &error))?;
        let words = AttachContainerOptions {
            stream: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let words = docker.attach_container(&name, Some(words)).await;
        let words = words.map_err(|error| engine.error("listen to a container", &error))?.output;
        let started = docker.start_container(&name, None::<StartContainerOptions>).await;
        started.map_err(|error| engine.error("start a container", &error))?;
        self.answered(bridged, certain, spec.epoch, words).await
    }

    /// Waits until the guest answers.
    async fn answered(
        &self,
        bridged: bool,
        certain: bool,
        epoch: Epoch,
        words: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    ) -> Result<Option<GuestClient>, SandboxError> {
        let Maker { engine, state, .. } = self.maker;
        let patience = if certain { TO_ANSWER } else { TO_BE_SEEN };
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let error = match reach::connect(engine, state, self.id, bridged, epoch).await {
                Ok(guest) => return Ok(Some(guest)),
                Err(SandboxError::Guest(GuestError::Disconnected(reason))) => reason,
                Err(error) => return Err(error),
            };
            if !self.runs().await? {
                if !certain {
                    // It may be for the shared folder that it could not begin.
                    return Ok(None);
                }
                return Err(SandboxError::Setup {
                    step: "start the guest in a container".to_owned(),
                    message: last_words(words).await.unwrap_or(error),
                });
            }
            if tokio::time::Instant::now() >= deadline {
                if !certain {
                    return Ok(None);
                }
                return Err(GuestError::Disconnected(error).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn runs(&self) -> Result<bool, DockerError> {
        container_runs(self.maker.engine, self.id).await
    }

    /// Best effort: what is left is the reaper's.
    async fn remove(&self) {
        let _ = remove_container(self.maker.engine, self.id).await;
        let _ = self.maker.state.unshare(self.id);
    }
}

/// Whether the container of a sandbox is there and runs.
pub(crate) async fn container_runs(engine: &Engine, id: &str) -> Result<bool, DockerError> {
    let found = engine.docker().await?.inspect_container(&container::name(id), None).await;
    match found {
        Ok(found) => Ok(found.state.and_then(|state| state.running).unwrap_or(false)),
        Err(error) => {
            let error = engine.error("look at a container", &error);
            if error.is_absence() { Ok(false) } else { Err(error) }
        }
    }
}

/// Ends and removes a container with its volumes. One that is not there, or that is being removed,
/// is no error.
pub(crate) async fn remove_container(engine: &Engine, id: &str) -> Result<(), DockerError> {
    let options = RemoveContainerOptions { v: true, force: true, link: false };
    let docker = engine.docker().await?;
    match docker.remove_container(&container::name(id), Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = engine.error("remove a container", &error);
            if error.is_absence() || error.is_conflict() { Ok(()) } else { Err(error) }
        }
    }
}

/// What a guest said before it ended.
async fn last_words(
    mut words: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
) -> Option<String> {
    let mut said = Vec::new();
    let listen = async {
        while let Some(Ok(part)) = words.next().await {
            if said.len() < 2000 {
                said.extend_from_slice(part.as_ref());
            }
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, listen).await;
    let text = String::from_utf8_lossy(&said).trim().chars().take(2000).collect::<String>();
    (!text.is_empty()).then_some(text)
}
