//! `sandbox run`: one command in a fresh sandbox, its output and exit code passed through.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use moat_core::{CallKey, Epoch, RunId, Seq, TenantId};
use moat_sandbox::checkpoint::{Checkpointer, SkipRules};
use moat_sandbox::manifest::Manifest;
use moat_sandbox::materialise::{HostFolders, materialise};
use moat_sandbox::{
    Command, Guest, OutputStream, ProcessEvent, ProcessExit, Provider, Root, SandboxSpec,
};
use moat_snapshot::Snapshots;

use crate::cli::{Global, SandboxRunArgs};
use crate::config::Config;
use crate::engine::{local_provider, open_blobs};
use crate::escape::escape;
use crate::exit::{Exit, usage};
use crate::home::Home;

/// Exit code of a command that was ended by a limit of its sandbox.
const LIMIT_EXIT: u8 = 137;
const SIGKILL: i32 = 9;

pub(crate) async fn run(global: &Global, args: SandboxRunArgs) -> anyhow::Result<Exit> {
    let home = Home::find(global)?;
    home.make()?;
    let config = Config::read(&home.config_file())?;
    let provider = local_provider(&home)?;
    let mut allow_missing = config.allow_missing;
    allow_missing.extend(args.fences.allow_missing.clone());
    let spec = SandboxSpec { allow_missing, ..SandboxSpec::new(RunId::generate(), Epoch(1)) };
    let sandbox = provider.create(&spec).await?;
    let guest = sandbox.guest();
    let ran = fill_and_run(&home, global, &args, &spec, guest).await;
    provider.destroy(&sandbox.handle()).await?;
    ran
}

async fn fill_and_run(
    home: &Home,
    global: &Global,
    args: &SandboxRunArgs,
    spec: &SandboxSpec,
    guest: Arc<dyn Guest>,
) -> anyhow::Result<Exit> {
    if let Some(dir) = &args.dir {
        let dir = std::fs::canonicalize(dir)
            .map_err(|error| usage(format!("cannot copy `{}`: {error}", dir.display())))?;
        if !dir.is_dir() {
            return Err(usage(format!("`{}` is no folder", dir.display())));
        }
        let key = home.tenant_key(&TenantId::local())?;
        let snapshots = Snapshots::new(open_blobs(&home.data, &key), &key);
        let manifest = Manifest::copy_of(&dir);
        let files = materialise(&manifest, &HostFolders::new(&dir), &snapshots, &|_| {}).await;
        let files = files.with_context(|| format!("cannot copy `{}`", dir.display()))?;
        if !global.quiet {
            for left in &files.left_out {
                say(&format!("left out: {} ({})", escape(&left.path), escape(&left.reason)));
            }
        }
        let mut filler = Checkpointer::new(guest.clone(), snapshots, SkipRules::default());
        filler.restore(files.snapshot).await?;
    }
    let command = Command {
        key: CallKey { run: spec.run, seq: Seq(0), index: 0, attempt: 1 },
        argv: args.command.clone(),
        cwd: Root::Workspace.path().to_owned(),
        environment: Default::default(),
        tty: None,
        user: None,
    };
    guest.start(&command).await?;
    let exit = pass_through(&*guest, command.key).await?;
    Ok(match exit.limit {
        Some(limit) => {
            say(&format!("limit reached: {}", escape(&limit.to_string())));
            Exit::Passed(LIMIT_EXIT)
        }
        None => Exit::Passed(shell_code(exit.code)),
    })
}

/// A signal's number shows as 128 and more, as in a shell.
fn shell_code(code: i32) -> u8 {
    let code = if code < 0 { 128_i32.saturating_add(code.saturating_neg()) } else { code };
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

async fn pass_through(guest: &dyn Guest, key: CallKey) -> anyhow::Result<ProcessExit> {
    let mut events = guest.attach(key, 0).await?;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = tokio::signal::ctrl_c() => {
                guest.signal(key, SIGKILL).await?;
                continue;
            }
        };
        match event {
            Some(ProcessEvent::Output { offset, stream, bytes }) => {
                let written = match stream {
                    OutputStream::Stdout => std::io::stdout().lock().write_all(&bytes),
                    OutputStream::Stderr => std::io::stderr().lock().write_all(&bytes),
                };
                if let Err(error) = written {
                    // The reader went away: so does the command.
                    guest.signal(key, SIGKILL).await?;
                    if error.kind() != std::io::ErrorKind::BrokenPipe {
                        return Err(error).context("cannot pass the output on");
                    }
                }
                guest.acknowledge(key, offset.saturating_add(bytes.len() as u64)).await?;
            }
            Some(ProcessEvent::Exited(exit)) => {
                std::io::stdout().lock().flush().ok();
                return Ok(exit);
            }
            Some(ProcessEvent::Disconnected) | None => {
                anyhow::bail!("the sandbox ended before the command did")
            }
        }
    }
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
