//! What this host can do with storage elsewhere.

use std::io::Write;

use moat_mounts::MountsStatus;
use serde_json::{Value, json};

use crate::escape::escape;

pub(super) fn row() -> Value {
    let MountsStatus { copies, mounts } = moat_mounts::status();
    let reason = |able: &Result<(), String>| able.as_ref().err().cloned();
    json!({
        "mounts": mounts.is_ok(), "mounts_reason": reason(&mounts),
        "copies": copies.is_ok(), "copies_reason": reason(&copies),
    })
}

pub(super) fn print(out: &mut impl Write) -> std::io::Result<()> {
    let MountsStatus { copies, mounts } = moat_mounts::status();
    match (copies, mounts) {
        (Err(reason), _) => writeln!(out, "\nstorage elsewhere: none: {}", escape(&reason)),
        (Ok(()), Err(reason)) => {
            writeln!(out, "\nstorage elsewhere: copies only: {}", escape(&reason))
        }
        (Ok(()), Ok(())) => writeln!(out, "\nstorage elsewhere: mounts and copies"),
    }
}
