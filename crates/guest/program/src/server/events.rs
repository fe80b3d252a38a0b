//! What processes tell their listeners.

use std::time::Instant;

use moat_guest::{Failure, GuestMessage};

use super::Server;

/// Bytes of output in one message.
const MAX_OUTPUT: usize = 64 << 10;

impl Server {
    /// Sends output and exits to whoever listens, and drops output that nobody needs any more.
    pub(super) fn send_events(&mut self, now: Instant) {
        let ids: Vec<u64> = self.processes.ids();
        let mut heard: Vec<(u64, u64)> = Vec::new();
        let mut bytes = Vec::new();
        for connection in self.connections.values_mut() {
            let mut ended = Vec::new();
            let mut listeners = std::mem::take(&mut connection.listeners);
            for (id, listener) in &mut listeners {
                let id = *id;
                let Some(process) = self.processes.by_id(listener.process) else {
                    let failure = Failure::UnknownKey;
                    connection.send(&GuestMessage::Failed { id, failure }, &[]);
                    ended.push(id);
                    continue;
                };
                while listener.credit > 0 && connection.has_room() {
                    bytes.clear();
                    let offset = listener.position;
                    let Some((stream, length)) = process.spool.read(offset, MAX_OUTPUT, &mut bytes)
                    else {
                        break;
                    };
                    connection.send(&GuestMessage::Output { listener: id, offset, stream }, &bytes);
                    listener.position += length as u64;
                    listener.credit -= 1;
                }
                if let Some(exit) = process.exit()
                    && listener.position == process.spool.end()
                {
                    let exit = exit.clone();
                    connection.send(&GuestMessage::Exited { listener: id, exit }, &[]);
                    ended.push(id);
                }
                heard.push((listener.process, listener.position));
            }
            listeners.retain(|id, _| !ended.contains(id));
            connection.listeners = listeners;
        }
        for id in ids {
            let positions = heard.iter().filter(|(process, _)| *process == id);
            let floor = positions.map(|(_, position)| *position).min().unwrap_or(u64::MAX);
            self.processes.trim(&self.poll, id, floor, now);
        }
    }
}
