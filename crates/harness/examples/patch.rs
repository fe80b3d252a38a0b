//! `patch FILE PATCH EXPECTED ROUNDS`: how long a patch of one file takes, from the tool's input to
//! the new file beside its old name, and how long reading and writing that file takes alone. What
//! came out is compared with EXPECTED. Prints one JSON line, in milliseconds (figure 13).

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_trait::async_trait;
use moat_harness::patch::{FileNode, FileSource, SourceError, parse, plan};

/// The folder that the file is in.
struct Folder(PathBuf);

#[async_trait]
impl FileSource for Folder {
    async fn stat(&self, path: &Path) -> Result<Option<FileNode>, SourceError> {
        let Ok(stat) = fs::symlink_metadata(self.0.join(path)) else { return Ok(None) };
        Ok(Some(match stat.is_dir() {
            true => FileNode::Dir,
            false => FileNode::File { mode: stat.permissions().mode() & 0o777, size: stat.len() },
        }))
    }

    async fn read_at(&self, path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, SourceError> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = vec![0; length as usize];
            let read = File::open(self.0.join(path))?.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        read().map_err(|error| SourceError::Refused(error.to_string()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, patch, expected, rounds] = arguments.as_slice() else {
        return Err("give a file, a patch, what it makes of the file, and how often".into());
    };
    let (file, rounds) = (Path::new(file), rounds.parse::<usize>()?);
    let folder = Folder(file.parent().ok_or("no folder")?.to_owned());
    let (patch, expected) = (fs::read_to_string(patch)?, fs::read(expected)?);
    let (mut patched, mut floor) = (Vec::new(), Vec::new());
    let beside = file.with_extension("new");
    for _ in 0..rounds {
        let start = Instant::now();
        let changes = plan(&parse(&patch)?, Path::new(""), &folder).await?.changes;
        let after = changes.first().and_then(|change| change.after.as_ref()).ok_or("no change")?;
        fs::write(&beside, &after.0)?;
        patched.push(start.elapsed().as_secs_f64() * 1000.0);
        if fs::read(&beside)? != expected {
            return Err("the patch made something else".into());
        }
        let start = Instant::now();
        fs::write(&beside, fs::read(file)?)?;
        floor.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let (patched, floor) = (median(patched), median(floor));
    writeln!(std::io::stdout(), "{{\"patch_ms\":{patched:.4},\"floor_ms\":{floor:.4}}}")?;
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
