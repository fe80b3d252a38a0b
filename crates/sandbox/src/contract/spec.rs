//! What a fresh sandbox is to be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use moat_core::{Epoch, MountRecord, RunId, SandboxLimits, SnapshotId};
use serde::{Deserialize, Serialize};

use super::SandboxError;

/// What a fresh sandbox is to be.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// The run that owns it.
    pub run: RunId,
    /// The run's epoch; the guest refuses anyone with a lower one from now on.
    pub epoch: Epoch,
    /// How long it outlives its harness. Zero: it ends with the connection.
    pub orphan_grace: Duration,
    /// Environment of every command, beside the short fixed list. The host's never leaks.
    pub environment: BTreeMap<String, String>,
    /// Fences that may be missing on this host, by name.
    pub allow_missing: Vec<String>,
    /// What it may use.
    pub limits: SandboxLimits,
    /// What its processes see as `/`.
    pub root: RootFilesystem,
    /// Users and groups beside its own.
    pub accounts: Accounts,
    /// Its network; `None`: nothing but a loopback of its own.
    pub network: Option<NetworkSpec>,
    /// Folders of this machine that it sees. A provider that cannot show them answers with the
    /// `Unsupported` error.
    pub mounts: Vec<FolderMount>,
    /// A workspace that the provider keeps and that this one is to lie over. Where that cannot be
    /// it begins empty: [`Sandbox::base`](super::Sandbox::base) says which.
    pub base: Option<SnapshotId>,
}

impl SandboxSpec {
    /// A sandbox on the host's system, without network, with the provider's limits.
    pub fn new(run: RunId, epoch: Epoch) -> Self {
        Self {
            run,
            epoch,
            orphan_grace: Duration::ZERO,
            environment: BTreeMap::new(),
            allow_missing: Vec::new(),
            limits: SandboxLimits::default(),
            root: RootFilesystem::default(),
            accounts: Accounts::default(),
            network: None,
            mounts: Vec::new(),
            base: None,
        }
    }
}

/// A folder of this machine that a sandbox sees. Programs in it are not run with others' rights,
/// and devices in it are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderMount {
    /// The folder. It outlives the sandbox, and is somebody else's to remove.
    pub source: PathBuf,
    /// Where it is in the sandbox: absolute, beneath its workspace, or where nothing else is.
    pub target: PathBuf,
    /// Whether it can only be read there.
    pub read_only: bool,
    /// What is in it is given to the user that commands run as, before the sandbox begins. Without
    /// this, owners and modes are whatever they are.
    pub owned: bool,
}

/// Makes folders out of what a run mounts.
#[async_trait]
pub trait Mounter: Send + Sync {
    /// Makes them for a fresh sandbox of a run: all or none.
    async fn prepare(
        &self,
        run: RunId,
        records: &[MountRecord],
    ) -> Result<Box<dyn HeldMounts>, SandboxError>;

    /// Looks after those of a sandbox that was found again. An error if one of them is not there any
    /// more, or somebody else's by now.
    async fn adopt(
        &self,
        run: RunId,
        records: &[MountRecord],
    ) -> Result<Box<dyn HeldMounts>, SandboxError>;

    /// Takes away what a run had mounted, whose sandbox is gone, as [`HeldMounts::release`] does.
    ///
    /// # Errors
    /// If something is left, and what.
    async fn forget(&self, run: RunId) -> Result<(), SandboxError>;
}

/// What a run has mounted. While it lives, nobody takes that away.
pub trait HeldMounts: Send + Sync {
    /// What the provider is to show; empty for those that were adopted.
    fn mounts(&self) -> &[FolderMount];

    /// Why one of them cannot be used any more, if that is so.
    fn broken(&self) -> Option<String>;

    /// Takes it away, since the sandbox is gone, once what was written there is where it belongs.
    /// What cannot be is left to the reaper. Blocks.
    ///
    /// # Errors
    /// If something is left, and what.
    fn release(self: Box<Self>) -> Result<(), SandboxError>;
}

/// What the processes of a sandbox see as `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootFilesystem {
    /// The host's system folders, read-only.
    #[default]
    Host,
    /// An unpacked image.
    Image {
        /// The folder of the host that it was unpacked into. Shared, never written.
        folder: PathBuf,
        /// The environment that the image asks for.
        environment: BTreeMap<String, String>,
        /// Commands may write it; what they write is the sandbox's own and ends with it.
        writable: bool,
    },
}

/// Who there is in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Commands run as user 0 of the sandbox, with the few capabilities that package managers
    /// need. Asks for a writable image.
    pub as_root: bool,
    /// Users beside `agent` (1000) and `root` (0).
    pub users: Vec<UserAccount>,
    /// Groups beside `agent` and `root`, with the names of their members.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who runs commands that name nobody; `None`: `agent`.
    pub run_as: Option<String>,
}

/// Something about a sandbox that whoever reads its journal should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SandboxNote {
    /// Commands run as user 0 of the sandbox, with some capabilities in it.
    CommandsAreRoot,
    /// All files of its image belong to its one user: the caller has no ids for others.
    OneOwner,
    /// Files of its image belong to nobody inside: the host cannot shift their owners.
    OwnersHidden,
}

impl SandboxNote {
    /// Its name in journals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandsAreRoot => "commands_are_root",
            Self::OneOwner => "one_owner",
            Self::OwnersHidden => "owners_hidden",
        }
    }
}

/// One user of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAccount {
    /// The name.
    pub name: String,
    /// The number inside; `None`: the next free one from 1001 on.
    pub uid: Option<u32>,
}

/// The network of a sandbox that has one: addresses that lead nowhere but to sockets that this side
/// holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// TCP ports that are listened on at every synthetic address, and with them at 127.0.0.1: whoever
    /// accepts there looks at the local address. No program inside can listen on them any more. That
    /// takes nothing away below 1024, where none may; from 1024 on `addresses` is kinder.
    pub ports: Vec<u16>,
    /// Single synthetic addresses and ports that are listened on. Programs inside can still listen
    /// on such a port at 127.0.0.1, but not at all addresses.
    pub addresses: Vec<(Ipv4Addr, u16)>,
    /// A certificate authority (PEM) that is trusted inside, beside the host's.
    pub authority: Option<Vec<u8>>,
    /// Whether programs inside find an SSH agent (`SSH_AUTH_SOCK`), whose socket this side holds.
    pub ssh_agent: bool,
}

/// The address at which a sandbox with a network finds its resolver (TCP and UDP port 53) and the
/// HTTP proxy.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The port of the HTTP proxy at [`GATEWAY`].
pub const PROXY_PORT: u16 = 3128;

/// Bits of the network of synthetic addresses, 198.18.0.0/15.
pub const SYNTHETIC_PREFIX: u32 = 15;

/// Whether an address is one of those that lead to this side. The first and the last of them are no
/// addresses of hosts: a resolver must not answer them, nor [`GATEWAY`].
pub fn is_synthetic(address: Ipv4Addr) -> bool {
    (address.to_bits() ^ GATEWAY.to_bits()) >> (32 - SYNTHETIC_PREFIX) == 0
}
