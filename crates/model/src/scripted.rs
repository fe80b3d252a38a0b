use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use moat_core::{Item, Usage};

use crate::{
    Delta, DeltaKind, DeltaSink, Model, ModelError, ModelErrorClass, ModelRequest, ModelResponse,
};

/// A model for unit tests: answers in order, in this process, without HTTP.
///
/// Unlike the replay model it has state: one turn is used up per call, whoever asks. It keeps the
/// requests that it was asked.
#[derive(Debug, Default)]
pub struct ScriptedModel {
    turns: Mutex<VecDeque<ScriptedTurn>>,
    requests: Mutex<Vec<ModelRequest>>,
    answered: Mutex<u32>,
}

/// One turn of a [`ScriptedModel`].
#[derive(Debug)]
pub enum ScriptedTurn {
    /// The call is answered.
    Answer {
        /// The items.
        output: Vec<Item>,
        /// Tokens; one request and nothing else if not given.
        usage: Option<Usage>,
        /// The answer's id; `resp_<n>`, counted from 1, if not given.
        response_id: Option<String>,
    },
    /// The call fails.
    Fail(ModelError),
    /// The call does not end until it is dropped.
    Hang,
}

impl From<Vec<Item>> for ScriptedTurn {
    fn from(output: Vec<Item>) -> Self {
        Self::Answer { output, usage: None, response_id: None }
    }
}

impl From<ModelError> for ScriptedTurn {
    fn from(error: ModelError) -> Self {
        Self::Fail(error)
    }
}

impl ScriptedTurn {
    /// A call that fails with [`ModelErrorClass::Scripted`].
    pub fn failure(message: impl Into<String>) -> Self {
        Self::Fail(ModelError {
            class: ModelErrorClass::Scripted,
            status: None,
            message: message.into(),
            retry_after: None,
            should_retry: None,
        })
    }
}

impl ScriptedModel {
    /// A model with these turns.
    pub fn new<T: Into<ScriptedTurn>>(turns: impl IntoIterator<Item = T>) -> Self {
        Self { turns: Mutex::new(turns.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Adds a turn at the end.
    pub fn push(&self, turn: impl Into<ScriptedTurn>) {
        lock(&self.turns).push_back(turn.into());
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<ModelRequest> {
        lock(&self.requests).clone()
    }

    /// How many turns nobody asked for yet.
    pub fn remaining(&self) -> usize {
        lock(&self.turns).len()
    }

    fn next_response_id(&self) -> String {
        let mut answered = lock(&self.answered);
        *answered = answered.saturating_add(1);
        format!("resp_{answered}")
    }
}

#[async_trait]
impl Model for ScriptedModel {
    async fn respond(
        &self,
        request: &ModelRequest,
        deltas: DeltaSink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        lock(&self.requests).push(request.clone());
        let turn = lock(&self.turns).pop_front();
        match turn {
            Some(ScriptedTurn::Answer { output, usage, response_id }) => {
                if request.stream {
                    stream(&output, deltas);
                }
                Ok(ModelResponse {
                    id: Some(response_id.unwrap_or_else(|| self.next_response_id())),
                    model: request.model.clone(),
                    output,
                    usage: usage.unwrap_or(Usage { requests: 1, ..Usage::default() }),
                    cost: None,
                    first_output: None,
                })
            }
            Some(ScriptedTurn::Fail(error)) => Err(error),
            Some(ScriptedTurn::Hang) => std::future::pending().await,
            None => Err(ModelError {
                class: ModelErrorClass::Diverged,
                status: None,
                message: "the scripted model has no turns left".to_owned(),
                retry_after: None,
                should_retry: None,
            }),
        }
    }

    fn label(&self) -> Option<&str> {
        Some("scripted")
    }
}

/// One delta per item that has text.
fn stream(output: &[Item], deltas: DeltaSink<'_>) {
    for (index, item) in output.iter().enumerate() {
        let fields = item.fields();
        let (kind, text) = match fields.arguments.or(fields.input) {
            Some(text) => (DeltaKind::Arguments, Some(text)),
            None => (DeltaKind::Text, item.message_text()),
        };
        if let (Some(text), Ok(item)) = (text, u32::try_from(index)) {
            deltas(Delta { item, kind, offset: 0, text });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[tokio::test]
    async fn turns_are_used_up_in_order_and_requests_are_kept() {
        let model = ScriptedModel::new([vec![Item::user_message("one")]]);
        model.push(ScriptedTurn::failure("no"));
        let request = ModelRequest {
            model: "m".to_owned(),
            instructions: None,
            input: vec![Item::user_message("hi")],
            tools: Vec::new(),
            settings: Map::new(),
            stream: true,
            cache_key: None,
        };
        let answer = model.respond(&request, &|delta| assert_eq!(delta.text, "one")).await.unwrap();
        assert_eq!((answer.id.as_deref(), answer.usage.requests), (Some("resp_1"), 1));
        let class = |error: ModelError| error.class;
        let failed = model.respond(&request, &|_| {}).await.map_err(class);
        assert_eq!(failed.unwrap_err(), ModelErrorClass::Scripted);
        let failed = model.respond(&request, &|_| {}).await.map_err(class);
        assert_eq!(failed.unwrap_err(), ModelErrorClass::Diverged);
        assert_eq!((model.requests().len(), model.remaining()), (3, 0));
    }
}
