//! `run` and `exec`: making a run and driving it.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use moat_core::{
    AgentRecord, Checkpointed, Cost, ImageRecord, Item, Origin, RepeatedCalls, RunOptions,
    ToolNotFound,
};
use moat_harness::agent::AgentSpec;
use moat_harness::{NewRun, prompt};
use moat_sandbox::manifest::Manifest;
use moat_sandbox::materialise::{HostFolders, Materialised, Progress, RemoteCopier, materialise};

use super::give_back;
use crate::cli::{ExecArgs, LimitArgs, OutfitArgs, RunArgs};
use crate::config::variable;
use crate::drive::drive;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};
use crate::images::{LocalImages, shown};
use crate::models::{self, Chosen};
use crate::outfit;

/// A prompt that is read from standard input is at most this long.
const MAX_PROMPT_BYTES: u64 = 4 << 20;
/// Turns of a run from the command line, unless the agent or a flag says otherwise.
const DEFAULT_TURNS: u32 = 200;

pub(crate) async fn run(engine: &Engine, args: RunArgs) -> anyhow::Result<Exit> {
    let prompt = read_prompt(&args.prompt)?;
    let spec = AgentSpec::load(&args.agent).map_err(usage)?;
    let chosen = models::choose(&args.model, &engine.config, None).await?;
    let folders =
        HostFolders::new(std::path::absolute(&args.agent)?).without(&chosen.secrets.each());
    let setup = Setup {
        spec,
        folders,
        origin: None,
        limits: &args.limits,
        outfit: &args.outfit,
        allow_missing: &args.fences.allow_missing,
        agent_folder: PathBuf::new(),
        stream: !args.model.no_stream,
    };
    let new = setup.new_run(engine, &chosen, &prompt).await?;
    let harness =
        engine.harness(chosen.model.clone(), chosen.secrets, &args.fences.allow_missing)?;
    let driver = harness.start(new).await?;
    Ok(drive(engine, driver, &args.output).await?.finish(&args.output))
}

pub(crate) async fn exec(engine: &Engine, args: ExecArgs) -> anyhow::Result<Exit> {
    let prompt = read_prompt(&args.prompt)?;
    let chosen = models::choose(&args.model, &engine.config, None).await?;
    let over_folder = OverFolder {
        dir: args.dir.as_deref(),
        limits: &args.limits,
        outfit: &args.outfit,
        allow_missing: &args.fences.allow_missing,
        stream: !args.model.no_stream,
    };
    let new = over_folder.new_run(engine, &chosen, &prompt).await?;
    let harness =
        engine.harness(chosen.model.clone(), chosen.secrets, &args.fences.allow_missing)?;
    let driver = harness.start(new).await?;
    let mut driven = drive(engine, driver, &args.output).await?;
    give_back::after_run(engine, &mut driven, args.write, args.output.json).await?;
    Ok(driven.finish(&args.output))
}

/// A run on a copy of a folder.
pub(super) struct OverFolder<'a> {
    /// The current one if absent.
    pub(super) dir: Option<&'a Path>,
    pub(super) limits: &'a LimitArgs,
    pub(super) outfit: &'a OutfitArgs,
    pub(super) allow_missing: &'a [String],
    pub(super) stream: bool,
}

impl OverFolder<'_> {
    pub(super) async fn new_run(
        &self,
        engine: &Engine,
        chosen: &Chosen,
        prompt: &str,
    ) -> anyhow::Result<NewRun> {
        let folder = match self.dir {
            Some(dir) => dir.to_owned(),
            None => std::env::current_dir().context("cannot find the current folder")?,
        };
        let folder = std::fs::canonicalize(&folder)
            .map_err(|error| usage(format!("cannot work on `{}`: {error}", folder.display())))?;
        let setup = Setup {
            spec: AgentSpec { manifest: Manifest::copy_of(&folder), ..AgentSpec::for_exec() },
            folders: HostFolders::new(&folder).without(&chosen.secrets.each()),
            origin: Some(folder),
            limits: self.limits,
            outfit: self.outfit,
            allow_missing: self.allow_missing,
            agent_folder: PathBuf::new(),
            stream: self.stream,
        };
        setup.new_run(engine, chosen, prompt).await
    }
}

/// What a run is made from.
struct Setup<'a> {
    spec: AgentSpec,
    folders: HostFolders,
    origin: Option<PathBuf>,
    limits: &'a LimitArgs,
    outfit: &'a OutfitArgs,
    allow_missing: &'a [String],
    agent_folder: PathBuf,
    stream: bool,
}

impl Setup<'_> {
    async fn new_run(self, engine: &Engine, chosen: &Chosen, text: &str) -> anyhow::Result<NewRun> {
        let (settings, policy) = (self.spec.sandbox_settings(), self.spec.network.clone());
        let mut sandbox = outfit::settle(&engine.home, settings, policy, self.outfit)?;
        sandbox.image = self.image(engine).await?;
        outfit::check(&sandbox)?;
        let files = self.materialise(engine).await?;
        sandbox.mounts = files.mounts.clone();
        sandbox.ephemeral = files.ephemeral.clone();
        let name = chosen.name.clone().or_else(|| self.spec.model.clone());
        let composed = prompt::compose(&prompt::PromptParts {
            instructions: &self.spec.instructions,
            tree: &files.text,
            agents_md: &files.agents_md,
        });
        let mut input = composed.input_prefix;
        input.push(Item::user_message(text));
        let agent = AgentRecord {
            name: self.spec.name.clone(),
            hash: Some(self.spec.hash()),
            instructions: composed.instructions,
            model: name.unwrap_or_else(|| chosen.name_or_default()),
            model_settings: self.spec.model_settings.clone(),
            tools: self.spec.tool_records(),
        };
        Ok(NewRun {
            agent,
            input,
            options: self.options(),
            files: Some(Checkpointed {
                snapshot: files.snapshot,
                files: files.tree.files(),
                bytes: files.tree.bytes(),
                new_bytes: 0,
                changed: Vec::new(),
                changed_count: 0,
                duration_ms: 0,
            }),
            environment: self.spec.environment(),
            sandbox,
            origin: self.origin.map(|folder| Origin {
                folder: folder.to_string_lossy().into_owned(),
                masked: files.masked,
            }),
            labels: labels(chosen),
            parent: None,
        })
    }

    /// The image, pinned to what it is now. A flag's is relative to the current folder, an agent's
    /// to its own.
    async fn image(&self, engine: &Engine) -> anyhow::Result<Option<ImageRecord>> {
        let here = std::env::current_dir();
        let (text, folder) = match (&self.outfit.image, &self.spec.sandbox.image) {
            (Some(flag), _) => (flag, here.context("cannot find the current folder")?),
            (None, Some(own)) => (own, self.agent_folder.clone()),
            (None, None) => return Ok(None),
        };
        let images = LocalImages::new(&engine.home, engine.provider()?, self.allow_missing);
        Ok(Some(images.find(text, &folder, shown(engine.quiet)).await?.0))
    }

    async fn materialise(&self, engine: &Engine) -> anyhow::Result<Materialised> {
        let show = std::io::stderr().is_terminal() && !engine.quiet;
        let progress = |progress: Progress| {
            if show {
                show_progress(&progress);
            }
        };
        let mut folders = self.folders.clone();
        folders.limits = engine.config.sources.limits();
        folders.credentials = engine.credentials();
        folders.remotes = RemoteCopier(Some(Arc::new(engine.mounts())));
        folders.git_cache = Some(engine.home.data.join("git"));
        folders.ssh_agent = variable("SSH_AUTH_SOCK").map(PathBuf::from);
        let files = materialise(&self.spec.manifest, &folders, &engine.snapshots, &progress)
            .await
            .context("cannot make the workspace")?;
        if !engine.quiet {
            say_what_is_missing(&files);
        }
        Ok(files)
    }

    fn options(&self) -> RunOptions {
        let limits = &self.spec.limits;
        let usd = self.limits.max_cost.or(limits.cost_usd);
        RunOptions {
            max_turns: self.limits.max_turns.or(limits.turns).or(Some(DEFAULT_TURNS)),
            max_tokens: self.limits.max_tokens.or(limits.tokens),
            max_cost: usd.map(cost_of),
            tool_not_found: self.spec.tool_not_found.unwrap_or(ToolNotFound::ReturnErrorToModel),
            repeated_calls: RepeatedCalls::Run,
            stream: self.stream,
            ..RunOptions::default()
        }
    }
}

pub(crate) fn cost_of(usd: f64) -> Cost {
    // Negative and absurd amounts saturate.
    Cost((usd * 1e9) as u64)
}

fn labels(chosen: &Chosen) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if let Some(label) = chosen.model.label() {
        labels.insert("model".to_owned(), label.to_owned());
    }
    if let Some(path) = &chosen.replay {
        labels.insert("transcript".to_owned(), path.to_string_lossy().into_owned());
    }
    labels
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
fn show_progress(progress: &Progress) {
    match progress {
        Progress::Copying { files, bytes } => {
            let megabytes = bytes / 1_000_000;
            eprint!("\r\u{1b}[Kcopying: {files} files, {megabytes} MB\r");
        }
        Progress::Fetching { url } => eprint!("\r\u{1b}[Kfetching {}\r", escape(url)),
    }
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person here")]
fn say_what_is_missing(files: &Materialised) {
    let shown = files.left_out.iter().take(20);
    for left in shown {
        eprintln!("left out: {} ({})", escape(&left.path), escape(&left.reason));
    }
    if files.left_out.len() > 20 {
        eprintln!("left out: {} more", files.left_out.len() - 20);
    }
    if let Some(stopped) = &files.search_stopped {
        eprintln!("note: {}", escape(stopped));
    }
}

/// The prompt as given, or standard input for `-`.
pub(crate) fn read_prompt(given: &str) -> anyhow::Result<String> {
    let prompt = if given == "-" {
        let mut text = Vec::new();
        std::io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_PROMPT_BYTES {
            return Err(usage("the prompt on standard input is longer than 4 MiB"));
        }
        String::from_utf8(text).map_err(|_| usage("the prompt on standard input is not UTF-8"))?
    } else {
        given.to_owned()
    };
    if prompt.trim().is_empty() {
        return Err(usage("the prompt is empty; say what is to be done, or `-` to read it"));
    }
    Ok(prompt)
}
