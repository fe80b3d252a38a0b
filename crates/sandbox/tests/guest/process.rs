//! Commands: starting, hearing, signalling, forgetting.

use std::time::{Duration, Instant};

use moat_sandbox::{GuestError, ProcessEvent};

use crate::bench::{Bench, Heard, next, until};

#[tokio::test]
async fn output_and_exit_code_come_through() {
    let bench = Bench::new().await;
    let heard = bench.run(1, "echo out; echo err >&2; exit 7").await;
    assert_eq!((heard.text(), heard.stderr.as_slice()), ("out\n", b"err\n".as_slice()));
    assert_eq!(heard.code(), 7);
    let heard = bench.run(2, "kill -TERM $$").await;
    assert_eq!(heard.code(), -15);
}

#[tokio::test]
async fn a_command_has_the_environment_it_was_given_and_no_other() {
    let bench = Bench::new().await;
    let mut command = bench.shell(1, "pwd; env; cat; ls -l /proc/self/fd | wc -l");
    command.environment.insert("GIVEN".to_owned(), "now".to_owned());
    bench.guest.start(&command).await.unwrap();
    let heard = Heard::all(&mut bench.guest.attach(command.key, 0).await.unwrap()).await;
    let workspace = bench.workspace();
    assert!(heard.text().starts_with(workspace.to_str().unwrap()), "{}", heard.text());
    assert!(heard.text().contains("FROM_SPEC=yes\n") && heard.text().contains("GIVEN=now\n"));
    assert!(!heard.text().contains("CARGO"), "the host's environment: {}", heard.text());
    // `total`, 0, 1, 2, and the folder that `ls` reads.
    assert!(heard.text().ends_with("\n5\n"), "open descriptors: {}", heard.text());
}

#[tokio::test]
async fn a_program_that_cannot_run_says_so() {
    let bench = Bench::new().await;
    for (seq, argv0, code) in [(1, "no-such-program", 127), (2, "/etc/passwd", 126)] {
        let mut command = bench.shell(seq, "");
        command.argv = vec![argv0.to_owned()];
        bench.guest.start(&command).await.unwrap();
        let heard = Heard::all(&mut bench.guest.attach(command.key, 0).await.unwrap()).await;
        assert_eq!(heard.code(), code);
        assert!(heard.stderr.starts_with(format!("moat: {argv0}: ").as_bytes()));
    }
}

#[tokio::test]
async fn starting_twice_runs_once() {
    let bench = Bench::new().await;
    let command = bench.shell(1, "echo x >> ran; echo done");
    let (first, second) = tokio::join!(bench.guest.start(&command), bench.guest.start(&command));
    assert_eq!(first.unwrap().key, second.unwrap().key);
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    Heard::all(&mut events).await;
    let again = bench.guest.start(&command).await.unwrap();
    assert_eq!((again.exit.unwrap().code, again.output), (0, 5));
    assert_eq!(bench.get("ran"), b"x\n");

    bench.guest.release(command.key).await.unwrap();
    assert!(bench.guest.processes().await.unwrap().is_empty());
    let gone = bench.guest.attach(command.key, 0).await;
    assert!(matches!(gone, Err(GuestError::UnknownKey(key)) if key == command.key));
}

#[tokio::test]
async fn output_is_kept_until_it_is_acknowledged() {
    let bench = Bench::new().await;
    let heard = bench.run(1, "printf 0123456789").await;
    assert_eq!(heard.text(), "0123456789");
    let key = bench.key(1);
    let mut events = bench.guest.attach(key, 4).await.unwrap();
    let Some(ProcessEvent::Output { offset: 4, bytes, .. }) = next(&mut events).await else {
        panic!("no output")
    };
    assert_eq!(bytes, b"456789");
    bench.guest.acknowledge(key, 7).await.unwrap();
    drop(events);
    // The end of a listener and what it held on to may take a moment.
    let gone = loop {
        match bench.guest.attach(key, 4).await {
            Ok(events) => drop(events),
            Err(error) => break error,
        }
    };
    assert!(matches!(gone, GuestError::Unsupported(_)), "{gone}");
    let mut events = bench.guest.attach(key, 7).await.unwrap();
    assert!(matches!(next(&mut events).await,
        Some(ProcessEvent::Output { offset: 7, bytes, .. }) if bytes == b"789"));
}

#[tokio::test]
async fn several_listeners_hear_everything() {
    let bench = Bench::new().await;
    let command = bench.shell(1, "read line < go; seq 1 20000");
    bench.run(2, "mkfifo go").await;
    bench.guest.start(&command).await.unwrap();
    let mut first = bench.guest.attach(command.key, 0).await.unwrap();
    let mut second = bench.guest.attach(command.key, 0).await.unwrap();
    bench.run(3, "echo > go").await;
    let (first, second) = tokio::join!(Heard::all(&mut first), Heard::all(&mut second));
    assert!(first == second);
    assert_eq!(first.text().lines().count(), 20000);
}

/// 200 MB come through whole while neither side holds more than a bounded part of them.
#[tokio::test]
async fn large_output_is_whole_and_memory_is_bounded() {
    const BYTES: u64 = 200_000_000;
    let bench = Bench::new().await;
    let command = bench.shell(1, &format!("head -c {BYTES} /dev/zero"));
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    let mut heard = 0;
    while let Some(event) = next(&mut events).await {
        let ProcessEvent::Output { offset, bytes, .. } = event else { break };
        assert_eq!(offset, heard);
        heard += bytes.len() as u64;
        bench.guest.acknowledge(command.key, heard).await.unwrap();
    }
    assert_eq!(heard, BYTES);
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 16_000, "the guest used {peak} kB");
}

/// Without a listener a loud command blocks at the spool's end and loses nothing.
#[tokio::test]
async fn a_full_spool_stops_the_command() {
    let bench = Bench::new().await;
    let command = bench.shell(1, "yes | head -c 3000000; touch done");
    bench.guest.start(&command).await.unwrap();
    let full = loop {
        let status = bench.guest.processes().await.unwrap().remove(0);
        if status.output > 1_000_000 {
            break status;
        }
    };
    assert!(full.output <= 1 << 20 && full.exit.is_none());
    assert!(!bench.workspace().join("done").exists());
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    let mut heard = Vec::new();
    while let Some(ProcessEvent::Output { bytes, .. }) = next(&mut events).await {
        heard.extend(bytes);
        bench.guest.acknowledge(command.key, heard.len() as u64).await.unwrap();
    }
    assert!(heard == b"y\n".repeat(1_500_000), "{} bytes", heard.len());
    assert!(bench.workspace().join("done").exists());
}

#[tokio::test]
async fn a_fork_that_keeps_the_pipe_hangs_nothing() {
    let bench = Bench::new().await;
    let started = Instant::now();
    let heard = bench.run(1, "(sleep 600; echo late) & echo early").await;
    assert_eq!((heard.text(), heard.code()), ("early\n", 0));
    assert!(started.elapsed() < Duration::from_secs(5));
    // What it left running is still there, and ends with the call's tree.
    bench.guest.signal(bench.key(1), 9).await.unwrap();
    let heard = bench.run(2, "pgrep -x sleep -P $PPID || echo none").await;
    assert_eq!(heard.text(), "none\n");
}

#[tokio::test]
async fn output_need_not_be_text() {
    let bench = Bench::new().await;
    let heard = bench.run(1, r"printf '\377\376\000\033[31m\200'").await;
    assert_eq!(heard.stdout, b"\xff\xfe\0\x1b[31m\x80");
}

/// Counts processes that sleep for a length that begins with what follows.
const COUNT: &str = "ps -eo args | grep -c ^sleep.";

/// A signal finds descendants that left the group, the session and their parents.
#[tokio::test]
async fn a_signal_reaches_the_whole_tree() {
    let bench = Bench::new().await;
    // Lengths that no other test on this machine sleeps for.
    let id = 1_000_000 + u64::from(std::process::id());
    let script = format!(
        "setsid sh -c 'setsid sleep {id}1 & sleep {id}2' & (setsid sleep {id}3 &) ; \
         sh -c 'sleep {id}4 & wait' & \
         while test $({COUNT}{id}) != 4; do sleep 0.02; done; echo ready; wait"
    );
    let command = bench.shell(1, &script);
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "ready").await;
    bench.guest.signal(command.key, 9).await.unwrap();
    assert!(matches!(next(&mut events).await, Some(ProcessEvent::Exited(exit)) if exit.code == -9));
    assert_eq!(bench.run(3, &format!("{COUNT}{id}")).await.text(), "0\n");
}

#[tokio::test]
async fn commands_have_no_capabilities_and_cannot_look_into_the_guest() {
    let bench = Bench::new().await;
    let heard = bench.run(1, "grep -E 'CapEff|CapPrm|CapBnd|NoNewPrivs' /proc/self/status").await;
    let zero = "0000000000000000";
    for line in heard.text().lines() {
        let (name, value) = line.split_once(":\t").unwrap();
        // Only who may take capabilities away from all others can empty the bounding set.
        let skip = name == "CapBnd" && !bench.is_root();
        assert!(skip || value == if name == "NoNewPrivs" { "1" } else { zero }, "{line}");
    }
    let heard = bench.run(2, &format!("cat /proc/{}/mem /proc/{0}/environ", bench.pid())).await;
    assert_ne!(heard.code(), 0);
    assert!(heard.stdout.is_empty());
}
