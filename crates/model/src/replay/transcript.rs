use moat_core::{Item, Retryable};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::expand::{self, ItemError};

/// What a replay model says, turn by turn.
///
/// A transcript is YAML, or JSON lines with one turn per line:
///
/// ```yaml
/// about: Finds the bug and fixes it.      # free text
/// chunk: 12                               # characters per delta, for all turns
/// turns:
///   - expect:
///       last_message_contains: failing
///     output:
///       - {type: reasoning, summary: I run the tests first.}
///       - {type: message, text: Let me look.}
///       - {type: function_call, name: exec_command, arguments: {cmd: make test}}
///   - expect:
///       last_output_contains: [FAILED, "1 test"]
///     faults:
///       - {status: 429, code: rate_limit_exceeded, message: slow down, retry_after_ms: 5}
///       - {cut_after_events: 3}
///     output:
///       - type: custom_tool_call
///         name: apply_patch
///         input: |
///           *** Begin Patch
///           …
///   - output:
///       - {type: message, template: "Done: {last_output}"}
/// ```
///
/// **Items.** Any item of the Responses API is sent as it is written, with two additions where they
/// are missing: `id`, and `call_id` for calls, both derived from the place of the item
/// (`fc_replay_2_0`, `call_replay_2_0`: turn 2, item 0, counted from 0), so that they are the same
/// every time. Short forms: a message with `text` (or `template`, in which `{last_output}` and
/// `{turn}` are replaced), reasoning whose `summary` is text, and calls whose `arguments` are an
/// object. `{json: '…'}` is an item as exact JSON text, to which nothing is added.
///
/// **Which turn answers** follows from the request alone, so that a run that starts again after a
/// crash goes on where it was, and any number of runs can use one transcript at once: the input is
/// searched from its end for the last item whose `id` or `call_id` belongs to the transcript, and
/// the turn after that item's turn answers; if there is none, the first. It does not matter how
/// many calls a turn has, or in which order their outputs stand. A request after the last turn is
/// an error that says so.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// Free text.
    pub about: Option<String>,
    /// The turns, in order.
    pub turns: Vec<Turn>,
    chunk: Option<usize>,
    chunk_delay_ms: u64,
    delay_ms: u64,
}

/// One turn: the answer to one model call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Turn {
    /// What the request has to look like.
    pub expect: Option<Expectation>,
    /// What goes wrong before the answer comes, in order.
    pub faults: Vec<Fault>,
    /// The items.
    output: Vec<Value>,
    /// Milliseconds before the answer begins.
    pub delay_ms: Option<u64>,
    /// Characters per delta.
    pub chunk: Option<usize>,
    /// Milliseconds between deltas.
    pub chunk_delay_ms: Option<u64>,
    /// Token counts; estimated if not given.
    pub usage: Option<TranscriptUsage>,
    #[serde(skip)]
    pub(super) items: Vec<Planned>,
}

/// An item of a turn, ready to be sent.
#[derive(Clone, Debug)]
pub(super) enum Planned {
    Exact(Item),
    /// A message whose text is made when it is asked for.
    Template {
        /// The item with the text in it as it is written.
        item: Value,
    },
}

/// What a request has to look like. Every member that is given has to hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// Texts that the last tool output holds.
    #[serde(deserialize_with = "one_or_many")]
    pub last_output_contains: Vec<String>,
    /// Texts that the last tool output does not hold.
    #[serde(deserialize_with = "one_or_many")]
    pub last_output_lacks: Vec<String>,
    /// Texts that the outputs since the last answer hold, in any of them.
    #[serde(deserialize_with = "one_or_many")]
    pub outputs_contain: Vec<String>,
    /// How many tool outputs have come since the last answer.
    pub outputs: Option<usize>,
    /// Texts that the last message of the user holds.
    #[serde(deserialize_with = "one_or_many")]
    pub last_message_contains: Vec<String>,
    /// Texts that the instructions hold.
    #[serde(deserialize_with = "one_or_many")]
    pub instructions_contain: Vec<String>,
    /// Names of tools that are offered.
    #[serde(deserialize_with = "one_or_many")]
    pub tools_include: Vec<String>,
    /// The model that is asked.
    pub model: Option<String>,
}

/// Something that goes wrong. The first of `cut_after_events`, `malformed`, `hang`, `failed`,
/// `status` that is given says what; with none, the call fails as a scripted failure.
///
/// The attempts of a run at a turn are counted by the server, per turn and prompt cache key; they
/// start again when the server does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// An answer with this HTTP status.
    pub status: Option<u16>,
    /// `error.code`.
    pub code: Option<String>,
    /// `error.message`.
    pub message: Option<String>,
    /// Header `retry-after-ms`.
    pub retry_after_ms: Option<u64>,
    /// Header `retry-after`: seconds or a date.
    pub retry_after: Option<String>,
    /// Header `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The connection breaks after this many events of the stream; without a stream, in the middle
    /// of the body.
    pub cut_after_events: Option<usize>,
    /// What comes is not JSON.
    pub malformed: bool,
    /// No answer ever comes.
    pub hang: bool,
    /// The answer is a response that failed with this code.
    pub failed: Option<String>,
    /// How many attempts go wrong like this; 1 if not given.
    pub times: Option<u32>,
    /// All attempts do.
    pub always: bool,
}

/// Token counts of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TranscriptUsage {
    /// Tokens of the input.
    pub input_tokens: u64,
    /// Of these, read from the cache.
    pub cached_tokens: u64,
    /// Tokens of the output.
    pub output_tokens: u64,
    /// Of these, spent on reasoning.
    pub reasoning_tokens: u64,
}

/// Why a transcript cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    /// It is not of the documented form.
    #[error("the transcript cannot be read: {message} (line {line}, column {column})")]
    Form {
        /// What is wrong.
        message: String,
        /// Where, from 1; 0 if it is not known.
        line: u64,
        /// Where, from 1; 0 if it is not known.
        column: u64,
    },
    /// An item makes no sense.
    #[error("item {item} of turn {turn} of the transcript: {source}")]
    Item {
        /// The turn, from 0.
        turn: usize,
        /// The item, from 0.
        item: usize,
        /// Why.
        source: ItemError,
    },
    /// A turn has nothing to say.
    #[error("turn {turn} of the transcript has neither output nor a fault that always happens")]
    EmptyTurn {
        /// The turn, from 0.
        turn: usize,
    },
    /// Two turns share an id, so that the turn cannot be told from a request.
    #[error(
        "turns {first} and {second} of the transcript share the id `{id}`; ids tell turns apart"
    )]
    SharedId {
        /// The id or call id.
        id: String,
        /// The turn that has it first, from 0.
        first: usize,
        /// The turn that has it as well, from 0.
        second: usize,
    },
}

impl Retryable for TranscriptError {
    fn is_retryable(&self) -> bool {
        false
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    about: Option<String>,
    chunk: Option<usize>,
    chunk_delay_ms: u64,
    delay_ms: u64,
    turns: Vec<Turn>,
}

impl Transcript {
    /// Reads YAML or JSON lines, and checks everything that can be checked without a request.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        let file = match first_line(text).map(serde_json::from_str::<Value>) {
            Some(Ok(Value::Object(first))) if !first.contains_key("turns") => json_lines(text)?,
            _ => yaml(text)?,
        };
        let mut transcript = Self {
            about: file.about,
            turns: file.turns,
            chunk: file.chunk,
            chunk_delay_ms: file.chunk_delay_ms,
            delay_ms: file.delay_ms,
        };
        for (index, turn) in transcript.turns.iter_mut().enumerate() {
            turn.items = expand::items(index, &turn.output)
                .map_err(|(item, source)| TranscriptError::Item { turn: index, item, source })?;
            if turn.items.is_empty() && !turn.faults.iter().any(|fault| fault.always) {
                return Err(TranscriptError::EmptyTurn { turn: index });
            }
        }
        super::turn::Index::new(&transcript)?;
        Ok(transcript)
    }

    pub(super) fn pace(&self, turn: &Turn) -> Pace {
        Pace {
            delay_ms: turn.delay_ms.unwrap_or(self.delay_ms),
            chunk: turn.chunk.or(self.chunk).unwrap_or(24).max(1),
            chunk_delay_ms: turn.chunk_delay_ms.unwrap_or(self.chunk_delay_ms),
        }
    }
}

/// How fast an answer comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub delay_ms: u64,
    pub chunk: usize,
    pub chunk_delay_ms: u64,
}

fn first_line(text: &str) -> Option<&str> {
    text.lines().find(|line| !line.trim().is_empty())
}

fn json_lines(text: &str) -> Result<File, TranscriptError> {
    let mut turns = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        turns.push(serde_json::from_str(line).map_err(|error| TranscriptError::Form {
            message: error.to_string(),
            line: index as u64 + 1,
            column: error.column() as u64,
        })?);
    }
    Ok(File { turns, ..File::default() })
}

fn yaml(text: &str) -> Result<File, TranscriptError> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        TranscriptError::Form {
            message: error.without_snippet().to_string(),
            line: place.map_or(0, |place| place.line()),
            column: place.map_or(0, |place| place.column()),
        }
    })
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}
