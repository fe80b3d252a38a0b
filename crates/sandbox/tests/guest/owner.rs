//! Who may speak to a guest, and how long it lives.

use std::time::Duration;

use moat_core::Epoch;
use moat_sandbox::{GuestError, ProcessEvent, Provider as _, SandboxError};

use crate::bench::{Bench, Heard, next, until};

#[tokio::test]
async fn a_harness_that_comes_back_hears_the_rest() {
    let mut bench = Bench::new().await;
    let nonce = bench.guest.nonce().clone();
    bench.run(1, "mkfifo go").await;
    let command = bench.shell(2, "printf before; read line < go; printf after");
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    until(&mut events, "before").await;

    // The harness dies: its connection closes.
    let placeholder = bench.provider.reattach(&bench.handle, Epoch(5)).await.unwrap().unwrap();
    bench.guest = placeholder.guest();
    drop(bench.sandbox.replace(placeholder));
    assert_eq!(next(&mut events).await, Some(ProcessEvent::Disconnected));

    assert_eq!(*bench.guest.nonce(), nonce);
    assert_eq!(bench.guest.start(&command).await.unwrap().output, 6);
    let mut events = bench.guest.attach(command.key, 6).await.unwrap();
    bench.run(3, "echo > go").await;
    let Some(ProcessEvent::Output { offset: 6, bytes, .. }) = next(&mut events).await else {
        panic!("no output")
    };
    assert_eq!(bytes, b"after");
}

#[tokio::test]
async fn a_later_owner_cuts_earlier_ones_off() {
    let bench = Bench::new().await;
    let sleep = bench.shell(1, "sleep 600");
    bench.guest.start(&sleep).await.unwrap();
    let mut events = bench.guest.attach(sleep.key, 0).await.unwrap();

    let later = bench.provider.reattach(&bench.handle, Epoch(6)).await.unwrap().unwrap();
    assert_eq!(next(&mut events).await, Some(ProcessEvent::Disconnected));
    let refused = bench.guest.signal(sleep.key, 9).await;
    assert!(matches!(refused, Err(GuestError::Superseded)), "{refused:?}");
    let refused = bench.provider.reattach(&bench.handle, Epoch(5)).await.err();
    assert!(matches!(refused, Some(SandboxError::Guest(GuestError::Superseded))), "{refused:?}");
    // The same epoch may come more than once, and what the first owner began goes on.
    let beside = bench.provider.reattach(&bench.handle, Epoch(6)).await.unwrap().unwrap();
    assert!(later.guest().processes().await.unwrap().remove(0).exit.is_none());
    assert_eq!(beside.guest().processes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_orphan_ends_itself_and_its_commands_after_the_grace() {
    let mut bench = Bench::with_grace(Duration::ZERO).await;
    let command = bench.shell(1, "setsid sleep 605 & echo $!; wait");
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    let pid: u32 = until(&mut events, "\n").await.trim().parse().unwrap();
    assert!(std::fs::exists(format!("/proc/{pid}")).unwrap());

    let handle = bench.handle.clone();
    drop(bench.sandbox.take());
    // The last thing that holds the connection.
    let other = Bench::new().await;
    bench.guest = other.guest.clone();
    let gone = async {
        while std::fs::exists(format!("/proc/{pid}")).unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while bench.provider.reattach(&handle, Epoch(9)).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the orphan lives");
}

#[tokio::test]
async fn a_killed_guest_is_gone_and_everyone_is_told() {
    let bench = Bench::new().await;
    let command = bench.shell(1, "sleep 600");
    bench.guest.start(&command).await.unwrap();
    let mut events = bench.guest.attach(command.key, 0).await.unwrap();
    moat_sandbox::plain::PlainProvider::kill(&bench.handle).unwrap();
    assert_eq!(next(&mut events).await, Some(ProcessEvent::Disconnected));
    let lost = bench.guest.processes().await;
    assert!(matches!(lost, Err(GuestError::Disconnected(_))), "{lost:?}");
    assert!(bench.provider.reattach(&bench.handle, Epoch(5)).await.unwrap().is_none());
}

#[tokio::test]
async fn destroying_leaves_nothing() {
    let bench = Bench::new().await;
    let heard = bench.run(1, "setsid sleep 606 >/dev/null 2>&1 & echo $!").await;
    let pid: u32 = heard.text().trim().parse().unwrap();
    bench.provider.destroy(&bench.handle).await.unwrap();
    assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap());
    assert!(!bench.workspace().exists());
    bench.provider.destroy(&bench.handle).await.unwrap();
    let _ = Heard::default();
}
