use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Verdict;
use super::bench::{Bench, Lab, Problem};
use crate::{ApplyEntry, ApplyNode, FileKind, Root, ScanEntry};

const WORK: Root = Root::Workspace;

pub(super) async fn frozen(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    ensure!(!lab.guest.freeze().await?, "nothing runs, and it was stopped");
    lab.guest.thaw().await?;
    let key = lab.start("(while :; do echo x >> log; done) & wait").await?;
    lab.until("test -s log").await?;
    // The waiting command above has ended: only the writer and its child are there.
    ensure!(lab.guest.freeze().await?, "something runs, and nothing was stopped");
    let first = size(&lab, "log").await?;
    for _ in 0..50 {
        let now = size(&lab, "log").await?;
        ensure!(now == first, "it grew from {first} to {now} while it was frozen");
    }
    lab.guest.thaw().await?;
    lab.until(&format!("test $(stat -c %s log) -gt {first}")).await?;
    lab.guest.signal(key, 9).await?;
    Ok(())
}

async fn size(lab: &Lab, path: &str) -> Result<u64, Problem> {
    Ok(lab.guest.stat(WORK, Path::new(path)).await?.map_or(0, |stat| stat.size))
}

fn names(entries: &[ScanEntry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.to_string_lossy().into_owned()).collect()
}

pub(super) async fn scanned(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask(
        "mkdir -p b/empty a/deep skip/in; echo x > a/deep/file; ln a/deep/file a/same; \
             ln -s /nowhere a.link; chmod 700 b; chmod 0 b/empty; echo y > skip/in/file; \
             touch -d @1000000000.5 b/old",
    )
    .await?;
    let entries = lab.guest.scan(WORK, &[PathBuf::from("skip")]).await?;
    let found = names(&entries);
    let expected = ["", "a", "a/deep", "a/deep/file", "a/same", "a.link", "b", "b/empty", "b/old"];
    let mut without_skip = found.clone();
    without_skip.retain(|name| name != "skip");
    ensure!(without_skip == expected, "found {found:?}");
    let at = |name: &str| entries.iter().find(|entry| entry.path == Path::new(name));
    let (Some(one), Some(same), Some(link), Some(closed), Some(old)) =
        (at("a/deep/file"), at("a/same"), at("a.link"), at("b/empty"), at("b/old"))
    else {
        return Err(Problem("an entry has no stat".to_owned()));
    };
    ensure!(one.stat.inode == same.stat.inode && one.stat.links == 2, "names of one file");
    ensure!(link.stat.kind == FileKind::Symlink(PathBuf::from("/nowhere")), "{:?}", link.stat);
    ensure!(closed.stat.mode == 0, "mode {:o}", closed.stat.mode);
    ensure!(old.stat.mtime_ns == 1_000_000_000_500_000_000, "time {}", old.stat.mtime_ns);
    Ok(())
}

fn entry(path: &str, node: ApplyNode, mode: u32) -> ApplyEntry {
    ApplyEntry {
        path: PathBuf::from(path),
        node,
        mode,
        owner: (1000, 1000),
        mtime_ns: 1_234_567_890_123_456_789,
        xattrs: BTreeMap::new(),
    }
}

pub(super) async fn applied(bench: &Bench<'_>) -> Verdict {
    const LARGE: usize = 3 << 20;
    let lab = bench.sandbox().await?;
    let small = ApplyNode::File { size: 5, content: Some(b"small".to_vec()) };
    let entries = [
        entry("dir", ApplyNode::Dir, 0o500),
        entry("dir/small", small, 0o751),
        entry("dir/large", ApplyNode::File { size: LARGE as u64, content: None }, 0o640),
        entry("dir/link", ApplyNode::Symlink(PathBuf::from("../dir/small")), 0o777),
        entry("dir/same", ApplyNode::Hardlink(PathBuf::from("dir/small")), 0o751),
    ];
    lab.guest.apply(WORK, &entries).await?;
    let content = vec![b'l'; LARGE];
    for (index, part) in content.chunks(1 << 20).enumerate() {
        let offset = (index << 20) as u64;
        lab.guest.write_at(WORK, Path::new("dir/large"), offset, part).await?;
    }
    lab.guest.finish(WORK, &entries).await?;
    let said = lab
        .ask(
            "cd dir; stat -c '%n %a %s %Y %h' . small large; readlink link; cat same; \
              tr -d l < large | wc -c; id -u > /dev/null; stat -c %u small",
        )
        .await?;
    let expected = format!(
        ". 500 {} 1234567890 2\nsmall 751 5 1234567890 2\nlarge 640 {LARGE} 1234567890 1\n\
         ../dir/small\nsmall0\n1000\n",
        folder_size(&said)
    );
    ensure!(said == expected, "there is {said:?}");
    let stat = lab.guest.stat(WORK, Path::new("dir/small")).await?;
    let time = stat.map(|stat| stat.mtime_ns);
    ensure!(time == Some(1_234_567_890_123_456_789), "time {time:?}");
    Ok(())
}

/// How large a folder is differs between file systems.
fn folder_size(said: &str) -> &str {
    said.split(' ').nth(2).unwrap_or_default()
}

pub(super) async fn applied_over_what_is_there(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask(
        "mkdir /tmp/out; echo kept > /tmp/out/file; ln -s /tmp/out/file file; \
             ln -s /tmp/out dir; echo x > link",
    )
    .await?;
    let file = |text: &str| ApplyNode::File {
        size: text.len() as u64,
        content: Some(text.as_bytes().to_vec()),
    };
    let entries = [
        entry("dir", ApplyNode::Dir, 0o755),
        entry("dir/file", file("in"), 0o644),
        entry("file", file("own"), 0o644),
        entry("link", ApplyNode::Symlink(PathBuf::from("file")), 0o777),
    ];
    lab.guest.apply(WORK, &entries).await?;
    lab.guest.finish(WORK, &entries).await?;
    let said = lab.ask("cat /tmp/out/file dir/file file link; ls /tmp/out").await?;
    ensure!(said == "kept\ninownownfile\n", "there is {said:?}");
    Ok(())
}
