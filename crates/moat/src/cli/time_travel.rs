//! What can be typed about a run's past.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{FenceArgs, LimitArgs, ModelArgs, OUTFIT, OutfitArgs, OutputArgs, ProviderArgs, Which};

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
    pub(crate) provider: ProviderArgs,
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

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Of a run that had a network: `same` gives it again, so that commands do again what they did
    /// outside; `none` gives none. --net gives another one
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with_all = ["net", "secret"])]
    pub(crate) network: Option<ReplayNetwork>,
    /// Outputs are the same if only numbers in them differ: times, counts, process ids
    #[arg(long)]
    pub(crate) ignore_numbers: bool,
    /// Also compare the home folder, and what the project's .gitignore names
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a replay reaches of what the recorded run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayNetwork {
    Same,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct RaceArgs {
    /// What is to be done; `-` reads it from standard input
    pub(crate) prompt: String,
    /// How many runs [default: one for each of --models, else 3]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) number: Option<u16>,
    /// A shell line that tells by its exit code whether a run did it; runs in a sandbox of its own
    /// with the run's files
    #[arg(long, value_name = "CMD")]
    pub(crate) check: Option<String>,
    /// Seconds that the check may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "check", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) check_timeout: u64,
    /// Models to take in turn
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "model")]
    pub(crate) models: Vec<String>,
    /// How many work at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: u16,
    /// Fork this run instead of starting from the folder
    #[arg(long, value_name = "RUN", conflicts_with_all = OUTFIT)]
    pub(crate) from: Option<String>,
    /// With --from: cut at the last checkpoint at or before this event [default: the end]
    #[arg(long, value_name = "SEQ", requires = "from")]
    pub(crate) at: Option<u64>,
    /// The folder to work on [default: the current one]
    #[arg(long, short = 'C', value_name = "DIR", conflicts_with = "from")]
    pub(crate) dir: Option<PathBuf>,
    /// Write the first of the ranking back to the folder, if it did it
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
