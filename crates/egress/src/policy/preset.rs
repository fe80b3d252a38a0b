//! Named sets of rules: what the usual package tools need, and why. Data.

use std::str::FromStr;

use super::pattern::HostPattern;
use super::rule::{Rule, Scheme};

/// A named set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Preset(&'static Definition);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Definition {
    name: &'static str,
    about: &'static str,
    hosts: &'static [PresetHost],
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PresetHost {
    host: &'static str,
    /// Also plain HTTP.
    plain: bool,
    reason: &'static str,
}

const fn tls(host: &'static str, reason: &'static str) -> PresetHost {
    PresetHost { host, plain: false, reason }
}

const fn plain(host: &'static str, reason: &'static str) -> PresetHost {
    PresetHost { host, plain: true, reason }
}

const PRESETS: &[Definition] = &[
    Definition {
        name: "debian",
        about: "apt-get on Debian and Ubuntu",
        hosts: &[
            plain("deb.debian.org", "Debian's packages; apt checks signatures, not TLS"),
            plain("security.debian.org", "Debian's security updates"),
            plain("archive.ubuntu.com", "Ubuntu's packages"),
            plain("security.ubuntu.com", "Ubuntu's security updates"),
            plain("ports.ubuntu.com", "Ubuntu's packages of other architectures"),
        ],
    },
    Definition {
        name: "github",
        about: "git clone over HTTPS, release downloads, the API",
        hosts: &[
            tls("github.com", "clone, fetch and push over HTTPS"),
            tls("api.github.com", "the API"),
            tls("codeload.github.com", "archives of repositories"),
            tls("raw.githubusercontent.com", "single files"),
            tls("objects.githubusercontent.com", "release assets and large files"),
            tls("release-assets.githubusercontent.com", "release assets"),
            tls("github-cloud.githubusercontent.com", "large files"),
        ],
    },
    Definition {
        name: "node",
        about: "npm, pnpm and yarn install",
        hosts: &[
            tls("registry.npmjs.org", "packages and their index"),
            tls("registry.yarnpkg.com", "yarn's name of the same registry"),
            tls("nodejs.org", "headers that native packages are built with"),
        ],
    },
    Definition {
        name: "python",
        about: "pip and uv install",
        hosts: &[tls("pypi.org", "the index"), tls("files.pythonhosted.org", "the packages")],
    },
    Definition {
        name: "rust",
        about: "cargo fetch, rustup",
        hosts: &[
            tls("index.crates.io", "the index"),
            tls("static.crates.io", "the crates"),
            tls("crates.io", "older clients ask here for crates"),
            tls("static.rust-lang.org", "toolchains"),
        ],
    },
];

impl Preset {
    /// All of them, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        PRESETS.iter().map(Self)
    }

    /// The name, as after `preset:`.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// What it is for.
    pub fn about(&self) -> &'static str {
        self.0.about
    }

    /// The hosts and why each is in it.
    pub fn hosts(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.hosts.iter().map(|host| (host.host, host.reason))
    }

    /// The rules that it stands for.
    pub fn rules(&self) -> Vec<Rule> {
        let rule = |host: &PresetHost| {
            let scheme = if host.plain { None } else { Some(Scheme::Https) };
            // A test reads every host of the data.
            host.host.parse::<HostPattern>().ok().map(|host| Rule { scheme, ..Rule::host(host) })
        };
        self.0.hosts.iter().filter_map(rule).collect()
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::all().find(|preset| preset.name() == name).ok_or_else(|| {
            let names: Vec<String> =
                PRESETS.iter().map(|preset| format!("`preset:{}`", preset.name)).collect();
            format!("the presets are {}", names.join(", "))
        })
    }
}
