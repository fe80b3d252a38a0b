use std::collections::BTreeSet;

use super::assemble::{
    AND, Answer, JUMP, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, LOAD, RETURN, THIS_ARCHITECTURE,
};
use super::*;

/// What the filter answers, found as the kernel does: one instruction after the other.
fn answer(filter: &Filter, architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(call.to_ne_bytes());
    data.extend(architecture.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    let (mut place, mut value) = (0, 0);
    loop {
        let at = &filter.0[place * 8..place * 8 + 8];
        let operand = word(&at[4..]);
        place += 1;
        let mut jump = |holds: bool| place += usize::from(if holds { at[2] } else { at[3] });
        match u16::from_ne_bytes([at[0], at[1]]) {
            LOAD => value = word(&data[operand as usize..operand as usize + 4]),
            AND => value &= operand,
            JUMP_IF_EQUAL => jump(value == operand),
            JUMP_IF_AT_LEAST => jump(value >= operand),
            JUMP => place += operand as usize,
            RETURN => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn here(filter: &Filter, call: i64, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    answer(filter, THIS_ARCHITECTURE, call as u32, all)
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

#[test]
fn every_number_gets_what_the_table_says() {
    let filter = compile();
    let verdicts = verdicts();
    for call in (0..2_000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
        let expected = match verdicts.get(&call) {
            None => Answer::NotThere.code(),
            Some(Verdict::Always(answer)) => answer.code(),
            // Tested by its arguments below.
            Some(Verdict::RefusedWhen(_)) => continue,
        };
        assert_eq!(answer(&filter, THIS_ARCHITECTURE, call, [0; 6]), expected, "call {call}");
    }
    let foreign = answer(&filter, 0x4000_0003, libc::SYS_read as u32, [0; 6]);
    assert_eq!(foreign, Answer::Kill.code());
}

#[test]
fn arguments_decide() {
    let filter = compile();
    let refuse = Answer::Refuse.code();
    let (unix, inet, netlink) =
        (libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_NETLINK as u64);
    let (raw, cloexec) = (libc::SOCK_RAW as u64, libc::SOCK_CLOEXEC as u64);
    for (call, arguments, expected) in [
        (libc::SYS_socket, &[unix, 1][..], ALLOW),
        (libc::SYS_socket, &[inet, 1 | cloexec], ALLOW),
        (libc::SYS_socket, &[inet, raw], refuse),
        (libc::SYS_socket, &[inet, raw | cloexec], refuse),
        (libc::SYS_socket, &[libc::AF_INET6 as u64, raw | cloexec], refuse),
        (libc::SYS_socket, &[netlink, raw, 0], ALLOW),
        (libc::SYS_socket, &[netlink, raw, 9], Answer::NoProtocol.code()),
        (libc::SYS_socket, &[40, 1], refuse),
        // Bits above those that the kernel looks at change nothing.
        (libc::SYS_socket, &[inet | 1 << 32, raw], refuse),
        (libc::SYS_socket, &[40 | 1 << 32, 1], refuse),
        (libc::SYS_socket, &[inet, 2 | cloexec, 17], ALLOW),
        (libc::SYS_socket, &[inet, 1, 6], ALLOW),
        (libc::SYS_socket, &[libc::AF_INET6 as u64, 2, 58], ALLOW),
        (libc::SYS_socket, &[inet, 1, 132], refuse),
        (libc::SYS_socket, &[libc::AF_INET6 as u64, 1 | cloexec, 262], refuse),
        (libc::SYS_socket, &[inet, 5], refuse),
        (libc::SYS_socket, &[inet, 10, 768], refuse),
        (libc::SYS_setsockopt, &[3, 6, 31], refuse),
        (libc::SYS_setsockopt, &[3, 6, 1], ALLOW),
        (libc::SYS_setsockopt, &[3, 1, 31], ALLOW),
        (libc::SYS_socketpair, &[unix, 1], ALLOW),
        (libc::SYS_socketpair, &[38, 1], refuse),
        (libc::SYS_clone, &[libc::SIGCHLD as u64], ALLOW),
        (libc::SYS_clone, &[libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64], refuse),
        (libc::SYS_clone, &[libc::CLONE_NEWNET as u64], refuse),
        (libc::SYS_clone, &[libc::CLONE_NEWNS as u64 | 1 << 40], refuse),
        (libc::SYS_ioctl, &[0, libc::TIOCGWINSZ], ALLOW),
        (libc::SYS_ioctl, &[0, libc::TIOCSTI], refuse),
        (libc::SYS_ioctl, &[0, libc::TIOCSTI | 1 << 32], refuse),
        (libc::SYS_ioctl, &[0, 0x5423], refuse),
        (libc::SYS_personality, &[0xffff_ffff], ALLOW),
        (libc::SYS_personality, &[0x4_0000], ALLOW),
        (libc::SYS_personality, &[1], refuse),
    ] {
        let found = here(&filter, call, arguments);
        assert_eq!(found, expected, "call {call} with {arguments:x?}");
    }
}

#[test]
fn it_is_within_what_the_kernel_takes() {
    let length = compile().0.len() / 8;
    assert!(length <= 4096, "{length} instructions");
    let longest = REFUSED.iter().flat_map(|refusal| refusal.when).map(|row| row.len()).max();
    assert!(longest.unwrap() <= 80, "a row of tests is longer than a jump");
}

#[test]
fn no_call_is_listed_twice_or_both_allowed_and_always_refused() {
    let mut seen = BTreeSet::new();
    for call in ALLOWED.iter().flat_map(|group| group.calls) {
        assert!(seen.insert(*call), "call {call} is allowed twice");
    }
    for refusal in REFUSED.iter().filter(|refusal| refusal.when.is_empty()) {
        for call in refusal.calls {
            assert!(!seen.contains(call), "call {call} is allowed and refused");
        }
    }
}

#[test]
fn clone3_is_not_there_so_that_programs_fall_back_to_clone() {
    assert_eq!(here(&compile(), libc::SYS_clone3, &[]), Answer::NotThere.code());
}
