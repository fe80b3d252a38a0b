//! Small archives, as an engine takes them and gives them.

use std::io::Read as _;

use bollard::query_parameters::DownloadFromContainerOptions;
use futures_util::StreamExt as _;
use moat_guest::{TarKind, TarReader};

use crate::engine::Engine;
use crate::error::DockerError;
use crate::image::is_absence;

const BLOCK: usize = 512;

/// An archive that is being written: folders and files of root's.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    pub(crate) fn folder(mut self, path: &str, mode: u32) -> Self {
        self.header(&format!("{path}/"), mode, 0, b'5');
        self
    }

    pub(crate) fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.header(path, mode, content.len(), b'0');
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    /// A header of the `ustar` form; names are ours and short.
    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) {
        let mut fields: Vec<u8> = Vec::with_capacity(BLOCK);
        put(&mut fields, path, 100);
        put(&mut fields, &format!("{mode:07o}"), 8);
        put(&mut fields, "0000000", 8);
        put(&mut fields, "0000000", 8);
        put(&mut fields, &format!("{size:011o}"), 12);
        put(&mut fields, "00000000000", 12);
        put(&mut fields, "        ", 8);
        fields.push(kind);
        put(&mut fields, "", 100);
        fields.extend_from_slice(b"ustar\x0000");
        put(&mut fields, "root", 32);
        put(&mut fields, "root", 32);
        fields.resize(BLOCK, 0);
        let sum: u32 = fields.iter().map(|byte| u32::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        for (to, byte) in fields.iter_mut().skip(148).zip(sum.bytes()) {
            *to = byte;
        }
        self.bytes.extend_from_slice(&fields);
    }
}

fn put(fields: &mut Vec<u8>, text: &str, length: usize) {
    let end = fields.len() + length;
    fields.extend(text.bytes().take(length));
    fields.resize(end, 0);
}

/// A text of a container's root, up to a number of bytes. `None`: there is none that can be read.
pub(crate) async fn read(
    engine: &Engine,
    container: &str,
    path: &str,
    most: u64,
) -> Result<Option<String>, DockerError> {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    let docker = engine.docker().await?;
    let mut parts = std::pin::pin!(docker.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => archive.extend_from_slice(&part),
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => {
                return Err(engine.error(&format!("read `{path}` of an image"), &error));
            }
        }
        // With its header, and what may stand before that.
        if archive.len() as u64 > most + (64 << 10) {
            break;
        }
    }
    Ok(text_of_one_file(&archive, most))
}

/// The content of the one file that an archive holds, up to a number of bytes; `None`: it is none,
/// or no text. The archive is an image's, which is hostile.
fn text_of_one_file(archive: &[u8], most: u64) -> Option<String> {
    let mut reader = TarReader::new(archive);
    let member = reader.next_member().ok()??;
    if member.kind != TarKind::File {
        return None;
    }
    let mut content = Vec::new();
    reader.content().take(most).read_to_end(&mut content).ok()?;
    String::from_utf8(content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "root:x:0:0::/:/bin/sh\n".repeat(40);
        let archive = Archive::default().file("etc/passwd", 0o644, text.as_bytes()).finish();
        assert_eq!(archive.len() % BLOCK, 0);
        assert_eq!(text_of_one_file(&archive, 1 << 20).unwrap(), text);
        assert_eq!(text_of_one_file(&archive, 4).unwrap(), "root");
        let folder = Archive::default().folder("etc", 0o755).finish();
        assert_eq!(text_of_one_file(&folder, 1 << 20), None);
        let mut reader = TarReader::new(&*folder);
        let member = reader.next_member().unwrap().unwrap();
        assert_eq!((member.kind, member.mode, member.uid), (TarKind::Folder, 0o755, 0));
    }
}
