//! Commands with a terminal.

use moat_sandbox::{Command, GuestError, ProcessEvent};

use crate::bench::{Bench, next, until};

fn with_terminal(bench: &Bench, seq: u64, script: &str) -> Command {
    Command { tty: Some((24, 80)), ..bench.shell(seq, script) }
}

#[tokio::test]
async fn a_program_that_asks_is_answered() {
    let bench = Bench::new().await;
    let script = "tty >/dev/null && printf 'name? '; read name; echo \"hello $name\"; stty size; \
                  read more; echo \"and $more\"";
    let command = with_terminal(&bench, 1, script);
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "name? ").await;
    bench.guest.resize(command.key, 50, 132).await.unwrap();
    // The same call again types nothing.
    for _ in 0..2 {
        bench.guest.write_stdin(command.key, bench.key(2), b"moat\n").await.unwrap();
    }
    until(&mut events, "50 132").await;
    bench.guest.write_stdin(command.key, bench.key(3), b"you\n").await.unwrap();
    until(&mut events, "and you").await;
    while let Some(event) = next(&mut events).await {
        if let ProcessEvent::Exited(exit) = event {
            assert_eq!(exit.code, 0);
        }
    }
    let closed = bench.guest.write_stdin(command.key, bench.key(4), b"late\n").await;
    assert!(matches!(closed, Err(GuestError::StdinClosed)));
}

#[tokio::test]
async fn control_c_interrupts_and_a_pipe_takes_no_input() {
    let bench = Bench::new().await;
    let command = with_terminal(
        &bench,
        1,
        "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.02; done",
    );
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "up").await;
    bench.guest.write_stdin(command.key, bench.key(2), b"\x03").await.unwrap();
    until(&mut events, "caught").await;
    loop {
        if let ProcessEvent::Exited(exit) = next(&mut events).await.unwrap() {
            assert_eq!(exit.code, 3);
            break;
        }
    }
    let pipes = bench.shell(3, "sleep 600");
    bench.guest.start(&pipes).await.unwrap();
    let refused = bench.guest.write_stdin(pipes.key, bench.key(4), b"x").await;
    assert!(matches!(refused, Err(GuestError::StdinClosed)));
}

/// Input that nobody reads is bounded, and the guest goes on serving.
#[tokio::test]
async fn input_that_is_not_read_is_bounded() {
    let bench = Bench::new().await;
    let command = with_terminal(&bench, 1, "stty raw -echo; echo up; sleep 600");
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "up").await;
    let chunk = vec![b'x'; 300_000];
    let mut refused = None;
    for seq in 2..10 {
        if let Err(error) = bench.guest.write_stdin(command.key, bench.key(seq), &chunk).await {
            refused = Some((seq, error));
            break;
        }
    }
    let (seq, error) = refused.unwrap();
    assert!((4..=6).contains(&seq) && matches!(error, GuestError::Unsupported(_)), "{seq} {error}");
    assert_eq!(bench.run(20, "echo alive").await.text(), "alive\n");
}
