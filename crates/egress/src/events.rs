use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use moat_core::{EgressDecided, EgressDecision};
use tokio::sync::Notify;

/// Decisions that are kept until they are taken; more are only counted.
const MAX_KEPT: usize = 1024;
/// Bytes of a path that are kept.
const MAX_PATH: usize = 256;

/// Is shown each decision as it is made, for a live view. It must not block.
pub type Observer = Arc<dyn Fn(&EgressDecision) + Send + Sync>;

/// Keeps decisions until somebody takes them: equal ones as one, a bounded number, names only.
pub(crate) struct Decisions {
    kept: Mutex<Kept>,
    hasher: RandomState,
    changed: Notify,
    observer: Option<Observer>,
}

#[derive(Default)]
struct Kept {
    decided: EgressDecided,
    places: HashMap<u64, usize>,
}

impl Decisions {
    pub(crate) fn new(observer: Option<Observer>) -> Self {
        Self {
            kept: Mutex::default(),
            hasher: RandomState::new(),
            changed: Notify::new(),
            observer,
        }
    }

    /// Keeps a decision, or counts it with an equal one.
    pub(crate) fn record(&self, mut decision: EgressDecision) {
        if decision.at == 0 {
            decision.at = now();
        }
        decision.count = decision.count.max(1);
        decision.path = decision.path.map(|path| cut(&path));
        decision.host = cut(&decision.host);
        if let Some(observer) = &self.observer {
            observer(&decision);
        }
        self.merge(decision);
        self.changed.notify_waiters();
    }

    /// Adds bytes to a decision that was recorded when its connection began.
    pub(crate) fn add_bytes(&self, decision: &EgressDecision, sent: u64, received: u64) {
        if sent == 0 && received == 0 {
            return;
        }
        let decision = EgressDecision { at: now(), sent, received, count: 0, ..decision.clone() };
        self.merge(decision);
    }

    fn merge(&self, decision: EgressDecision) {
        let key = self.key(&decision);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.places.get(&key).copied();
        if let Some(same) = place.and_then(|place| kept.decided.decisions.get_mut(place)) {
            same.count += decision.count;
            same.sent = same.sent.saturating_add(decision.sent);
            same.received = same.received.saturating_add(decision.received);
            return;
        }
        if kept.decided.decisions.len() >= MAX_KEPT {
            kept.decided.dropped += decision.count.max(1);
            return;
        }
        let place = kept.decided.decisions.len();
        kept.places.insert(key, place);
        kept.decided.decisions.push(EgressDecision { count: decision.count.max(1), ..decision });
    }

    fn key(&self, decision: &EgressDecision) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let decision = decision.clone();
        (decision.host, decision.port, decision.protocol, decision.method).hash(&mut hasher);
        (decision.path, decision.allowed, decision.rule, decision.reason).hash(&mut hasher);
        decision.secrets.hash(&mut hasher);
        hasher.finish()
    }

    /// Everything since the last time.
    pub(crate) fn take(&self) -> EgressDecided {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept).decided
    }

    /// Returns when there is something to take.
    pub(crate) async fn changed(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if !kept.decided.decisions.is_empty() || kept.decided.dropped > 0 {
                    return;
                }
            }
            changed.await;
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_PATH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(host: &str) -> EgressDecision {
        EgressDecision { host: host.to_owned(), port: 443, ..EgressDecision::default() }
    }

    #[test]
    fn equal_decisions_are_one_and_bytes_come_later() {
        let decisions = Decisions::new(None);
        for host in ["a", "b", "a"] {
            decisions.record(decision(host));
        }
        decisions.add_bytes(&decision("a"), 3, 4);
        let taken = decisions.take();
        let seen: Vec<_> = taken
            .decisions
            .iter()
            .map(|one| (one.host.as_str(), one.count, one.sent, one.received))
            .collect();
        assert_eq!(seen, [("a", 2, 3, 4), ("b", 1, 0, 0)]);
        assert_eq!(decisions.take(), EgressDecided::default());
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let decisions = Decisions::new(None);
        for number in 0..3 * MAX_KEPT {
            decisions.record(decision(&format!("host-{number}")));
        }
        let taken = decisions.take();
        assert_eq!(taken.decisions.len(), MAX_KEPT);
        assert_eq!(taken.dropped, 2 * MAX_KEPT as u64);
    }
}
