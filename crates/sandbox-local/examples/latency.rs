//! Measures making a sandbox until the first output of its first command, and prints percentiles in
//! milliseconds. Arguments: how many, the state folder, and a certificate (PEM) if the sandboxes are to
//! have a network whose authority it is.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use moat_core::{CallKey, Epoch, RunId, Seq};
use moat_sandbox::{Command, NetworkSpec, ProcessEvent, Provider as _, SandboxSpec};
use moat_sandbox_local::{LocalOptions, LocalProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().unwrap_or_else(|| "200".to_owned()).parse()?;
    let state = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("moat-latency-{}", std::process::id())),
        PathBuf::from,
    );
    let network = match arguments.next() {
        Some(path) => Some(NetworkSpec {
            ports: vec![22, 80, 443],
            authority: Some(std::fs::read(path)?),
            ..NetworkSpec::default()
        }),
        None => None,
    };
    let provider = LocalProvider::new(LocalOptions::new(&state))?;
    let mut made = Vec::with_capacity(count);
    let mut spoken = Vec::with_capacity(count);
    for _ in 0..count {
        let (create, output) = once(&provider, network.as_ref()).await?;
        made.push(create);
        spoken.push(output);
    }
    let mut out = std::io::stdout();
    for (name, times) in [("create", &mut made), ("create → output", &mut spoken)] {
        times.sort();
        let at = |share: f64| -> f64 {
            let index = ((times.len() as f64 - 1.0) * share).round() as usize;
            times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
        };
        let (best, p50, p95, p99) = (at(0.0), at(0.5), at(0.95), at(0.99));
        writeln!(
            out,
            "{name:<16} best {best:.2} ms, p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms ({count} times)"
        )?;
    }
    std::fs::remove_dir_all(&state)?;
    Ok(())
}

async fn once(
    provider: &LocalProvider,
    network: Option<&NetworkSpec>,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let run = RunId::generate();
    let spec = SandboxSpec { network: network.cloned(), ..SandboxSpec::new(run, Epoch(1)) };
    let start = Instant::now();
    let sandbox = provider.create(&spec).await?;
    let created = start.elapsed();
    let guest = sandbox.guest();
    let key = CallKey { run, seq: Seq(1), index: 0, attempt: 1 };
    let command = Command {
        key,
        argv: vec!["/bin/echo".to_owned(), "hi".to_owned()],
        cwd: PathBuf::from("/workspace"),
        environment: BTreeMap::new(),
        tty: None,
        user: None,
    };
    guest.start(&command).await?;
    let mut events = guest.attach(key, 0).await?;
    match events.recv().await {
        Some(ProcessEvent::Output { bytes, .. }) if bytes == b"hi\n" => {}
        other => return Err(format!("not the output: {other:?}").into()),
    }
    let spoken = start.elapsed();
    provider.destroy(&sandbox.handle()).await?;
    Ok((created, spoken))
}
