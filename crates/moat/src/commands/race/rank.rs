//! The order of a race's runs.

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Came {
    /// It ended with an answer, and its check, if there is one, passed.
    Passed,
    /// It ended with an answer; its check did not pass.
    Answered,
    /// It failed, paused, reached a limit, or never began.
    Nowhere,
}

/// What a run is ranked by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) came: Came,
    /// In billionths of a US dollar; 0: no price is known.
    pub(super) cost: u64,
    pub(super) tokens: u64,
    /// Lines added and removed.
    pub(super) lines: u64,
}

/// The places of the runs, the best first: by how far they came, then by cost, then by the size of
/// what they changed, then by their number. Costs are compared in dollars if the price of every run
/// that answered is known, else in tokens.
pub(super) fn rank(standings: &[Standing]) -> Vec<usize> {
    let answered = |standing: &&Standing| standing.came != Came::Nowhere;
    let priced = standings.iter().filter(answered).all(|standing| standing.cost > 0);
    let key = |standing: &Standing| {
        let spent = if priced { standing.cost } else { standing.tokens };
        match standing.came {
            Came::Nowhere => (Came::Nowhere, 0, 0),
            came => (came, spent, standing.lines),
        }
    };
    let mut order: Vec<_> = standings.iter().enumerate().collect();
    order.sort_by_key(|(at, standing)| (key(standing), *at));
    order.into_iter().map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(came: Came, cost: u64, tokens: u64, lines: u64) -> Standing {
        Standing { came, cost, tokens, lines }
    }

    #[test]
    fn passing_counts_more_than_cost_and_cost_more_than_size() {
        let race = [
            standing(Came::Answered, 1, 9, 1),
            standing(Came::Nowhere, 0, 0, 0),
            standing(Came::Passed, 7, 1, 1),
            standing(Came::Passed, 5, 9, 40),
            standing(Came::Passed, 5, 9, 30),
            standing(Came::Passed, 5, 9, 30),
        ];
        assert_eq!(rank(&race), [4, 5, 3, 2, 0, 1]);
    }

    #[test]
    fn where_one_price_is_not_known_tokens_count() {
        let mut race = [
            standing(Came::Passed, 5, 100, 1),
            standing(Came::Passed, 9, 50, 1),
            standing(Came::Nowhere, 0, 7, 1),
        ];
        assert_eq!(rank(&race), [0, 1, 2]);
        race[0].cost = 0;
        assert_eq!(rank(&race), [1, 0, 2]);
    }
}
