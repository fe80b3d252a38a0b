//! `demo`: an agent mends a small repository; on the way its sandbox is killed, then its harness.
//!
//! This process is not part of the run. It starts `moat run` as anybody would, watches the journal
//! as `moat logs -f` does, kills what it says it kills, and starts `moat resume`.

mod files;
mod watch;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use moat_core::RunId;
use serde_json::Value;

use crate::cli::{DemoArgs, Global};
use crate::engine::Engine;
use crate::exit::Exit;
use crate::home::make_private;
use crate::view::{Style, duration};

const PROMPT: &str = "The tests fail. Find out why, mend it, and show that they pass.";
const TEST: [&str; 3] = ["cargo", "test", "--offline"];

pub(crate) async fn demo(global: &Global, args: &DemoArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let engine = Engine::open(global)?;
    let style = engine.style();
    let scratch = engine.home.data.join("scratch");
    make_private(&scratch)?;
    let temporary = tempfile::tempdir_in(&scratch)?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let folder = std::path::absolute(folder)?;
    lay_out(&folder)?;
    say(&style.bold(
        "A small repository whose tests fail, an agent with a sandbox, and a replayed model:",
    ));
    say("the model's answers come from a transcript; every command, edit and kill is real.\n");

    let moat = Moat { engine: &engine, folder: &folder };
    let run = moat.run_to_the_end(style, args.calm).await?;

    let state = super::take_up::state_of(&engine, run).await?;
    say(&style.bold("\nWhat it changed (moat diff):"));
    moat.call(&["diff", &run.to_string()])?;
    say(&style.bold("\nThe tests, once more, in a fresh sandbox over the changed files:"));
    let project = folder.join("project");
    moat.call(&["apply", &run.to_string(), "--to", &project.to_string_lossy()])?;
    let tested = moat.test(&project)?;
    let sound = moat.call(&["verify", &run.to_string()])?;
    let passed = tested && sound && Exit::of(&state) == Exit::Success;
    finish(&engine, run, style, passed, began);
    Ok(if passed { Exit::Success } else { Exit::TaskFailed })
}

fn finish(engine: &Engine, run: RunId, style: Style, passed: bool, began: Instant) {
    let verdict = if passed {
        style.good("the tests pass, the journal verifies")
    } else {
        style.bad("the demo did not end as it should")
    };
    say(&format!("\n{verdict} · {} · the model was a replay", duration(began.elapsed())));
    let (data, config) = (engine.home.data.display(), engine.home.config.display());
    say(&format!(
        "\nWhat to type next:\n\
         \x20 export MOAT_DATA_DIR={data} MOAT_CONFIG_DIR={config}\n\
         \x20 moat show {run}              what happened, turn by turn\n\
         \x20 moat logs {run}              every event\n\
         \x20 moat fork {run} \"…\"          go another way from its end\n\n\
         The same with a real model (any server that speaks the Responses API):\n\
         \x20 export OPENAI_API_KEY=…      and OPENAI_BASE_URL=… for another server\n\
         \x20 moat demo --keep ./moat-demo --calm\n\
         \x20 moat run ./moat-demo \"{PROMPT}\"\n\
         \x20 cd your/project && moat exec \"Make the tests pass\""
    ));
}

/// Writes the demo's files and makes the project a repository with a history.
fn lay_out(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if folder.join("project").exists() {
        bail!("`{}` holds a demo already; choose another folder", folder.display());
    }
    for (path, content, executable) in files::FILES {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        if *executable {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    let project = folder.join("project");
    git(&project, &["init", "--quiet", "--initial-branch=main"])?;
    git(&project, &["add", "--all"])?;
    git(&project, &["commit", "--quiet", "--message", "Count requests in windows of time"])
}

fn git(project: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let identity = [
        "-c",
        "user.name=Moat demo",
        "-c",
        "user.email=demo@moat.invalid",
        "-c",
        "commit.gpgsign=false",
    ];
    let status = Command::new("git")
        .current_dir(project)
        .args(identity)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::null())
        .status()
        .context("cannot run git; install it (on Debian: apt-get install git)")?;
    anyhow::ensure!(
        status.success(),
        "git {} failed in `{}`",
        arguments.join(" "),
        project.display()
    );
    Ok(())
}

/// This very program, started as anybody would start it.
struct Moat<'a> {
    engine: &'a Engine,
    folder: &'a Path,
}

impl Moat<'_> {
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let program: PathBuf = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&self.engine.home.data);
        command.arg("--config-dir").arg(&self.engine.home.config);
        command.args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command, its output shown. `true`: it succeeded.
    fn call(&self, arguments: &[&str]) -> anyhow::Result<bool> {
        Ok(self.command(arguments)?.status()?.success())
    }

    fn test(&self, project: &Path) -> anyhow::Result<bool> {
        let project = project.to_string_lossy();
        let mut arguments = vec!["--quiet", "sandbox", "run", "--dir", &project, "--"];
        arguments.extend(TEST);
        let output = self.command(&arguments)?.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines().filter(|line| line.starts_with("test ")) {
            say(&format!("  {}", crate::escape::one_line(line, 100)));
        }
        Ok(output.status.success())
    }

    async fn run_to_the_end(&self, style: Style, calm: bool) -> anyhow::Result<RunId> {
        let agent = self.folder.to_string_lossy().into_owned();
        let transcript = self.folder.join("transcript.yaml").to_string_lossy().into_owned();
        let arguments = ["run", &agent, PROMPT, "--replay", &transcript, "--json"];
        let (mut child, run) = start(self.command(&arguments)?)?;
        let mut watch = watch::Watch::new(self.engine, run, style, calm);
        loop {
            let harness = child.id();
            match watch.until_something(&mut child, harness).await? {
                watch::Seen::End => break,
                watch::Seen::HarnessKilled => {
                    child.wait()?;
                    say(&style.note(&format!("── moat resume {run}")));
                    let id = run.to_string();
                    child = start(self.command(&["resume", &id, "--json"])?)?.0;
                }
            }
        }
        child.wait()?;
        Ok(run)
    }
}

/// Starts a command with `--json` and reads the run from its first line.
fn start(mut command: Command) -> anyhow::Result<(Child, RunId)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let stdout = child.stdout.take().context("the run has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = match lines.next() {
        Some(line) => line?,
        None => {
            child.wait()?;
            bail!("the run did not start");
        }
    };
    let first: Value = serde_json::from_str(&first).context("the run's first line is not JSON")?;
    let run = first.get("run").and_then(Value::as_str).context("the first line names no run")?;
    let run: RunId = run.parse()?;
    // Whoever writes to a pipe that nobody reads stops; the rest is in the journal anyway.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((child, run))
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
