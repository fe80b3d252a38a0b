//! A guest that says anything at all to the client: `cargo +nightly fuzz run guest_client`.
//!
//! Nothing that it says may panic, keep a request waiting beyond its time, lead a path out, give more
//! than was asked for, or make output come twice or with a hole.

#![no_main]

use std::path::{Component, Path};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moat_core::{CallKey, Epoch};
use moat_guest::{
    CommitOutcome, Failure, GuestMessage, OutputStream, ProcessExit, ProcessStatus, RawBytes,
    Refusal, Reply, Welcome, encode,
};
use moat_sandbox::{Guest as _, GuestClient, ProcessEvent, Root, ScanEntry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const KEY: &str = "018f0000-0000-7000-8000-000000000000.1.0.1";

fuzz_target!(|said: Vec<(u8, u8, u8, Vec<u8>)>| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        // Longer than any request may take, by a clock that jumps where everybody waits.
        let talk = tokio::time::timeout(Duration::from_secs(7200), talk(&said));
        talk.await.expect("a request waits for ever");
    });
});

async fn talk(said: &[(u8, u8, u8, Vec<u8>)]) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let guest = async {
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let speak = async {
            let welcome = Welcome { version: 2, nonce: "0".repeat(32) };
            let mut bytes = Vec::new();
            encode(&mut bytes, &GuestMessage::Welcome(welcome), &[]).expect("it is small");
            said.iter().for_each(|one| put(&mut bytes, one));
            let _ = writer.write_all(&bytes).await;
            std::future::pending::<()>().await;
        };
        let hear = async {
            let mut heard = [0; 4096];
            while reader.read(&mut heard).await.is_ok_and(|count| count > 0) {}
            std::future::pending::<()>().await;
        };
        tokio::join!(speak, hear)
    };
    tokio::select! {
        () = ask(ours) => {}
        _ = guest => {}
    }
}

/// One thing that a guest says, with ids and offsets that sometimes fit.
fn put(bytes: &mut Vec<u8>, (kind, id, number, payload): &(u8, u8, u8, Vec<u8>)) {
    let (id, number) = (u64::from(id % 12), *number);
    let reply = |body| GuestMessage::Reply { id, body };
    let text = || String::from_utf8_lossy(payload).into_owned();
    let exit = || ProcessExit { code: number.into(), limit: None, metered: None, wall_ms: 0 };
    let message = match kind % 16 {
        0 => return bytes.extend_from_slice(payload),
        1 => {
            let length = (payload.len() as u32).to_le_bytes();
            bytes.extend(length.into_iter().chain(length).chain(payload.iter().copied()));
            return;
        }
        2 => reply(Reply::Done),
        3 => reply(Reply::Bytes),
        4 => reply(Reply::Entries { last: number > 100 }),
        5 => GuestMessage::Output {
            listener: id,
            offset: number.into(),
            stream: OutputStream::Stdout,
        },
        6 => GuestMessage::Exited { listener: id, exit: exit() },
        7 => reply(Reply::Frozen(number > 100)),
        8 => reply(Reply::Committed(Some(CommitOutcome::Conflict(RawBytes(payload.clone()))))),
        9 => {
            let key = if number > 20 { KEY.to_owned() } else { text() };
            reply(Reply::Process(ProcessStatus { key, output: number.into(), exit: Some(exit()) }))
        }
        10 => reply(Reply::Processes(vec![ProcessStatus {
            key: KEY.to_owned(),
            output: u64::MAX,
            exit: None,
        }])),
        11 => GuestMessage::Failed { id, failure: Failure::UnknownKey },
        12 => GuestMessage::Failed { id, failure: Failure::Unsupported { what: text() } },
        13 => GuestMessage::Refused(Refusal::Superseded { epoch: number.into() }),
        14 => reply(Reply::Sockets(number.into())),
        _ => reply(Reply::Metered(moat_guest::Metered::default())),
    };
    let _ = encode(bytes, &message, payload);
}

async fn ask(stream: tokio::io::DuplexStream) {
    let Ok(client) = GuestClient::connect(stream, Epoch(4)).await else { return };
    let key: CallKey = KEY.parse().expect("it is a key");
    let path = Path::new("a");
    // As many as ids that the guest guesses, so that answers meet requests.
    let (output, scan, list, read, ..) = tokio::join!(
        client.attach(key, 0),
        client.scan(Root::Workspace, &[]),
        client.list(Root::Home, path),
        client.read_at(Root::Home, path, 0, 16),
        client.stat(Root::Home, path),
        client.processes(),
        client.commit(key, &[]),
        client.freeze(),
        client.metered(),
        client.release(key),
    );
    scan.into_iter().flatten().for_each(|entry| check(&entry));
    list.into_iter().flatten().for_each(|entry| check(&entry));
    assert!(read.map_or(true, |read| read.len() <= 16));
    let Ok(mut output) = output else { return };
    let mut next = 0;
    while let Some(ProcessEvent::Output { offset, bytes, .. }) =
        tokio::time::timeout(Duration::from_secs(1), output.recv()).await.ok().flatten()
    {
        assert!(offset == next && (1..=64 << 10).contains(&bytes.len()));
        next += bytes.len() as u64;
    }
}

fn check(entry: &ScanEntry) {
    let plain = |part| matches!(part, Component::Normal(_));
    assert!(entry.path.components().all(plain), "{:?}", entry.path);
}
