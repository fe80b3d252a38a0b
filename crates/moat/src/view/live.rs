//! The live view: what the agent says, what runs and for how long, tokens and money. Lines that
//! are done stand; one line at the bottom is drawn again as time passes, where a terminal can.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use moat_core::{
    CallFinished, Cost, Event, EventBody, Item, ItemFields, ModelAnswered, RunOutcome, Seq, Usage,
};
use moat_harness::driver::Observer;
use moat_model::{Delta, DeltaKind};

use super::style::{Style, columns, count, duration, usd};
use crate::escape::{escape, one_line};

/// How often the line at the bottom is drawn.
const TICK: Duration = Duration::from_millis(250);
/// Lines of a failing command's output that are shown.
const SHOWN_LINES: usize = 8;

/// Prints to standard error.
pub(crate) struct Live(Mutex<State>);

struct State {
    style: Style,
    began: Instant,
    doing: Option<(String, Instant)>,
    usage: Usage,
    cost: Cost,
    calls: HashMap<(Seq, u32), (String, Instant)>,
    items: HashMap<Seq, Vec<Item>>,
    /// Text of the turn that is being streamed, as far as it was printed.
    streamed: Option<(u32, u32)>,
    at_line_start: bool,
    status_shown: bool,
}

impl Live {
    pub(crate) fn start(style: Style) -> Arc<Self> {
        let live = Arc::new(Self(Mutex::new(State {
            style,
            began: Instant::now(),
            doing: None,
            usage: Usage::default(),
            cost: Cost::default(),
            calls: HashMap::new(),
            items: HashMap::new(),
            streamed: None,
            at_line_start: true,
            status_shown: false,
        })));
        if style.redraw {
            tick(Arc::downgrade(&live));
        }
        live
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws the bottom line until the view is gone.
fn tick(live: Weak<Live>) {
    std::thread::spawn(move || {
        while let Some(live) = live.upgrade() {
            live.lock().draw_status();
            drop(live);
            std::thread::sleep(TICK);
        }
    });
}

impl Drop for Live {
    fn drop(&mut self) {
        self.lock().clear_status();
    }
}

/// What a person should know about a sandbox whose forks will take longer.
pub(crate) fn not_kept(note: &str) -> Option<String> {
    let reason = note.strip_prefix("workspace_not_kept: ")?;
    Some(format!("its workspace is not kept for forks: {}", one_line(reason, 400)))
}

impl Observer for Live {
    fn event(&self, event: &Event) {
        self.lock().event(event);
    }

    fn left(&self, what: &str) {
        let mut state = self.lock();
        let style = state.style;
        state.line(&style.note(&one_line(what, 1000)));
    }

    fn delta(&self, turn: u32, attempt: u32, delta: &Delta) {
        if delta.kind == DeltaKind::Text {
            self.lock().text_delta(turn, attempt, &delta.text);
        }
    }
}

impl State {
    fn event(&mut self, event: &Event) {
        let style = self.style;
        match &event.body {
            EventBody::RunStarted(started) => {
                let label = started.labels.get("model").map(|label| format!(" ({label})"));
                let label = label.unwrap_or_default();
                self.line(&style.dim(&format!(
                    "run {} · {} · {}{label}",
                    event.header.run, started.agent.name, started.agent.model
                )));
            }
            EventBody::ModelRequested(_) => self.doing = Some(("thinking".into(), Instant::now())),
            EventBody::ModelAnswered(answered) => self.answered(event.header.seq, answered),
            EventBody::ModelFailed(failed) => {
                let then = match failed.retry_in_ms {
                    Some(pause) => {
                        format!("; trying again in {}", duration(Duration::from_millis(pause)))
                    }
                    None => String::new(),
                };
                self.line(&style.note(&format!("model: {}{then}", one_line(&failed.message, 400))));
            }
            EventBody::CallStarted(started) => {
                let text = self.describe(started.of, started.index, &started.tool);
                self.line(&style.bold(&one_line(&text, columns())));
                self.calls.insert((started.of, started.index), (text.clone(), Instant::now()));
                self.doing = Some((text, Instant::now()));
            }
            EventBody::CallFinished(finished) => self.finished(finished),
            EventBody::CallRolledBack(_) => {
                self.line(&style.note("  rolled back with its sandbox; runs again"));
            }
            EventBody::SandboxLost(lost) => {
                self.line(
                    &style.note(&format!("the sandbox is gone ({})", one_line(&lost.reason, 200))),
                );
            }
            EventBody::SandboxAttached(attached) => {
                for note in attached.notes.iter().filter_map(|note| not_kept(note)) {
                    self.line(&style.note(&note));
                }
            }
            EventBody::SandboxRehydrated(again) => {
                let took = duration(Duration::from_millis(again.duration_ms));
                self.line(
                    &style.note(&format!("a new sandbox holds the last checkpoint ({took})")),
                );
            }
            EventBody::Checkpointed(checkpoint)
                if checkpoint.changed_count > 0 && event.header.seq.0 > 2 =>
            {
                let names = checkpoint.changed.iter().take(4).map(|path| one_line(path, 60));
                let names = names.collect::<Vec<_>>().join(", ");
                let more = checkpoint.changed_count.saturating_sub(4);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                self.line(&style.dim(&format!("  changed: {names}{more}")));
            }
            EventBody::ApprovalAsked(asked) => {
                self.line(&style.note(&format!(
                    "waits for a person: {} ({})",
                    one_line(&asked.tool, 60),
                    one_line(&asked.call_id, 60)
                )));
            }
            EventBody::EgressDecided(decided) => {
                let denied = decided.decisions.iter().filter(|decision| !decision.allowed);
                for decision in denied.take(5) {
                    let place = || format!("{}:{}", decision.host, decision.port);
                    let advice = decision.advice.clone().unwrap_or_else(place);
                    let advice = one_line(advice.trim_start_matches("denied: "), 300);
                    self.line(&style.note(&format!("  network denied: {advice}")));
                }
            }
            EventBody::LimitReached(limit) => {
                self.line(&style.note(&format!("limit reached: {} {}", limit.value, limit.limit)));
            }
            EventBody::RunFinished(finished) => self.ended(&finished.outcome),
            EventBody::RunPaused(paused) => {
                self.doing = None;
                let why = format!("{:?}", paused.reason).to_lowercase();
                self.line(
                    &style.note(&format!("paused ({why}) {}", one_line(&paused.message, 400))),
                );
                self.summary();
            }
            _ => {}
        }
    }

    fn answered(&mut self, seq: Seq, answered: &ModelAnswered) {
        self.usage += answered.usage;
        self.cost += answered.cost.unwrap_or_default();
        self.items.clear();
        self.items.insert(seq, answered.output.clone());
        let streamed = self.streamed.take() == Some((answered.turn, answered.attempt));
        if streamed {
            self.end_line();
            return;
        }
        let texts: Vec<_> = answered.output.iter().filter_map(Item::message_text).collect();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            self.line(&escape(text.trim_end()));
        }
    }

    fn text_delta(&mut self, turn: u32, attempt: u32, text: &str) {
        match self.streamed {
            Some((old, tried)) if (old, tried) != (turn, attempt) => {
                self.end_line();
                let again = self.style.note("(the answer was cut off; it starts again)");
                self.line(&again);
            }
            _ => {}
        }
        self.streamed = Some((turn, attempt));
        self.clear_status();
        let shown = escape(text);
        self.at_line_start = shown.ends_with('\n');
        write(&shown);
    }

    fn describe(&self, of: Seq, index: u32, tool: &str) -> String {
        let items = self.items.get(&of);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let fields = items.and_then(|items| items.get(index)).map(Item::fields).unwrap_or_default();
        describe_call(tool, &fields)
    }

    fn finished(&mut self, finished: &CallFinished) {
        let style = self.style;
        self.doing = None;
        let known = self.calls.remove(&(finished.of, finished.index));
        let took = known.map(|(_, began)| duration(began.elapsed())).unwrap_or_default();
        let report = &finished.report;
        let text = match (&report.session, report.exit_code) {
            (Some(session), None) => {
                style.note(&format!("  goes on as session {} · {took}", session.id))
            }
            (_, Some(0)) => style.good(&format!("  ok · {took}")),
            (_, Some(code)) => style.bad(&format!("  exit {code} · {took}")),
            (_, None) if report.failed => style.bad(&format!("  failed · {took}")),
            (_, None) => style.good(&format!("  ok · {took}")),
        };
        self.line(&text);
        if report.failed || report.exit_code.is_some_and(|code| code != 0) {
            self.show_tail(finished);
        }
    }

    fn show_tail(&mut self, finished: &CallFinished) {
        let output = finished.output.as_ref().and_then(|item| item.fields().output);
        let text = output.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
        let text = text.split_once("Output:\n").map_or(text, |(_, output)| output);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
            let shown = one_line(line, columns().saturating_sub(4).max(8));
            self.line(&self.style.dim(&format!("  │ {shown}")));
        }
    }

    fn ended(&mut self, outcome: &RunOutcome) {
        self.doing = None;
        let style = self.style;
        match outcome {
            RunOutcome::Final { .. } => {}
            RunOutcome::Error { error, message } => {
                self.line(&style.bad(&format!("{error}: {}", one_line(message, 2000))));
            }
            RunOutcome::Cancelled => self.line(&style.note("cancelled")),
        }
        self.summary();
    }

    fn summary(&mut self) {
        let text = format!("{} · {}", self.figures(), duration(self.began.elapsed()));
        self.line(&self.style.dim(&text));
    }

    fn figures(&self) -> String {
        let tokens = self.usage.input_tokens.saturating_add(self.usage.output_tokens);
        let cached = match self.usage.cached_tokens {
            0 => String::new(),
            cached => format!(" ({} cached)", count(cached)),
        };
        let cost = match self.cost {
            Cost(0) => String::new(),
            cost => format!(" · {}", usd(cost.as_usd())),
        };
        format!("{} tokens{cached}{cost}", count(tokens))
    }

    fn line(&mut self, text: &str) {
        self.clear_status();
        self.end_line();
        write(&format!("{text}\n"));
    }

    fn end_line(&mut self) {
        if !self.at_line_start {
            write("\n");
            self.at_line_start = true;
        }
    }

    fn draw_status(&mut self) {
        let Some((what, since)) = &self.doing else { return };
        if !self.at_line_start || since.elapsed() < TICK {
            return;
        }
        let text = format!("{} · {} · {}", what, duration(since.elapsed()), self.figures());
        let shown = self.style.dim(&one_line(&text, columns().saturating_sub(1).max(8)));
        write(&format!("\r\u{1b}[K{shown}"));
        self.status_shown = true;
    }

    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_shown) {
            write("\r\u{1b}[K");
        }
    }
}

/// One line that says what a call does.
pub(crate) fn describe_call(tool: &str, fields: &ItemFields) -> String {
    let arguments = fields.arguments.as_deref().unwrap_or_default();
    let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap_or_default();
    let text = |name: &str| arguments.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let ours = ["exec_command", "write_stdin", "view_image", "apply_patch"].contains(&tool);
    if ours && fields.arguments.is_none() && fields.input.is_none() {
        // It was asked for before this process began to listen.
        return format!("{tool}, asked for before");
    }
    match tool {
        "exec_command" => format!("$ {}", text("cmd").unwrap_or_default()),
        "write_stdin" => {
            let session = arguments.get("session_id").map(ToString::to_string).unwrap_or_default();
            match text("chars").filter(|chars| !chars.is_empty()) {
                Some(chars) => format!("type into {session}: {chars}"),
                None => format!("wait for {session}"),
            }
        }
        "view_image" => format!("look at {}", text("path").unwrap_or_default()),
        "apply_patch" => {
            let files = fields.input.as_deref().unwrap_or_default().lines();
            let files = files.filter_map(|line| line.strip_prefix("*** ")?.split_once(" File: "));
            let files = files.map(|(_, path)| path.trim()).collect::<Vec<_>>().join(", ");
            format!("patch {files}")
        }
        other => format!("{other} {}", fields.arguments.as_deref().unwrap_or_default()),
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell when standard error is gone.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
