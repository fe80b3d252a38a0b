//! What tests of mounts look at.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moat_core::Secret;
use moat_mounts::{Mounts, MountsOptions};
use moat_sandbox::materialise::{CredentialSource, Credentials};
use rustix::process::Pid;

struct Keys;

#[async_trait]
impl Credentials for Keys {
    async fn read(&self, name: &str) -> Result<Secret, String> {
        let value = crate::storage::secret(name);
        value.map(Secret::new).ok_or_else(|| "it is not in `config.toml`".to_owned())
    }
}

pub(crate) fn mounts(folder: &Path, orphan_grace: Duration) -> Mounts {
    Mounts::new(MountsOptions {
        folder: folder.join("mounts"),
        shared: folder.join("shared"),
        credentials: CredentialSource(Some(Arc::new(Keys))),
        orphan_grace,
    })
}

/// Processes that are alive, with their arguments.
fn processes() -> Vec<(Pid, String)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let described = processes.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    described.collect()
}

/// The arguments of every process of Moat's rclone: the server of a test has its password there.
pub(crate) fn arguments() -> String {
    let lines = processes().into_iter().map(|(_, line)| line);
    lines.filter(|line| !line.contains("rclone serve")).collect()
}

/// Each rclone that serves something in this folder.
pub(crate) fn rclone_of(folder: &Path) -> Vec<Pid> {
    let folder = folder.to_str().unwrap();
    let found = processes()
        .into_iter()
        .filter(|(_, line)| line.contains("rclone mount") && line.contains(folder));
    found.map(|(pid, _)| pid).collect()
}

pub(crate) fn mounted_below(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.contains(folder.to_str().unwrap())
}

/// Looks until something is so; `false` after three minutes.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > Duration::from_secs(180) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}
