//! Classic BPF, as far as the filter needs it.

use super::table::Test;
use super::{Row, Verdict};

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Does it.
    Allow,
    /// Answers `EPERM`.
    Refuse,
    /// Answers `ENOSYS`.
    NotThere,
    /// Answers `EPROTONOSUPPORT`.
    NoProtocol,
    /// Ends the process: it calls in the manner of another architecture, whose numbers mean other
    /// calls.
    Kill,
}

impl Answer {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Refuse => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            Self::NotThere => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            Self::NoProtocol => libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT as u32,
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

// The kernel's `BPF_…`, put together.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
pub(super) const JUMP_IF_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// Places in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const THIS_ARCHITECTURE: u32 = 0xc000_00b7;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// Instructions to skip if the comparison holds.
    pub(super) yes: u8,
    /// Instructions to skip if it does not.
    pub(super) no: u8,
    pub(super) value: u32,
}

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

/// A filter in the making.
pub(super) struct Assembler(Vec<Instruction>);

impl Assembler {
    /// Ends whoever calls as another architecture, and looks at the number.
    pub(super) fn begin() -> Self {
        Self(vec![
            plain(LOAD, ARCHITECTURE),
            Instruction { code: JUMP_IF_EQUAL, yes: 1, no: 0, value: THIS_ARCHITECTURE },
            plain(RETURN, Answer::Kill.code()),
            plain(LOAD, NUMBER),
        ])
    }

    /// Answers by the range that the number is in.
    pub(super) fn decide(&mut self, ranges: &[(u32, Verdict)]) {
        self.0.extend(halve(ranges));
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 8);
        for instruction in self.0 {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.yes, instruction.no]);
            bytes.extend_from_slice(&instruction.value.to_ne_bytes());
        }
        bytes
    }
}

fn halve(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high) {
        ([], []) => vec![plain(RETURN, Answer::NotThere.code())],
        ([], [(_, verdict), ..]) => leaf(verdict),
        (_, [(start, _), ..]) => {
            let (below, above) = (halve(low), halve(high));
            // A jump by comparison reaches 255 instructions, a plain one any.
            let mut all = vec![
                Instruction { code: JUMP_IF_AT_LEAST, yes: 0, no: 1, value: *start },
                plain(JUMP, below.len() as u32),
            ];
            all.extend(below);
            all.extend(above);
            all
        }
        (low, []) => halve(low),
    }
}

fn leaf(verdict: &Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Always(answer) => vec![plain(RETURN, answer.code())],
        Verdict::RefusedWhen(rows) => {
            let mut all: Vec<Instruction> = rows.iter().flat_map(row).collect();
            all.push(plain(RETURN, Answer::Allow.code()));
            all
        }
    }
}

/// Answers if all tests hold; else goes on behind.
fn row((tests, answer): &Row) -> Vec<Instruction> {
    // From the end, since a test that fails jumps there.
    let mut reversed = vec![plain(RETURN, answer.code())];
    for (argument, test) in tests.iter().rev() {
        // Rows are short; the test beside the table holds them to it.
        let rest = u8::try_from(reversed.len()).unwrap_or(u8::MAX);
        let (mask, value, yes, no) = match *test {
            Test::Is(value) => (None, value, 0, rest),
            Test::IsNot(value) => (None, value, rest, 0),
            Test::Has(bits) => (Some(bits), bits, 0, rest),
            Test::UnderMaskIs(mask, value) => (Some(mask), value, 0, rest),
        };
        reversed.push(Instruction { code: JUMP_IF_EQUAL, yes, no, value });
        reversed.extend(mask.map(|mask| plain(AND, mask)));
        // The lower half, on a machine that stores it first.
        reversed.push(plain(LOAD, ARGUMENTS + 8 * u32::from(*argument)));
    }
    reversed.reverse();
    reversed
}
