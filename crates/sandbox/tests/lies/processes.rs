//! Processes and their output.

use std::collections::BTreeMap;

use moat_guest::{
    GuestMessage, LimitName, LimitReached, Metered, OutputStream, ProcessExit, ProcessStatus,
    Reply, Request,
};
use moat_sandbox::{Check, Command, Guest as _, GuestClient, GuestError, ProcessEvent, Root};
use tokio::sync::mpsc::Receiver;

use crate::liar::{Liar, connected, ensure, key, refused};
use crate::{Case, case};

/// Where the process is heard from.
const FROM: u64 = 10;

async fn attached() -> (GuestClient, Liar, Receiver<ProcessEvent>, u64, u32) {
    let (client, mut liar) = connected().await;
    let accept = async {
        let (id, request) = liar.asked().await;
        let Request::Attach { credit, .. } = request else { panic!("{request:?}") };
        liar.reply(id, Reply::Done, &[]).await;
        (id, credit)
    };
    let (events, (id, credit)) = tokio::join!(client.attach(key(), FROM), accept);
    (client, liar, events.unwrap(), id, credit)
}

fn output(listener: u64, offset: u64) -> GuestMessage {
    GuestMessage::Output { listener, offset, stream: OutputStream::Stdout }
}

/// One piece of output ends the connection.
async fn output_refused(offset: u64, bytes: &[u8]) -> Result<(), String> {
    let (client, mut liar, mut events, id, _) = attached().await;
    liar.say(&output(id, offset), bytes).await;
    ensure(events.recv().await == Some(ProcessEvent::Disconnected), "it is taken")?;
    refused(client.processes().await)
}

fn most() -> ProcessExit {
    let most = u64::MAX;
    let limit = LimitReached {
        limit: LimitName::Disk,
        allowed: most,
        seen: Some(most),
        hard: true,
        ended: true,
    };
    let metered = Metered {
        cpu_ms: most,
        peak_memory_bytes: most,
        read_bytes: most,
        written_bytes: most,
        wall_ms: most,
    };
    ProcessExit { code: i32::MIN, limit: Some(limit), metered: Some(metered), wall_ms: most }
}

fn command() -> Command {
    Command {
        key: key(),
        argv: vec!["true".to_owned()],
        cwd: "/workspace".into(),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    }
}

async fn started(answer: impl Fn(String) -> Reply) -> Result<(), GuestError> {
    let (client, mut liar) = connected().await;
    let command = command();
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.reply(id, answer(command.key.to_string()), &[]).await;
        liar
    };
    tokio::join!(client.start(&command), lie).0.map(drop)
}

fn status(key: String) -> ProcessStatus {
    ProcessStatus { key, output: 0, exit: None }
}

async fn listed(all: Vec<ProcessStatus>) -> Result<(), GuestError> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.reply(id, Reply::Processes(all), &[]).await;
        liar
    };
    tokio::join!(client.processes(), lie).0.map(drop)
}

/// Whatever is asked for is answered by what answers nothing.
async fn mismatched() -> Result<(), String> {
    let (client, mut liar) = connected().await;
    let lie = async {
        loop {
            let (id, _) = liar.asked().await;
            liar.reply(id, Reply::Sockets(3), &[1, 2, 3]).await;
        }
    };
    let path = std::path::Path::new("a");
    let root = Root::Workspace;
    let ask = async {
        refused(client.start(&command()).await)?;
        refused(client.attach(key(), 0).await)?;
        refused(client.acknowledge(key(), 1).await)?;
        refused(client.release(key()).await)?;
        refused(client.write_stdin(key(), key(), b"x").await)?;
        refused(client.signal(key(), 9).await)?;
        refused(client.resize(key(), 1, 1).await)?;
        refused(client.processes().await)?;
        refused(client.stat(root, path).await)?;
        refused(client.read_at(root, path, 0, 9).await)?;
        refused(client.list(root, path).await)?;
        refused(client.write(root, path, b"x", 0).await)?;
        refused(client.write_at(root, path, 0, b"x").await)?;
        refused(client.make_dir(root, path).await)?;
        refused(client.remove(root, path).await)?;
        refused(client.rename(root, path, path).await)?;
        refused(client.commit(key(), &[]).await)?;
        refused(client.committed(key()).await)?;
        refused(client.freeze().await)?;
        refused(client.thaw().await)?;
        refused(client.scan(root, &[]).await)?;
        refused(client.metered().await)?;
        refused(client.pause().await)?;
        refused(client.resume().await)?;
        refused(client.shutdown().await)
    };
    tokio::select! {
        asked = ask => asked,
        () = lie => Err("it does not end".to_owned()),
    }
}

pub(crate) const CASES: &[Case] = &[
    case!("every request answered by another's answer", None => mismatched()),
    case!("another process than the one that was started", Some(Check::StartedKey) => async {
        refused(started(|_| Reply::Process(status(key().to_string()))).await)
    }),
    case!("a process without a key", None => async {
        refused(listed(vec![status("../../x".to_owned())]).await)
    }),
    case!("as many processes as a message holds", None => async {
        refused(listed((0..30_000).map(|_| status(String::new())).collect()).await)
    }),
    case!("output that comes again", Some(Check::OutputOffset) => output_refused(FROM - 1, b"x")),
    case!("output with a hole", Some(Check::OutputOffset) => output_refused(FROM + 1, b"x")),
    case!("output at the end of all numbers", Some(Check::OutputOffset) => {
        output_refused(u64::MAX, b"x")
    }),
    case!("output of nothing", Some(Check::OutputOffset) => output_refused(FROM, b"")),
    case!("a large piece of output", Some(Check::OutputSize) => async {
        output_refused(FROM, &vec![0; (64 << 10) + 1]).await
    }),
    case!("more output than was allowed", Some(Check::OutputCredit) => async {
        let (client, mut liar, _events, id, credit) = attached().await;
        for index in 0..=u64::from(credit) {
            liar.say(&output(id, FROM + index), b"x").await;
        }
        tokio::select! {
            () = client.closed() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
        }
        refused(client.metered().await.map_err(|error| match error {
            GuestError::Protocol(_) => error,
            _ => GuestError::StdinClosed,
        }))
    }),
    case!("as much output as is allowed, which nobody reads", None => async {
        let (_client, mut liar, events, id, credit) = attached().await;
        let (piece, mut at) = (vec![7; 64 << 10], FROM);
        for _ in 0..credit {
            liar.say(&output(id, at), &piece).await;
            at += piece.len() as u64;
        }
        // What would be one too many is only said when places were given back, which never happens.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        ensure(events.len() == credit as usize, "something is lost")
    }),
    case!("output for nobody, without end", None => async {
        let (client, mut liar) = connected().await;
        let piece = vec![7; 64 << 10];
        let lie = async {
            let (id, _) = liar.asked().await;
            for index in 0..600 {
                liar.say(&output(index + 99, 0), &piece).await;
            }
            liar.say(&GuestMessage::Exited { listener: 7, exit: most() }, &[]).await;
            liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
        };
        ensure(tokio::join!(client.processes(), lie).0.is_ok(), "the answer is lost")
    }),
    case!("numbers beyond all", Some(Check::Countable) => async {
        let (_client, mut liar, mut events, id, _) = attached().await;
        liar.say(&GuestMessage::Exited { listener: id, exit: most() }, &[]).await;
        let Some(ProcessEvent::Exited(exit)) = events.recv().await else { panic!("no exit") };
        let (used, limit) = (exit.metered.unwrap(), exit.limit.unwrap());
        let all = [exit.wall_ms, used.cpu_ms, used.wall_ms, used.peak_memory_bytes,
            used.read_bytes, used.written_bytes, limit.allowed, limit.seen.unwrap()];
        ensure(all.iter().all(|number| *number <= 1 << 53), "a sum of it is no number")
    }),
];
