//! Any protocol: the token and a line feed, then bytes.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Gate, PATIENCE};

pub(super) async fn serve(mut stream: TcpStream, gate: Arc<Gate>) {
    let shown = tokio::time::timeout(PATIENCE, first_line(&mut stream)).await;
    let Ok(Ok(line)) = shown else { return };
    if !gate.token.is(&line) {
        return;
    }
    let Ok(mut inside) = gate.sandbox.connect(gate.port).await else { return };
    // Whichever side fails has closed both.
    let _ = copy_bidirectional(&mut stream, &mut inside).await;
}

/// Byte by byte, so that nothing behind it is swallowed.
async fn first_line(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() <= 64 {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(line)
}
