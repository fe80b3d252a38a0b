//! Credentials in the files of a `.git` folder: the value is masked, the file stays usable.

use std::path::Path;

/// Bytes of the largest such file.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;

/// Whether a path is a file in which git keeps addresses.
pub(super) fn keeps_addresses(path: &Path) -> bool {
    let mut parts = path.iter().skip_while(|part| *part != ".git").skip(1).peekable();
    if parts.peek().is_none() {
        // `.git/…` of the workspace, or of one nested in it; `.gitmodules` has addresses as well.
        return path.file_name().is_some_and(|name| name == ".gitmodules");
    }
    let is_log = parts.peek().is_some_and(|part| *part == "logs");
    let known = ["config", "config.worktree", "FETCH_HEAD"];
    is_log || path.file_name().is_some_and(|name| known.iter().any(|known| name == *known))
}

/// The content with credentials taken out; `None`: there are none.
pub(super) fn mask(content: &[u8]) -> Option<Vec<u8>> {
    let mut masked = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        mask_line(line, &mut masked);
    }
    (masked != content).then_some(masked)
}

/// Settings whose whole value is a credential.
const SECRET_SETTINGS: &[&str] =
    &["extraheader", "password", "token", "oauthtoken", "cookiefile", "sslkey", "privatekey"];

fn mask_line(line: &[u8], masked: &mut Vec<u8>) {
    let name_end = line.iter().position(|byte| *byte == b'=');
    let name = name_end.and_then(|end| line.get(..end)).unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    // A section and its first setting may stand in one line.
    let setting = name.rsplit([']', ' ', '\t']).next().unwrap_or_default();
    if let (true, Some(end)) = (SECRET_SETTINGS.contains(&setting), name_end) {
        masked.extend(line.get(..=end).unwrap_or_default());
        masked.extend(b" masked");
        if line.ends_with(b"\n") {
            masked.push(b'\n');
        }
        return;
    }
    mask_addresses(line, masked);
}

/// Takes `user:password@` out of every `scheme://user:password@host` of a line. A user alone is no
/// secret in `ssh://git@host`, but is where tokens stand in `https://TOKEN@host`.
fn mask_addresses(mut line: &[u8], masked: &mut Vec<u8>) {
    while let Some(place) = line.windows(3).position(|window| window == b"://") {
        let (before, rest) = line.split_at(place + 3);
        masked.extend(before);
        let end = rest.iter().position(|byte| b"/ \t\r\n\"'".contains(byte)).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let host = match authority.iter().rposition(|byte| *byte == b'@') {
            Some(at) if is_credential(before, authority.get(..at).unwrap_or_default()) => {
                authority.get(at + 1..).unwrap_or_default()
            }
            _ => authority,
        };
        masked.extend(host);
        line = after;
    }
    masked.extend(line);
}

fn is_credential(before: &[u8], user: &[u8]) -> bool {
    !before.ends_with(b"ssh://") || user.contains(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_credentials_out_and_leaves_the_rest() {
        let config = b"[remote \"a\"]\n\turl = https://user:s3cret@example.com/x.git\n\
            \turl = https://s3cret@example.com/x.git\n\turl = ssh://git@example.com/x\n\
            [http \"https://s3cret@h/\"]\n\textraheader = AUTHORIZATION: basic s3cret\n\
            [http] extraHeader=s3cret\n[user]\n\tname = A @ B\n";
        let masked = String::from_utf8(mask(config).unwrap()).unwrap();
        assert!(!masked.contains("s3cret"), "{masked}");
        assert!(masked.contains("url = https://example.com/x.git\n"), "{masked}");
        assert!(masked.contains("ssh://git@example.com/x\n"), "{masked}");
        assert!(masked.ends_with("[user]\n\tname = A @ B\n"), "{masked}");
        assert_eq!(mask(b"[core]\n\tbare = false\n"), None);
    }

    #[test]
    fn knows_where_git_keeps_addresses() {
        for path in [".git/config", "sub/.git/config", ".git/modules/x/config", ".git/logs/HEAD"] {
            assert!(keeps_addresses(Path::new(path)), "{path}");
        }
        for path in ["config", ".git/objects/ab/config2", "git/config", ".gitignore"] {
            assert!(!keeps_addresses(Path::new(path)), "{path}");
        }
    }
}
