//! What can be typed. Every command's help ends with an example.

mod inbox;
mod outfit;
mod sandbox;
mod snapshots;
mod time_travel;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use inbox::*;
pub(crate) use outfit::{OUTFIT, OutfitArgs, PolicyCommand, ProviderArgs, SuggestArgs};
pub(crate) use sandbox::*;
pub(crate) use snapshots::*;
pub(crate) use time_travel::*;

/// Durable, sandboxed AI agents.
#[derive(Debug, Parser)]
#[command(
    name = "moat",
    version,
    about = "Runs AI agents in sandboxes, durably",
    after_help = "Exit codes: 0 success, 1 the task failed, 2 usage, 3 waiting for a person, \
                  4 a limit was reached, 5 this host cannot, 6 paused (resumable), 130 interrupted \
                  (resumable), 141 nobody reads the output any more."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where runs are kept [default: $XDG_DATA_HOME/moat or ~/.local/share/moat]
    #[arg(long, global = true, env = "MOAT_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where keys and config.toml are [default: $XDG_CONFIG_HOME/moat or ~/.config/moat]
    #[arg(
        long,
        global = true,
        env = "MOAT_CONFIG_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) config_dir: Option<PathBuf>,
    /// Where snapshots are: a folder, or a bucket such as s3://bucket/prefix [default: the data folder]
    #[arg(long, global = true, env = "MOAT_BLOBS", value_name = "URL", hide_env_values = true)]
    pub(crate) blobs: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub(crate) color: Colour,
    /// Say less
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an agent from its folder
    #[command(after_help = "Example: moat run ./program-editor \"Tighten the abstracts\"")]
    Run(RunArgs),
    /// Work on the current folder, headless, in a sandbox
    #[command(after_help = "Example: moat exec \"Make the tests pass\" --write")]
    Exec(ExecArgs),
    /// Go on with a run that ended or stopped
    #[command(after_help = "Example: moat continue --last \"Now the other file\"")]
    Continue(ContinueArgs),
    /// Take up a run that was interrupted, killed, or reached a limit
    #[command(after_help = "Example: moat resume RUN --sandbox docker:debian:12")]
    Resume(ResumeArgs),
    /// Make a new run from another run's past
    #[command(after_help = "Example: moat fork RUN --at 42 --steer \"Try it with a hash map\"")]
    Fork(ForkArgs),
    /// List runs, newest first
    Runs(RunsArgs),
    /// Show what happened in a run
    Show(ShowArgs),
    /// Print a run's events
    Logs(LogsArgs),
    /// Show what a run changed in its files, and what was said meanwhile
    #[command(after_help = "Example: moat diff RUN 12..40")]
    Diff(DiffArgs),
    /// Make a folder from a run's files as they were at any checkpoint
    #[command(after_help = "Example: moat restore RUN ./as-it-was --at 42")]
    Restore(RestoreArgs),
    /// Name the turn, the call and the reasoning that made a file or a line what it is
    #[command(after_help = "Example: moat why RUN src/lib.rs:42")]
    Why(WhyArgs),
    /// Write a whole run to a file: conversation, journal and files
    #[command(after_help = "Example: moat export RUN -o run.moat --move")]
    Export(ExportArgs),
    /// Take in a run that `export` wrote
    Import(ImportArgs),
    /// Make a run's calls again in a fresh sandbox, and say where reality differs now
    ///
    /// The replay is a run of its own (`replay_of` in its labels) that begins as the recorded one
    /// began: a fork's with the files and the conversation that it was cut from. Its model gives the
    /// recorded answers; approvals, messages and further input are given again where they stood.
    /// Exit code 0: nothing differs; 1: something does.
    #[command(after_help = "Example: moat replay RUN --image debian:13 --ignore-numbers")]
    Replay(Box<ReplayArgs>),
    /// Let several runs work on the same task; check, rank and apply them
    ///
    /// Exit code 0: at least one did it; 1: none.
    #[command(
        after_help = "Example: moat race \"Make it faster\" -n 5 --check \"cargo test\" --write"
    )]
    Race(Box<RaceArgs>),
    /// Write a run's changes to the folder it started from
    Apply(ApplyArgs),
    /// Take back what `apply` wrote
    Undo(UndoArgs),
    /// Ask for a run to end
    Cancel(CancelArgs),
    /// Put a message into a run that goes on
    Steer(SteerArgs),
    /// List calls that wait for a person
    Approvals(ApprovalsArgs),
    /// Let a waiting call run
    Approve(DecideArgs),
    /// Refuse a waiting call
    Reject(DecideArgs),
    /// Check journals for damage and forgery
    Verify(VerifyArgs),
    /// Destroy what a run holds; its hashes stay, and still verify
    Erase(EraseArgs),
    /// Write a run's answers down as a transcript for --replay
    Record(RecordArgs),
    /// Use sandboxes without an agent
    Sandbox {
        #[command(subcommand)]
        command: SandboxCommand,
    },
    /// Snapshots of files: list, compare, carry elsewhere, collect, check
    Snapshots {
        #[command(subcommand)]
        command: SnapshotsCommand,
    },
    /// Say what Moat takes on this machine
    Du(JsonArg),
    /// Policies of the network
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Say what this host can fence, and what to do about what it cannot
    Doctor(DoctorArgs),
    /// Watch an agent fix a small project, with its sandbox and harness killed on the way
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Agents as folders
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// Print the JSON Schema of AGENT.md's front matter
    Schema {
        /// Print the schema of manifests alone
        #[arg(long)]
        manifest: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Check an agent's definition and manifest, and show the workspace that the model would see
    #[command(after_help = "Nothing of the manifest's sources is read, fetched or mounted.")]
    Check(AgentCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AgentCheckArgs {
    /// The agent's folder
    #[arg(default_value = ".")]
    pub(crate) agent: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArg,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) json: JsonArg,
    /// Look at the Docker engine of DOCKER_HOST as well
    #[arg(long)]
    pub(crate) docker: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct JsonArg {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which model answers, and how it is reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ModelArgs {
    /// The model to ask
    #[arg(long, short = 'm', value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Where the Responses API is [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// A file that holds the API key
    #[arg(long, value_name = "FILE", conflicts_with = "api_key_command")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A command that prints the API key
    #[arg(long, value_name = "COMMAND")]
    pub(crate) api_key_command: Option<String>,
    /// A file with further certificate authorities (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Take the answers from a transcript instead of a provider
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
    /// Do not ask for a stream
    #[arg(long)]
    pub(crate) no_stream: bool,
}

/// Limits of a run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitArgs {
    /// Model calls at most [default: the agent's, else 200]
    #[arg(long, value_name = "N")]
    pub(crate) max_turns: Option<u32>,
    /// Tokens at most, input and output together
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// US dollars at most
    #[arg(long, value_name = "USD")]
    pub(crate) max_cost: Option<f64>,
}

/// What is printed while a run goes on, and what is done with its result.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON lines; the first carries the run's id as `run`
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the last message to a file
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FenceArgs {
    /// Go on although this host lacks the fence NAME (see `moat doctor`); recorded in the journal
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_missing: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The agent's folder
    pub(crate) agent: PathBuf,
    /// What it is to do; `-` reads it from standard input
    pub(crate) prompt: String,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// What is to be done; `-` reads it from standard input
    pub(crate) prompt: String,
    /// Write the changes back to the folder at the end
    #[arg(long)]
    pub(crate) write: bool,
    /// The folder to work on [default: the current one]
    #[arg(long, short = 'C', value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ContinueArgs {
    /// The run, then what is to be done; with --last only what is to be done
    #[arg(required = true, num_args = 1..=2, value_name = "RUN PROMPT")]
    pub(crate) words: Vec<String>,
    /// The newest run
    #[arg(long)]
    pub(crate) last: bool,
    /// Take the run from whoever holds it
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Write the changes back to the folder at the end
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Take the run from whoever holds it; they can write nothing more
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Write the changes back to the folder at the end
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) provider: ProviderArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A run, by its id, a part of it that no other run has, or `--last`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The run's id, or a part of it that no other run has
    #[arg(required_unless_present = "last")]
    pub(crate) run: Option<String>,
    /// The newest run
    #[arg(long, conflicts_with = "run")]
    pub(crate) last: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// How many
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print the whole output of a call (its number in `show`) and nothing else
    #[arg(long, value_name = "CALL")]
    pub(crate) output: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Go on printing as events come
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Also write this held-back path (see the list that `apply` prints)
    #[arg(long, value_name = "PATH")]
    pub(crate) confirm: Vec<String>,
    /// Also write what the project's .gitignore names
    #[arg(long)]
    pub(crate) all: bool,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write into this folder instead
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only this run [default: all]
    pub(crate) run: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArgs {
    /// The run
    pub(crate) run: String,
    /// A fork that goes with it; may be given several times
    #[arg(long, value_name = "RUN")]
    pub(crate) with: Vec<String>,
    /// Why, for the tombstone
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The file to write [default: standard output]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the demo's files in this folder [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Do not kill anything on the way
    #[arg(long)]
    pub(crate) calm: bool,
}
