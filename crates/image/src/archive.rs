//! Archives whose members are parts of an image: only where each begins is read here.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use moat_guest::{TarError, TarKind, TarReader};

use crate::ImageError;
use crate::source::{Place, open};

/// Members that an archive of an image may have; each layer is a few.
const MAX_MEMBERS: usize = 20_000;

/// Links from member to member that are followed.
const MAX_LINKS: usize = 8;

/// Where the members of an archive are.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    files: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let mut reader = TarReader::new(BufReader::new(open(path)?));
        let wrong = |error: TarError| match error {
            TarError::Read(error) => ImageError::file("read", path)(error),
            refused => {
                let mut reason = refused.to_string();
                if is_compressed(path) {
                    reason = "it is compressed; decompress it first".to_owned();
                }
                ImageError::malformed(format!("`{}`", path.display()), reason)
            }
        };
        let mut archive =
            Self { path: path.to_owned(), files: BTreeMap::new(), links: BTreeMap::new() };
        while let Some(member) = reader.next_member().map_err(wrong)? {
            if archive.files.len() + archive.links.len() >= MAX_MEMBERS {
                let what = format!("`{}`", path.display());
                let limit = format!("{MAX_MEMBERS} members");
                return Err(ImageError::TooLarge { what, limit });
            }
            let name = normal(&String::from_utf8_lossy(&member.path));
            match member.kind {
                TarKind::File => {
                    archive.files.insert(name, (reader.position(), member.size));
                }
                TarKind::Symlink | TarKind::Hardlink => {
                    let link = String::from_utf8_lossy(&member.link);
                    let target = if member.kind == TarKind::Hardlink || link.starts_with('/') {
                        normal(&link)
                    } else {
                        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                        normal(&format!("{folder}/{link}"))
                    };
                    archive.links.insert(name, target);
                }
                _ => {}
            }
            reader.skip_content().map_err(wrong)?;
        }
        Ok(archive)
    }

    /// Where a member is, by its name in another member.
    pub(crate) fn place(&self, name: &str) -> Result<Place, ImageError> {
        let mut name = normal(name);
        for _ in 0..MAX_LINKS {
            if let Some((offset, length)) = self.files.get(&name) {
                return Ok(Place { file: self.path.clone(), offset: *offset, length: *length });
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        let shown: String = name.chars().take(200).collect();
        let reason = format!("it has no `{shown}` in it");
        Err(ImageError::malformed(format!("`{}`", self.path.display()), reason))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
}

/// Without empty parts, dots, and parts that `..` takes away. A name here is a key, never a path.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn is_compressed(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let read = open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok());
    read && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd])
}
