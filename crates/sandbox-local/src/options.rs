use std::collections::BTreeMap;
use std::path::PathBuf;

use moat_core::SandboxLimits;

use crate::left_out::LeftOut;

/// What a [`LocalProvider`](crate::LocalProvider) is told. It looks at nothing else: neither at
/// the process's environment nor for a home folder.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Where sandboxes have their folders; made with mode 0700 if it is not there.
    pub state_dir: PathBuf,
    /// The caller's home, in which toolchains are looked for. `None`: none are shown.
    pub home: Option<PathBuf>,
    /// Variables of the caller's environment that say where toolchains are (those in
    /// [`TOOLCHAIN_VARIABLES`](crate::TOOLCHAIN_VARIABLES)); others are ignored.
    pub toolchain_variables: BTreeMap<String, String>,
    /// What sandboxes may use that do not ask for something else. What is left open here is: ¾ of
    /// the host's memory in bytes and no swap, 4096 processes and threads, half of the bytes and
    /// files that are free where `state_dir` is, 2 GiB (at most half of the memory) and 262,144
    /// files in each of `/tmp` and `/dev/shm`, 256 MiB of output per command; no limit on time, on
    /// a share of the processor, and on single files.
    pub limits: SandboxLimits,
    /// Control groups are used where the caller can make them. Without them memory is held by a
    /// watcher, and a share of the processor by nobody.
    pub control_groups: bool,
    /// Ranges of ids that `/etc/subuid` and `/etc/subgid` give the caller are used, where he is an
    /// ordinary user: for the guest, and for users beside the one that commands run as.
    pub subordinate_ids: bool,
    /// Large workspaces are kept as they were filled, and sandboxes laid over them, where the caller
    /// is root of the machine. Without it every sandbox is filled.
    pub keep_workspaces: bool,
    /// Hundredths of the disk that stay free of kept workspaces: with less, none is kept.
    pub workspaces_leave_free: u8,
    /// Bytes of output that the guest keeps per process until they are acknowledged.
    pub output_spool: u32,
    /// What a test leaves out of sandboxes.
    #[cfg(feature = "mutations")]
    pub left_out: LeftOut,
}

impl LocalOptions {
    /// No toolchains, the usual limits, workspaces kept as long as a twentieth of the disk is free,
    /// 4 MiB of unread output per process.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            home: None,
            toolchain_variables: BTreeMap::new(),
            limits: SandboxLimits::default(),
            control_groups: true,
            subordinate_ids: true,
            keep_workspaces: true,
            workspaces_leave_free: 5,
            output_spool: 4 << 20,
            #[cfg(feature = "mutations")]
            left_out: LeftOut::default(),
        }
    }

    /// What is left out: nothing, but in tests.
    pub(crate) fn left_out(&self) -> LeftOut {
        #[cfg(feature = "mutations")]
        return self.left_out.clone();
        #[cfg(not(feature = "mutations"))]
        LeftOut::default()
    }
}
