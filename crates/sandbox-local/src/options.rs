use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Bytes that `/tmp` and `/dev/shm` of a sandbox may each hold. They live in memory.
    pub tmp_bytes: u64,
    /// Bytes of output that the guest keeps per process until they are acknowledged.
    pub output_spool: u32,
}

impl LocalOptions {
    /// No toolchains, 2 GiB of temporary files, 4 MiB of unread output per process.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            home: None,
            toolchain_variables: BTreeMap::new(),
            tmp_bytes: 2 << 30,
            output_spool: 4 << 20,
        }
    }
}
