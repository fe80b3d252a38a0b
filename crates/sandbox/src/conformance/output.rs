use moat_core::Hash;
use std::time::{Duration, Instant};

use super::Verdict;
use super::bench::{Bench, SOON};

pub(super) async fn streams_apart(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let finished = lab.sh("echo out; echo err >&2; echo more").await?;
    ensure!(finished.stdout == b"out\nmore\n", "stdout is {:?}", finished.text());
    ensure!(finished.stderr == b"err\n", "stderr is {:?}", finished.stderr);
    Ok(())
}

pub(super) async fn from_an_offset(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let command = lab.shell("printf 0123456789");
    lab.guest.start(&command).await?;
    // Once without acknowledging, so that all of it is kept.
    lab.until("true").await?;
    for (offset, rest) in [(0, "0123456789"), (4, "456789"), (10, "")] {
        let mut events = lab.guest.attach(command.key, offset).await?;
        let mut heard = Vec::new();
        loop {
            match events.recv().await {
                Some(crate::ProcessEvent::Output { offset: at, bytes, .. }) => {
                    let expected = offset + heard.len() as u64;
                    ensure!(at == expected, "output at {at} instead of {expected}");
                    heard.extend(bytes);
                }
                Some(crate::ProcessEvent::Exited(_)) => break,
                other => ensure!(false, "heard {other:?}"),
            }
        }
        ensure!(heard == rest.as_bytes(), "from {offset} on: {heard:?}");
    }
    Ok(())
}

pub(super) async fn whole_when_large(bench: &Bench<'_>) -> Verdict {
    const LINES: usize = 1_000_000;
    let lab = bench.sandbox().await?;
    let finished = lab.sh(&format!("seq {LINES}")).await?;
    let mut expected = String::new();
    for line in 1..=LINES {
        expected.push_str(&line.to_string());
        expected.push('\n');
    }
    ensure!(finished.stdout.len() == expected.len(), "{} bytes", finished.stdout.len());
    ensure!(Hash::of(&finished.stdout) == Hash::of(expected.as_bytes()), "bytes are changed");
    Ok(())
}

pub(super) async fn bounded_when_unread(bench: &Bench<'_>) -> Verdict {
    const MUCH: u64 = 400_000_000;
    let lab = bench.sandbox().await?;
    let key = lab.start(&format!("head -c {MUCH} /dev/zero")).await?;
    // It goes on until what is kept is full, and then waits.
    let (mut before, start) = (0, Instant::now());
    let kept = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listed = lab.guest.processes().await?;
        let status = listed.iter().find(|status| status.key == key);
        let now = status.map_or(0, |status| status.output);
        if now > 0 && now == before {
            ensure!(status.is_some_and(|s| s.exit.is_none()), "it ended unread");
            break now;
        }
        ensure!(start.elapsed() < SOON, "it never waits");
        before = now;
    };
    ensure!(kept < MUCH / 4, "{kept} bytes are kept unread");
    lab.guest.signal(key, 9).await?;
    Ok(())
}

pub(super) async fn any_bytes(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let finished = lab.sh(r"printf '\000\377\033[31m\302'").await?;
    ensure!(finished.stdout == b"\0\xff\x1b[31m\xc2", "it came as {:?}", finished.stdout);
    Ok(())
}
