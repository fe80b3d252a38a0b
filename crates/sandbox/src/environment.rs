//! The environment of commands: this list, and what the manifest adds. The host's never leaks.

use std::collections::BTreeMap;

/// Where programs are, after those of toolchains.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where programs are that commands install themselves.
const HOME_PATH: &str = "/home/agent/.local/bin:/home/agent/.cargo/bin";

const FIXED: [(&str, &str); 13] = [
    ("HOME", "/home/agent"),
    ("USER", "agent"),
    ("LOGNAME", "agent"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
    ("TMPDIR", "/tmp"),
    // Output is read by a model: no colours, no cursor, no pager that waits for a key.
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    // Nobody is there to type a password.
    ("GIT_TERMINAL_PROMPT", "0"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("PYTHONUNBUFFERED", "1"),
];

/// Variables by which tool chains are told that there is no network.
const OFFLINE: [&str; 1] = ["CARGO_NET_OFFLINE"];

/// What decides about the environment, beside the fixed list.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Folders with programs of toolchains that the sandbox is shown, and variables that these
    /// need. An image brings its own.
    pub toolchains: (&'a [String], &'a [(String, String)]),
    /// Whether there is `bash`.
    pub bash: bool,
    /// What says who commands run as.
    pub user: &'a BTreeMap<String, String>,
    /// What the image asks for, if the sandbox is on one.
    pub image: Option<&'a BTreeMap<String, String>>,
    /// What the network adds.
    pub network: BTreeMap<String, String>,
    /// What is asked for.
    pub wanted: &'a BTreeMap<String, String>,
}

/// Names that an image does not decide about: they are of the sandbox's own user.
const NOT_OF_IMAGE: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "TMPDIR"];

/// Everything that a command finds in its environment.
pub fn compose(from: Circumstances<'_>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        FIXED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if !from.bash {
        all.insert("SHELL".to_owned(), "/bin/sh".to_owned());
    }
    match from.image {
        Some(image) => {
            all.insert("PATH".to_owned(), SYSTEM_PATH.to_owned());
            let decided = image.iter().filter(|(name, _)| !NOT_OF_IMAGE.contains(&name.as_str()));
            all.extend(decided.map(|(name, value)| (name.clone(), value.clone())));
            if let Some(path) = all.get_mut("PATH") {
                *path = format!("{HOME_PATH}:{path}");
            }
        }
        None => {
            let mut path = HOME_PATH.to_owned();
            let (folders, variables) = from.toolchains;
            for folder in folders {
                path.push(':');
                path.push_str(folder);
            }
            path.push(':');
            path.push_str(SYSTEM_PATH);
            all.insert("PATH".to_owned(), path);
            all.extend(variables.iter().cloned());
        }
    }
    all.extend(from.user.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !from.network.is_empty() {
        // Where there is a way out, what a tool chain says about there being none is wrong.
        OFFLINE.iter().for_each(|name| drop(all.remove(*name)));
    }
    all.extend(from.network);
    all.extend(from.wanted.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}
