//! Has many sandboxes alive at once and prints the memory of all their guests and of this process, in
//! KiB: shares of pages that several map are divided among them. As root, who may ask that of
//! guests. Arguments: how many, and the state folder.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use moat_core::{Epoch, RunId};
use moat_sandbox::{Provider as _, SandboxSpec};
use moat_sandbox_local::{LocalOptions, LocalProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().unwrap_or_else(|| "200".to_owned()).parse()?;
    let state = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("moat-alive-{}", std::process::id())),
        PathBuf::from,
    );
    let provider = LocalProvider::new(LocalOptions::new(&state))?;
    let mut sandboxes = Vec::with_capacity(count);
    for _ in 0..count {
        let spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        sandboxes.push(provider.create(&spec).await?);
    }
    let mut kib = memory(&std::process::id().to_string())?;
    for sandbox in &sandboxes {
        let handle = sandbox.handle();
        let pid = handle.pointer("/process/pid").ok_or("a handle without a process")?;
        kib += memory(&pid.to_string())?;
    }
    writeln!(std::io::stdout(), "{count} alive, {kib} KiB")?;
    for sandbox in sandboxes {
        provider.destroy(&sandbox.handle()).await?;
    }
    std::fs::remove_dir_all(&state)?;
    Ok(())
}

/// The proportional share of a process.
fn memory(pid: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no share")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
