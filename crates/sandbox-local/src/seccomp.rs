//! The filter on system calls, made from the table.
//!
//! Two filters, because a filter has one answer for what it matches: the first allows what is
//! listed and answers `ENOSYS` to all else, the second answers `EPERM` to what is refused. The
//! kernel takes the strictest answer, and of equals that of the filter that came last.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use table::{ALLOWED, REFUSED, Test};

/// Instructions as the kernel reads them, in the order in which they are to be installed.
#[derive(Debug)]
pub(crate) struct Filters(pub(crate) [Vec<u8>; 2]);

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles the table.
pub(crate) fn compile() -> Result<Filters, seccompiler::Error> {
    let mut allowed = Rules::new();
    for group in ALLOWED {
        debug_assert!(!group.reason.is_empty());
        allowed.extend(group.calls.iter().map(|call| (*call, Vec::new())));
    }
    let mut refused = Rules::new();
    for refusal in REFUSED {
        debug_assert!(!refusal.reason.is_empty());
        for call in refusal.calls {
            let rules = refused.entry(*call).or_default();
            for row in refusal.when {
                rules.push(rule(row)?);
            }
        }
    }
    let not_there = SeccompAction::Errno(libc::ENOSYS as u32);
    let forbidden = SeccompAction::Errno(libc::EPERM as u32);
    Ok(Filters([
        instructions(allowed, not_there, SeccompAction::Allow)?,
        instructions(refused, SeccompAction::Allow, forbidden)?,
    ]))
}

fn rule(row: &[(u8, Test)]) -> Result<SeccompRule, seccompiler::Error> {
    let conditions = row.iter().map(|(argument, test)| {
        let (operator, value) = match *test {
            Test::Is(value) => (SeccompCmpOp::Eq, value),
            Test::IsNot(value) => (SeccompCmpOp::Ne, value),
            Test::Has(bits) => (SeccompCmpOp::MaskedEq(bits), bits),
            Test::UnderMaskIs(mask, value) => (SeccompCmpOp::MaskedEq(mask), value),
        };
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator, value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn instructions(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<Vec<u8>, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let program: BpfProgram =
        SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}
