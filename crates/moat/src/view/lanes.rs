//! Several runs at once: a line for each that goes on, drawn again in place. Silent where a
//! terminal cannot do that.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use moat_core::{Event, EventBody, Item, Seq};
use moat_harness::driver::Observer;

use super::live::describe_call;
use super::style::{Style, columns, count, duration};
use crate::escape::one_line;

/// How often the lines are drawn.
const TICK: Duration = Duration::from_millis(250);
/// Lines that are drawn at most; more would scroll away.
const MOST_LINES: usize = 16;

/// The lines at the bottom of the terminal.
pub(crate) struct Lanes(Mutex<Board>);

struct Board {
    style: Style,
    lanes: Vec<State>,
    /// Lines that stand on the terminal.
    drawn: usize,
}

struct State {
    name: String,
    turn: u32,
    tokens: u64,
    /// What it does, and since when; absent: it has not begun, or is over.
    doing: Option<(String, Instant)>,
    items: HashMap<Seq, Vec<Item>>,
}

/// One of them: hears what its run does.
#[derive(Clone)]
pub(crate) struct Lane {
    lanes: Arc<Lanes>,
    at: usize,
}

impl Lanes {
    /// Nothing is drawn if not `shown`, or where lines cannot be drawn again.
    pub(crate) fn start(style: Style, shown: bool, names: Vec<String>) -> Arc<Self> {
        let state = |name| State { name, turn: 0, tokens: 0, doing: None, items: HashMap::new() };
        let lanes = names.into_iter().map(state).collect();
        let lanes = Arc::new(Self(Mutex::new(Board { style, lanes, drawn: 0 })));
        if style.redraw && shown {
            tick(Arc::downgrade(&lanes));
        }
        lanes
    }

    pub(crate) fn lane(self: &Arc<Self>, at: usize) -> Lane {
        Lane { lanes: self.clone(), at }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws until the lines are gone.
fn tick(lanes: Weak<Lanes>) {
    std::thread::spawn(move || {
        while let Some(lanes) = lanes.upgrade() {
            lanes.lock().draw();
            drop(lanes);
            std::thread::sleep(TICK);
        }
    });
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.lock().clear();
    }
}

impl Lane {
    /// Says what goes on that is no event of the run.
    pub(crate) fn say(&self, what: &str) {
        self.with(|state| state.doing = Some((what.to_owned(), Instant::now())));
    }

    /// Nothing goes on any more.
    pub(crate) fn over(&self) {
        self.with(|state| state.doing = None);
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.lanes.lock().lanes.get_mut(self.at) {
            change(state);
        }
    }
}

impl Observer for Lane {
    fn event(&self, event: &Event) {
        self.with(|state| state.hear(event));
    }
}

impl State {
    fn hear(&mut self, event: &Event) {
        let now = Instant::now();
        match &event.body {
            EventBody::ModelRequested(requested) => {
                self.turn = requested.turn;
                self.doing = Some(("thinking".to_owned(), now));
            }
            EventBody::ModelAnswered(answered) => {
                let usage = answered.usage;
                let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
                self.tokens = self.tokens.saturating_add(tokens);
                self.items.clear();
                self.items.insert(event.header.seq, answered.output.clone());
            }
            EventBody::CallStarted(started) => {
                let items = self.items.get(&started.of);
                let place = usize::try_from(started.index).unwrap_or(usize::MAX);
                let item = items.and_then(|items| items.get(place));
                let fields = item.map(Item::fields).unwrap_or_default();
                self.doing = Some((describe_call(&started.tool, &fields), now));
            }
            EventBody::ModelFailed(failed) => {
                self.doing = Some((format!("model: {}", failed.message), now));
            }
            _ => {}
        }
    }

    fn line(&self, now: Instant, width: usize) -> Option<String> {
        let (what, since) = self.doing.as_ref()?;
        let took = duration(now.saturating_duration_since(*since));
        let text = format!(
            "{} · turn {} · {} tokens · {took} · {what}",
            self.name,
            self.turn,
            count(self.tokens)
        );
        Some(one_line(&text, width))
    }
}

impl Board {
    fn draw(&mut self) {
        let frame = self.frame(Instant::now(), columns().saturating_sub(1).max(8));
        let mut text = self.up();
        for line in &frame {
            text.push_str(&self.style.dim(line));
            text.push('\n');
        }
        self.drawn = frame.len();
        write(&text);
    }

    fn clear(&mut self) {
        let up = self.up();
        self.drawn = 0;
        write(&up);
    }

    /// To the first line that stands, and nothing behind it.
    fn up(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\r\u{1b}[{lines}A\u{1b}[J"),
        }
    }

    /// The lines, without colours; each fits.
    fn frame(&self, now: Instant, width: usize) -> Vec<String> {
        let lines: Vec<_> = self.lanes.iter().filter_map(|state| state.line(now, width)).collect();
        let more = lines.len().saturating_sub(MOST_LINES);
        let mut lines: Vec<_> = lines.into_iter().take(MOST_LINES).collect();
        if more > 0 {
            lines.push(one_line(&format!("and {more} more"), width));
        }
        lines
    }
}

fn write(text: &str) {
    if text.is_empty() {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell when standard error is gone.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Colour;

    #[test]
    fn lines_fit_and_nothing_in_them_acts() {
        let names = (0..20).map(|at| format!("{at}")).collect();
        let lanes = Lanes::start(Style::of_stderr(Colour::Never), false, names);
        lanes.lane(3).say("$ \u{1b}[2J\nrm -rf a very long line that does not fit any more");
        let frame = |width| lanes.lock().frame(Instant::now(), width);
        let lines = frame(50);
        assert_eq!(lines.len(), 1, "lanes that have not begun have no line");
        assert_eq!(lines[0].chars().count(), 50);
        assert!(!lines[0].contains('\u{1b}') && !lines[0].contains('\n'), "{lines:?}");
        (0..20).for_each(|at| lanes.lane(at).say("works"));
        let lines = frame(50);
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert_eq!(lines.last().unwrap(), "and 4 more");
        (0..20).for_each(|at| lanes.lane(at).over());
        assert!(frame(50).is_empty());
    }
}
