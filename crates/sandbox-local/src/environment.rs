//! The environment of commands: this list, and what the manifest adds. The host's never leaks.

use std::collections::BTreeMap;

use crate::toolchains::Toolchains;

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

/// Everything that a command finds in its environment; `network` is what its network adds.
pub(crate) fn compose(
    toolchains: &Toolchains,
    bash: bool,
    network: BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        FIXED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if !bash {
        all.insert("SHELL".to_owned(), "/bin/sh".to_owned());
    }
    let mut path = HOME_PATH.to_owned();
    for folder in toolchains.path() {
        path.push(':');
        path.push_str(folder);
    }
    path.push(':');
    path.push_str(SYSTEM_PATH);
    all.insert("PATH".to_owned(), path);
    all.extend(toolchains.environment().iter().cloned());
    all.extend(network);
    all.extend(wanted.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}
