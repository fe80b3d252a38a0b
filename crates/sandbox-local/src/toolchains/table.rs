//! Where tools that people install into their home keep what a program needs to run them. Never a
//! whole folder where credentials may lie beside it: `~/.cargo/credentials.toml`,
//! `~/.cargo/config.toml`, `.condarc`, `.npmrc` and their like are not in this list.

/// One kind of toolchain.
pub(crate) struct Toolchain {
    /// Its name, for people.
    pub(crate) name: &'static str,
    /// The variable that moves its root, if one does.
    pub(crate) root_variable: Option<&'static str>,
    /// Where its root is otherwise, beneath the home.
    pub(crate) root: &'static str,
    /// What is shown beneath the root.
    pub(crate) shown: &'static [&'static str],
    /// Where its programs are beneath the root. `*` stands for the newest of
    /// several versions, `+` for every name there is.
    pub(crate) path: &'static [&'static str],
    /// Variables that are to hold the root.
    pub(crate) variables: &'static [&'static str],
}

const NOTHING: Toolchain =
    Toolchain { name: "", root_variable: None, root: "", shown: &[], path: &[], variables: &[] };

pub(crate) const TABLE: &[Toolchain] = &[
    Toolchain {
        name: "rustup",
        root_variable: Some("RUSTUP_HOME"),
        root: ".rustup",
        shown: &["toolchains", "settings.toml"],
        ..NOTHING
    },
    Toolchain {
        name: "cargo",
        root_variable: Some("CARGO_HOME"),
        root: ".cargo",
        shown: &["bin", "registry"],
        path: &["bin"],
        ..NOTHING
    },
    Toolchain {
        name: "pyenv",
        root_variable: Some("PYENV_ROOT"),
        root: ".pyenv",
        // Not `pyenv.d`: a hook there writes shims after each `pip install`, and where it cannot,
        // has what was installed end as if it was not.
        shown: &["bin", "libexec", "versions", "shims", "plugins", "version"],
        path: &["shims", "bin"],
        variables: &["PYENV_ROOT"],
    },
    Toolchain {
        name: "uv",
        root: ".local/share/uv",
        shown: &["python"],
        path: &["python/*/bin"],
        ..NOTHING
    },
    Toolchain { name: "uv", root: ".local/bin", shown: &["uv", "uvx"], path: &["."], ..NOTHING },
    Toolchain {
        name: "nvm",
        root_variable: Some("NVM_DIR"),
        root: ".nvm",
        shown: &["versions", "alias", "nvm.sh"],
        path: &["versions/node/*/bin"],
        variables: &["NVM_DIR"],
    },
    Toolchain {
        name: "fnm",
        root_variable: Some("FNM_DIR"),
        root: ".local/share/fnm",
        shown: &["node-versions", "aliases"],
        path: &["aliases/default/bin"],
        ..NOTHING
    },
    Toolchain {
        name: "volta",
        root_variable: Some("VOLTA_HOME"),
        root: ".volta",
        shown: &["bin", "tools/image"],
        path: &["tools/image/node/*/bin"],
        ..NOTHING
    },
    Toolchain { name: "deno", root: ".deno", shown: &["bin"], path: &["bin"], ..NOTHING },
    Toolchain { name: "bun", root: ".bun", shown: &["bin"], path: &["bin"], ..NOTHING },
    Toolchain {
        name: "go",
        root_variable: Some("GOPATH"),
        root: "go",
        shown: &["bin"],
        path: &["bin"],
        ..NOTHING
    },
    Toolchain { name: "go", root: "sdk", shown: &["."], path: &["*/bin"], ..NOTHING },
    Toolchain { name: "go", root: ".local/go", shown: &["."], path: &["bin"], ..NOTHING },
    Toolchain {
        name: "sdkman",
        root_variable: Some("SDKMAN_DIR"),
        root: ".sdkman",
        shown: &["candidates"],
        path: &["candidates/+/current/bin"],
        variables: &["SDKMAN_DIR"],
    },
    Toolchain {
        name: "rbenv",
        root_variable: Some("RBENV_ROOT"),
        root: ".rbenv",
        shown: &["bin", "libexec", "versions", "shims", "plugins", "version"],
        path: &["shims", "bin"],
        variables: &["RBENV_ROOT"],
    },
    Toolchain {
        name: "mise",
        root: ".local/share/mise",
        shown: &["installs"],
        path: &["installs/+/latest/bin"],
        ..NOTHING
    },
    Toolchain {
        name: "ghcup",
        root: ".ghcup",
        shown: &["bin", "ghc", "cabal"],
        path: &["bin"],
        ..NOTHING
    },
    Toolchain {
        name: "elan",
        root: ".elan",
        shown: &["bin", "toolchains", "settings.toml"],
        path: &["bin"],
        variables: &["ELAN_HOME"],
        ..NOTHING
    },
    Toolchain {
        name: "conda",
        root: "miniconda3",
        shown: &["bin", "lib", "include", "share", "ssl", "envs", "x86_64-conda-linux-gnu"],
        path: &["bin"],
        ..NOTHING
    },
];
