//! What a provider needs for every sandbox and finds or makes only once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use moat_sandbox::{GuestError, SandboxError};

use crate::fences::Fence;
use crate::launcher::{SealedProgram, StepFailed};
use crate::limits::Cgroups;
use crate::options::LocalOptions;
use crate::seccomp::{self, Filter};
use crate::subordinate::Lending;
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
    /// Ids that the host lends the caller.
    pub(crate) lending: Lending,
    trust: OnceLock<HostTrust>,
    /// Fences that this host was found to lack.
    lacking: Mutex<BTreeSet<Fence>>,
    layers: Mutex<Layers>,
}

/// Whether workspaces can lie over files that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layers {
    /// Nobody has tried.
    #[default]
    Untried,
    /// It was tried.
    Can,
    /// It was tried, and trying again is no use.
    Cannot {
        /// What failed, and what the system said.
        why: String,
    },
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
            lending: Lending::find(options.subordinate_ids),
            trust: OnceLock::new(),
            lacking: Mutex::default(),
            layers: Mutex::default(),
        })
    }

    /// Fences that this host was found to lack.
    pub(crate) fn lacking(&self) -> BTreeSet<Fence> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This host was found to lack these.
    pub(crate) fn lacks(&self, fences: &BTreeSet<Fence>) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).extend(fences);
    }

    /// Whether workspaces can lie over files that are kept, as far as is known.
    pub(crate) fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether workspaces may lie over files that are kept, as far as is known.
    pub(crate) fn lays_over(&self) -> bool {
        !matches!(*self.layers(), Layers::Cannot { .. })
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
