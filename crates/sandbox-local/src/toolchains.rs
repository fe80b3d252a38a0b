//! Toolchains that live in the caller's home: found, shown read-only at the same paths, without
//! the credentials that lie beside them.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::system::{Shown, shown};
use table::{TABLE, Toolchain};

/// Variables that move toolchains out of their usual places; see
/// [`LocalOptions::toolchain_variables`](crate::LocalOptions).
pub const TOOLCHAIN_VARIABLES: &[&str] = &[
    "CARGO_HOME",
    "FNM_DIR",
    "GOPATH",
    "NVM_DIR",
    "PYENV_ROOT",
    "RBENV_ROOT",
    "RUSTUP_HOME",
    "SDKMAN_DIR",
    "VOLTA_HOME",
];

/// More names than anyone has versions of a tool.
const MAX_VERSIONS: usize = 64;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toolchains {
    names: Vec<&'static str>,
    shown: Vec<Shown>,
    path: Vec<String>,
    environment: Vec<(String, String)>,
    /// Links in the sandbox's own home: path beneath it, and target.
    home_links: Vec<(PathBuf, PathBuf)>,
    /// The same, where there is no network: what was fetched before, which can only be read.
    offline_links: Vec<(PathBuf, PathBuf)>,
}

impl Toolchains {
    /// Looks into `home`; `variables` are those of the caller's that move toolchains elsewhere.
    pub(crate) fn find(home: Option<&Path>, variables: &BTreeMap<String, String>) -> Self {
        let mut found = Self::default();
        for toolchain in TABLE {
            let root = toolchain
                .root_variable
                .and_then(|name| variables.get(name))
                .map(PathBuf::from)
                .or_else(|| home.map(|home| home.join(toolchain.root)));
            if let Some(root) = root.filter(|root| may_be_shown(root)) {
                found.add(toolchain, &root);
            }
        }
        found.finish();
        found
    }

    /// What kinds there are.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub(crate) fn shown(&self) -> &[Shown] {
        &self.shown
    }

    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Links in the sandbox's own home. With a network, what is fetched has to be written where it
    /// is kept, so what the caller fetched is not in that place then.
    pub(crate) fn home_links(&self, online: bool) -> impl Iterator<Item = &(PathBuf, PathBuf)> {
        self.home_links.iter().chain(self.offline_links.iter().filter(move |_| !online))
    }

    fn add(&mut self, toolchain: &Toolchain, root: &Path) {
        let paths: Vec<Shown> =
            toolchain.shown.iter().filter_map(|name| shown_followed(&root.join(name))).collect();
        if paths.is_empty() {
            return;
        }
        self.shown.extend(paths);
        if !self.names.contains(&toolchain.name) {
            self.names.push(toolchain.name);
        }
        for pattern in toolchain.path {
            let folders = expand(root, pattern).into_iter();
            self.path.extend(folders.filter_map(|folder| folder.to_str().map(str::to_owned)));
        }
        if let Some(root) = root.to_str() {
            let variables = toolchain.variables.iter();
            self.environment.extend(variables.map(|name| ((*name).to_owned(), root.to_owned())));
        }
        match toolchain.name {
            "cargo" => self.give_cargo_a_home(root),
            "rustup" => self.give_rustup_a_home(root),
            _ => {}
        }
    }

    /// The programs in `~/.cargo/bin` are rustup's, and make folders in its home before they run
    /// a compiler: that home is the sandbox's, the toolchains in it are the caller's.
    fn give_rustup_a_home(&mut self, root: &Path) {
        self.environment.push(("RUSTUP_HOME".to_owned(), "/home/agent/.rustup".to_owned()));
        for name in ["toolchains", "settings.toml"] {
            let target = root.join(name);
            if target.exists() {
                self.home_links.push((Path::new(".rustup").join(name), target));
            }
        }
    }

    /// Cargo writes into its home: that is the sandbox's. Without a network, crates that the caller
    /// has fetched are read from his, so that a build works.
    fn give_cargo_a_home(&mut self, root: &Path) {
        self.environment.push(("CARGO_HOME".to_owned(), "/home/agent/.cargo".to_owned()));
        let registry = root.join("registry");
        if registry.is_dir() {
            self.environment.push(("CARGO_NET_OFFLINE".to_owned(), "true".to_owned()));
            self.offline_links.push((PathBuf::from(".cargo/registry"), registry));
        }
    }

    /// A bound folder shows what is beneath it, so nothing beneath is bound again.
    fn finish(&mut self) {
        let folders: Vec<PathBuf> = self
            .shown
            .iter()
            .filter_map(|shown| match shown {
                Shown::Bound { path, folder: true } => Some(path.clone()),
                _ => None,
            })
            .collect();
        let place = |shown: &Shown| match shown {
            Shown::Bound { path, .. } | Shown::Link { path, .. } => path.clone(),
        };
        self.shown.retain(|shown| {
            let path = place(shown);
            !folders.iter().any(|folder| path != *folder && path.starts_with(folder))
        });
        let mut seen = std::collections::BTreeSet::new();
        self.shown.retain(|shown| seen.insert(place(shown)));
    }
}

/// Folders in a home may be links to other disks; what they lead to is what is meant.
fn shown_followed(path: &Path) -> Option<Shown> {
    let folder = fs::metadata(path).ok()?.is_dir();
    match shown(path)? {
        Shown::Link { .. } => Some(Shown::Bound { path: path.to_owned(), folder }),
        bound => Some(bound),
    }
}

/// A root that is absolute, plain, and not where the sandbox has something of its own or shows the
/// system already.
fn may_be_shown(root: &Path) -> bool {
    const TAKEN: [&str; 12] = [
        "/workspace",
        "/home/agent",
        "/moat",
        "/tmp",
        "/dev",
        "/proc",
        "/sys",
        "/etc",
        "/usr",
        "/opt",
        "/nix",
        "/run",
    ];
    let plain =
        root.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    root.is_absolute()
        && plain
        && root.components().count() > 2
        && !TAKEN.iter().any(|taken| root.starts_with(taken))
}

/// The folders that a pattern names: `*` stands for the newest of several versions, `+` for every
/// name there is.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/') {
        found = found
            .into_iter()
            .flat_map(|folder| match part {
                "." => vec![folder],
                "*" => folders(&folder)
                    .into_iter()
                    .max_by_key(|path| {
                        path.file_name().map(|name| version(&name.to_string_lossy()))
                    })
                    .into_iter()
                    .collect(),
                "+" => folders(&folder),
                name => vec![folder.join(name)],
            })
            .collect();
    }
    found.retain(|folder| folder.is_dir());
    found
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_VERSIONS);
    let mut folders: Vec<PathBuf> =
        names.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The numbers in a name, so that `v9` comes before `v20`.
fn version(name: &str) -> Vec<u64> {
    let digits = |c: char| !c.is_ascii_digit();
    name.split(digits).filter_map(|number| number.parse().ok()).collect()
}
