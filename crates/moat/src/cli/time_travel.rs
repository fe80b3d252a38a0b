//! What can be typed about a run's past.

use std::path::PathBuf;

use clap::Args;

use super::{LimitArgs, ModelArgs, OutputArgs, Which};

#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The run whose past the fork has
    pub(crate) run: String,
    /// What the fork is to do; without it, it goes on from where it was cut
    #[arg(conflicts_with = "steer")]
    pub(crate) prompt: Option<String>,
    /// Put this message into the conversation where it was cut
    #[arg(long, value_name = "TEXT")]
    pub(crate) steer: Option<String>,
    /// Cut at the last checkpoint at or before this event [default: the end]
    #[arg(long, value_name = "SEQ")]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// From and to which event: the checkpoints at or before them [default: start..end]
    #[arg(value_name = "A..B")]
    pub(crate) range: Option<String>,
    /// Only the files
    #[arg(long)]
    pub(crate) files: bool,
    /// Also what was said; the default with a range
    #[arg(long, conflicts_with = "files")]
    pub(crate) conversation: bool,
    /// Only the names of files
    #[arg(long)]
    pub(crate) stat: bool,
    /// Also the home folder, and what the project's .gitignore names
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The run
    pub(crate) run: String,
    /// The folder to make; it must not exist, or be empty
    pub(crate) folder: PathBuf,
    /// The last checkpoint at or before this event [default: the end]
    #[arg(long, value_name = "SEQ")]
    pub(crate) at: Option<u64>,
    /// The home folder instead of the workspace
    #[arg(long)]
    pub(crate) home: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The run
    pub(crate) run: String,
    /// A file of its workspace, and the line
    #[arg(value_name = "PATH[:LINE]")]
    pub(crate) place: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The file to write; `-` is standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The run goes on elsewhere: here it can be read and forked, and no longer driven
    #[arg(long = "move")]
    pub(crate) moves: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file that `export` wrote
    pub(crate) file: PathBuf,
    /// It is your own: also take over its folder, network, secrets, allowed fences and labels
    #[arg(long)]
    pub(crate) trust: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
