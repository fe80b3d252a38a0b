//! `cp`: files and folders into a sandbox and out of it.
//!
//! Permission bits and times are kept, owners and set-user-id bits are not. Links are copied as
//! links and never followed. Coming out, everything of the sandbox is hostile: see [`down`].

mod down;
mod up;

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use moat_sandbox::Root;

use super::{Place, say};
use crate::cli::SandboxCpArgs;
use crate::escape::escape;
use crate::exit::{Exit, usage};

/// Permission bits that go through.
const MODE: u32 = 0o777;

/// What was copied, and what was not.
#[derive(Debug, Default)]
struct Copied {
    /// Paths and why they were left out.
    left_out: Vec<(PathBuf, &'static str)>,
}

impl Copied {
    fn leave_out(&mut self, path: &Path, reason: &'static str) {
        self.left_out.push((path.to_owned(), reason));
    }
}

pub(super) async fn copy(place: &Place, args: &SandboxCpArgs) -> anyhow::Result<Exit> {
    let copied = match (Inside::parse(&args.from)?, Inside::parse(&args.to)?) {
        (None, Some(to)) => {
            let found = place.find(&to.sandbox).await?;
            up::copy(Path::new(&args.from), &*found.sandbox.guest(), &to).await?
        }
        (Some(from), None) => {
            let found = place.find(&from.sandbox).await?;
            down::copy(&*found.sandbox.guest(), &from, Path::new(&args.to)).await?
        }
        (None, None) => {
            return Err(usage(
                "one of the two has to be in a sandbox, as SANDBOX:PATH; a path here that has a \
                 `:` in it begins with `./`",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(usage("one of the two has to be a path here, not in a sandbox"));
        }
    };
    for (path, reason) in &copied.left_out {
        say(&format!("left out: {} ({reason})", escape(&path.to_string_lossy())));
    }
    Ok(Exit::Success)
}

/// A path in a sandbox.
#[derive(Debug, PartialEq, Eq)]
struct Inside {
    sandbox: String,
    root: Root,
    /// Beneath the root; empty for the root itself.
    path: PathBuf,
    /// It was written as a folder.
    folder: bool,
}

impl Inside {
    /// `None`: a path here.
    fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        let Some((sandbox, path)) = text.split_once(':') else { return Ok(None) };
        if sandbox.is_empty() || sandbox.contains('/') {
            return Ok(None);
        }
        let folder = path.is_empty() || path.ends_with('/') || path.ends_with("/.") || path == ".";
        let (root, path) = split(Path::new(path))?;
        Ok(Some(Self { sandbox: sandbox.to_owned(), root, path, folder }))
    }

    fn name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// As it is called inside.
    fn shown(&self) -> String {
        escape(&self.root.path().join(&self.path).to_string_lossy())
    }
}

fn split(path: &Path) -> anyhow::Result<(Root, PathBuf)> {
    let roots = [Root::Workspace, Root::Home, Root::Outputs];
    let (root, rest) = if path.is_absolute() {
        let beneath = |root: Root| Some((root, path.strip_prefix(root.path()).ok()?));
        roots.into_iter().find_map(beneath).ok_or_else(|| {
            usage(format!(
                "`{}` cannot be copied: only what is in /workspace, /home/agent and /moat/outputs; \
                 `moat sandbox exec` copies within a sandbox",
                escape(&path.to_string_lossy())
            ))
        })?
    } else {
        (Root::Workspace, path)
    };
    let mut plain = PathBuf::new();
    for part in rest.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(usage("a path in a sandbox has no `..`")),
        }
    }
    Ok((root, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_sandboxes_are_told_from_paths_here() {
        for here in ["a/b", "./a:b", "/x:y", ":x", "a/b:c"] {
            assert_eq!(Inside::parse(here).unwrap(), None, "{here}");
        }
        let parse = |text: &str| {
            let inside = Inside::parse(text).unwrap().unwrap();
            (inside.root, inside.path.to_string_lossy().into_owned(), inside.folder)
        };
        assert_eq!(parse("lab:a/./b"), (Root::Workspace, "a/b".to_owned(), false));
        assert_eq!(parse("lab:"), (Root::Workspace, String::new(), true));
        assert_eq!(parse("lab:/home/agent/x/"), (Root::Home, "x".to_owned(), true));
        assert_eq!(parse("lab:/moat/outputs/1"), (Root::Outputs, "1".to_owned(), false));
        for bad in ["lab:/etc/passwd", "lab:../x", "lab:/workspace/../x", "lab:/workspaces"] {
            assert!(Inside::parse(bad).is_err(), "{bad}");
        }
    }
}
