//! The other end of a connection, which says what a case has it say.

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_guest::{
    ClientMessage, FrameDecoder, GuestMessage, Reply, Request, StatKind, StatRecord, Welcome,
    encode,
};
use moat_sandbox::{GuestClient, GuestError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// The epoch of whoever connects.
pub(crate) const EPOCH: Epoch = Epoch(4);

pub(crate) struct Liar {
    pub(crate) stream: DuplexStream,
    decoder: FrameDecoder,
}

/// A connection before anything was said on it.
pub(crate) fn pipe() -> (DuplexStream, Liar) {
    let (ours, stream) = tokio::io::duplex(1 << 20);
    (ours, Liar { stream, decoder: FrameDecoder::default() })
}

/// A connection to a guest that welcomed.
pub(crate) async fn connected() -> (GuestClient, Liar) {
    let (ours, mut liar) = pipe();
    let greet = async {
        assert!(matches!(liar.hear().await, ClientMessage::Hello { .. }));
        liar.say(&welcome(3, &"0".repeat(32)), &[]).await;
    };
    let (client, ()) = tokio::join!(GuestClient::connect(ours, EPOCH), greet);
    (client.unwrap(), liar)
}

pub(crate) fn welcome(version: u32, nonce: &str) -> GuestMessage {
    GuestMessage::Welcome(Welcome { version, nonce: nonce.to_owned() })
}

impl Liar {
    pub(crate) async fn hear(&mut self) -> ClientMessage {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return serde_json::from_slice(frame.header).unwrap();
            }
            assert_ne!(self.stream.read_buf(self.decoder.input()).await.unwrap(), 0);
        }
    }

    /// The next request, and what it is known by.
    pub(crate) async fn asked(&mut self) -> (u64, Request) {
        loop {
            if let ClientMessage::Request { id, body } = self.hear().await {
                return (id, body);
            }
        }
    }

    /// Says something; nobody may be there to hear it.
    pub(crate) async fn say(&mut self, message: &GuestMessage, payload: &[u8]) -> bool {
        let mut bytes = Vec::new();
        encode(&mut bytes, message, payload).unwrap();
        self.write(&bytes).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    pub(crate) async fn reply(&mut self, id: u64, body: Reply, payload: &[u8]) -> bool {
        self.say(&GuestMessage::Reply { id, body }, payload).await
    }
}

pub(crate) fn key() -> CallKey {
    CallKey { run: RunId::generate(), seq: Seq(1), index: 0, attempt: 1 }
}

pub(crate) fn record(path: &[u8], kind: StatKind) -> StatRecord {
    StatRecord {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        inode: 0,
        links: 0,
        xattrs: Default::default(),
    }
}

pub(crate) fn records(all: &[StatRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    all.iter().for_each(|record| record.encode(&mut bytes));
    bytes
}

/// That something is refused as a breach of the protocol, in words of a length that can be shown.
pub(crate) fn refused<T>(result: Result<T, GuestError>) -> Result<(), String> {
    match result {
        Err(error @ GuestError::Protocol(_)) => short(&error),
        Err(error) => Err(format!("another error: {error}")),
        Ok(_) => Err("it is believed".to_owned()),
    }
}

/// That an error is no longer than what can be shown.
pub(crate) fn short(error: &GuestError) -> Result<(), String> {
    let length = error.to_string().len();
    if length <= 2000 { Ok(()) } else { Err(format!("an error of {length} bytes")) }
}

pub(crate) fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
