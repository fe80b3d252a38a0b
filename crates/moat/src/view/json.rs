//! `--json`: one object a line, version 1. The shape is documented in `docs/json.md`.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use moat_core::Event;
use moat_harness::driver::Observer;
use serde_json::{Value, json};

/// Prints events as JSON lines to standard output.
#[derive(Default)]
pub(crate) struct JsonLines {
    begun: AtomicBool,
}

impl Observer for JsonLines {
    fn event(&self, event: &Event) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            print_line(&json!({ "v": 1, "type": "run", "run": event.header.run }));
        }
        print_line(&event_line(event, now()));
    }

    fn left(&self, what: &str) {
        print_line(&json!({ "v": 1, "type": "warning", "message": what }));
    }
}

/// An event as an object.
pub(crate) fn event_line(event: &Event, at: u64) -> Value {
    let body = event.body.encode().unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let header = &event.header;
    json!({
        "v": 1,
        "type": "event",
        "run": header.run,
        "seq": header.seq,
        "at": if header.at == 0 { at } else { header.at },
        "actor": header.actor,
        "kind": header.kind,
        "body": body,
    })
}

pub(crate) fn print_line(value: &Value) {
    // A reader that went away is no reason to stop the run.
    let _ = writeln!(std::io::stdout().lock(), "{value}");
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
