//! What a replay found, for people and for programs.

use std::io::Write;

use moat_core::{RunId, Seq};
use moat_harness::driver::status_word;
use moat_harness::history::History;
use moat_harness::machine::{State, Status};
use moat_harness::replay::{
    ComparedCall, Difference, Verdict, compare_calls, files_after_answers, new_changes,
};
use moat_snapshot::{Change, RootName};
use serde_json::{Value, json};

use crate::cli::ReplayArgs;
use crate::commands::diff::{name, shown_changes};
use crate::engine::Engine;
use crate::escape::one_line;
use crate::view::describe_call;

/// Paths that are listed at one place.
const LISTED: usize = 8;
/// Characters of a line of output that are shown.
const WIDTH: usize = 160;
/// Characters of a line of output in JSON.
const LONGEST: usize = 4096;

pub(super) struct Report {
    run: RunId,
    replay: RunId,
    calls: Vec<ComparedCall>,
    files: Vec<FilesDiffer>,
    /// What differs after the last answer that both have.
    at_end: Vec<Change>,
    /// Paths that differ and are not looked at without `--all`.
    hidden: usize,
}

/// Files that first differ after an answer.
struct FilesDiffer {
    /// The recorded answer.
    of: Seq,
    turn: u32,
    changes: Vec<Change>,
}

impl Report {
    pub(super) async fn make(
        engine: &Engine,
        args: &ReplayArgs,
        state: &State,
        (run, recorded): (RunId, &History),
        (replay, replayed): (RunId, &History),
    ) -> anyhow::Result<Self> {
        let calls = compare_calls(recorded.own_events(), replayed.own_events());
        // A fork begins with files of its source.
        let start = recorded.files_at(Some(Seq(0))).map(|(_, snapshot)| snapshot);
        let old = files_after_answers(recorded.own_events());
        let new = files_after_answers(replayed.own_events());
        let mut report =
            Self { run, replay, calls, files: Vec::new(), at_end: Vec::new(), hidden: 0 };
        let mut pair = None;
        for (old, new) in old.iter().zip(&new) {
            let sides = (old.snapshot.or(start), new.snapshot.or(start));
            let (Some(before), Some(after)) = sides else { continue };
            if pair.replace((before, after)) == Some((before, after)) {
                continue;
            }
            let all = engine.snapshots.diff(before, after).await?;
            let differing = all.len();
            let shown = shown_changes(engine, state, all, args.all).await?;
            report.hidden = differing.saturating_sub(shown.len());
            let changes = new_changes(&report.at_end, &shown);
            report.at_end = shown;
            if !changes.is_empty() {
                report.files.push(FilesDiffer { of: old.seq, turn: old.turn, changes });
            }
        }
        Ok(report)
    }

    /// Whether reality is other than it was.
    pub(super) fn differs(&self, args: &ReplayArgs) -> bool {
        let differs = |call: &ComparedCall| call.verdict.differs(args.ignore_numbers);
        !self.files.is_empty() || self.calls.iter().any(differs)
    }

    pub(super) fn print(
        &self,
        args: &ReplayArgs,
        recorded: &State,
        ended: &State,
    ) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if args.json {
            writeln!(out, "{}", self.json(args, recorded, ended))?;
            return Ok(());
        }
        writeln!(out, "run {} is the replay of run {}", self.replay, self.run)?;
        for (at, call) in self.calls.iter().enumerate() {
            print_call(&mut out, call, args.ignore_numbers)?;
            let next = self.calls.get(at + 1).map(|next| next.recorded.of);
            if next != Some(call.recorded.of) {
                self.print_files(&mut out, Some(call.recorded.of))?;
            }
        }
        self.print_files(&mut out, None)?;
        if let Status::Paused(_, message) = ended.status()
            && !matches!(ended.status(), Status::Paused(moat_core::PauseReason::Provider, _))
        {
            let why = if message.is_empty() { "it was interrupted" } else { message };
            writeln!(out, "the replay stopped before its end: {}", one_line(why, 400))?;
        }
        self.print_sum(&mut out, args)?;
        Ok(())
    }

    /// What differs in files after an answer with calls; `None`: after all others.
    fn print_files(&self, out: &mut impl Write, of: Option<Seq>) -> std::io::Result<()> {
        let has_calls = |of: Seq| self.calls.iter().any(|call| call.recorded.of == of);
        for files in &self.files {
            let here = match of {
                Some(of) => files.of == of,
                None => !has_calls(files.of),
            };
            if here {
                let names = files.changes.iter().take(LISTED);
                let names: Vec<_> = names
                    .map(|change| {
                        format!("{} {}", change.kind.as_str(), one_line(&name(change), 80))
                    })
                    .collect();
                let more = files.changes.len().saturating_sub(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let turn = files.turn;
                writeln!(out, "  files differ from turn {turn} on: {}{more}", names.join(", "))?;
            }
        }
        Ok(())
    }

    fn print_sum(&self, out: &mut impl Write, args: &ReplayArgs) -> std::io::Result<()> {
        let count = |is: &dyn Fn(&Verdict) -> bool| {
            self.calls.iter().filter(|call| is(&call.verdict)).count()
        };
        let differ = count(&|verdict| verdict.differs(args.ignore_numbers));
        let not_compared = count(&|verdict| *verdict == Verdict::NotCompared);
        let same = self.calls.len() - differ - not_compared;
        let rest = match not_compared {
            0 => String::new(),
            some => format!(", {some} not compared (the recorded outcome is not known)"),
        };
        let files = match self.at_end.len() {
            0 => "files are the same at the end".to_owned(),
            1 => "1 path differs at the end".to_owned(),
            some => format!("{some} paths differ at the end"),
        };
        writeln!(out, "calls: {same} same, {differ} differ{rest}; {files}")?;
        if self.hidden > 0 {
            let hidden = self.hidden;
            writeln!(
                out,
                "not looked at (home folder, .git, or ignored by git; see --all): {hidden} paths"
            )?;
        }
        Ok(())
    }

    /// Shape version 1, documented in `docs/json.md`.
    fn json(&self, args: &ReplayArgs, recorded: &State, ended: &State) -> Value {
        let calls: Vec<_> = self.calls.iter().map(|call| call_row(call, args)).collect();
        let files: Vec<_> = self
            .files
            .iter()
            .map(|files| {
                let changes: Vec<_> = files.changes.iter().map(change_row).collect();
                json!({ "turn": files.turn, "seq": files.of, "changes": changes })
            })
            .collect();
        json!({
            "v": 1, "run": self.run, "replay": self.replay, "differs": self.differs(args),
            "status": status_word(recorded), "replay_status": status_word(ended),
            "calls": calls, "files": files,
            "files_at_end": self.at_end.iter().map(change_row).collect::<Vec<_>>(),
            "not_looked_at": self.hidden,
        })
    }
}

fn word(call: &ComparedCall, ignore_numbers: bool) -> &'static str {
    match &call.verdict {
        Verdict::NotCompared => "not_compared",
        verdict if verdict.differs(ignore_numbers) => "differs",
        _ => "same",
    }
}

fn text_of(call: &ComparedCall) -> (String, String) {
    let fields = call.item.fields();
    let tool = fields.name.clone().unwrap_or_default();
    let text = describe_call(&tool, &fields);
    (tool, text)
}

fn call_row(call: &ComparedCall, args: &ReplayArgs) -> Value {
    let (tool, text) = text_of(call);
    let differences = match &call.verdict {
        Verdict::Differs(differences) => differences.iter().map(bounded).collect(),
        _ => Vec::new(),
    };
    json!({
        "turn": call.turn, "call": call.recorded.to_string(),
        "replayed_call": call.replayed.map(|place| place.to_string()),
        "tool": tool, "text": text, "verdict": word(call, args.ignore_numbers),
        "differences": differences,
    })
}

/// A line of output can be as long as the output.
fn bounded(difference: &Difference) -> Difference {
    let cut =
        |line: &Option<String>| line.as_ref().map(|line| line.chars().take(LONGEST).collect());
    match difference {
        Difference::Output { line, recorded, replayed, only_numbers } => Difference::Output {
            line: *line,
            recorded: cut(recorded),
            replayed: cut(replayed),
            only_numbers: *only_numbers,
        },
        other => other.clone(),
    }
}

fn change_row(change: &Change) -> Value {
    let root = if change.root == RootName::Home { "home" } else { "workspace" };
    json!({ "root": root, "path": change.path.to_string_lossy(), "kind": change.kind.as_str() })
}

fn print_call(
    out: &mut impl Write,
    call: &ComparedCall,
    ignore_numbers: bool,
) -> std::io::Result<()> {
    let (_, text) = text_of(call);
    let place = format!("[{}]", call.recorded);
    let word = word(call, ignore_numbers).replace('_', " ");
    writeln!(out, "turn {:<3} {place:<8} {word:<8} {}", call.turn, one_line(&text, 120))?;
    let Verdict::Differs(differences) = &call.verdict else { return Ok(()) };
    for difference in differences {
        for line in described(difference, call) {
            writeln!(out, "      {line}")?;
        }
    }
    Ok(())
}

fn described(difference: &Difference, call: &ComparedCall) -> Vec<String> {
    let code = |code: &Option<i32>| match code {
        Some(code) => format!("exit code {code}"),
        None => "no exit code".to_owned(),
    };
    let told = |line: &Option<String>| match line {
        Some(line) => one_line(line, WIDTH),
        None => "(no such line)".to_owned(),
    };
    match difference {
        Difference::NotMade => vec!["the replay has no outcome".to_owned()],
        Difference::ExitCode { recorded, replayed } => {
            vec![format!("{}, now {}", code(recorded), code(replayed))]
        }
        Difference::Failed { replayed: true, .. } => vec!["the call fails now".to_owned()],
        Difference::Failed { .. } => vec!["the call failed, and does no more".to_owned()],
        Difference::Limit { recorded, replayed } => {
            let limit = |limit: &Option<String>| limit.clone().unwrap_or("none".to_owned());
            vec![format!("limit reached: {}, now {}", limit(recorded), limit(replayed))]
        }
        Difference::Refused { recorded, replayed } => {
            let list = |lines: &Vec<String>| match lines.as_slice() {
                [] => "nothing".to_owned(),
                lines => one_line(&lines.join("; "), WIDTH),
            };
            vec![format!("network, then: {}", list(recorded)), format!("now: {}", list(replayed))]
        }
        Difference::Output { line, recorded, replayed, only_numbers } => {
            let note = if *only_numbers { " (only numbers differ)" } else { "" };
            vec![
                format!("output differs from line {line} on{note}"),
                format!("then: {}", told(recorded)),
                format!(" now: {}", told(replayed)),
            ]
        }
        Difference::WholeOutput => vec![format!(
            "the part of the output that the model was not told differs; `moat show RUN --output {}` \
             prints the whole",
            call.recorded
        )],
    }
}
