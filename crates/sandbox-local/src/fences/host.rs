//! Facts about the host that decide what would help.

use std::fs;
use std::path::Path;

/// What kind of host this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Whether the caller is root.
    pub(crate) root: bool,
    /// Ubuntu's switch that takes capabilities from user namespaces of unconfined programs.
    pub(crate) apparmor_restricts: bool,
    /// Debian's switch that forbids user namespaces to ordinary users.
    pub(crate) unprivileged_forbidden: bool,
    /// Kinds of namespaces of which there may be none, as `sysctl user.max_KIND_namespaces` names
    /// them.
    pub(crate) switched_off: Vec<&'static str>,
    /// Whether this runs in a container.
    pub(crate) container: bool,
    /// Whether this is the Windows Subsystem for Linux, and of the first kind.
    pub(crate) wsl: Option<Wsl>,
    /// The kernel's release.
    pub(crate) release: String,
}

/// The Windows Subsystem for Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wsl {
    /// Without a Linux kernel.
    First,
    /// With one.
    Second,
}

impl Host {
    pub(crate) fn look() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = text("/proc/sys/kernel/osrelease");
        Self {
            root: rustix::process::geteuid().is_root(),
            apparmor_restricts: text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                == "1",
            unprivileged_forbidden: text("/proc/sys/kernel/unprivileged_userns_clone") == "0",
            switched_off: ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
                .into_iter()
                .filter(|kind| text(&format!("/proc/sys/user/max_{kind}_namespaces")) == "0")
                .collect(),
            container: in_container(),
            wsl: wsl(&release),
            release,
        }
    }
}

fn in_container() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    marks.iter().any(|mark| Path::new(mark).exists())
        || fs::read_to_string("/proc/1/cgroup").is_ok_and(|groups| {
            ["docker", "kubepods", "libpod", "containerd", "lxc"]
                .iter()
                .any(|name| groups.contains(name))
        })
}

fn wsl(release: &str) -> Option<Wsl> {
    let release = release.to_ascii_lowercase();
    if !release.contains("microsoft") {
        return None;
    }
    Some(if release.contains("wsl2") || !release.starts_with("4.4.") {
        Wsl::Second
    } else {
        Wsl::First
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_wsl_are_told_apart() {
        assert_eq!(wsl("4.4.0-19041-Microsoft"), Some(Wsl::First));
        assert_eq!(wsl("5.15.153.1-microsoft-standard-WSL2"), Some(Wsl::Second));
        assert_eq!(wsl("6.8.0-45-generic"), None);
    }
}
