//! What never reaches the host and what only after a person has named it, as data.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use moat_snapshot::{Listing, Node};

/// How a [`RunOnSight`] names files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The last parts of a path, at any depth.
    Path(&'static str),
    /// Everything in a folder of that name (or path), at any depth.
    Folder(&'static str),
    /// The end of a name.
    Suffix(&'static str),
}

/// Files that some tool executes, or takes programs to execute from, without being asked to: on
/// entering or opening the folder, on the next commit or push, on the next install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOnSight {
    /// Which files.
    pub shape: Shape,
    /// Who runs them, and when.
    pub reason: &'static str,
}

const fn path(path: &'static str, reason: &'static str) -> RunOnSight {
    RunOnSight { shape: Shape::Path(path), reason }
}

const fn folder(name: &'static str, reason: &'static str) -> RunOnSight {
    RunOnSight { shape: Shape::Folder(name), reason }
}

const fn suffix(end: &'static str, reason: &'static str) -> RunOnSight {
    RunOnSight { shape: Shape::Suffix(end), reason }
}

/// The list. Compared without regard to case, since some file systems do the same.
pub const RUN_ON_SIGHT: &[RunOnSight] = &[
    // On entering the folder.
    path(".envrc", "direnv runs it on entering the folder"),
    path(".autoenv.zsh", "autoenv runs it on entering the folder"),
    path("mise.toml", "mise runs its hooks on entering the folder"),
    path(".mise.toml", "mise runs its hooks on entering the folder"),
    folder(".mise", "mise runs its hooks on entering the folder"),
    path(".bashrc", "a shell runs it when it starts"),
    path(".bash_profile", "a shell runs it when it starts"),
    path(".bash_login", "a shell runs it when it starts"),
    path(".profile", "a shell runs it when it starts"),
    path(".zshrc", "a shell runs it when it starts"),
    path(".zshenv", "a shell runs it when it starts"),
    path(".zprofile", "a shell runs it when it starts"),
    folder(".config/fish", "a shell runs it when it starts"),
    // On opening the folder in an editor.
    folder(".vscode", "the editor runs tasks and takes paths of programs from it"),
    suffix(".code-workspace", "the editor runs tasks and takes paths of programs from it"),
    folder(".idea", "the editor runs configurations from it"),
    folder(".fleet", "the editor runs configurations from it"),
    folder(".zed", "the editor runs tasks from it"),
    folder(".devcontainer", "the editor builds and starts a container from it"),
    path(".devcontainer.json", "the editor builds and starts a container from it"),
    path(".exrc", "vi runs it on opening the folder"),
    path(".vimrc", "vim runs it on opening the folder"),
    path(".nvimrc", "neovim runs it on opening the folder"),
    path(".nvim.lua", "neovim runs it on opening the folder"),
    path(".dir-locals.el", "emacs evaluates it on opening a file"),
    path(".gdbinit", "gdb runs it when it starts"),
    path(".lldbinit", "lldb runs it when it starts"),
    // By agents and their tools.
    folder(".claude", "an agent takes hooks and programs from it"),
    folder(".codex", "an agent takes hooks and programs from it"),
    folder(".cursor", "an agent takes hooks and programs from it"),
    folder(".gemini", "an agent takes hooks and programs from it"),
    path(".mcp.json", "an agent starts the servers it names"),
    // On the next commit, checkout or push.
    folder(".husky", "git hooks run it"),
    folder(".githooks", "git hooks run it"),
    folder(".lefthook", "git hooks run it"),
    path("lefthook.yml", "git hooks run it"),
    path(".lefthook.yml", "git hooks run it"),
    path(".pre-commit-config.yaml", "git hooks run it"),
    path(".overcommit.yml", "git hooks run it"),
    path(".gitmodules", "git fetches from the addresses it names"),
    folder(".hg", "Mercurial takes hooks from it"),
    folder(".jj", "Jujutsu takes programs from it"),
    folder(".svn", "Subversion keeps its state in it"),
    folder(".github/workflows", "runs with the repository's credentials once pushed"),
    folder(".github/actions", "runs with the repository's credentials once pushed"),
    folder(".gitea/workflows", "runs with the repository's credentials once pushed"),
    folder(".forgejo/workflows", "runs with the repository's credentials once pushed"),
    path(".gitlab-ci.yml", "runs with the repository's credentials once pushed"),
    folder(".circleci", "runs with the repository's credentials once pushed"),
    folder(".buildkite", "runs with the repository's credentials once pushed"),
    path(".travis.yml", "runs with the repository's credentials once pushed"),
    path(".drone.yml", "runs with the repository's credentials once pushed"),
    path(".woodpecker.yml", "runs with the repository's credentials once pushed"),
    path("azure-pipelines.yml", "runs with the repository's credentials once pushed"),
    path("bitbucket-pipelines.yml", "runs with the repository's credentials once pushed"),
    path("Jenkinsfile", "runs with the build server's credentials once pushed"),
    // On the next install or build, before any code that the user means to run.
    path(".npmrc", "npm takes registries and programs from it"),
    path(".yarnrc", "yarn takes programs from it"),
    path(".yarnrc.yml", "yarn takes programs from it"),
    folder(".yarn", "yarn runs releases and plug-ins from it"),
    path(".pnpmfile.cjs", "pnpm runs it on install"),
    path(".pnpmfile.mjs", "pnpm runs it on install"),
    path(".cargo/config", "cargo takes wrappers and runners from it"),
    path(".cargo/config.toml", "cargo takes wrappers and runners from it"),
    path("pip.conf", "pip takes registries from it"),
    path("sitecustomize.py", "Python runs it whenever it starts"),
    path("usercustomize.py", "Python runs it whenever it starts"),
    suffix(".pth", "Python runs it whenever it starts"),
    path(".bazelrc", "bazel takes programs from it"),
    path("tools/bazel", "bazel runs it in its own place"),
    folder(".mvn", "maven takes options and a wrapper from it"),
    folder("gradle/wrapper", "gradle runs the wrapper it holds"),
    suffix(".mk", "make files include it"),
    path("GNUmakefile", "make takes it before the Makefile"),
];

/// Scripts of a `package.json` that an install runs unasked.
const INSTALL_SCRIPTS: &[&str] = &[
    "preinstall",
    "install",
    "postinstall",
    "preprepare",
    "prepare",
    "postprepare",
    "prepublish",
    "dependencies",
];

/// Why a file runs on sight, by its path.
pub(crate) fn runs_on_sight(path: &Path) -> Option<&'static str> {
    let parts: Vec<String> =
        path.components().map(|part| part.as_os_str().to_string_lossy().to_lowercase()).collect();
    RUN_ON_SIGHT.iter().find(|rule| rule.shape.matches(&parts)).map(|rule| rule.reason)
}

impl Shape {
    fn matches(self, parts: &[String]) -> bool {
        let split = |path: &str| path.to_lowercase().split('/').map(str::to_owned).collect();
        match self {
            Self::Path(path) => {
                let wanted: Vec<String> = split(path);
                parts.ends_with(&wanted)
            }
            Self::Folder(path) => {
                let wanted: Vec<String> = split(path);
                parts.windows(wanted.len()).any(|window| window == wanted.as_slice())
            }
            Self::Suffix(end) => parts.last().is_some_and(|name| name.ends_with(end)),
        }
    }
}

/// Whether a path is a `.git`, or in one. Compared as file systems that fold case would, and with
/// the short name that some give it.
pub(crate) fn is_in_git(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy().to_lowercase();
        // Characters without width are ignored by some file systems.
        let visible: String = name
            .chars()
            .filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
            .collect();
        matches!(visible.trim_end_matches([' ', '.']), ".git" | "git~1")
    })
}

/// Whether a path is the configuration, or a hook, of a repository that has no `.git`: git finds
/// such a one as well when it is called inside it.
pub(crate) fn is_of_bare_repository(tree: &Listing, path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| {
        let inner = path.strip_prefix(folder).unwrap_or(path);
        let is_part = ["config", "config.worktree", "hooks", "commondir", "HEAD"]
            .iter()
            .any(|name| inner.starts_with(name));
        let has = |name: &str| tree.get(&folder.join(name)).is_some();
        is_part && has("objects") && has("refs") && has("HEAD")
    })
}

/// Whether two versions of a `package.json` differ in what an install runs unasked. What cannot be
/// read as JSON is taken to differ.
pub(crate) fn install_scripts_differ(before: Option<&[u8]>, after: &[u8]) -> bool {
    let scripts = |bytes: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let pick = |name: &&str| json.get("scripts").and_then(|s| s.get(*name)).cloned();
        Some(INSTALL_SCRIPTS.iter().map(pick).collect::<Vec<_>>())
    };
    let nothing = || Some(vec![None; INSTALL_SCRIPTS.len()]);
    match scripts(after) {
        None => true,
        after => after != before.map_or_else(nothing, scripts),
    }
}

/// Why a link may not be made, judged by its text. Parts that lead up have to come first: after a
/// name they would lead up from wherever that name really is.
pub(crate) fn leads_out(path: &Path, target: &Path) -> Option<&'static str> {
    let mut above = path.components().count().saturating_sub(1);
    let mut is_down = false;
    for part in target.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return Some("a link to an absolute path"),
            Component::CurDir => {}
            Component::Normal(_) => is_down = true,
            Component::ParentDir if is_down => return Some("a link that leads down and up again"),
            Component::ParentDir => match above.checked_sub(1) {
                Some(left) => above = left,
                None => return Some("a link that leads outside"),
            },
        }
    }
    let is_empty = target.as_os_str().as_bytes().is_empty();
    is_empty.then_some("a link to nothing")
}

/// Why what a snapshot holds at a path may never be written, whatever anybody confirms.
pub(crate) fn never(path: &Path, mode: u32, node: &Node) -> Option<&'static str> {
    if mode & 0o6000 != 0 && !matches!(node, Node::Dir) {
        return Some("it has the set-uid or set-gid bit");
    }
    match node {
        Node::Symlink(target) => leads_out(path, target),
        Node::Dir | Node::File { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_runs_on_sight() {
        for path in [
            ".envrc",
            "a/.envrc",
            ".ENVRC",
            ".vscode/tasks.json",
            "a/.husky/pre-commit",
            ".github/workflows/ci.yml",
            "x/rules.mk",
            "GNUmakefile",
            ".husky",
        ] {
            assert!(runs_on_sight(Path::new(path)).is_some(), "{path}");
        }
        for path in ["envrc", "Makefile", "src/main.rs", "github/workflows/x", "a.mkd", "vscode"] {
            assert_eq!(runs_on_sight(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn knows_git_folders_under_every_name() {
        for path in [".git", ".git/config", "a/.GIT/hooks/x", ".git ./x", "GIT~1", ".g\u{200c}it"] {
            assert!(is_in_git(Path::new(path)), "{path}");
        }
        for path in [".gitignore", "git", ".github", "a.git"] {
            assert!(!is_in_git(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn links_stay_inside() {
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../x/y"), ("a", ".")] {
            assert_eq!(leads_out(Path::new(path), Path::new(target)), None, "{path} {target}");
        }
        for (path, target) in
            [("a", ".."), ("a", "/etc"), ("a/b", "../../c"), ("a/b", "c/../d"), ("a", "./../x")]
        {
            assert!(leads_out(Path::new(path), Path::new(target)).is_some(), "{path} {target}");
        }
    }

    #[test]
    fn only_scripts_of_an_install_hold_a_package_back() {
        let with = |scripts: &str| format!("{{\"scripts\":{{{scripts}}}}}").into_bytes();
        let test = with("\"test\":\"x\"");
        assert!(!install_scripts_differ(None, &test));
        assert!(!install_scripts_differ(Some(&with("\"test\":\"y\"")), &test));
        assert!(install_scripts_differ(Some(&test), &with("\"postinstall\":\"x\"")));
        assert!(install_scripts_differ(None, b"{"));
    }
}
