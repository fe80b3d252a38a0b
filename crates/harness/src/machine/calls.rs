//! The calls of one answer.

use std::collections::BTreeMap;

use moat_core::{AgentRecord, Category, Hash, Item, ItemFields, RepeatedCalls, Seq, ToolRecord};

use super::{Answer, text};

/// One call of an answer and how far it has come.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its place among the answer's output items.
    pub index: u32,
    /// The provider's id.
    pub call_id: String,
    /// The tool that it names.
    pub tool: String,
    /// How it runs beside others.
    pub category: Category,
    /// Arguments or input, as the model wrote them.
    pub arguments: String,
    /// The tool acts on the sandbox only.
    pub sandbox: bool,
    /// The agent has such a tool.
    pub known: bool,
    /// A person has to agree first.
    pub needs_approval: bool,
    /// The attempt that runs, or is to run next.
    pub attempt: u32,
    /// A number for the session that it may start; unique in the run.
    pub session: u32,
    /// How far it has come.
    pub state: CallState,
    pub(crate) fingerprint: Hash,
}

/// How far a call has come.
#[derive(Clone, Debug)]
pub enum CallState {
    /// Not begun.
    Pending,
    /// A person was asked.
    Asked,
    /// A person agreed.
    Approved,
    /// A person refused, with this word to the model.
    Rejected(Option<String>),
    /// An attempt was begun and has no outcome.
    Started,
    /// It has an outcome.
    Finished {
        /// What joins the conversation.
        output: Option<Item>,
        /// What the tool returned, where that was not text.
        value: Option<serde_json::Value>,
    },
    /// It ends the run.
    Failed {
        /// The kind of error.
        error: String,
        /// What to tell a person.
        message: String,
    },
}

impl Call {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, CallState::Finished { .. })
    }
}

/// What the calls of an answer are read against.
pub(crate) struct Reading<'a> {
    pub(crate) agent: &'a AgentRecord,
    pub(crate) offered: Option<&'a [String]>,
    pub(crate) ledger: &'a BTreeMap<String, Hash>,
    pub(crate) repeated: RepeatedCalls,
    pub(crate) always: &'a BTreeMap<String, bool>,
    /// Calls of earlier answers: sessions are numbered on from here.
    pub(crate) calls_made: u32,
}

/// The first number that a session can have. The peer draws from 1,000 to 99,999; counting up
/// stays in that range for any run that a person would read, and is the same in a replay.
const FIRST_SESSION: u32 = 1_000;

impl Reading<'_> {
    pub(crate) fn read(&self, seq: Seq, output: &[Item]) -> Answer {
        let mut answer =
            Answer { seq, items: Vec::new(), calls: Vec::new(), repeats: false, error: None };
        for (index, item) in (0u32..).zip(output) {
            let fields = item.fields();
            let Some((category, name)) = category_and_name(&fields) else {
                answer.items.push(item.clone());
                continue;
            };
            let call = self.call(index, category, name, &fields, answer.calls.len());
            if call.call_id.is_empty() {
                answer.error = Some(model_error(text::EMPTY_CALL_ID.to_owned()));
            }
            if self.repeated == RepeatedCalls::Skip {
                match self.earlier(&call, &answer.calls) {
                    Some(earlier) if earlier == call.fingerprint => {
                        answer.repeats = true;
                        continue;
                    }
                    Some(_) => {
                        answer.error.get_or_insert_with(|| model_error(reused_id(&call.call_id)));
                    }
                    None => {}
                }
            }
            answer.items.push(item.clone());
            answer.calls.push(call);
        }
        answer
    }

    fn earlier(&self, call: &Call, beside: &[Call]) -> Option<Hash> {
        let beside = beside.iter().find(|other| other.call_id == call.call_id);
        beside.map(|other| other.fingerprint).or_else(|| self.ledger.get(&call.call_id).copied())
    }

    fn call(
        &self,
        index: u32,
        category: Category,
        name: String,
        fields: &ItemFields,
        before: usize,
    ) -> Call {
        let tool = self.tool(&name);
        let arguments = fields.arguments.clone().or_else(|| fields.input.clone());
        let arguments = arguments.unwrap_or_default();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let needs_approval = tool.is_some_and(|tool| tool.needs_approval);
        let state = match (needs_approval, self.always.get(&name)) {
            (true, Some(true)) => CallState::Approved,
            (true, Some(false)) => CallState::Rejected(None),
            _ => CallState::Pending,
        };
        Call {
            index,
            call_id: fields.call_id.clone().unwrap_or_default(),
            category,
            fingerprint: fingerprint(category, &name, &arguments),
            arguments,
            sandbox: tool.is_some_and(|tool| tool.sandbox),
            known: tool.is_some(),
            needs_approval,
            attempt: 1,
            session: FIRST_SESSION.saturating_add(self.calls_made).saturating_add(before),
            state,
            tool: name,
        }
    }

    fn tool(&self, name: &str) -> Option<&ToolRecord> {
        let offered = self.offered.is_none_or(|offered| offered.iter().any(|tool| tool == name));
        self.agent.tools.iter().rev().find(|tool| tool.name == name && offered)
    }
}

fn model_error(message: String) -> (String, String) {
    ("ModelBehaviorError".to_owned(), message)
}

fn reused_id(call_id: &str) -> String {
    format!("Tool call ID `{call_id}` was already used for a different tool invocation.")
}

/// Whether an item is a call that this side has to make, and of what.
fn category_and_name(fields: &ItemFields) -> Option<(Category, String)> {
    let named = || fields.name.clone().unwrap_or_default();
    Some(match fields.kind.as_deref()? {
        "function_call" => (Category::Function, named()),
        "custom_tool_call" => (Category::Custom, named()),
        "computer_call" => (Category::Computer, "computer".to_owned()),
        "shell_call" => (Category::Shell, "shell".to_owned()),
        "apply_patch_call" => (Category::ApplyPatch, "apply_patch".to_owned()),
        "local_shell_call" => (Category::LocalShell, "local_shell".to_owned()),
        _ => return None,
    })
}

/// Equal for calls that ask for the same thing: arguments count as JSON where they are JSON.
fn fingerprint(category: Category, name: &str, arguments: &str) -> Hash {
    let canonical = serde_json::from_str::<serde_json::Value>(arguments)
        .map_or_else(|_| arguments.to_owned(), |value| value.to_string());
    Hash::of(format!("{category:?}\0{name}\0{canonical}").as_bytes())
}
