//! What can be said about sandboxes, wherever one is made.

use clap::{Args, Subcommand};
use moat_core::ByteSize;

use super::Which;
use crate::sandboxes::Choice;

/// How sandboxes are made.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct OutfitArgs {
    #[command(flatten)]
    pub(crate) provider: ProviderArgs,
    /// Let programs reach HOST, as in `pypi.org`, `*.example.com:8443`, `GET api.example.com/v1`,
    /// `tcp://db.example.com:5432`, `preset:python`; `!HOST` refuses it. Without --net there is no
    /// network
    #[arg(long, value_name = "RULE")]
    pub(crate) net: Vec<String>,
    /// Put a secret into requests to its hosts; inside, $NAME is only a placeholder. SOURCE is
    /// `env:VARIABLE`, `file:PATH` or `command:COMMAND`
    #[arg(long, value_name = "NAME=SOURCE@HOST")]
    pub(crate) secret: Vec<String>,
    /// The root file system: `docker-archive:FILE`, `oci:FOLDER`, a folder, or a name in a
    /// registry [default: the host's system, read-only]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Run commands as user 0 of the image, with a root file system that they may write
    #[arg(long)]
    pub(crate) as_root: bool,
    /// Run commands as this user of the image or the manifest [default: agent]
    #[arg(long, value_name = "NAME", conflicts_with = "as_root")]
    pub(crate) user: Option<String>,
    /// Memory at most, as in 512M
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Processor cores at most, as in 1.5
    #[arg(long, value_name = "N", value_parser = cores)]
    pub(crate) cpus: Option<f64>,
    /// Processes and threads at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) pids: Option<u64>,
    /// Workspace and home folder at most, as in 2G
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<ByteSize>,
    /// Seconds that one command may run
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: Option<u64>,
}

/// All of [`OutfitArgs`], for what excludes them. (The group that clap makes of a structure is empty
/// when another one is flattened into it.)
pub(crate) const OUTFIT: [&str; 11] = [
    "sandbox", "net", "secret", "image", "as_root", "user", "memory", "cpus", "pids", "disk",
    "timeout",
];

/// Where sandboxes are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProviderArgs {
    /// Where commands run: `local`, or `docker:IMAGE` on the engine of DOCKER_HOST, with
    /// `?runtime=runsc`, `?pull=always|missing|never` or `?reach=bridge` [default: the agent's,
    /// else local]
    #[arg(long, value_name = "WHERE", value_parser = place, help_heading = "Sandbox")]
    pub(crate) sandbox: Option<String>,
}

/// What is done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Propose the smallest network policy that a run would have needed, as a diff to review
    #[command(after_help = "Example: moat policy suggest --last")]
    Suggest(SuggestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SuggestArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn place(text: &str) -> Result<String, String> {
    text.parse::<Choice>().map(|_| text.to_owned())
}

fn cores(text: &str) -> Result<f64, String> {
    let cores: f64 = text.parse().map_err(|_| "a number of cores, as in 1.5".to_owned())?;
    if (0.01..=4096.0).contains(&cores) {
        Ok(cores)
    } else {
        Err("a number of cores from 0.01 to 4096".to_owned())
    }
}
