//! Addresses of repositories, and what else a manifest says about one.

use std::path::Path;

use super::super::git_config;
use super::super::host::normal;
use crate::manifest::{GitRepo, parts};

/// Checks what a manifest says about a repository; the problem is the rest of a sentence.
pub(crate) fn check(repo: &GitRepo) -> Result<(), String> {
    match (&repo.url, &repo.repo) {
        (Some(_), Some(_)) => return Err("has `url` and `repo`; give one of them".into()),
        (None, None) => return Err("needs a `url` or a `repo`".into()),
        (Some(_), None) if repo.host.is_some() => {
            return Err("has `url` and `host`; `host` goes with `repo`".into());
        }
        _ => {}
    }
    if repo.url.as_deref().is_some_and(holds_a_credential) {
        return Err(
            "has a `url` with a credential in it, which would be kept with the run; leave \
                    it out, and name it with `credential`"
                .into(),
        );
    }
    let words = [&repo.url, &repo.repo, &repo.host, &repo.reference, &repo.subpath];
    for word in words.into_iter().flatten() {
        let is_option = word.starts_with('-');
        if word.is_empty() || is_option || word.chars().any(char::is_control) {
            return Err(format!("has a value that git could misread: `{}`", word.escape_debug()));
        }
    }
    if let Some(reference) = &repo.reference
        && (reference.contains([':', '^', '~', '*', '?', '[', '\\', ' '])
            || reference.contains(".."))
    {
        return Err(format!("has a `ref` that names none: `{}`", reference.escape_debug()));
    }
    if let Some(commit) = &repo.commit
        && !(matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err("needs a whole `commit`: 40 or 64 hexadecimal digits".into());
    }
    if let Some(subpath) = &repo.subpath {
        parts(subpath).map_err(|error| format!("has a bad `subpath`: {error}"))?;
    }
    let address = address(repo, Path::new("/"))?;
    if repo.credential.is_some() && !keeps_credentials(&address) {
        return Err("has a `credential`, which goes only to `https` addresses".into());
    }
    Ok(())
}

/// Whether something stands before the host that may be secret: over `https` a lone name may be a
/// token, and a password is one everywhere.
fn holds_a_credential(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    matches!(scheme, "https" | "http") || user.contains(':')
}

/// Whether a token may be sent there: encrypted, or without leaving this machine.
fn keeps_credentials(address: &str) -> bool {
    let local = ["http://127.0.0.1:", "http://127.0.0.1/", "http://[::1]:", "http://localhost:"];
    address.starts_with("https://") || local.iter().any(|prefix| address.starts_with(prefix))
}

/// The address to fetch from.
pub(super) fn address(repo: &GitRepo, base: &Path) -> Result<String, String> {
    let Some(url) = &repo.url else {
        let host = repo.host.as_deref().unwrap_or("github.com");
        let name = repo.repo.as_deref().unwrap_or_default().trim_end_matches(".git");
        let is_plain = |text: &str| !text.contains(['@', '?', '#', ' ']) && !text.contains("..");
        if !is_plain(host) || !is_plain(name) || host.contains('/') {
            return Err("has a `host` or `repo` that makes no address".into());
        }
        return Ok(format!("https://{host}/{name}.git"));
    };
    absolute(url, base)
}

/// A `url` as a whole address; a path is relative to `base`.
fn absolute(url: &str, base: &Path) -> Result<String, String> {
    let shown = || without_credentials(url).escape_debug().to_string();
    if url.starts_with('-') || url.chars().any(char::is_control) {
        return Err(format!("has a `url` that git could misread: `{}`", shown()));
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.starts_with('-')
            || authority.starts_with('-')
            || rest.contains("/-") && scheme == "ssh"
        {
            return Err(format!(
                "has a `url` whose host or path would be an option: `{}`",
                shown()
            ));
        }
        return match scheme {
            "https" | "http" | "ssh" | "git" if host.is_empty() => {
                Err(format!("has a `url` without a host: `{}`", shown()))
            }
            "https" | "http" | "ssh" | "git" | "file" => Ok(url.to_owned()),
            other => Err(format!(
                "has a `url` of a kind that is not fetched: `{}`",
                other.escape_debug()
            )),
        };
    }
    // `ext::…` and the like run programs.
    if url.contains("::") {
        return Err(format!("has a `url` of a kind that is not fetched: `{}`", shown()));
    }
    match url.split_once(':') {
        Some((host, path)) if !host.contains('/') => {
            let name = host.rsplit('@').next().unwrap_or_default();
            if host.is_empty() || name.is_empty() || name.starts_with('-') || path.starts_with('-')
            {
                let text = "has a `url` whose host or path would be an option";
                return Err(format!("{text}: `{}`", shown()));
            }
            Ok(url.to_owned())
        }
        _ => Ok(format!("file://{}", normal(&base.join(url)).display())),
    }
}

/// The address of a submodule: whole, or relative to that of the repository that has it. One on
/// this machine only where that one is.
pub(super) fn of_submodule(url: &str, parent: &str) -> Result<String, String> {
    let address = if url.starts_with("./") || url.starts_with("../") {
        relative(url, parent)?
    } else if url.starts_with('/') {
        format!("file://{}", normal(Path::new(url)).display())
    } else {
        absolute(url, Path::new("/"))?
    };
    if address.starts_with("file://") && !parent.starts_with("file://") {
        return Err(format!("has a `url` on this machine: `{}`", url.escape_debug()));
    }
    Ok(address)
}

fn relative(url: &str, parent: &str) -> Result<String, String> {
    let out = || format!("has a `url` that leads out of its host: `{}`", url.escape_debug());
    // What stands before the path is never taken away.
    let start = match parent.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.find('/').ok_or_else(out)?;
            scheme.len() + 3 + host + 1
        }
        None => parent.find(':').ok_or_else(out)? + 1,
    };
    let (before, path) = parent.split_at_checked(start).ok_or_else(out)?;
    let mut whole: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." if whole.pop().is_none() => return Err(out()),
            ".." => {}
            part => whole.push(part),
        }
    }
    let whole = whole.join("/");
    if whole.is_empty() || whole.starts_with('-') {
        return Err(out());
    }
    absolute(&format!("{before}{whole}"), Path::new("/"))
}

/// An address as it may be shown and stored.
pub(super) fn without_credentials(address: &str) -> String {
    match git_config::mask(address.as_bytes()) {
        Some(masked) => String::from_utf8_lossy(&masked).into_owned(),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_would_be_options_or_programs_are_refused() {
        for url in [
            "ext::sh -c id",
            "ssh://-oProxyCommand=id/x",
            "ssh://git@-oProxyCommand=id/x",
            "ssh://host/-x",
            "-upload-pack=id:x",
            "git@-host:x",
            "host:-x",
            "https:///x",
            "fd://3",
            "https://h/\nx",
        ] {
            let repo = GitRepo { url: Some(url.to_owned()), ..GitRepo::default() };
            assert!(check(&repo).is_err(), "{url}");
        }
        for url in
            ["https://h/x.git", "ssh://git@h:22/x", "git@h:o/r.git", "../beside", "file:///x"]
        {
            let repo = GitRepo { url: Some(url.to_owned()), ..GitRepo::default() };
            assert_eq!(check(&repo), Ok(()), "{url}");
        }
    }

    #[test]
    fn submodules_are_where_their_repository_is() {
        let of = |url, parent| of_submodule(url, parent);
        assert_eq!(of("../b.git", "https://h/o/a.git").unwrap(), "https://h/o/b.git");
        assert_eq!(of("./b", "git@h:o/a").unwrap(), "git@h:o/a/b");
        assert_eq!(of("../../b", "file:///x/y/a").unwrap(), "file:///x/b");
        for (url, parent) in [
            ("../../../evil.example/x", "https://h/a"),
            ("--upload-pack=id", "https://h/a"),
            ("ext::sh -c id", "https://h/a"),
            ("/etc", "https://h/a"),
            ("file:///etc", "https://h/a"),
            ("-x", "https://h/a"),
        ] {
            assert!(of(url, parent).is_err(), "{url}");
        }
    }
}
