use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use moat_core::Item;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::failure::{self, Failure};
use crate::sse::{SseEvent, SseLimits, SseParser};
use crate::{Delta, DeltaKind, DeltaSink};

/// Folds the events of one streamed answer.
///
/// The answer is what the terminal event says. Items that were finished on the way are a check on
/// it: a call that came by and is not in the end's output, or is there as another call, means that
/// the two halves do not belong together. If the terminal event has no output, as some servers do
/// it, the items from on the way are the output.
pub(super) struct AnswerStream<'a> {
    parser: SseParser,
    deltas: DeltaSink<'a>,
    started: Instant,
    peer: &'a str,
    first_output: Option<Duration>,
    offsets: HashMap<(u32, DeltaKind), u64>,
    finished: BTreeMap<u32, Item>,
}

/// The members that any event that counts has. `delta` and `item` keep their text.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    output_index: Option<u32>,
    #[serde(default)]
    summary_index: Option<u32>,
    #[serde(default, borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default, borrow)]
    item: Option<&'a RawValue>,
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

impl<'a> AnswerStream<'a> {
    pub(super) fn new(deltas: DeltaSink<'a>, started: Instant, peer: &'a str) -> Self {
        Self {
            parser: SseParser::new(SseLimits::default()),
            deltas,
            started,
            peer,
            first_output: None,
            offsets: HashMap::new(),
            finished: BTreeMap::new(),
        }
    }

    /// From sending the request to the first piece of output.
    pub(super) fn first_output(&self) -> Option<Duration> {
        self.first_output
    }

    /// Takes the next bytes; the answer, once it is whole.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Failure> {
        let mut events = Vec::new();
        let parsed = self.parser.push(bytes, &mut events);
        for event in events {
            if let Some(answer) = self.take(&event)? {
                return Ok(Some(answer));
            }
        }
        parsed.map_err(|error| failure::malformed(self.peer, &error))?;
        Ok(None)
    }

    /// Takes the end of the stream. An event without its blank line counts if it is whole;
    /// otherwise the stream was cut off.
    pub(super) fn finish(mut self) -> Result<(Answer, Option<Duration>), Failure> {
        if let Ok(Some(event)) = std::mem::take(&mut self.parser).finish()
            && let Ok(Some(answer)) = self.take(&event)
        {
            return Ok((answer, self.first_output));
        }
        Err(failure::cut(self.peer))
    }

    fn take(&mut self, event: &SseEvent) -> Result<Option<Answer>, Failure> {
        if event.data == "[DONE]" {
            return Ok(None);
        }
        let parsed: Event<'_> =
            serde_json::from_str(&event.data).map_err(|error| self.malformed(&error))?;
        // The event's name is the fallback for servers that put the type only there.
        match parsed.kind.as_deref().unwrap_or(&event.name) {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.delta(&parsed, DeltaKind::Text)?;
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.delta(&parsed, DeltaKind::Reasoning)?;
            }
            "response.reasoning_summary_part.added" if parsed.summary_index > Some(0) => {
                self.emit(parsed.output_index, DeltaKind::Reasoning, "\n\n".to_owned());
            }
            "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.mcp_call_arguments.delta" => self.delta(&parsed, DeltaKind::Arguments)?,
            "response.output_item.added" => self.note_output(),
            "response.output_item.done" => self.item_done(&parsed)?,
            "response.completed" | "response.failed" | "response.incomplete" => {
                return self.terminal(&parsed).map(Some);
            }
            "error" => return Err(failure::reported(&json(&event.data))),
            // Anything else may come to exist; only a bare `error` member means the end.
            _ => {
                if let Some(error) = parsed.error.map(|raw| json(raw.get()))
                    && !error.is_null()
                {
                    return Err(failure::reported(&error));
                }
            }
        }
        Ok(None)
    }

    fn delta(&mut self, event: &Event<'_>, kind: DeltaKind) -> Result<(), Failure> {
        let text = event.delta.map_or(Ok(String::new()), |raw| serde_json::from_str(raw.get()));
        let text = text.map_err(|error| self.malformed(&error))?;
        self.emit(event.output_index, kind, text);
        Ok(())
    }

    fn emit(&mut self, item: Option<u32>, kind: DeltaKind, text: String) {
        self.note_output();
        let item = item.unwrap_or_default();
        let offset = self.offsets.entry((item, kind)).or_default();
        let delta = Delta { item, kind, offset: *offset, text };
        *offset = offset.saturating_add(delta.text.len() as u64);
        if !delta.text.is_empty() {
            (self.deltas)(delta);
        }
    }

    fn note_output(&mut self) {
        self.first_output.get_or_insert_with(|| self.started.elapsed());
    }

    fn item_done(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        self.note_output();
        let raw = event.item.ok_or_else(|| {
            failure::malformed(self.peer, &"an event `response.output_item.done` has no item")
        })?;
        let next = self.finished.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let item = Item::from_json(raw.get().to_owned()).map_err(|error| self.malformed(&error))?;
        self.finished.insert(event.output_index.unwrap_or(next), item);
        Ok(())
    }

    fn terminal(&mut self, event: &Event<'_>) -> Result<Answer, Failure> {
        self.note_output();
        let raw = event
            .response
            .ok_or_else(|| failure::malformed(self.peer, &"the last event has no response"))?;
        let mut answer: Answer =
            serde_json::from_str(raw.get()).map_err(|error| self.malformed(&error))?;
        let finished = std::mem::take(&mut self.finished);
        match &answer.output {
            Some(output) if !output.is_empty() => self.check(&finished, output)?,
            _ => answer.output = Some(finished.into_values().collect()),
        }
        Ok(answer)
    }

    fn check(&self, finished: &BTreeMap<u32, Item>, output: &[Item]) -> Result<(), Failure> {
        // Servers that are in order repeat the items byte for byte, so nothing has to be parsed.
        let changed: Vec<_> = finished
            .iter()
            .filter(|(index, item)| {
                let last = usize::try_from(**index).ok().and_then(|index| output.get(index));
                last.is_none_or(|last| last.json() != item.json())
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let calls: Vec<_> = output.iter().map(call).collect();
        for (index, item) in changed {
            let streamed = call(item);
            if streamed.is_some() && !calls.contains(&streamed) {
                return Err(failure::malformed(
                    self.peer,
                    &format!("call {index} of the stream is not in the final answer"),
                ));
            }
        }
        Ok(())
    }

    fn malformed(&self, error: &serde_json::Error) -> Failure {
        failure::malformed(self.peer, &failure::JsonShape(error))
    }
}

/// What makes a call the same call.
#[derive(PartialEq)]
struct Call {
    id: String,
    name: Option<String>,
    /// Arguments or freeform input.
    text: Option<String>,
}

/// `None` for items that are no calls.
fn call(item: &Item) -> Option<Call> {
    let fields = item.fields();
    Some(Call { id: fields.call_id?, name: fields.name, text: fields.arguments.or(fields.input) })
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}
