use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Verdict;
use super::bench::Bench;
use crate::{FileKind, GuestError, Root};

const WORK: Root = Root::Workspace;

pub(super) async fn written_and_read(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    for root in [Root::Workspace, Root::Home, Root::Outputs] {
        let path = Path::new("some/new/file");
        lab.guest.write(root, path, b"first", 0o640).await?;
        lab.guest.write(root, path, b"second", 0o755).await?;
        let content = lab.read(root, "some/new/file").await?;
        ensure!(content == b"second", "{root:?} holds {content:?}");
        let stat = lab.guest.stat(root, path).await?;
        let Some(stat) = stat else { return Err(super::Problem("nothing is there".to_owned())) };
        ensure!(stat.kind == FileKind::File && stat.size == 6, "{root:?}: {stat:?}");
        ensure!(stat.mode == 0o755, "{root:?}: mode {:o}", stat.mode);
        let inside = root.path().join(path);
        let said = lab.ask(&format!("cat {}", inside.display())).await?;
        ensure!(said == "second", "a command reads {said:?} in {root:?}");
        let names = lab.guest.list(root, Path::new("some/new")).await?;
        ensure!(names.len() == 1, "a temporary file stays in {root:?}: {names:?}");
    }
    Ok(())
}

pub(super) async fn ranges(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let path = Path::new("ranges");
    lab.guest.write_at(WORK, path, 4, b"efgh").await?;
    lab.guest.write_at(WORK, path, 0, b"abcd").await?;
    for (offset, length, expected) in
        [(0, 8, "abcdefgh"), (2, 3, "cde"), (6, 100, "gh"), (8, 5, ""), (100, 5, "")]
    {
        let read = lab.guest.read_at(WORK, path, offset, length).await?;
        ensure!(read == expected.as_bytes(), "{length} bytes from {offset} on: {read:?}");
    }
    Ok(())
}

pub(super) async fn absence(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    let none = Path::new("no/such/path");
    ensure!(lab.guest.stat(WORK, none).await?.is_none(), "something is there");
    let read = lab.guest.read_at(WORK, none, 0, 10).await;
    ensure!(matches!(read, Err(GuestError::Os { errno: 2, .. })), "reading: {read:?}");
    let listed = lab.guest.list(WORK, none).await;
    ensure!(matches!(listed, Err(GuestError::Os { errno: 2, .. })), "listing: {listed:?}");
    Ok(())
}

pub(super) async fn any_name(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    for name in [&b"new\nline and 'quotes'"[..], b"\xff\xfe not text", "ünïcödé".as_bytes(), b"-rf"]
    {
        let path = Path::new(OsStr::from_bytes(name));
        lab.guest.write(WORK, path, name, 0o644).await?;
        let content = lab.guest.read_at(WORK, path, 0, 100).await?;
        ensure!(content == name, "{path:?} holds {content:?}");
        let listed = lab.guest.list(WORK, Path::new("")).await?;
        let there = listed.iter().any(|entry| entry.path.file_name() == path.file_name());
        ensure!(there, "{path:?} is not among {listed:?}");
    }
    Ok(())
}

pub(super) async fn trees(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.guest.make_dir(WORK, Path::new("a/b/c")).await?;
    lab.guest.make_dir(WORK, Path::new("a/b/c")).await?;
    // A folder that a command closed, and a link to what must stay.
    lab.ask(
        "echo kept > kept; mkdir a/closed; echo x > a/closed/x; ln -s ../kept a/link; \
             ln -s /workspace a/up; chmod 0 a/closed",
    )
    .await?;
    lab.guest.remove(WORK, Path::new("a")).await?;
    ensure!(lab.guest.stat(WORK, Path::new("a")).await?.is_none(), "the folder is still there");
    let kept = lab.read(WORK, "kept").await?;
    ensure!(kept == b"kept\n", "a link was followed");
    Ok(())
}

pub(super) async fn renamed(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask("echo new > from; echo old > to").await?;
    lab.guest.rename(WORK, Path::new("from"), Path::new("to")).await?;
    let content = lab.read(WORK, "to").await?;
    ensure!(content == b"new\n", "it holds {content:?}");
    ensure!(lab.guest.stat(WORK, Path::new("from")).await?.is_none(), "both are there");
    Ok(())
}

pub(super) async fn commands_and_guest_share(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.guest.write(WORK, Path::new("dir/file"), b"guest\n", 0o644).await?;
    lab.ask("echo command >> dir/file && touch dir/other && chmod 600 dir/file").await?;
    let content = lab.read(WORK, "dir/file").await?;
    ensure!(content == b"guest\ncommand\n", "it holds {content:?}");
    lab.guest.write(WORK, Path::new("dir/file"), b"again", 0o644).await?;
    let owners = lab.ask("id -u; id -g; stat -c '%u %g' dir dir/file").await?;
    ensure!(owners == "1000\n1000\n1000 1000\n1000 1000\n", "owners are {owners:?}");
    Ok(())
}

pub(super) async fn outputs_are_read_only(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.guest.write(Root::Outputs, Path::new("call"), b"whole", 0o644).await?;
    for script in [
        "echo x > /moat/outputs/call",
        "echo x > /moat/outputs/new",
        "rm -f /moat/outputs/call",
        "mv /moat/outputs/call /workspace/",
        "chmod 777 /moat/outputs",
        "echo x > /proc/1/fd/5/new",
    ] {
        let finished = lab.sh(script).await?;
        ensure!(finished.exit.code != 0, "`{script}` succeeded");
    }
    let said = lab.ask("cat /moat/outputs/call; ls /moat/outputs").await?;
    ensure!(said == "wholecall\n", "there is {said:?}");
    Ok(())
}
