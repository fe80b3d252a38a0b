//! The filter on system calls, made from the table.
//!
//! The numbers of calls are cut into ranges with one answer each, and the filter finds the range by
//! halving, so that a call costs some ten instructions whatever its number. That also keeps the
//! start short: the kernel runs a new filter once for every number, to learn which calls it always
//! allows. Calls whose arguments matter end in tests of those.

mod assemble;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use assemble::{Answer, Assembler};
use table::{ALLOWED, REFUSED, Test, UNSUPPORTED};

/// Tests of arguments, and what a call gets for which all of them hold.
type Row = (&'static [(u8, Test)], Answer);

/// What a call gets.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Always(Answer),
    /// What the first row says that holds; without one it is allowed.
    RefusedWhen(Vec<Row>),
}

/// Instructions as the kernel reads them.
#[derive(Debug)]
pub(crate) struct Filter(pub(crate) Vec<u8>);

/// Compiles the table.
pub(crate) fn compile() -> Filter {
    let mut assembler = Assembler::begin();
    assembler.decide(&ranges(&verdicts()));
    Filter(assembler.finish())
}

/// What each listed call gets.
fn verdicts() -> BTreeMap<u32, Verdict> {
    let mut verdicts = BTreeMap::new();
    for group in ALLOWED {
        debug_assert!(!group.reason.is_empty());
        for call in group.calls {
            verdicts.insert(*call as u32, Verdict::Always(Answer::Allow));
        }
    }
    let refused = REFUSED.iter().map(|refusal| (refusal, Answer::Refuse));
    let unsupported = UNSUPPORTED.iter().map(|refusal| (refusal, Answer::NoProtocol));
    for (refusal, answer) in refused.chain(unsupported) {
        debug_assert!(!refusal.reason.is_empty());
        let rows = || refusal.when.iter().map(move |row| (*row, answer));
        for call in refusal.calls {
            let verdict = verdicts.entry(*call as u32).or_insert(Verdict::Always(answer));
            match verdict {
                _ if refusal.when.is_empty() => *verdict = Verdict::Always(answer),
                Verdict::Always(Answer::Allow) => *verdict = Verdict::RefusedWhen(rows().collect()),
                Verdict::RefusedWhen(all) => all.extend(rows()),
                // Refused whatever its arguments are.
                Verdict::Always(_) => {}
            }
        }
    }
    verdicts
}

/// The first number of each range and what its calls get, from 0 on. What is not listed is not
/// there.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let not_there = Verdict::Always(Answer::NotThere);
    let mut ranges = vec![(0, not_there.clone())];
    let mut add = |start: u32, verdict: &Verdict| match ranges.last_mut() {
        Some((last, there)) if *last == start => *there = verdict.clone(),
        Some((_, there)) if there == verdict => {}
        _ => ranges.push((start, verdict.clone())),
    };
    for (call, verdict) in verdicts {
        add(*call, verdict);
        if !verdicts.contains_key(&(call + 1)) {
            add(call + 1, &not_there);
        }
    }
    ranges
}
