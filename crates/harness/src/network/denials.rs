use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use moat_core::EgressDecision;

/// Refusals that are remembered at once.
const MOST_KEPT: usize = 64;

/// What a network refused lately, as sentences for model and person.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// How many there were in all.
    count: u64,
    last: VecDeque<String>,
}

impl Denials {
    pub(super) fn hear(&self, decision: &EgressDecision) {
        if decision.allowed {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.last.len() == MOST_KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(sentence(decision));
        kept.count += 1;
    }

    /// A place in time, for [`Denials::since`].
    pub fn mark(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// What was refused since then, each once, at most `most`.
    pub fn since(&self, mark: u64, most: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(kept.count.saturating_sub(mark)).unwrap_or(usize::MAX);
        let skipped = kept.last.len().saturating_sub(new);
        let mut said: Vec<String> = Vec::new();
        for one in kept.last.iter().skip(skipped) {
            if said.len() < most && !said.contains(one) {
                said.push(one.clone());
            }
        }
        said
    }
}

/// The advice of the policy, or what is known without one.
fn sentence(decision: &EgressDecision) -> String {
    let known = decision.advice.as_deref().map(|advice| advice.trim_start_matches("denied: "));
    let place = || format!("{}:{}", decision.host, decision.port);
    match (known, decision.reason.as_deref()) {
        (Some(advice), _) => advice.to_owned(),
        (None, Some(reason)) => format!("{} ({})", place(), reason.replace('_', " ")),
        (None, None) => place(),
    }
}
