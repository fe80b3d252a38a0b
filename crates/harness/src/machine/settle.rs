//! Closing an answer: its items and its calls' outputs join the conversation, in the order that
//! clients depend on, once every call has its outcome.

use moat_core::Item;

use super::{Answer, Call, CallState, Origin, Settled, State};

impl State {
    /// Closes the open answer if nothing of it is left to do.
    pub(super) fn settle_if_done(&mut self) {
        let done =
            |answer: &Answer| answer.error.is_none() && answer.calls.iter().all(Call::is_done);
        let Some(answer) = self.answer.take_if(|answer| done(answer)) else { return };
        self.settled = Some(Settled {
            had_calls: !answer.calls.is_empty() || answer.repeats,
            hosted_activity: answer.items.iter().any(is_hosted_activity),
            last_message: answer.items.iter().rev().find(|item| is_message(item)).cloned(),
        });
        for item in answer.items {
            self.conversation.push(Origin::Model, item, None);
        }
        for call in in_output_order(answer.calls) {
            self.ledger.insert(call.call_id, call.fingerprint);
            if let CallState::Finished { output: Some(output), value } = call.state {
                self.conversation.push(Origin::Tool, output, value);
            }
        }
        self.take_in_steering();
    }

    /// Messages that came while calls were open join the conversation behind the outputs.
    pub(super) fn take_in_steering(&mut self) {
        for item in std::mem::take(&mut self.steered) {
            self.conversation.push(Origin::Input, item, None);
            self.settled = None;
        }
    }
}

/// Categories in their fixed order, calls in the order of the answer within, unknown tools last.
fn in_output_order(mut calls: Vec<Call>) -> Vec<Call> {
    calls.sort_by_key(|call| (!call.known, call.category, call.index));
    calls
}

fn is_message(item: &Item) -> bool {
    let fields = item.fields();
    fields.kind.as_deref() == Some("message") && fields.role.as_deref() == Some("assistant")
}

/// Items of tools that the provider itself runs: without a message beside them the run goes on.
fn is_hosted_activity(item: &Item) -> bool {
    !matches!(item.fields().kind.as_deref(), None | Some("message" | "reasoning" | "compaction"))
}
