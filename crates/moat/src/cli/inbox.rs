//! What can be typed to reach a run that somebody drives, or nobody.

use clap::Args;

use super::{ModelArgs, OutputArgs, Which};

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Why
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    /// The run
    pub(crate) run: String,
    /// The message
    pub(crate) text: String,
    /// Drive the run on if nobody does
    #[arg(long)]
    pub(crate) drive: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalsArgs {
    /// Only this run's
    pub(crate) run: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The run
    pub(crate) run: String,
    /// The call, as `approvals` prints it [default: the only one]
    pub(crate) call: Option<String>,
    /// What the model is told about a refusal
    #[arg(long)]
    pub(crate) message: Option<String>,
    /// Also for later calls of this tool in this run
    #[arg(long)]
    pub(crate) always: bool,
    /// Drive the run on if nobody does (the default on a terminal)
    #[arg(long, overrides_with = "no_drive")]
    pub(crate) drive: bool,
    /// Only leave the decision for whoever drives the run
    #[arg(long)]
    pub(crate) no_drive: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
