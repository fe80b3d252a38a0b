//! What others put into the run's inbox becomes events, taken up in the append's transaction.

use moat_core::{ApprovalGiven, CancelRequested, EventBody, Item, Steered};
use moat_journal::InboxEntry;
use serde::Deserialize;

use super::{DriveError, Driver};
use crate::machine::{State, Status};

/// Body of an `approve` or `reject` entry.
#[derive(Debug, Deserialize)]
struct Decision {
    /// The provider's id of the call that waits.
    call_id: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    always: bool,
}

#[derive(Debug, Deserialize)]
struct Steer {
    text: String,
}

#[derive(Debug, Default, Deserialize)]
struct Cancel {
    #[serde(default)]
    reason: Option<String>,
}

impl Driver {
    /// Takes up all entries that mean something now. An entry that cannot be understood, or that
    /// decides about a call that does not wait, is taken up without an effect: it would never
    /// become meaningful.
    pub(super) async fn take_inbox(&mut self) -> Result<(), DriveError> {
        for entry in self.owner.inbox().await? {
            // A message that came too late is kept for whoever gives the run more to do.
            let late = entry.kind == "steer" && matches!(self.state.status(), Status::Finished(_));
            if late || self.buffer.consumed.contains(&entry.id) {
                continue;
            }
            if let Some(body) = self.read_entry(&entry) {
                self.push(&entry.who, body)?;
            }
            self.buffer.consumed.push(entry.id);
        }
        Ok(())
    }

    /// Whether somebody asked for the run to end. Looked for while something long goes on.
    pub(super) async fn is_cancelled(&self) -> Result<bool, DriveError> {
        Ok(self.owner.inbox().await?.iter().any(|entry| entry.kind == "cancel"))
    }

    fn read_entry(&self, entry: &InboxEntry) -> Option<EventBody> {
        match entry.kind.as_str() {
            "approve" => decision(&self.state, &entry.body, true),
            "reject" => decision(&self.state, &entry.body, false),
            "steer" => {
                let steer: Steer = serde_json::from_str(&entry.body).ok()?;
                Some(Steered { input: vec![Item::user_message(&steer.text)] }.into())
            }
            "cancel" => {
                let over = self.state.is_over();
                let cancel: Cancel = serde_json::from_str(&entry.body).unwrap_or_default();
                (!over).then(|| CancelRequested { reason: cancel.reason }.into())
            }
            _ => None,
        }
    }
}

fn decision(state: &State, body: &str, approved: bool) -> Option<EventBody> {
    let decision: Decision = serde_json::from_str(body).ok()?;
    let (of, _, _) = state.open_answer()?;
    let waiting = state.waiting();
    let call = waiting.iter().find(|call| call.call_id == decision.call_id)?;
    let (message, always) = (decision.message, decision.always);
    Some(ApprovalGiven { of, index: call.index, approved, message, always }.into())
}
