//! Bytes from a hostile guest or a broken harness: `cargo +nightly fuzz run guest_frames`.
//!
//! Nothing that arrives may panic, or make the decoder hold more than one largest frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_guest::{
    ApplyRecord, ClientMessage, FrameDecoder, GuestMessage, MAX_HEADER, MAX_PAYLOAD, StatRecord,
};

fuzz_target!(|chunks: Vec<Vec<u8>>| {
    let mut decoder = FrameDecoder::default();
    for chunk in chunks {
        decoder.input().extend_from_slice(&chunk);
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _ = serde_json::from_slice::<ClientMessage>(frame.header);
            let _ = serde_json::from_slice::<GuestMessage>(frame.header);
            let (mut stats, mut applies) = (frame.payload, frame.payload);
            while StatRecord::decode(&mut stats).is_ok() {}
            while ApplyRecord::decode(&mut applies).is_ok() {}
        }
        assert!(decoder.input().capacity() <= 8 + MAX_HEADER + MAX_PAYLOAD + (128 << 10));
    }
});
