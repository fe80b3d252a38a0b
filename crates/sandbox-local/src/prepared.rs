//! What a provider needs for every sandbox and finds or makes only once.

use std::path::Path;
use std::sync::OnceLock;

use moat_sandbox::{GuestError, SandboxError};

use crate::launcher::{SealedProgram, StepFailed};
use crate::limits::Cgroups;
use crate::options::LocalOptions;
use crate::seccomp::{self, Filter};
use crate::system::{self, Shown};
use crate::toolchains::Toolchains;
use crate::trust::HostTrust;

#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) launcher: SealedProgram,
    pub(crate) guest: SealedProgram,
    pub(crate) filter: Filter,
    pub(crate) system: Vec<Shown>,
    pub(crate) toolchains: Toolchains,
    /// Where control groups can be made.
    pub(crate) cgroups: Cgroups,
    /// Whether the host has `bash`.
    pub(crate) bash: bool,
    trust: OnceLock<HostTrust>,
}

impl Prepared {
    pub(crate) fn new(options: &LocalOptions) -> Result<Self, StepFailed> {
        let program = |error| StepFailed::new("put a program into memory", error);
        let home = options.home.as_deref();
        Ok(Self {
            launcher: SealedProgram::launcher().map_err(program)?,
            guest: SealedProgram::new("moat-guest", moat_guest::program()).map_err(program)?,
            filter: seccomp::compile(),
            system: system::find(),
            toolchains: Toolchains::find(home, &options.toolchain_variables),
            cgroups: match options.control_groups {
                true => Cgroups::find(),
                false => Cgroups::none("control groups are switched off"),
            },
            bash: Path::new("/bin/bash").exists(),
            trust: OnceLock::new(),
        })
    }

    /// What the host trusts; read when the first sandbox has an authority of its own.
    pub(crate) fn trust(&self) -> &HostTrust {
        self.trust.get_or_init(HostTrust::find)
    }
}

impl From<StepFailed> for SandboxError {
    fn from(failed: StepFailed) -> Self {
        if failed.unsupported {
            return Self::Guest(GuestError::Unsupported(failed.message));
        }
        Self::Setup { step: failed.step, message: failed.message }
    }
}
