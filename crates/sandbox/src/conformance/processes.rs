use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Verdict;
use super::bench::{Bench, LONG, SOON};
use crate::{Command, GuestError};

pub(super) async fn exit_codes(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -15 $$", -15)] {
        let exit = lab.sh(script).await?.exit;
        ensure!(exit.code == code, "`{script}` ended with {} instead of {code}", exit.code);
        ensure!(exit.limit.is_none(), "`{script}` met a limit: {:?}", exit.limit);
    }
    let missing = lab.finish(&lab.command(&["no-such-program"])).await?;
    ensure!(missing.exit.code == 127, "a missing program ended with {}", missing.exit.code);
    Ok(())
}

pub(super) async fn argv_is_exact(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let argv = ["printf", "[%s]", "a b", "", "'$HOME'\n", "*", "é"];
    let said = lab.finish(&lab.command(&argv)).await?.text();
    let expected = "[a b][]['$HOME'\n][*][é]";
    ensure!(said == expected, "arguments came as {said:?}");
    Ok(())
}

pub(super) async fn environment(bench: &Bench<'_>) -> Verdict {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let wanted = BTreeMap::from([pair("OF_SANDBOX", "s p"), pair("OF_BOTH", "sandbox")]);
    let lab = bench.sandbox_with(LONG, wanted).await?;
    let command = Command {
        environment: BTreeMap::from([pair("OF_COMMAND", "c"), pair("OF_BOTH", "command")]),
        ..lab.shell("echo \"$OF_SANDBOX|$OF_BOTH|$OF_COMMAND|$HOME\"; command -v cat >/dev/null")
    };
    let finished = lab.finish(&command).await?;
    let said = finished.text();
    ensure!(said == "s p|command|c|/home/agent\n", "the environment is {said:?}");
    ensure!(finished.exit.code == 0, "PATH does not lead to `cat`");
    let after = lab.ask("echo \"$OF_BOTH|$OF_COMMAND\"").await?;
    ensure!(after == "sandbox|\n", "a command's environment stayed: {after:?}");
    Ok(())
}

pub(super) async fn working_folder(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let here = lab.ask("mkdir -p a/b && pwd").await?;
    ensure!(here == "/workspace\n", "started in {here:?}");
    let there = Command { cwd: PathBuf::from("/workspace/a/b"), ..lab.shell("pwd") };
    let said = lab.finish(&there).await?.text();
    ensure!(said == "/workspace/a/b\n", "started in {said:?}");
    let nowhere = Command { cwd: PathBuf::from("/workspace/none"), ..lab.shell("pwd") };
    // Either the guest refuses, or the command says what is wrong and fails.
    if let Ok(finished) = lab.finish(&nowhere).await {
        ensure!(finished.exit.code != 0, "started in a folder that is not there");
    }
    Ok(())
}

pub(super) async fn input_is_empty(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let said = lab.ask("cat; test -t 0 || echo no terminal").await?;
    ensure!(said == "no terminal\n", "its input said {said:?}");
    Ok(())
}

pub(super) async fn start_is_idempotent(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let command = lab.shell("echo once >> runs; sleep 0.2");
    for _ in 0..3 {
        lab.guest.start(&command).await?;
    }
    lab.collect(command.key, 0).await?;
    let runs = lab.ask("cat runs").await?;
    ensure!(runs == "once\n", "one key was run as {runs:?}");
    Ok(())
}

pub(super) async fn a_started_key_is_never_run_again(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let command = lab.shell("echo once >> runs; echo said; exit 7");
    let first = lab.finish(&command).await?;
    let status = lab.guest.start(&command).await?;
    ensure!(status.exit.as_ref() == Some(&first.exit), "it ended as {:?}", status.exit);
    let runs = lab.ask("cat runs").await?;
    ensure!(runs == "once\n", "one key was run as {runs:?}");
    Ok(())
}

pub(super) async fn listed_until_released(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let running = lab.start("sleep 100").await?;
    let ended = lab.shell("printf 12345; exit 2");
    lab.finish(&ended).await?;
    let listed = lab.guest.processes().await?;
    let find = |key| listed.iter().find(|status| status.key == key);
    ensure!(find(running).is_some_and(|s| s.exit.is_none()), "the running one: {listed:?}");
    let of_ended = find(ended.key);
    ensure!(
        of_ended.is_some_and(|s| s.output == 5 && s.exit.as_ref().is_some_and(|e| e.code == 2)),
        "the ended one: {of_ended:?}"
    );
    lab.guest.release(ended.key).await?;
    let listed = lab.guest.processes().await?;
    ensure!(!listed.iter().any(|s| s.key == ended.key), "still listed: {listed:?}");
    Ok(())
}

pub(super) async fn unknown_keys(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let key = lab.key();
    let attached = lab.guest.attach(key, 0).await;
    ensure!(matches!(attached, Err(GuestError::UnknownKey(k)) if k == key), "{attached:?}");
    let signalled = lab.guest.signal(key, 15).await;
    ensure!(matches!(signalled, Err(GuestError::UnknownKey(_))), "{signalled:?}");
    ensure!(lab.guest.committed(key).await?.is_none(), "a commit that never was");
    Ok(())
}

pub(super) async fn signals_reach_descendants(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    // One child in the same group, one that has left it.
    let key = lab.start("sleep 98761 & setsid sleep 98762 & wait").await?;
    let both = "grep -lsa 9876[12] /proc/[0-9]*/cmdline | xargs -r grep -las ^sleep | wc -l";
    lab.until(&format!("test $({both}) = 2")).await?;
    lab.guest.signal(key, 9).await?;
    let finished = lab.collect(key, 0).await?;
    ensure!(finished.exit.code == -9, "it ended with {}", finished.exit.code);
    lab.until(&format!("test $({both}) = 0")).await
}

pub(super) async fn a_daemon_keeps_nothing_waiting(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    // The daemon keeps the pipes of its parent open.
    let command = lab.shell("(setsid sleep 300 &) ; echo said; exit 4");
    let finished = tokio::time::timeout(SOON, lab.finish(&command)).await;
    let Ok(finished) = finished else {
        ensure!(false, "a daemon that keeps a pipe open hangs the call");
        return Ok(());
    };
    let finished = finished?;
    ensure!(finished.text() == "said\n", "it said {:?}", finished.text());
    ensure!(finished.exit.code == 4, "it ended with {}", finished.exit.code);
    Ok(())
}
