//! What was said between two events of a run.

use std::io::Write;

use moat_core::{Event, EventBody, Item, Seq};
use serde_json::{Value, json};

use crate::escape::one_line;
use crate::view::describe_call;

/// One thing that was said.
pub(super) struct Said {
    seq: Seq,
    who: &'static str,
    /// The place in an answer, for calls.
    index: Option<u32>,
    text: String,
    item: Item,
}

/// Everything said after `from`, up to and with `to`.
pub(super) fn between(events: &[Event], from: Seq, to: Seq) -> Vec<Said> {
    let inside = |event: &&Event| event.header.seq > from && event.header.seq <= to;
    let mut all = Vec::new();
    for event in events.iter().filter(inside) {
        let seq = event.header.seq;
        let mut say = |who, index, text: Option<String>, item: &Item| {
            let text = text.filter(|text| !text.trim().is_empty());
            all.extend(text.map(|text| Said { seq, who, index, text, item: item.clone() }));
        };
        match &event.body {
            EventBody::RunStarted(started) => {
                started.input.iter().for_each(|item| say("user", None, item.message_text(), item));
            }
            EventBody::RunContinued(more) => {
                more.input.iter().for_each(|item| say("user", None, item.message_text(), item));
            }
            EventBody::Steered(steered) => {
                let input = steered.input.iter();
                input.for_each(|item| say("steered", None, item.message_text(), item));
            }
            EventBody::ModelAnswered(answered) => {
                for (index, item) in (0..).zip(&answered.output) {
                    let fields = item.fields();
                    if let (Some(_), Some(tool)) = (&fields.call_id, &fields.name) {
                        say("call", Some(index), Some(describe_call(tool, &fields)), item);
                    } else if let Some(text) = item.message_text() {
                        say("model", None, Some(text), item);
                    } else {
                        say("reasoning", None, item.reasoning_text(), item);
                    }
                }
            }
            EventBody::CallFinished(finished) => {
                if let Some(item) = &finished.output {
                    let text = item.fields().output.map(|output| match output {
                        Value::String(text) => text,
                        other => other.to_string(),
                    });
                    say("output", None, text, item);
                }
            }
            _ => {}
        }
    }
    all
}

impl Said {
    pub(super) fn row(&self) -> Value {
        json!({ "seq": self.seq, "kind": self.who, "index": self.index, "item": self.item })
    }

    /// One line, that a patch tool takes for a comment.
    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let place = match self.index {
            Some(index) => format!("[{}.{index}]", self.seq),
            None => format!("[{}]", self.seq),
        };
        writeln!(out, "# {place:<8} {:<9} {}", self.who, one_line(&self.text, 160))
    }
}
