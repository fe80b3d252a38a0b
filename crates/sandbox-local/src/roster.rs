//! Who there is in a sandbox: the users and groups that its `passwd` and `group` name.

use std::fmt::Write as _;

use crate::identity::AGENT;
use crate::image::OpenImage;

/// Bytes of each of the two files; what an image has past that is left out.
const MAX_FILE: usize = 16 << 10;

/// The two files.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

/// Accounts that are there even where an image has none.
const SYSTEM_USERS: [&str; 2] = [
    "root:x:0:0:root:/root:/usr/sbin/nologin",
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
];
const SYSTEM_GROUPS: [&str; 3] = ["root:x:0:", "tty:x:5:", "nogroup:x:65534:"];

impl Roster {
    /// Composes the files: the sandbox's own accounts, then the image's.
    pub(crate) fn new(image: Option<&OpenImage>, shell: &str) -> Self {
        let users = vec![format!("agent:x:{AGENT}:{AGENT}:agent:/home/agent:{shell}")];
        let groups = vec![format!("agent:x:{AGENT}:")];
        let theirs = |path: &str| image.and_then(|image| image.text(path)).unwrap_or_default();
        Self {
            passwd: file(users, &theirs("etc/passwd"), 7, &SYSTEM_USERS),
            group: file(groups, &theirs("etc/group"), 4, &SYSTEM_GROUPS),
        }
    }
}

/// Lines of ours, then those of the image with other names, then what is still missing.
fn file(ours: Vec<String>, theirs: &str, fields: usize, system: &[&str]) -> String {
    let mut lines = ours;
    let has = |lines: &[String], name: &str| {
        lines.iter().any(|line| line.split(':').next() == Some(name))
    };
    let whole = theirs.lines().filter(|line| {
        let numbered = line.split(':').nth(2).is_some_and(|id| id.parse::<u32>().is_ok());
        line.split(':').count() == fields && numbered && !line.contains(['\0', '\r'])
    });
    for line in whole.chain(system.iter().copied()) {
        let name = line.split(':').next().unwrap_or_default();
        if !name.is_empty() && !has(&lines, name) {
            lines.push(line.to_owned());
        }
    }
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() < MAX_FILE {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}
