//! Files: what is read, stated, listed and committed.

use std::path::Path;

use moat_guest::{CommitOutcome, RawBytes, Reply, StatKind, StatRecord};
use moat_sandbox::{Check, FileChange, Guest as _, GuestError, Root};

use crate::liar::{connected, key, record, records, refused};
use crate::{Case, case};

/// What a scan comes to when the guest sends these, one message each.
async fn scan(messages: Vec<Vec<u8>>) -> Result<(), GuestError> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        let last = messages.len() - 1;
        for (index, message) in messages.iter().enumerate() {
            if !liar.reply(id, Reply::Entries { last: index == last }, message).await {
                break;
            }
        }
        // Nobody reads on after a lie, so that this may never end.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        listed = client.scan(Root::Workspace, &[]) => listed.map(drop),
        () = lie => Ok(()),
    }
}

fn root() -> StatRecord {
    record(b"", StatKind::Dir)
}

fn file(path: &str) -> StatRecord {
    record(path.as_bytes(), StatKind::File)
}

fn dir(path: &str) -> StatRecord {
    record(path.as_bytes(), StatKind::Dir)
}

/// A scan of a root with these is refused.
async fn tree(entries: Vec<StatRecord>) -> Result<(), String> {
    let all: Vec<_> = std::iter::once(root()).chain(entries).collect();
    refused(scan(vec![records(&all)]).await)
}

async fn one(reply: Reply, payload: Vec<u8>) -> (Result<(), String>, Result<(), String>) {
    let (client, mut liar) = connected().await;
    let lie = async {
        for _ in 0..2 {
            let (id, _) = liar.asked().await;
            liar.reply(id, reply.clone(), &payload).await;
        }
        liar
    };
    let ask = async {
        let stat = refused(client.stat(Root::Home, Path::new("a")).await);
        (stat, refused(client.read_at(Root::Home, Path::new("a"), 0, 100).await))
    };
    tokio::join!(ask, lie).0
}

/// Says that a file goes on with a hole and then so many bytes, where 100 of the next 200 are asked for.
async fn data(hole: u64, bytes: usize) -> Result<(), String> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.reply(id, Reply::Data { hole }, &vec![7; bytes]).await;
        liar
    };
    refused(tokio::join!(client.read_data(Root::Home, Path::new("a"), 50..250, 100), lie).0)
}

async fn listed(entries: Vec<StatRecord>) -> Result<(), String> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.reply(id, Reply::Entries { last: true }, &records(&entries)).await;
        liar
    };
    refused(tokio::join!(client.list(Root::Home, Path::new("mine")), lie).0)
}

/// A path with attributes that take far more memory than bytes on the wire.
fn bloated(name: String) -> StatRecord {
    let xattrs = (0..9_000_u16).map(|index| (index.to_be_bytes().to_vec(), Vec::new())).collect();
    StatRecord { xattrs, ..file(&name) }
}

/// A message for each entry, behind the root.
fn one_by_one(entries: impl Iterator<Item = StatRecord>) -> Vec<Vec<u8>> {
    std::iter::once(root()).chain(entries).map(|entry| records(&[entry])).collect()
}

pub(crate) const CASES: &[Case] = &[
    case!("a listing that leads out", Some(Check::Paths) => tree(vec![file("../etc/passwd")])),
    case!("a listing that leads out from below", Some(Check::Paths) => {
        tree(vec![dir("a"), file("a/../../x")])
    }),
    case!("an absolute path", Some(Check::Paths) => tree(vec![file("/etc/passwd")])),
    case!("a path of nothing but slashes", Some(Check::Paths) => tree(vec![dir("//")])),
    case!("a path with a dot", Some(Check::Paths) => tree(vec![dir("a"), file("a/./b")])),
    case!("a name that ends in the middle", Some(Check::Paths) => {
        tree(vec![file("a\0b")])
    }),
    case!("a path twice", Some(Check::Paths) => tree(vec![file("a"), file("a")])),
    case!("paths out of order", Some(Check::Paths) => tree(vec![file("b"), file("a")])),
    case!("a path beneath nothing", Some(Check::Paths) => tree(vec![file("a/b")])),
    case!("a path beneath a file", Some(Check::Paths) => tree(vec![file("a"), file("a/b")])),
    case!("a path beneath a link", Some(Check::Paths) => {
        tree(vec![record(b"a", StatKind::Symlink(b"/etc".to_vec())), file("a/passwd")])
    }),
    case!("a root that is no folder", Some(Check::Paths) => async {
        refused(scan(vec![records(&[file("")])]).await)
    }),
    case!("a root with a name", Some(Check::Paths) => async {
        refused(scan(vec![records(&[dir("a")])]).await)
    }),
    case!("what is in another folder", Some(Check::Paths) => listed(vec![file("other/a")])),
    case!("what is in a folder above", Some(Check::Paths) => listed(vec![file("a")])),
    case!("half a record", None => async {
        let mut bytes = records(&[root(), file("a")]);
        bytes.truncate(bytes.len() - 3);
        refused(scan(vec![bytes]).await)
    }),
    case!("a record that says it is longer than all there is", None => async {
        refused(scan(vec![[records(&[root()]), vec![0xff; 40]].concat()]).await)
    }),
    case!("more paths than allowed", Some(Check::Entries) => async {
        let name = |index: u32| file(&format!("{index:06}"));
        let paths = (0..20_u32).map(|part| {
            let all: Vec<_> = (part * 1000..part * 1000 + 1000).map(name).collect();
            records(&all)
        });
        refused(scan(std::iter::once(records(&[root()])).chain(paths).collect()).await)
    }),
    case!("attributes that take more memory than bytes", Some(Check::Memory) => async {
        refused(scan(one_by_one((0..20).map(|index| bloated(format!("{index:03}"))))).await)
    }),
    case!("links without end", Some(Check::Memory) => async {
        let link = |index| {
            record(format!("{index:03}").as_bytes(), StatKind::Symlink(vec![b'a'; 60 << 10]))
        };
        refused(scan(one_by_one((0..120).map(link))).await)
    }),
    case!("a stat of two paths", Some(Check::OneRecord) => async {
        one(Reply::Entries { last: true }, records(&[file("a"), file("b")])).await.0
    }),
    case!("half a stat", None => async {
        one(Reply::Entries { last: true }, records(&[file("a")]).split_off(5)).await.0
    }),
    case!("more bytes than were asked for", Some(Check::ReadLength) => async {
        one(Reply::Bytes, vec![7; 101]).await.1
    }),
    case!("as many bytes as a message holds", Some(Check::ReadLength) => async {
        one(Reply::Bytes, vec![7; 4 << 20]).await.1
    }),
    case!("a hole beyond what was asked for", Some(Check::ReadLength) => data(u64::MAX, 0)),
    case!("a hole that leaves no room for its data", Some(Check::ReadLength) => data(150, 51)),
    case!("more data than was asked for", Some(Check::ReadLength) => data(0, 101)),
    case!("more mapped files than an answer holds", Some(Check::Mapped) => async {
        let inodes = (0..=moat_guest::MAX_MAPPED as u64).collect();
        let (client, mut liar) = connected().await;
        let lie = async {
            let (id, _) = liar.asked().await;
            liar.reply(id, Reply::Mapped { inodes, others: false }, &[]).await;
            liar
        };
        refused(tokio::join!(client.mapped(), lie).0)
    }),
    case!("a conflict about another file", Some(Check::ConflictPath) => async {
        let (client, mut liar) = connected().await;
        let lie = async {
            let (id, _) = liar.asked().await;
            let path = RawBytes(b"/etc/shadow".to_vec());
            liar.reply(id, Reply::Committed(Some(CommitOutcome::Conflict(path))), &[]).await;
            liar
        };
        let changes = [FileChange { path: "a".into(), before: None, after: None }];
        refused(tokio::join!(client.commit(key(), &changes), lie).0)
    }),
];
