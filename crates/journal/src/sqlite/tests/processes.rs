//! Processes that are really stopped and killed. A child is this test binary again, told by its
//! environment what to play; it answers on its standard output, in lines that begin with `@`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use moat_core::{RunId, Seq};
use rustix::process::{Pid, Signal, WaitOptions};

use super::{DIES_AFTER_COMMIT, Place, batch, bodies, local, new_run, read_all, soon};
use crate::{AppendError, Claim, ClaimError, InboxEntry, Journal};

/// A process that plays a part, killed when dropped.
struct Player {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    hears: ChildStdin,
}

impl Player {
    fn start(place: &Place, part: &str, run: RunId) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::processes::child", "--nocapture"])
            .env("MOAT_TEST_PART", part)
            .env("MOAT_TEST_PLACE", &place.root)
            .env("MOAT_TEST_RUN", run.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        let hears = child.stdin.take().unwrap();
        Self { child, says, hears }
    }

    fn line(&mut self) -> String {
        let mut lines = self.says.by_ref().map(Result::unwrap);
        lines.find_map(|line| line.split_once('@').map(|(_, said)| said.to_owned())).unwrap()
    }

    fn tell(&mut self) {
        self.hears.write_all(b"\n").unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn stop(&self) {
        rustix::process::kill_process(self.pid(), Signal::STOP).unwrap();
        let stopped = rustix::process::waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.unwrap().1.stopped());
    }

    fn killed_by(&mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child does. Without a part it is an empty test.
#[test]
fn child() {
    let Ok(part) = std::env::var("MOAT_TEST_PART") else { return };
    let place = Place::at(std::env::var("MOAT_TEST_PLACE").unwrap());
    let run = std::env::var("MOAT_TEST_RUN").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play(&part, &place, run));
}

async fn play(part: &str, place: &Place, run: RunId) {
    let journal = place.open();
    let ears = std::io::stdin();
    let mut commands = ears.lines();
    if part == "post and die" {
        DIES_AFTER_COMMIT.store(true, Ordering::SeqCst);
        journal.post(&local(), run, entry("last words")).await.unwrap();
        unreachable!("the process dies after its commit");
    }
    let mut owner = journal.create(&local(), run, None).await.unwrap();
    println!("@owns");
    match part {
        "append" => loop {
            let seq = owner.append(batch(owner.head().next().to_string())).await.unwrap();
            println!("@{seq}");
        },
        "append fifty" => {
            commands.next();
            for n in 1..=50 {
                owner.append(batch(n.to_string())).await.unwrap();
            }
            println!("@done");
        }
        "append when told" => {
            while let Some(Ok(_)) = commands.next() {
                match owner.append(batch("child")).await {
                    Ok(seq) => println!("@{seq}"),
                    Err(AppendError::Stale { current, holder, .. }) => {
                        println!("@stale {current} {}", holder.unwrap().pid);
                    }
                    Err(error) => println!("@{error}"),
                }
            }
        }
        "append and die" => {
            owner.append(batch("first")).await.unwrap();
            println!("@first");
            commands.next();
            DIES_AFTER_COMMIT.store(true, Ordering::SeqCst);
            owner.append(batch("last")).await.unwrap();
        }
        "have a child" => {
            let mut sleeps =
                Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
            println!("@{}", sleeps.id());
            sleeps.wait().unwrap();
        }
        _ => panic!("no such part: {part}"),
    }
}

fn entry(id: &str) -> InboxEntry {
    InboxEntry {
        id: id.to_owned(),
        kind: "steer".to_owned(),
        body: "{}".to_owned(),
        who: "user:ada".to_owned(),
        at: 1,
    }
}

#[tokio::test]
async fn a_killed_owner_frees_the_run_and_loses_nothing() {
    let (place, run) = (Place::new(), RunId::generate());
    let journal = place.open();
    let mut owner = Player::start(&place, "append", run);
    assert_eq!(owner.line(), "owns");
    let said: u64 = (0..20).map(|_| owner.line()).last().unwrap().parse().unwrap();
    let held = journal.claim(&local(), run, Claim::IfFree).await.err();
    assert!(matches!(held, Some(ClaimError::Held { .. })), "{held:?}");
    owner.child.kill().unwrap();
    assert_eq!(owner.killed_by(), Some(9));
    let mut next = journal.claim(&local(), run, Claim::IfFree).await.unwrap();
    let head = next.head().0;
    assert!(head >= said, "event {said} was durable, the head is {head}");
    assert_eq!(next.append(batch("after")).await.unwrap(), Seq(head + 1));
    let expected: Vec<_> = (1..=head).map(|n| n.to_string()).chain(["after".to_owned()]).collect();
    assert_eq!(bodies(&read_all(&journal, run).await), expected);
    let report = journal.verify(&local(), Some(run)).await.unwrap();
    assert_eq!(report.runs[0].problems, []);
}

#[tokio::test]
async fn a_stopped_owner_that_wakes_appends_nothing() {
    let (place, run) = (Place::new(), RunId::generate());
    let journal = place.open();
    let mut old = Player::start(&place, "append when told", run);
    assert_eq!(old.line(), "owns");
    old.tell();
    assert_eq!(old.line(), "1");
    old.stop();
    match journal.claim(&local(), run, Claim::IfFree).await.err() {
        Some(ClaimError::Held { holder, .. }) => assert_eq!(holder.pid, old.child.id()),
        other => panic!("a stopped owner still holds its run, got {other:?}"),
    }
    let mut new = journal.claim(&local(), run, Claim::TakeOver).await.unwrap();
    new.append(batch("parent")).await.unwrap();
    rustix::process::kill_process(old.pid(), Signal::CONT).unwrap();
    for _ in 0..2 {
        old.tell();
        assert_eq!(old.line(), format!("stale {} {}", new.epoch(), std::process::id()));
    }
    new.append(batch("parent")).await.unwrap();
    assert_eq!(bodies(&read_all(&journal, run).await), ["child", "parent", "parent"]);
    drop(old);
    assert!(journal.holder(&local(), run).await.unwrap().is_some(), "the new owner keeps it");
}

#[tokio::test]
async fn a_follower_hears_a_writer_that_died_between_commit_and_wake() {
    let (place, run) = (Place::new(), RunId::generate());
    let journal = place.open();
    let mut writer = Player::start(&place, "append and die", run);
    assert_eq!((writer.line(), writer.line()), ("owns".to_owned(), "first".to_owned()));
    let mut events = journal.follow(&local(), run, Seq(0)).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().header.seq, Seq(1));
    // It has read all there is, so only a wake can bring the next one.
    let next = tokio::spawn(async move { events.next().await.unwrap().unwrap() });
    tokio::task::yield_now().await;
    writer.tell();
    assert_eq!(writer.killed_by(), Some(9), "the failpoint kills it");
    assert_eq!(soon(next).await.unwrap().body.unwrap(), b"last");
}

#[tokio::test]
async fn an_owner_hears_a_poster_that_died_between_commit_and_wake() {
    let place = Place::new();
    let journal = place.open();
    let owner = new_run(&journal).await;
    let run = owner.run();
    assert!(owner.inbox().await.unwrap().is_empty());
    // The first wait looks once; after that only a wake can end it.
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(50), owner.inbox_changed());
    assert!(nothing.await.is_err());
    let mut poster = Player::start(&place, "post and die", run);
    soon(owner.inbox_changed()).await;
    assert_eq!(poster.killed_by(), Some(9), "the failpoint kills it");
    assert_eq!(owner.inbox().await.unwrap(), [entry("last words")]);
}

#[tokio::test]
async fn several_processes_append_at_once() {
    let place = Place::new();
    let runs: Vec<_> = (0..3).map(|_| RunId::generate()).collect();
    // Nobody has made the journal yet: all of them try to.
    let start = |run: &RunId| Player::start(&place, "append fifty", *run);
    let mut players: Vec<_> = runs.iter().map(start).collect();
    for player in &mut players {
        assert_eq!(player.line(), "owns");
    }
    let journal = place.open();
    let mut events = journal.follow(&local(), runs[0], Seq(0)).await.unwrap();
    players.iter_mut().for_each(Player::tell);
    for seq in 1..=50 {
        assert_eq!(soon(events.next()).await.unwrap().unwrap().header.seq, Seq(seq));
    }
    for (player, run) in players.iter_mut().zip(&runs) {
        assert_eq!(player.line(), "done");
        assert_eq!(read_all(&journal, *run).await.len(), 50);
    }
    let report = journal.verify(&local(), None).await.unwrap();
    assert!(report.runs.len() == 3 && report.runs.iter().all(|run| run.problems.is_empty()));
}

#[tokio::test]
async fn what_an_owner_starts_does_not_inherit_the_run() {
    let (place, run) = (Place::new(), RunId::generate());
    let journal = place.open();
    let mut owner = Player::start(&place, "have a child", run);
    assert_eq!(owner.line(), "owns");
    let sleeper = Pid::from_raw(owner.line().parse().unwrap()).unwrap();
    owner.child.kill().unwrap();
    owner.killed_by();
    assert!(rustix::process::test_kill_process(sleeper).is_ok(), "it outlives the owner");
    let claimed = journal.claim(&local(), run, Claim::IfFree).await;
    rustix::process::kill_process(sleeper, Signal::KILL).unwrap();
    assert!(claimed.is_ok());
}
