//! The client against guests that lie, stall or die: each is a script at the other end of a pipe.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it says"
)]

use std::time::Duration;

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_guest::{
    ClientMessage, FrameDecoder, GuestMessage, LimitName, LimitReached, Metered, OutputStream,
    ProcessExit, Refusal, Reply, Request, StatKind, StatRecord, Welcome, encode,
};
use moat_sandbox::{Guest as _, GuestClient, GuestError, ProcessEvent, Root};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// The other end of a connection.
struct Liar {
    stream: DuplexStream,
    decoder: FrameDecoder,
}

impl Liar {
    /// Greets a client as a guest would.
    async fn connected() -> (GuestClient, Self) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut liar = Self { stream: theirs, decoder: FrameDecoder::default() };
        let greet = async {
            assert!(matches!(liar.hear().await, ClientMessage::Hello { epoch: 4, .. }));
            liar.say(&GuestMessage::Welcome(Welcome { version: 1, nonce: "0".repeat(32) }), &[])
                .await;
        };
        let (client, ()) = tokio::join!(GuestClient::connect(ours, Epoch(4)), greet);
        (client.unwrap(), liar)
    }

    async fn hear(&mut self) -> ClientMessage {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return serde_json::from_slice(frame.header).unwrap();
            }
            assert_ne!(self.stream.read_buf(self.decoder.input()).await.unwrap(), 0);
        }
    }

    async fn hear_request(&mut self) -> (u64, Request) {
        match self.hear().await {
            ClientMessage::Request { id, body } => (id, body),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&mut self, message: &GuestMessage, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, message, payload).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn reply(&mut self, id: u64, body: Reply, payload: &[u8]) {
        self.say(&GuestMessage::Reply { id, body }, payload).await;
    }
}

fn key() -> CallKey {
    CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 }
}

fn is_broken<T: std::fmt::Debug>(result: &Result<T, GuestError>) -> bool {
    matches!(result, Err(GuestError::Protocol(_)))
}

#[tokio::test]
async fn bytes_that_are_no_protocol_end_everything_that_waits() {
    for garbage in [&[0xff_u8; 64][..], b"\x05\0\0\0\x05\0\0\0oops!", b"\0\0\0\0\0\0\0\0"] {
        let (client, mut liar) = Liar::connected().await;
        let lie = async {
            liar.hear_request().await;
            liar.stream.write_all(garbage).await.unwrap();
        };
        let (result, ()) = tokio::join!(client.processes(), lie);
        assert!(is_broken(&result), "{result:?}");
        // And whatever is asked after.
        assert!(is_broken(&client.processes().await));
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_is_an_error_of_that_request_only() {
    let (client, mut liar) = Liar::connected().await;
    let lie = async {
        let (id, _) = liar.hear_request().await;
        liar.reply(id + 100, Reply::Done, &[]).await;
        liar.reply(id, Reply::Bytes, &[]).await;
        let (id, _) = liar.hear_request().await;
        liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
    };
    let ask = async { (client.processes().await, client.processes().await) };
    let ((wrong, right), ()) = tokio::join!(ask, lie);
    assert!(is_broken(&wrong) && right.unwrap().is_empty());
}

#[tokio::test]
async fn a_listing_that_leads_out_is_refused() {
    let record = |path: &str, kind| StatRecord {
        path: path.into(),
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        inode: 0,
        links: 0,
        xattrs: Default::default(),
    };
    let (client, mut liar) = Liar::connected().await;
    let lie = async {
        let (id, _) = liar.hear_request().await;
        let mut records = Vec::new();
        record("", StatKind::Dir).encode(&mut records);
        liar.reply(id, Reply::Entries { last: false }, &records).await;
        records.clear();
        record("../etc/passwd", StatKind::File).encode(&mut records);
        liar.reply(id, Reply::Entries { last: true }, &records).await;
    };
    let (result, ()) = tokio::join!(client.scan(Root::Workspace, &[]), lie);
    assert!(is_broken(&result), "{result:?}");
}

/// Attaches to a process whose output the liar makes up.
async fn attached() -> (GuestClient, Liar, tokio::sync::mpsc::Receiver<ProcessEvent>, u64, u32) {
    let (client, mut liar) = Liar::connected().await;
    let accept = async {
        let (id, request) = liar.hear_request().await;
        let Request::Attach { credit, .. } = request else { panic!("{request:?}") };
        liar.reply(id, Reply::Done, &[]).await;
        (id, credit)
    };
    let (events, (id, credit)) = tokio::join!(client.attach(key(), 10), accept);
    (client, liar, events.unwrap(), id, credit)
}

fn output(listener: u64, offset: u64) -> GuestMessage {
    GuestMessage::Output { listener, offset, stream: OutputStream::Stdout }
}

#[tokio::test]
async fn output_beyond_what_was_allowed_ends_the_connection() {
    let (client, mut liar, mut events, id, credit) = attached().await;
    for index in 0..u64::from(credit) {
        liar.say(&output(id, 10 + index), b"x").await;
    }
    liar.say(&output(id, 10 + u64::from(credit)), b"x").await;
    client.closed().await;
    assert!(is_broken(&client.processes().await));
    // What was allowed is there, and then the end.
    for _ in 0..credit {
        assert!(matches!(events.recv().await, Some(ProcessEvent::Output { .. })));
    }
    assert_eq!(events.recv().await, Some(ProcessEvent::Disconnected));
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn places_that_were_read_are_allowed_again() {
    let (_client, mut liar, mut events, id, credit) = attached().await;
    for index in 0..u64::from(credit) {
        liar.say(&output(id, 10 + index), b"x").await;
        events.recv().await.unwrap();
    }
    let mut allowed = 0;
    while allowed < credit {
        match liar.hear().await {
            ClientMessage::Credit { listener, frames } if listener == id => allowed += frames,
            other => panic!("{other:?}"),
        }
    }
    // Whoever is not heard any more is told so.
    drop(events);
    assert_eq!(liar.hear().await, ClientMessage::Detach { listener: id });
}

#[tokio::test]
async fn output_with_a_hole_or_too_much_ends_the_connection() {
    let too_much = vec![0; (64 << 10) + 1];
    for (offset, payload) in [(11, &b"x"[..]), (9, b"x"), (10, b""), (10, &too_much)] {
        let (client, mut liar, mut events, id, _) = attached().await;
        liar.say(&output(id, offset), payload).await;
        assert_eq!(events.recv().await, Some(ProcessEvent::Disconnected));
        assert!(is_broken(&client.processes().await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stalls_is_given_up() {
    let (client, mut liar) = Liar::connected().await;
    let started = tokio::time::Instant::now();
    let result = client.processes().await;
    assert!(matches!(result, Err(GuestError::Disconnected(_))), "{result:?}");
    assert!(started.elapsed() >= Duration::from_secs(30));
    // An answer that comes too late is nobody's.
    let (id, _) = liar.hear_request().await;
    liar.reply(id, Reply::Done, &[]).await;
    let answer = async {
        let (id, _) = liar.hear_request().await;
        liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
    };
    assert!(tokio::join!(client.processes(), answer).0.unwrap().is_empty());

    let (ours, _theirs) = tokio::io::duplex(1000);
    let silent = GuestClient::connect(ours, Epoch(1)).await;
    assert!(matches!(silent, Err(GuestError::Disconnected(_))));
}

/// A request that is dropped while it is being written leaves no torn frame behind.
#[tokio::test]
async fn a_request_that_is_dropped_does_not_tear_the_stream() {
    let (client, mut liar) = Liar::connected().await;
    let large = vec![b'x'; 3 << 20];
    let write = client.write(Root::Workspace, "a".as_ref(), &large, 0o644);
    // The pipe holds 1 MiB, so this stops in the middle of the frame.
    assert!(tokio::time::timeout(Duration::from_millis(20), write).await.is_err());
    let answer = async {
        let (_, request) = liar.hear_request().await;
        assert!(matches!(request, Request::Write { .. }));
        let (id, request) = liar.hear_request().await;
        assert_eq!(request, Request::Processes);
        liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
    };
    let (result, ()) = tokio::join!(client.processes(), answer);
    assert!(result.unwrap().is_empty());
}

#[tokio::test]
async fn an_older_guest_is_not_asked_for_what_it_does_not_know() {
    let (client, mut liar) = Liar::connected().await;
    let asked = [client.pause().await, client.resume().await, client.metered().await.map(drop)];
    assert!(asked.iter().all(|result| matches!(result, Err(GuestError::Unsupported(_)))));
    // It was sent nothing that it would take for a breach of the protocol.
    let answer = async {
        let (id, request) = liar.hear_request().await;
        assert_eq!(request, Request::Processes);
        liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
    };
    assert!(tokio::join!(client.processes(), answer).0.is_ok());
}

#[tokio::test]
async fn numbers_that_a_guest_made_up_stay_countable() {
    let (_client, mut liar, mut events, id, _) = attached().await;
    let most = u64::MAX;
    let metered = Metered { cpu_ms: most, peak_memory_bytes: most, ..Metered::default() };
    let limit = LimitReached {
        limit: LimitName::Memory,
        allowed: most,
        seen: Some(most),
        hard: true,
        ended: true,
    };
    let exit = ProcessExit { code: 0, limit: Some(limit), metered: Some(metered), wall_ms: 0 };
    liar.say(&GuestMessage::Exited { listener: id, exit }, &[]).await;
    let Some(ProcessEvent::Exited(exit)) = events.recv().await else { panic!("no exit") };
    let (metered, limit) = (exit.metered.unwrap(), exit.limit.unwrap());
    let bound = 1 << 53;
    assert_eq!((metered.cpu_ms, metered.peak_memory_bytes), (bound, bound));
    assert_eq!((limit.allowed, limit.seen), (bound, Some(bound)));
}

#[tokio::test]
async fn a_later_owner_is_told_apart_from_a_lost_sandbox() {
    let (client, mut liar, mut events, ..) = attached().await;
    liar.say(&GuestMessage::Refused(Refusal::Superseded { epoch: 9 }), &[]).await;
    assert_eq!(events.recv().await, Some(ProcessEvent::Disconnected));
    assert!(matches!(client.processes().await, Err(GuestError::Superseded)));
    let (client, liar) = Liar::connected().await;
    drop(liar);
    client.closed().await;
    assert!(matches!(client.processes().await, Err(GuestError::Disconnected(_))));
}
