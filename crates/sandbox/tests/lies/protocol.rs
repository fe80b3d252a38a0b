//! Frames, greetings, and who answers what and when.

use moat_guest::{Failure, GuestMessage, RawBytes, Refusal, Reply};
use moat_sandbox::{Check, Guest as _, GuestClient, GuestError};
use std::time::Duration;

use crate::liar::{EPOCH, connected, ensure, pipe, refused, short, welcome};
use crate::{Case, case};

/// Asks for something while the guest says these bytes and ends.
async fn raw(bytes: Vec<u8>) -> Result<(), GuestError> {
    let (client, mut liar) = connected().await;
    let lie = async {
        liar.asked().await;
        liar.write(&bytes).await;
        drop(liar);
    };
    tokio::join!(client.processes(), lie).0.map(drop)
}

/// Asks for something while the guest says this and then answers truly.
async fn after(message: GuestMessage) -> Result<(), GuestError> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.say(&message, &[]).await;
        liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
        liar
    };
    tokio::join!(client.processes(), lie).0.map(drop)
}

async fn failing(failure: Failure) -> Result<(), String> {
    let (client, mut liar) = connected().await;
    let lie = async {
        let (id, _) = liar.asked().await;
        liar.say(&GuestMessage::Failed { id, failure }, &[]).await;
    };
    match tokio::join!(client.processes(), lie).0 {
        Err(error) => short(&error),
        Ok(_) => Err("it is believed".to_owned()),
    }
}

/// Connects to a guest that answers with this.
async fn greeted(message: GuestMessage) -> Result<(), GuestError> {
    let (ours, mut liar) = pipe();
    let greet = async {
        liar.hear().await;
        liar.say(&message, &[]).await;
        liar
    };
    tokio::join!(GuestClient::connect(ours, EPOCH), greet).0.map(drop)
}

fn frame(total: u32, header: u32) -> Vec<u8> {
    [total.to_le_bytes(), header.to_le_bytes()].concat()
}

fn header(json: &str) -> Vec<u8> {
    let length = json.len() as u32;
    [frame(length, length), json.as_bytes().to_vec()].concat()
}

fn disconnected<T>(result: Result<T, GuestError>) -> Result<(), String> {
    ensure(matches!(result, Err(GuestError::Disconnected(_))), "it is no lost connection")
}

fn many() -> String {
    "x".repeat(900 << 10)
}

fn later(epoch: u64) -> GuestMessage {
    GuestMessage::Refused(Refusal::Superseded { epoch })
}

pub(crate) const CASES: &[Case] = &[
    case!("bytes that are no frame", None => async { refused(raw(vec![0xff; 64]).await) }),
    case!("a header of 2 MiB", Some(Check::FrameSize) => async {
        refused(raw(frame(64 << 20, 2 << 20)).await)
    }),
    case!("a payload of 64 MiB", Some(Check::FrameSize) => async {
        refused(raw(frame(64 << 20, 9)).await)
    }),
    case!("a payload of 4 GiB", Some(Check::FrameSize) => async {
        refused(raw(frame(u32::MAX, 9)).await)
    }),
    case!("a header longer than its frame", None => async { refused(raw(frame(5, 6)).await) }),
    case!("an empty message", None => async { refused(raw(frame(0, 0)).await) }),
    case!("JSON of a million brackets", None => async { refused(raw(header(&"[".repeat(1 << 20))).await) }),
    case!("JSON that is no message", None => async { refused(raw(header("{\"flag\":1}")).await) }),
    case!("half a frame, and the end", None => async { disconnected(raw(frame(90, 9)).await) }),
    case!("half a frame, and silence", Some(Check::Time), paused => async {
        let (client, mut liar) = connected().await;
        liar.write(&frame(90, 9)).await;
        disconnected(client.processes().await)
    }),
    case!("silence", Some(Check::Time), paused => async {
        let (client, _liar) = connected().await;
        disconnected(client.processes().await)
    }),
    case!("silence instead of a welcome", Some(Check::Time), paused => async {
        let (ours, _liar) = pipe();
        disconnected(GuestClient::connect(ours, EPOCH).await)
    }),
    case!("a version that was not offered", Some(Check::Version) => async {
        refused(greeted(welcome(99, &"0".repeat(32))).await)
    }),
    case!("a nonce that is none", Some(Check::Nonce) => async {
        refused(greeted(welcome(2, "../../../../etc/passwd/././././.")).await)
    }),
    case!("a nonce without end", Some(Check::Nonce) => async {
        refused(greeted(welcome(2, &many())).await)
    }),
    case!("an answer instead of a welcome", None => async {
        refused(greeted(GuestMessage::Reply { id: 0, body: Reply::Done }).await)
    }),
    case!("a second welcome", Some(Check::Greeting) => async {
        refused(after(welcome(2, &"1".repeat(32))).await)
    }),
    case!("an old epoch as a later owner's", Some(Check::Epoch) => async {
        refused(after(later(3)).await)
    }),
    case!("our own epoch as a later owner's", Some(Check::Epoch) => async {
        refused(after(later(EPOCH.0)).await)
    }),
    case!("an old epoch at the door", Some(Check::Epoch) => async {
        refused(greeted(later(1)).await)
    }),
    case!("words without end", Some(Check::Words) => async {
        failing(Failure::Unsupported { what: many() }).await
    }),
    case!("a path without end in an error", Some(Check::Words) => async {
        failing(Failure::Outside { path: RawBytes(many().into_bytes()) }).await
    }),
    case!("an operation without end in an error", Some(Check::Words) => async {
        let path = RawBytes(b"a".to_vec());
        failing(Failure::Os { operation: many(), path, errno: i32::MIN }).await
    }),
    case!("a reason without end", Some(Check::Words) => async {
        refused(after(GuestMessage::Refused(Refusal::Protocol { reason: many() })).await)
    }),
    case!("a message without end that is none", Some(Check::Words) => async {
        refused(raw(header(&format!("{{\"{}\":1}}", many()))).await)
    }),
    case!("answers that nobody asked for", None => async {
        let (client, mut liar) = connected().await;
        let lie = async {
            let (id, _) = liar.asked().await;
            for wrong in 0..20_000 {
                liar.reply(id + 1 + wrong, Reply::Bytes, &[7; 512]).await;
            }
            liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
        };
        ensure(tokio::join!(client.processes(), lie).0.is_ok(), "the answer is lost")
    }),
    case!("the same answer twice", None => async {
        let (client, mut liar) = connected().await;
        let lie = async {
            let (id, _) = liar.asked().await;
            liar.reply(id, Reply::Processes(Vec::new()), &[]).await;
            liar.reply(id, Reply::Done, &[]).await;
            let (next, _) = liar.asked().await;
            liar.reply(id, Reply::Frozen(true), &[]).await;
            liar.reply(next, Reply::Frozen(false), &[]).await;
        };
        let ask = async { (client.processes().await, client.freeze().await) };
        let ((first, second), ()) = tokio::join!(ask, lie);
        ensure(first.is_ok() && matches!(second, Ok(false)), "another answer is taken")
    }),
    case!("pieces of a listing that never ends", Some(Check::Time), paused => async {
        let (client, mut liar) = connected().await;
        let lie = async {
            let (id, _) = liar.asked().await;
            while liar.reply(id, Reply::Entries { last: false }, &[]).await {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            listed = client.scan(moat_sandbox::Root::Workspace, &[]) => disconnected(listed),
            () = lie => Err("the connection ended".to_owned()),
        }
    }),
];
