//! `why`: which turn, call and reasoning made a file, or a line of it, what it is.

use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use moat_core::RunId;
use moat_harness::history::{Blame, BlameError, MadeCall, Moment, blame, touched};
use serde_json::{Value, json};

use super::take_up::history_of;
use crate::cli::WhyArgs;
use crate::engine::Engine;
use crate::escape::{escape, one_line};
use crate::exit::{Exit, usage};
use crate::view::describe_call;

/// Characters of reasoning and messages that are shown for one call.
const SHOWN: usize = 2_000;

/// A checkpoint that made a file or a line, what the file was called then, and the line.
type Found<'a> = (&'a Moment, PathBuf, Option<String>);

pub(crate) async fn why(engine: &Engine, args: &WhyArgs) -> anyhow::Result<Exit> {
    let run = engine.find_by_text(&args.run).await?;
    let moments = history_of(engine, run).await?.moments();
    let (path, line) = place(&args.place)?;
    let mut made = Vec::new();
    match line {
        Some(line) => match blame(&engine.snapshots, &moments, &path, line).await.map_err(known)? {
            Blame::Start => {}
            Blame::Made { moment, path, line } => {
                made.extend(moments.get(moment).map(|m| (m, path, Some(line))));
            }
        },
        None => {
            let found = touched(&engine.snapshots, &moments, &path).await.map_err(known)?;
            if found.is_empty() {
                return Err(usage(format!("run {run} never had a file `{}`", path.display())));
            }
            let found = found.into_iter().filter_map(|at| moments.get(at));
            // What was there before the first call was made by nobody here.
            made.extend(found.filter(|m| m.before.is_some()).map(|m| (m, path.clone(), None)));
        }
    }
    if args.json {
        let rows: Vec<Value> = made.iter().map(row).collect();
        let found = json!({
            "v": 1, "run": run, "path": path.to_string_lossy(), "line": line,
            "from_start": rows.is_empty(), "made": rows,
        });
        writeln!(std::io::stdout().lock(), "{found}")?;
        return Ok(Exit::Success);
    }
    let mut out = std::io::stdout().lock();
    if made.is_empty() {
        writeln!(out, "{}: as it was when the run began", escape(&args.place))?;
    }
    for found in &made {
        print(&mut out, run, found)?;
    }
    Ok(Exit::Success)
}

fn known(error: BlameError) -> anyhow::Error {
    match error {
        BlameError::Load(error) => error.into(),
        error => usage(error),
    }
}

/// `PATH[:LINE]`, relative to the workspace, or beneath `/workspace`.
fn place(text: &str) -> anyhow::Result<(PathBuf, Option<usize>)> {
    let (path, line) = match text.rsplit_once(':') {
        Some((path, line)) if !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()) => {
            let line = line.parse().map_err(|_| usage(format!("`{line}` is no line number")))?;
            (path, Some(line))
        }
        _ => (text, None),
    };
    let path = Path::new(path);
    let path = path.strip_prefix("/workspace").unwrap_or(path);
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => {
                return Err(usage(format!("`{text}` is no path beneath the workspace")));
            }
        }
    }
    if plain.as_os_str().is_empty() {
        return Err(usage("name a file of the workspace, such as src/lib.rs:42"));
    }
    Ok((plain, line))
}

fn row((moment, path, line): &Found<'_>) -> Value {
    let call = |call: &&MadeCall| {
        let fields = call.item.fields();
        json!({
            "call": number(call), "turn": call.turn, "tool": fields.name, "call_id": fields.call_id,
            "text": fields.arguments.as_ref().or(fields.input.as_ref()),
            "reasoning": call.said(),
        })
    };
    let calls: Vec<Value> = moment.makers(path, line.as_deref()).iter().map(call).collect();
    json!({
        "run": moment.run, "seq": moment.seq, "at": moment.at, "path": path.to_string_lossy(),
        "snapshot": moment.snapshot, "calls": calls,
    })
}

/// As `show` numbers it.
fn number(call: &MadeCall) -> String {
    format!("{}.{}", call.of, call.index)
}

fn print(
    out: &mut impl std::io::Write,
    run: RunId,
    (moment, path, line): &Found<'_>,
) -> std::io::Result<()> {
    let name = one_line(&path.to_string_lossy(), 200);
    let past = if moment.run == run { String::new() } else { format!(" of run {}", moment.run) };
    writeln!(out, "{name} at event {}{past}", moment.seq)?;
    let makers = moment.makers(path, line.as_deref());
    if makers.is_empty() {
        writeln!(out, "  by a command in the background, or outside of any call")?;
    }
    for call in makers {
        let fields = call.item.fields();
        let tool = fields.name.clone().unwrap_or_default();
        let text = one_line(&describe_call(&tool, &fields), 160);
        writeln!(out, "  turn {}, call [{}] {text}", call.turn, number(call))?;
        for said in call.said() {
            let short: String = said.chars().take(SHOWN).collect();
            for line in escape(&short).lines() {
                writeln!(out, "    {line}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_with_or_without_a_line() {
        let of = |text| place(text).ok();
        assert_eq!(of("src/lib.rs:42"), Some((PathBuf::from("src/lib.rs"), Some(42))));
        assert_eq!(of("./src/../x"), None);
        assert_eq!(of("/etc/passwd"), None);
        assert_eq!(of("/workspace/a:b"), Some((PathBuf::from("a:b"), None)));
        assert_eq!(of("a:99999999999999999999999"), None);
        assert_eq!(of("/workspace"), None);
    }
}
