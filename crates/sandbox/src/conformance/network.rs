use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use moat_core::{Epoch, RunId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Verdict;
use super::bench::{Bench, LONG, Lab, Problem, SOON};
use crate::{
    GATEWAY, GuestError, NetworkSockets, NetworkSpec, PROXY_PORT, SandboxError, SandboxSpec,
};

/// An address that nothing but a wish for all addresses leads to.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(198, 19, 200, 7);
/// An address and a port of its own.
const DATABASE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 3, 4), 5432);

/// A sandbox with a network, where the provider can make one.
async fn with_network(bench: &Bench<'_>) -> Result<Option<(Lab, NetworkSockets)>, Problem> {
    let network = NetworkSpec {
        ports: vec![80, 443],
        addresses: vec![DATABASE],
        authority: None,
        ssh_agent: false,
    };
    let spec = SandboxSpec {
        orphan_grace: LONG,
        network: Some(network),
        ..SandboxSpec::new(RunId::generate(), Epoch(1))
    };
    let lab = match bench.make(&spec).await {
        Ok(lab) => lab,
        Err(error) if is_unsupported(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match lab.sandbox.network().await {
        Ok(sockets) => Ok(Some((lab, sockets))),
        Err(error) if is_unsupported(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_unsupported(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Guest(GuestError::Unsupported(_)))
}

/// Connects from inside with whatever is there, and says what it was told.
fn caller(address: Ipv4Addr, port: u16) -> String {
    format!(
        "if command -v bash >/dev/null; then \
            bash -c 'exec 3<>/dev/tcp/{address}/{port} && echo hello >&3 && cat <&3'; \
        elif command -v python3 >/dev/null; then python3 -c 'import socket; \
            s = socket.create_connection((\"{address}\", {port})); s.send(b\"hello\\n\"); \
            print(s.recv(99).decode(), end=\"\")'; \
        else echo hello | nc {address} {port}; fi"
    )
}

/// Accepts the one connection that a script inside makes, and answers it.
async fn meet(lab: &Lab, sockets: &NetworkSockets, to: (Ipv4Addr, u16)) -> Verdict {
    let key = lab.start(&caller(to.0, to.1)).await?;
    let (mut stream, local) = accept(sockets).await?;
    ensure!(local == SocketAddr::from(to), "{to:?} arrives as {local}");
    let talk = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut heard = vec![0; 6];
        stream.read_exact(&mut heard)?;
        stream.write_all(b"welcome\n")?;
        Ok(heard)
    });
    let heard = talk.await.map_err(|error| Problem(error.to_string()))?;
    let heard = heard.map_err(|error| Problem(format!("the connection from inside: {error}")))?;
    ensure!(heard == b"hello\n", "it said {heard:?}");
    let finished = lab.collect(key, 0).await?;
    ensure!(finished.text() == "welcome\n", "inside heard {:?}", finished.text());
    Ok(())
}

/// The next connection at any of the sockets, and what it was made to.
async fn accept(sockets: &NetworkSockets) -> Result<(TcpStream, SocketAddr), Problem> {
    let start = Instant::now();
    while start.elapsed() < SOON {
        for listener in &sockets.tcp {
            if let Ok((stream, _)) = listener.accept() {
                let local = stream.local_addr().map_err(|error| Problem(error.to_string()))?;
                return Ok((stream, local));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(Problem("no connection arrived".to_owned()))
}

fn addresses(sockets: &NetworkSockets) -> Vec<SocketAddr> {
    let mut all: Vec<_> =
        sockets.tcp.iter().filter_map(|s: &TcpListener| s.local_addr().ok()).collect();
    all.sort();
    all
}

pub(super) async fn none_unless_asked_for(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    match lab.sandbox.network().await {
        Err(error) if is_unsupported(&error) => Ok(()),
        other => Err(Problem(format!("a sandbox without a network has {other:?}"))),
    }
}

pub(super) async fn its_sockets_are_handed_over(bench: &Bench<'_>) -> Verdict {
    let Some((lab, sockets)) = with_network(bench).await? else { return Ok(()) };
    ensure!(sockets.ssh_agent.is_none(), "an SSH agent that was not asked for");
    let dns = sockets.dns.as_ref().and_then(|dns| dns.local_addr().ok());
    ensure!(dns == Some(SocketAddr::from((GATEWAY, 53))), "the resolver is at {dns:?}");
    let all = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    for wanted in [(all, 80), (all, 443), (GATEWAY.into(), PROXY_PORT), (GATEWAY.into(), 53)] {
        let found = addresses(&sockets);
        ensure!(found.contains(&wanted.into()), "{wanted:?} is not among {found:?}");
    }
    for to in [(SOMEWHERE, 443), (GATEWAY, 80), (GATEWAY, PROXY_PORT), (GATEWAY, 53), DATABASE] {
        meet(&lab, &sockets, to).await?;
    }
    Ok(())
}

pub(super) async fn the_same_for_the_next_owner(bench: &Bench<'_>) -> Verdict {
    let Some((lab, sockets)) = with_network(bench).await? else { return Ok(()) };
    let (run, handle, before) = (lab.run, lab.sandbox.handle(), addresses(&sockets));
    // While nobody is there it waits.
    let key = lab.start(&caller(SOMEWHERE, 80)).await?;
    drop((lab, sockets));
    let lab = bench.reattach(run, &handle, 2).await?;
    let lab = lab.ok_or_else(|| Problem("the sandbox is gone".to_owned()))?;
    let sockets = lab.sandbox.network().await?;
    let after = addresses(&sockets);
    ensure!(before == after, "{before:?} became {after:?}");
    let (stream, local) = accept(&sockets).await?;
    ensure!(local == SocketAddr::from((SOMEWHERE, 80)), "it arrives as {local}");
    drop(stream);
    lab.collect(key, 0).await?;
    meet(&lab, &sockets, DATABASE).await
}

pub(super) async fn ports_inside(bench: &Bench<'_>) -> Verdict {
    // What this side listens on inside serves as the program that listens.
    let Some((lab, sockets)) = with_network(bench).await? else { return Ok(()) };
    let mut stream = lab.sandbox.connect(80).await?;
    let (mut inside, local) = accept(&sockets).await?;
    ensure!(local == SocketAddr::from((Ipv4Addr::LOCALHOST, 80)), "it arrives as {local}");
    let problem = |error: std::io::Error| Problem(format!("the stream: {error}"));
    stream.write_all(b"ping").await.map_err(problem)?;
    stream.shutdown().await.map_err(problem)?;
    let echo = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        inside.set_nonblocking(false)?;
        inside.set_read_timeout(Some(SOON))?;
        let mut heard = Vec::new();
        inside.read_to_end(&mut heard)?;
        // More than the buffers between hold, so that both sides have to wait.
        inside.write_all(&heard.repeat(1 << 20))
    });
    let mut heard = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await;
    read.map_err(|_| Problem("the stream does not end".to_owned()))?.map_err(problem)?;
    echo.await.map_err(|error| Problem(error.to_string()))?.map_err(problem)?;
    ensure!(heard == b"ping".repeat(1 << 20), "{} bytes came back", heard.len());
    Ok(())
}

pub(super) async fn nobody_listens(bench: &Bench<'_>) -> Verdict {
    let lab = bench.sandbox().await?;
    match lab.sandbox.connect(1).await {
        Err(SandboxError::Guest(GuestError::Os { path, .. })) if path == "127.0.0.1:1" => Ok(()),
        Err(error) if is_unsupported(&error) => Ok(()),
        other => Err(Problem(format!("connected: {:?}", other.err()))),
    }
}
