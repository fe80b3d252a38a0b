//! `moat sandbox …`: sandboxes without an agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{FenceArgs, OutfitArgs};

/// Exit codes of a command that is run for the caller are passed on, so they are told once.
const CODES: &str = "Exit codes: the command's own; 128+N if signal N ended it, 137 if a limit did, \
                     126 and 127 if it cannot be run or found, 2 usage, 5 this host cannot.";

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Run one command in a fresh sandbox
    #[command(after_help = concat_codes("Example: moat sandbox run --dir . -- make test"))]
    Run(Box<SandboxRunArgs>),
    /// Make a sandbox that stays, and print its id
    #[command(after_help = "Example: moat sandbox create --name lab --dir . --memory 1G --keep 7d")]
    Create(Box<SandboxCreateArgs>),
    /// Run a command in a sandbox that was made
    #[command(after_help = concat_codes("Example: moat sandbox exec lab -- make test"))]
    Exec(SandboxExecArgs),
    /// Open a terminal in a sandbox; `exit` or Ctrl-D ends it
    #[command(after_help = "Example: moat sandbox shell lab")]
    Shell(SandboxShellArgs),
    /// Copy files and folders into a sandbox or out of it
    #[command(after_help = "Examples: moat sandbox cp ./data lab:data\n          \
                      moat sandbox cp lab:/home/agent/result.csv .\n\n\
                      Inside, paths are relative to /workspace, or begin with /workspace, \
                      /home/agent or /moat/outputs.")]
    Cp(SandboxCpArgs),
    /// List sandboxes that were made
    Ls(SandboxLsArgs),
    /// Lead a port of this machine's loopback into a sandbox, for whoever has the token
    #[command(after_help = "Examples: moat sandbox expose lab 8000\n          \
                            moat sandbox expose lab 5432 --raw --host-port 15432")]
    Expose(SandboxExposeArgs),
    /// Say what a sandbox used, and what runs in it
    Stats(SandboxOneArgs),
    /// Stop all processes of a sandbox
    Pause(SandboxNameArgs),
    /// Let them go on
    Resume(SandboxNameArgs),
    /// End sandboxes and remove all that is in them
    #[command(after_help = "Example: moat sandbox rm lab")]
    Rm(SandboxRmArgs),
}

fn concat_codes(example: &str) -> String {
    format!("{example}\n\n{CODES}")
}

#[derive(Debug, Args)]
pub(crate) struct SandboxRunArgs {
    /// The workspace starts as a copy of this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    /// Add a variable to the command's environment
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Print how it went as a line of JSON on standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxCreateArgs {
    /// What it is called from now on [default: its id]
    #[arg(long, value_parser = name)]
    pub(crate) name: Option<String>,
    /// The workspace starts as a copy of this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How long it stays after it was last used, as in 30m, 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) keep: Duration,
    #[command(flatten)]
    pub(crate) outfit: OutfitArgs,
    #[command(flatten)]
    pub(crate) fences: FenceArgs,
    /// Add a variable to the environment of all its commands
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxExecArgs {
    /// The sandbox: its name, its id, or the beginning of its id
    pub(crate) sandbox: String,
    #[command(flatten)]
    pub(crate) network: CallNetworkArgs,
    /// The folder to run in
    #[arg(long, short = 'C', value_name = "DIR", default_value = "/workspace")]
    pub(crate) dir: PathBuf,
    /// The user to run as [default: the sandbox's]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Add a variable to the command's environment
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Print how it went as a line of JSON on standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// What one use of a sandbox may reach: the level of the call.
#[derive(Debug, Args)]
pub(crate) struct CallNetworkArgs {
    /// Let programs reach only this meanwhile, of what the sandbox may reach; `!HOST` refuses it
    #[arg(long, value_name = "RULE")]
    pub(crate) net: Vec<String>,
    /// Put a secret of the sandbox only into requests to these of its hosts meanwhile
    #[arg(long, value_name = "NAME@HOST")]
    pub(crate) secret: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxShellArgs {
    /// The sandbox: its name, its id, or the beginning of its id
    pub(crate) sandbox: String,
    #[command(flatten)]
    pub(crate) network: CallNetworkArgs,
    /// The folder to begin in
    #[arg(long, short = 'C', value_name = "DIR", default_value = "/workspace")]
    pub(crate) dir: PathBuf,
    /// The user to be [default: the sandbox's]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// A program for the terminal [default: the sandbox's shell]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxCpArgs {
    /// What to copy: a path here, or SANDBOX:PATH
    pub(crate) from: String,
    /// Where to: a path here, or SANDBOX:PATH
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxLsArgs {
    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxExposeArgs {
    /// The sandbox: its name, its id, or the beginning of its id
    pub(crate) sandbox: String,
    /// The port that something inside listens on
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// The port of 127.0.0.1 here [default: any that is free]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) host_port: u16,
    /// Any protocol instead of HTTP: each connection begins with the token and a line feed
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) network: CallNetworkArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxOneArgs {
    /// The sandbox: its name, its id, or the beginning of its id
    pub(crate) sandbox: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxNameArgs {
    /// The sandbox: its name, its id, or the beginning of its id
    pub(crate) sandbox: String,
}

#[derive(Debug, Args)]
pub(crate) struct SandboxRmArgs {
    /// Sandboxes: their names, ids, or the beginnings of their ids
    #[arg(required_unless_present = "all")]
    pub(crate) sandboxes: Vec<String>,
    /// All that were made
    #[arg(long, conflicts_with = "sandboxes")]
    pub(crate) all: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) || value.contains('\0') {
        return Err(format!("`{name}` is no name of a variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && text.len() <= 40 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err("at most 40 of a-z, 0-9 and `-`, beginning with a letter".to_owned())
}

/// `90`, `90s`, `30m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let error = || "a time as in 90s, 30m, 24h or 7d".to_owned();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=31_536_000).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{} of at most 365d", error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_names_and_variables() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "h", "0", "1w", "-1s", "366d", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(name("lab-2").is_ok());
        for bad in ["", "2lab", "Lab", "la/b", "a:b", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        for bad in ["A", "=x", "A B=x", "A\u{1b}=x"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
