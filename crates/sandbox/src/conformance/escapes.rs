use std::path::Path;

use super::Verdict;
use super::bench::{Bench, SOON};
use crate::{GuestError, Root};

const WORK: Root = Root::Workspace;

pub(super) async fn paths(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask("mkdir a").await?;
    for path in ["/etc/passwd", "../etc/passwd", "a/../../etc/passwd", "a/./../../etc/passwd"] {
        let path = Path::new(path);
        let read = lab.guest.read_at(WORK, path, 0, 100).await;
        ensure!(matches!(read, Err(GuestError::Outside(_))), "reading {path:?}: {read:?}");
        let written = lab.guest.write(WORK, path, b"x", 0o644).await;
        ensure!(matches!(written, Err(GuestError::Outside(_))), "writing {path:?}: {written:?}");
        let removed = lab.guest.remove(WORK, path).await;
        ensure!(matches!(removed, Err(GuestError::Outside(_))), "removing {path:?}: {removed:?}");
    }
    Ok(())
}

pub(super) async fn links(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    // Somewhere outside the root that the agent itself may write.
    lab.ask(
        "mkdir /tmp/out; echo secret > /tmp/out/file; ln -s /tmp/out dir; \
             ln -s /tmp/out/file file; ln -s ../../tmp/out up; ln -s /proc/self/root root",
    )
    .await?;
    for path in ["dir/file", "file", "up/file", "root/tmp/out/file"] {
        let read = lab.guest.read_at(WORK, Path::new(path), 0, 100).await;
        ensure!(read.is_err(), "reading through `{path}`: {read:?}");
    }
    for path in ["dir/new", "up/new", "root/tmp/out/new"] {
        let written = lab.guest.write(WORK, Path::new(path), b"x", 0o644).await;
        ensure!(written.is_err(), "writing through `{path}` is done");
        let made = lab.guest.make_dir(WORK, Path::new(path)).await;
        ensure!(made.is_err(), "making a folder through `{path}` is done");
        let renamed = lab.guest.rename(WORK, Path::new("file"), Path::new(path)).await;
        ensure!(renamed.is_err(), "renaming through `{path}` is done");
    }
    // A link in the last place is replaced, not followed.
    lab.guest.write(WORK, Path::new("file"), b"mine", 0o644).await?;
    let said = lab.ask("ls /tmp/out; cat /tmp/out/file file").await?;
    ensure!(said == "file\nsecret\nmine", "outside there is {said:?}");
    Ok(())
}

pub(super) async fn races(bench: &Bench<'_>) -> Verdict {
    const TRIES: usize = 400;
    let lab = bench.sandbox().await?;
    lab.ask("mkdir /tmp/out dir; echo secret > /tmp/out/file; echo mine > dir/file").await?;
    let flip =
        lab.start("while :; do mv dir kept; ln -s /tmp/out dir; rm dir; mv kept dir; done").await?;
    let (mut read_mine, mut failed) = (0, 0);
    for _ in 0..TRIES {
        match lab.guest.read_at(WORK, Path::new("dir/file"), 0, 100).await {
            Ok(content) if content == b"mine\n" => read_mine += 1,
            Ok(content) => ensure!(false, "read {content:?} from outside"),
            Err(_) => failed += 1,
        }
        // Whether it is done is a matter of luck; where, is not. Nothing that makes missing
        // folders is tried: with one of those the folder would never come back.
        let _ = lab.guest.write_at(WORK, Path::new("dir/planted"), 0, b"y").await;
        let _ = lab.guest.remove(WORK, Path::new("dir/file/none")).await;
    }
    lab.guest.signal(flip, 9).await?;
    lab.collect(flip, 0).await?;
    let outside = lab.ask("ls /tmp/out").await?;
    ensure!(outside == "file\n", "outside there is {outside:?}");
    ensure!(read_mine > 0, "never read anything in {TRIES} tries, {failed} errors");
    Ok(())
}

pub(super) async fn special_files(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask("mkfifo pipe; ln -s /dev/zero zero").await?;
    for path in ["pipe", "zero"] {
        let read = lab.guest.read_at(WORK, Path::new(path), 0, 100);
        let read = tokio::time::timeout(SOON, read).await;
        ensure!(matches!(read, Ok(Err(_))), "reading `{path}`: {read:?}");
    }
    Ok(())
}
