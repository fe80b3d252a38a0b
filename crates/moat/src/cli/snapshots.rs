//! What can be typed about snapshots and about space.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArg;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotsCommand {
    /// List the snapshots of runs, and those that were imported
    #[command(after_help = "Example: moat snapshots ls 0199f3")]
    Ls(SnapshotsLsArgs),
    /// Show what is in a snapshot
    #[command(after_help = "Example: moat snapshots show 0199f3@42 src")]
    Show(SnapshotsShowArgs),
    /// Show how two snapshots differ
    #[command(after_help = "Example: moat snapshots diff 0199f3@12 0199f3@42")]
    Diff(SnapshotsDiffArgs),
    /// Write snapshots and all that they need into one file
    #[command(after_help = "Example: moat snapshots export 0199f3@42 -o work.moat")]
    Export(SnapshotsExportArgs),
    /// Take snapshots out of a file that `export` wrote; everything is checked first
    Import(SnapshotsImportArgs),
    /// Let an imported snapshot be collected
    Forget(SnapshotsForgetArgs),
    /// Remove what no run needs any more
    #[command(after_help = "Example: moat snapshots gc --keep-last 20")]
    Gc(SnapshotsGcArgs),
    /// Read everything that is stored, and say what is damaged
    Verify(JsonArg),
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsLsArgs {
    /// Only this run's
    pub(crate) run: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsShowArgs {
    /// A snapshot's id, RUN for a run's last one, or RUN@SEQ for the last at or before an event
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    /// Only what is beneath this path of the workspace (`~/…`: of the home folder)
    pub(crate) path: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsDiffArgs {
    /// The earlier one: an id, RUN or RUN@SEQ
    #[arg(value_name = "A")]
    pub(crate) from: String,
    /// The later one
    #[arg(value_name = "B")]
    pub(crate) to: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsExportArgs {
    /// Ids, RUN or RUN@SEQ
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub(crate) snapshots: Vec<String>,
    /// The file to write; it must not exist
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Write one snapshot's workspace as a tar archive, for other programs
    #[arg(long)]
    pub(crate) tar: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsImportArgs {
    /// What `export` wrote
    pub(crate) file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsForgetArgs {
    /// The snapshot's id
    pub(crate) snapshot: String,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsGcArgs {
    /// Of each run only its first, its last N, and those that forks began from [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Also keep those that are younger than this many days
    #[arg(long, value_name = "DAYS", requires = "keep_last")]
    pub(crate) keep_days: Option<u32>,
    /// Minutes for which packs stay after nothing needs them [default: 0, in buckets 60]
    #[arg(long, value_name = "MINUTES")]
    pub(crate) grace: Option<u64>,
    /// A data folder that no longer stores here, by the name that was told; what only it needs goes
    #[arg(long, value_name = "NAME")]
    pub(crate) forget: Vec<String>,
    /// Only say what would be removed
    #[arg(long, conflicts_with = "forget")]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
