use std::path::{Path, PathBuf};

use moat_core::Hash;

use super::Verdict;
use super::bench::Bench;
use crate::{CommitOutcome, FileChange, Root};

const WORK: Root = Root::Workspace;

fn change(path: &str, before: Option<&str>, after: Option<&str>) -> FileChange {
    FileChange {
        path: PathBuf::from(path),
        before: before.map(|text| Hash::of(text.as_bytes())),
        after: after.map(|text| (text.as_bytes().to_vec(), None)),
    }
}

pub(super) async fn done_once(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask("printf old > changed; chmod 755 changed; printf gone > removed").await?;
    let changes = [
        change("changed", Some("old"), Some("new")),
        change("removed", Some("gone"), None),
        change("made/deep", None, Some("made")),
    ];
    let key = lab.key();
    let outcome = lab.guest.commit(key, &changes).await?;
    ensure!(outcome == CommitOutcome::Done, "{outcome:?}");
    let said = lab.ask("cat changed made/deep; stat -c %a changed; ls").await?;
    ensure!(said == "newmade755\nchanged\nmade\n", "there is {said:?}");
    // The outcome is kept: a command's change in between is not undone by doing it again.
    lab.ask("printf later > changed").await?;
    let again = lab.guest.commit(key, &changes).await?;
    ensure!(again == CommitOutcome::Done, "again: {again:?}");
    ensure!(lab.read(WORK, "changed").await? == b"later", "the commit was done twice");
    let kept = lab.guest.committed(key).await?;
    ensure!(kept == Some(CommitOutcome::Done), "kept: {kept:?}");
    lab.guest.release(key).await?;
    ensure!(lab.guest.committed(key).await?.is_none(), "kept after it was released");
    Ok(())
}

pub(super) async fn conflicts_change_nothing(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    lab.ask("printf one > first; printf edited > second").await?;
    let changes =
        [change("first", Some("one"), Some("ONE")), change("second", Some("two"), Some("TWO"))];
    let outcome = lab.guest.commit(lab.key(), &changes).await?;
    ensure!(outcome == CommitOutcome::Conflict(PathBuf::from("second")), "{outcome:?}");
    let said = lab.ask("cat first second").await?;
    ensure!(said == "oneedited", "there is {said:?}");
    Ok(())
}

pub(super) async fn finished_when_half_done(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    // As a crash between the two writes leaves it.
    lab.ask("printf ONE > first; printf two > second").await?;
    let changes = [
        change("first", Some("one"), Some("ONE")),
        change("second", Some("two"), Some("TWO")),
        change("third", Some("three"), None),
    ];
    let outcome = lab.guest.commit(lab.key(), &changes).await?;
    ensure!(outcome == CommitOutcome::Done, "{outcome:?}");
    let said = lab.ask("cat first second").await?;
    ensure!(said == "ONETWO", "there is {said:?}");
    ensure!(lab.guest.stat(WORK, Path::new("third")).await?.is_none(), "a third file");
    Ok(())
}
