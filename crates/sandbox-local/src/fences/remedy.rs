//! What to do about a missing fence, exactly: the switch, the profile or the container's setting.

use super::Fence;
use super::host::{Host, Wsl};

/// An AppArmor profile for Ubuntu 23.10 and later.
const APPARMOR: &str = "sudo tee /etc/apparmor.d/moat >/dev/null <<'PROFILE'\n\
    abi <abi/4.0>,\n\
    include <tunables/global>\n\
    profile moat /{usr/bin,usr/local/bin,home/*/.cargo/bin}/moat flags=(unconfined) {\n\
    \x20 userns,\n\
    }\n\
    PROFILE\n\
    sudo apparmor_parser -r /etc/apparmor.d/moat";

/// Sentences that complete "this host lacks …".
pub(super) fn remedy(fence: Fence, host: &Host) -> String {
    if let Some(remedy) = switched_off(fence, host) {
        return remedy;
    }
    match fence {
        Fence::User
        | Fence::Mount
        | Fence::Pid
        | Fence::Net
        | Fence::Ipc
        | Fence::Uts
        | Fence::Cgroup => namespaces(host),
        Fence::Proc => private_proc(host),
        Fence::Seccomp => "Use a kernel with CONFIG_SECCOMP_FILTER; every distribution's has \
            it."
        .to_owned(),
        Fence::NoNewPrivileges => "Use a kernel from 3.5 on.".to_owned(),
        Fence::Landlock => format!(
            "Use a kernel from 5.13 on (this is {}) with `landlock` in its `lsm=` boot parameter \
             (see `cat /sys/kernel/security/lsm`); in a container, a seccomp profile that allows \
             the landlock calls.",
            host.release
        ),
        Fence::Pidfd => format!("Use a kernel from 5.3 on (this is {}).", host.release),
    }
}

/// Everything that can stand in the way of a user namespace and of what is made in one.
fn namespaces(host: &Host) -> String {
    if host.wsl == Some(Wsl::First) {
        return "This is the first Windows Subsystem for Linux, which has no namespaces; convert \
            it with `wsl --set-version <distribution> 2` from Windows."
            .to_owned();
    }
    if !host.root && host.unprivileged_forbidden {
        return "Ordinary users may make no user namespaces here; allow it with \
            `sudo sysctl -w kernel.unprivileged_userns_clone=1` (and a file in /etc/sysctl.d to \
            keep it)."
            .to_owned();
    }
    if host.container {
        return "This is a container that forbids it. Docker or Podman: run it with \
            `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
            systempaths=unconfined`. Kubernetes: `securityContext: {seccompProfile: {type: \
            Unconfined}, appArmorProfile: {type: Unconfined}, procMount: Unmasked}`, the last \
            with `hostUsers: false`. A container that is thrown away after the run can be the \
            sandbox itself."
            .to_owned();
    }
    if !host.root && host.apparmor_restricts {
        return format!(
            "Ubuntu restricts user namespaces to programs with an AppArmor profile. Either give \
             Moat one (adapt the path if it is installed elsewhere):\n{APPARMOR}\nor switch the \
             restriction off with `sudo sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0`."
        );
    }
    let wsl = if host.wsl.is_some() { " (WSL 2: update it with `wsl --update`)" } else { "" };
    format!(
        "Use a kernel with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NET_NS{wsl}, and look for a \
         security module that forbids it in `dmesg` or `ausearch -m avc`."
    )
}

/// The switch of the kind of namespace that a fence is, if it is off.
fn switched_off(fence: Fence, host: &Host) -> Option<String> {
    let kind = match fence {
        Fence::User => "user",
        Fence::Mount => "mnt",
        Fence::Pid => "pid",
        Fence::Net => "net",
        Fence::Ipc => "ipc",
        Fence::Uts => "uts",
        Fence::Cgroup => "cgroup",
        _ => return None,
    };
    // Without a user namespace there is none of the others either.
    let kind = [kind, "user"].into_iter().find(|kind| host.switched_off.contains(kind))?;
    Some(format!(
        "Such namespaces are switched off; switch them on with `sudo sysctl -w \
         user.max_{kind}_namespaces=15000` (and a file in /etc/sysctl.d to keep it)."
    ))
}

fn private_proc(host: &Host) -> String {
    if host.container {
        return "The container's own /proc is masked, so the kernel gives out no fresh one. \
            Docker or Podman: add `--security-opt systempaths=unconfined`. Kubernetes: \
            `procMount: Unmasked` with `hostUsers: false`."
            .to_owned();
    }
    "Something is mounted over a part of the host's /proc (see `grep /proc /proc/self/mountinfo`), \
     so the kernel gives out no fresh one; unmount that."
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_switch() {
        let host = |change: fn(&mut Host)| {
            let mut host = Host::default();
            change(&mut host);
            remedy(Fence::User, &host)
        };
        assert!(host(|h| h.switched_off = vec!["user"]).contains("user.max_user_namespaces=15000"));
        assert!(!host(|h| h.switched_off = vec!["net"]).contains("max_net_namespaces"));
        assert!(host(|h| h.unprivileged_forbidden = true).contains("unprivileged_userns_clone=1"));
        let ubuntu = host(|h| h.apparmor_restricts = true);
        assert!(ubuntu.contains("apparmor_restrict_unprivileged_userns=0"));
        assert!(ubuntu.contains("  userns,"), "{ubuntu}");
        assert!(host(|h| h.container = true).contains("seccomp=unconfined"));
        assert!(host(|h| h.wsl = Some(Wsl::First)).contains("--set-version"));
    }

    #[test]
    fn root_is_not_told_about_switches_for_ordinary_users() {
        let host = Host { root: true, apparmor_restricts: true, ..Host::default() };
        assert!(!remedy(Fence::Mount, &host).contains("apparmor_restrict"));
    }
}
