//! What a container is made of: everything is taken away that commands do not need, and what the
//! guest needs beside is given back by name, with the reason.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions,
};
use moat_core::SandboxLimits;
use moat_sandbox::{GATEWAY, Root, SandboxSpec};

use crate::base::Base;

/// Labels of what this provider makes.
pub(crate) mod label {
    /// On a container: the sandbox's id.
    pub(crate) const SANDBOX: &str = "dev.moat.sandbox";
    /// On a container: whose it is, by the id in the state folder.
    pub(crate) const OWNER: &str = "dev.moat.data-folder";
    /// On a container: the run.
    pub(crate) const RUN: &str = "dev.moat.run";
    /// On a container that never runs: an image is being made from it.
    pub(crate) const DRAFT: &str = "dev.moat.draft";
    /// On an image: the image that it was made from.
    pub(crate) const IMAGE: &str = "dev.moat.image";
    /// On an image: the guest that is in it.
    pub(crate) const GUEST: &str = "dev.moat.guest";
    /// On an image: what is known about who there is in it.
    pub(crate) const FACTS: &str = "dev.moat.facts";
}

/// Where the guest is in an image of ours. Commands cannot enter the folder.
pub(crate) const GUEST_FOLDER: &str = "/.moat";
/// See [`GUEST_FOLDER`].
pub(crate) const GUEST: &str = "/.moat/guest";
/// The volume with what is the guest's own and what commands only read.
pub(crate) const STATE: &str = "/moat";
/// What commands cannot enter.
pub(crate) const PRIVATE: &str = "/moat/private";
/// Where the guest's socket is: shared with the harness, or not.
pub(crate) const RUN: &str = "/moat/private/run";
/// The guest's socket.
pub(crate) const SOCKET: &str = "/moat/private/run/guest.sock";
/// What the guest is told.
pub(crate) const CONFIG: &str = "/moat/private/config.json";

/// What the guest may do in its container. Commands have none of it.
const KEPT: [(&str, &str); 9] = [
    ("CHOWN", "files of a checkpoint get their owners back"),
    ("DAC_OVERRIDE", "what a command closed to everyone is still saved and restored"),
    ("FOWNER", "modes and times of files that commands own are set back"),
    ("FSETID", "set-group-id bits of a checkpoint come back"),
    ("KILL", "signals reach commands, which are another user"),
    ("SETGID", "commands become the agent's group"),
    ("SETPCAP", "commands lose all of this from their bounding set as well"),
    ("SETUID", "commands become the agent"),
    ("SYS_PTRACE", "what commands hold open and use is looked at, also where they hide"),
];

/// What it may do until the first command begins, where the sandbox has a network.
const KEPT_FOR_NETWORKS: [(&str, &str); 2] = [
    ("NET_ADMIN", "the loopback gets the addresses that lead to the harness"),
    ("NET_BIND_SERVICE", "the resolver and web ports are below 1024"),
];

/// Processes of a container that are none of commands': the guest, and bridges with what the
/// runtime starts them by.
const OWN_PROCESSES: u64 = 24;

/// What decides about a container.
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) spec: &'a SandboxSpec,
    pub(crate) base: &'a Base,
    /// None of them left open that the engine has a default of its own for.
    pub(crate) limits: &'a SandboxLimits,
    pub(crate) runtime: Option<&'a str>,
    /// The folder of the host that is shared with the guest.
    pub(crate) shared: Option<&'a Path>,
}

/// The name of a sandbox's container.
pub(crate) fn name(id: &str) -> String {
    format!("moat-{id}")
}

/// Composes the request.
pub(crate) fn body(parts: &Parts<'_>) -> ContainerCreateBody {
    let labels = [
        (label::SANDBOX, parts.id.to_owned()),
        (label::OWNER, parts.owner.to_owned()),
        (label::RUN, parts.spec.run.to_string()),
    ];
    let text = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    ContainerCreateBody {
        image: Some(parts.base.id.clone()),
        hostname: Some("moat".to_owned()),
        // The guest; commands become somebody else.
        user: Some("0:0".to_owned()),
        entrypoint: text(&[GUEST]),
        cmd: text(&[moat_guest::CONTAINER, CONFIG]),
        working_dir: Some("/".to_owned()),
        attach_stderr: Some(true),
        healthcheck: Some(HealthConfig { test: text(&["NONE"]), ..HealthConfig::default() }),
        stop_signal: Some("SIGKILL".to_owned()),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(host_config(parts)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(parts: &Parts<'_>) -> HostConfig {
    let limits = parts.limits;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let with_network = parts.spec.network.is_some();
    let kept = KEPT.iter().chain(KEPT_FOR_NETWORKS.iter().filter(|_| with_network));
    let kept = kept.inspect(|(_, reason)| debug_assert!(!reason.is_empty()));
    let swap =
        limits.memory_bytes.map(|memory| memory.saturating_add(limits.swap_bytes.unwrap_or(0)));
    // Of the container's own network namespace, in which there is no resolver but the harness.
    let resolver = if with_network { GATEWAY.to_string() } else { "127.0.0.1".to_owned() };
    HostConfig {
        network_mode: Some("none".to_owned()),
        dns: Some(vec![resolver]),
        dns_options: Some(vec!["timeout:5".to_owned(), "attempts:2".to_owned()]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(kept.map(|(name, _)| (*name).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(!parts.spec.accounts.as_root),
        ipc_mode: Some("private".to_owned()),
        init: Some(false),
        runtime: parts.runtime.map(str::to_owned),
        mounts: Some(mounts(parts)),
        binds: parts.shared.map(|folder| vec![format!("{}:{RUN}", folder.display())]),
        tmpfs: Some(memory_folders(limits)),
        shm_size: limits.tmp_bytes.map(signed),
        memory: limits.memory_bytes.map(signed),
        memory_swap: swap.map(signed),
        pids_limit: limits.pids.map(|pids| signed(pids.saturating_add(OWN_PROCESSES))),
        nano_cpus: limits.cpu_millis.map(|millis| signed(millis.saturating_mul(1_000_000))),
        // What commands say goes to the harness, and nowhere else.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        // What ended leaves nothing, also when nobody looks after it any more.
        auto_remove: Some(true),
        ..HostConfig::default()
    }
}

/// Everything that can be written and is not in memory. Nothing of the image is copied there.
const OURS: [&str; 3] = ["/workspace", "/home", STATE];

/// A volume that an image wants in the middle of what is saved and restored, or of the guest's
/// own: the engine puts it there whatever it is told, and it could not be removed.
pub(crate) fn volume_in_ours(volumes: &[String]) -> Option<&str> {
    let ours = [Root::Workspace.path(), Root::Home.path(), Path::new(STATE)];
    let inside = |path: &Path| ours.iter().any(|ours| path.starts_with(ours) && path != *ours);
    volumes.iter().map(String::as_str).find(|volume| inside(&cleaned(volume)))
}

/// As the engine understands it.
fn cleaned(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

fn mounts(parts: &Parts<'_>) -> Vec<Mount> {
    // Somebody else may remove the container without them, or the engine be killed: the reaper
    // finds them by their labels.
    let labels = [(label::SANDBOX, parts.id), (label::OWNER, parts.owner)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let volume = |target: &str| Mount {
        typ: Some(MountType::VOLUME),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(labels.clone().into()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    OURS.map(volume).into()
}

fn memory_folders(limits: &SandboxLimits) -> HashMap<String, String> {
    let mut options = "rw,nosuid,nodev,exec,mode=1777".to_owned();
    // Zero would be no limit at all.
    let sizes = [("size", limits.tmp_bytes), ("nr_inodes", limits.tmp_inodes)];
    for (name, size) in sizes.into_iter().filter_map(|(name, size)| Some((name, size?))) {
        options.push_str(&format!(",{name}={}", size.max(1)));
    }
    ["/tmp", "/var/tmp"].map(|path| (path.to_owned(), options.clone())).into()
}

#[cfg(test)]
mod tests {
    use moat_core::{Epoch, RunId};
    use moat_sandbox::roster::{ImageAccounts, Roster};
    use moat_sandbox::{Accounts, NetworkSpec};

    use super::*;

    fn made(spec: &SandboxSpec, limits: &SandboxLimits) -> HostConfig {
        let roster =
            Roster::new(&Accounts::default(), false, ImageAccounts::default(), "/bin/sh").unwrap();
        let base = Base {
            id: "sha256:1".to_owned(),
            origin: "sha256:2".to_owned(),
            environment: Vec::new(),
            roster,
            bash: false,
        };
        let parts =
            Parts { id: "1", owner: "2", spec, base: &base, limits, runtime: None, shared: None };
        body(&parts).host_config.unwrap()
    }

    #[test]
    fn a_container_is_hardened_whatever_is_asked_for() {
        let spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        let limits = SandboxLimits {
            memory_bytes: Some(1 << 30),
            pids: Some(10),
            cpu_millis: Some(1500),
            tmp_bytes: Some(1 << 20),
            ..SandboxLimits::default()
        };
        let made = made(&spec, &limits);
        assert_eq!(made.network_mode.as_deref(), Some("none"));
        assert_eq!(made.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(made.readonly_rootfs, Some(true));
        assert_eq!(made.privileged, Some(false));
        assert_eq!(made.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
        assert_eq!((made.memory, made.memory_swap), (Some(1 << 30), Some(1 << 30)));
        assert_eq!(made.nano_cpus, Some(1_500_000_000));
        assert_eq!(made.pids_limit, Some(34));
        assert!(made.tmpfs.unwrap()["/tmp"].contains("nosuid,nodev"));
        for dangerous in ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "MKNOD", "SYS_MODULE", "SETFCAP"] {
            assert!(!made.cap_add.as_ref().unwrap().iter().any(|name| name == dangerous));
        }
        assert!(made.binds.is_none() && made.devices.is_none());
    }

    #[test]
    fn an_image_has_no_volume_in_what_is_restored() {
        let refused = |path: &str| volume_in_ours(&["/data".to_owned(), path.to_owned()]).is_some();
        for path in ["/workspace/a", "/home/agent/.m2", "/moat/private", "/x/../workspace//a/"] {
            assert!(refused(path), "{path}");
        }
        for path in ["/workspace", "/home/agent/", "/home/jenkins/agent", "/moat2", "/", "a"] {
            assert!(!refused(path), "{path}");
        }
    }

    #[test]
    fn a_network_gives_the_guest_what_makes_its_addresses() {
        let mut spec = SandboxSpec::new(RunId::generate(), Epoch(1));
        spec.network = Some(NetworkSpec::default());
        let made = made(&spec, &SandboxLimits::default());
        assert_eq!(made.network_mode.as_deref(), Some("none"));
        assert!(made.cap_add.unwrap().iter().any(|name| name == "NET_ADMIN"));
        assert_eq!(made.dns, Some(vec!["198.18.0.1".to_owned()]));
    }
}
