//! The `moat` command.

mod cli;
mod commands;
mod config;
mod drive;
mod engine;
mod escape;
mod exit;
mod home;
mod images;
mod models;
mod outfit;
#[cfg(feature = "docker")]
mod registries;
mod sandboxes;
mod secrets;
mod stores;
mod view;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use cli::{AgentCommand, Cli, Command, PolicyCommand};
use commands::{
    agent, demo, diff, doctor, give_back, inbox, list, logs, policy, race, record, replay, restore,
    sandbox, show, snapshots, start, take_up, transfer, verify, why,
};
use engine::Engine;
use exit::{Exit, WithExit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread drives; blocking work has threads of its own, made when needed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli)),
        Err(error) => Err(anyhow::Error::from(error).context("cannot start")),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error).into(),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match cli.command {
        Command::Run(args) => start::run(&Engine::open(global)?, args).await,
        Command::Exec(args) => start::exec(&Engine::open(global)?, args).await,
        Command::Continue(args) => take_up::go_on(&Engine::open(global)?, args).await,
        Command::Resume(args) => take_up::resume(&Engine::open(global)?, args).await,
        Command::Fork(args) => take_up::fork(&Engine::open(global)?, args).await,
        Command::Runs(args) => list::runs(&Engine::open(global)?, &args).await,
        Command::Show(args) => show::show(&Engine::open(global)?, &args).await,
        Command::Logs(args) => logs::logs(&Engine::open(global)?, &args).await,
        Command::Diff(args) => diff::diff(&Engine::open(global)?, &args).await,
        Command::Restore(args) => restore::restore(&Engine::open(global)?, &args).await,
        Command::Why(args) => why::why(&Engine::open(global)?, &args).await,
        Command::Export(args) => transfer::export(&Engine::open(global)?, &args).await,
        Command::Import(args) => transfer::import(&Engine::open(global)?, &args).await,
        Command::Replay(args) => Box::pin(replay::replay(&Engine::open(global)?, &args)).await,
        Command::Race(args) => race::race(&Engine::open(global)?, &args).await,
        Command::Apply(args) => give_back::apply(&Engine::open(global)?, &args).await,
        Command::Undo(args) => give_back::undo(&Engine::open(global)?, &args).await,
        Command::Cancel(args) => inbox::cancel(&Engine::open(global)?, &args).await,
        Command::Steer(args) => inbox::steer(&Engine::open(global)?, args).await,
        Command::Approvals(args) => inbox::approvals(&Engine::open(global)?, &args).await,
        Command::Approve(args) => inbox::decide(&Engine::open(global)?, args, true).await,
        Command::Reject(args) => inbox::decide(&Engine::open(global)?, args, false).await,
        Command::Verify(args) => verify::verify(&Engine::open(global)?, &args).await,
        Command::Erase(args) => verify::erase(&Engine::open(global)?, &args).await,
        Command::Record(args) => record::record(&Engine::open(global)?, &args).await,
        Command::Sandbox { command } => sandbox::dispatch(global, command).await,
        Command::Snapshots { command } => {
            snapshots::dispatch(&Engine::open(global)?, command).await
        }
        Command::Du(args) => snapshots::du(&Engine::open(global)?, &args).await,
        Command::Policy { command: PolicyCommand::Suggest(args) } => {
            policy::suggest_policy(&Engine::open(global)?, &args).await
        }
        Command::Doctor(args) => doctor::doctor(global, &args).await,
        Command::Demo(args) => demo::demo(global, &args).await,
        Command::Completions { shell } => {
            let mut out = std::io::stdout().lock();
            clap_complete::generate(shell, &mut Cli::command(), "moat", &mut out);
            Ok(Exit::Success)
        }
        Command::Agent { command: AgentCommand::Check(args) } => agent::check(&args),
        Command::Schema { manifest } => {
            let text = match manifest {
                true => moat_sandbox::manifest::schema_text(),
                false => moat_harness::agent::schema_text(),
            };
            writeln!(std::io::stdout().lock(), "{text}")?;
            Ok(Exit::Success)
        }
    }
}

fn fail(error: &anyhow::Error) -> Exit {
    if exit::is_unread(error) {
        return Exit::Unread;
    }
    let exit = error.downcast_ref::<WithExit>().map_or(Exit::HostCannot, |with| with.0);
    let text = match error.downcast_ref::<WithExit>() {
        Some(with) => exit::text(&with.1),
        None => exit::text(error),
    };
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "moat: {}", escape::escape(&text));
    exit
}
