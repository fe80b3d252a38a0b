//! Any text is a transcript or an error with a place, never a panic or an endless expansion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_model::Transcript;

fuzz_target!(|text: &str| {
    let _ = Transcript::parse(text);
});
