//! `expose`: a port of this machine's loopback that leads into a sandbox.
//!
//! Whoever is on this machine can connect to its loopback, so the port asks for a token that only
//! the caller was told. With HTTP every request carries it, and it is taken off before the request
//! goes in; anything else begins with it once.

mod http;
mod raw;
mod token;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use moat_sandbox::Sandbox;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::network::Shared;
use super::{Found, Place, say};
use crate::cli::SandboxExposeArgs;
use crate::exit::Exit;
use token::Token;

/// Connections at once. Those that come when there are as many are closed.
const MAX_CONNECTIONS: usize = 256;

/// How often it is looked whether the sandbox still lives.
const LOOK: Duration = Duration::from_secs(2);

/// How long whoever connects may take to show the token.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where connections lead, and what they have to show.
struct Gate {
    sandbox: Arc<dyn Sandbox>,
    port: u16,
    host_port: u16,
    token: Token,
}

pub(super) async fn expose(place: &Place, args: &SandboxExposeArgs) -> anyhow::Result<Exit> {
    let found = place.find(&args.sandbox).await?;
    let mut network = Shared::of(place, &found, &args.network, None).await?;
    let Found { record, sandbox } = found;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.host_port)).await;
    let listener =
        listener.with_context(|| format!("cannot listen on 127.0.0.1:{}", args.host_port))?;
    let host_port = listener.local_addr()?.port();
    let gate = Arc::new(Gate { sandbox, port: args.port, host_port, token: Token::draw()? });
    announce(&gate, args, place.quiet)?;

    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut ends = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    let [interrupt, terminate] = &mut ends;
    let mut look = tokio::time::interval(LOOK);
    // Dropped, it ends them all.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if connections.len() < MAX_CONNECTIONS {
                    let gate = Arc::clone(&gate);
                    if args.raw {
                        connections.spawn(raw::serve(stream, gate));
                    } else {
                        connections.spawn(http::serve(stream, gate));
                    }
                }
            }
            Some(_) = connections.join_next() => {}
            _ = look.tick() => {
                network.tell();
                if !place.is_alive(&record).await? {
                    say(&format!("the sandbox `{}` has ended", record.shown()));
                    return Ok(Exit::TaskFailed);
                }
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    network.tell();
    Ok(Exit::Success)
}

/// Says where it is and what it asks for, the only time that the token is shown.
fn announce(gate: &Gate, args: &SandboxExposeArgs, quiet: bool) -> anyhow::Result<()> {
    let (port, token) = (gate.host_port, gate.token.shown());
    let url = match args.raw {
        true => format!("tcp://127.0.0.1:{port}"),
        false => format!("http://127.0.0.1:{port}/?token={token}"),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let shown = json!({ "v": 1, "url": url, "host_port": port, "token": token });
        writeln!(out, "{shown}")?;
    } else {
        writeln!(out, "{url}")?;
        if args.raw {
            writeln!(out, "{token}")?;
        }
    }
    out.flush()?;
    if !quiet {
        say(match args.raw {
            true => "each connection begins with the second line; Ctrl-C ends this",
            false => "programs send `Authorization: Bearer` with the token; Ctrl-C ends this",
        });
    }
    Ok(())
}
