//! Plans for the launcher: what it does, step by step, and what each step is called when it fails.
//!
//! The wire format is described in the launcher's `plan` module; the numbers of steps are the same
//! as in its `steps` module.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::fences::Fence;
use crate::subordinate::{MAP_IDS, Maps};

/// Descriptors by the numbers that a plan gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The guest's listening socket; comes with the plan.
    pub(crate) const LISTENER: Self = Self(0);
    /// The guest's configuration; comes with the plan.
    pub(crate) const CONFIG: Self = Self(1);
    /// The guest program; comes with the plan.
    pub(crate) const PROGRAM: Self = Self(2);
    /// The tree with shifted owners, if the plan has one.
    pub(crate) const SHIFTED: Self = Self(3);
    /// The workspace that lies over a tree, if the plan has one.
    pub(crate) const OVERLAID: Self = Self(4);
    /// What a test leaves open.
    #[cfg(feature = "mutations")]
    pub(crate) const LEAK: Self = Self(255);
    const FIRST_FREE: u32 = 5;
}

/// One thing that the launcher does. Paths are relative to the new root while it is being made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    MakePrivate(&'a Path),
    Open {
        slot: Slot,
        flags: u32,
        optional: bool,
        path: &'a Path,
    },
    Mount {
        source: &'a str,
        target: &'a Path,
        kind: &'a str,
        flags: u32,
        options: &'a str,
    },
    Bind {
        slot: Slot,
        attributes: u32,
        target: &'a Path,
    },
    /// The mount in the slot, which is nowhere yet, comes to be at the target.
    Attach {
        slot: Slot,
        attributes: u32,
        target: &'a Path,
    },
    /// Nothing happens where there is nothing to hide; nor, with `reachable`, where it lies in a
    /// folder that nobody inside can enter.
    Mask {
        path: &'a Path,
        cover: &'a Path,
        reachable: bool,
    },
    /// Writes a setting of the kernel that is this user namespace's own.
    Setting {
        path: &'a Path,
        content: &'a [u8],
    },
    MakeDir {
        path: &'a Path,
        mode: u32,
    },
    File {
        path: &'a Path,
        mode: u32,
        content: &'a [u8],
    },
    Symlink {
        target: &'a OsStr,
        path: &'a Path,
    },
    /// The mount at the path becomes read-only; with `bind` a folder within a mount does.
    ReadOnly {
        path: &'a Path,
        bind: bool,
    },
    ChangeDir(&'a Path),
    PivotRoot,
    HostName(&'a str),
    Loopback,
    NewSession,
    Limit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    BecomeUser {
        uid: u32,
        gid: u32,
        leave_groups: bool,
        /// The process is root of its user namespace, and is to keep what it may.
        from_root: bool,
    },
    /// Gives what is in the slot to somebody inside.
    Own {
        slot: Slot,
        uid: u32,
        gid: u32,
    },
    KeepCapabilities {
        keep: u64,
        through_exec: bool,
    },
    NoNewPrivileges,
    Landlock {
        required: bool,
        files: u64,
        scoped: u64,
        rules: &'a [(u64, &'a Path)],
    },
    Filter(&'a [u8]),
    PassDescriptor {
        slot: Slot,
        number: i32,
    },
    Execute {
        slot: Slot,
        keep: u32,
        arguments: &'a [&'a str],
        variables: &'a [&'a str],
    },
    Exit,
    LeaveKeyring,
    /// An address of the loopback device; all of its network becomes local.
    LoopbackAddress {
        address: Ipv4Addr,
        prefix: u32,
    },
    /// A bound socket; one of a stream listens.
    InternetSocket {
        slot: Slot,
        stream: bool,
        address: Ipv4Addr,
        port: u16,
    },
    /// A listening socket at a path.
    UnixSocket {
        slot: Slot,
        path: &'a Path,
    },
}

/// `MOUNT_ATTR_…` of [`Step::Bind`], as the kernel numbers them.
pub(crate) mod attribute {
    pub(crate) const READ_ONLY: u32 = 1;
    pub(crate) const NO_SUID: u32 = 2;
    pub(crate) const NO_DEVICES: u32 = 4;
    pub(crate) const NO_EXEC: u32 = 8;
}

/// Which namespaces a plan makes, and who is who in its user namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW…` flags.
    pub(crate) flags: u64,
    /// Content of `uid_map`; empty: none is written.
    pub(crate) uid_map: String,
    /// Content of `gid_map`; empty: none is written.
    pub(crate) gid_map: String,
    /// Forbids `setgroups`, without which an ordinary user may map no group.
    pub(crate) deny_setgroups: bool,
    /// The maps, where programs with more rights write them instead of the launcher.
    pub(crate) mapped_outside: Option<Maps>,
    /// A tree of the host that is to come into [`Slot::SHIFTED`], and how its owners are shifted:
    /// in the form of a `uid_map`, from owners on disk to owners on this host.
    pub(crate) shifted: Option<(PathBuf, String)>,
    /// What the workspace, which comes into [`Slot::OVERLAID`], lies over.
    pub(crate) base: Option<Beneath>,
}

/// A tree of the host beneath a workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beneath {
    /// The tree.
    pub(crate) tree: PathBuf,
    /// How its owners are shifted: as [`Namespaces::shifted`].
    pub(crate) map: String,
    /// The sandbox's folder.
    pub(crate) folder: PathBuf,
    /// Only tries it, with a tree that was made for that.
    pub(crate) rehearse: bool,
}

/// The launcher's number of shifting owners, and what that is called.
const SHIFT: u32 = 0xffff_0007;
/// The same of laying the workspace over a tree.
const OVERLAY: u32 = 0xffff_000a;
/// The same of trying that out.
const REHEARSE: u32 = 0xffff_000b;
pub(crate) const LAY_OVER: &str = "lay the workspace over a tree that is kept";
pub(crate) const SHIFT_OWNERS: &str = "shift the owners of the image's files";

/// A plan in the making.
#[derive(Debug)]
pub(crate) struct Plan {
    bytes: Vec<u8>,
    names: Vec<(Cow<'static, str>, Option<Fence>)>,
    fence: Option<Fence>,
    next_slot: u32,
    old_kernel: bool,
    mapped_outside: Option<Maps>,
    #[cfg(feature = "mutations")]
    left_out: crate::left_out::LeftOut,
}

impl Plan {
    pub(crate) fn new(namespaces: &Namespaces) -> Self {
        let mut bytes = Vec::with_capacity(48 * 1024);
        bytes.extend_from_slice(b"MOATPLN3");
        bytes.extend_from_slice(&namespaces.flags.to_le_bytes());
        put_u32(&mut bytes, namespaces.deny_setgroups.into());
        put_u32(&mut bytes, namespaces.mapped_outside.is_some().into());
        put_bytes(&mut bytes, namespaces.uid_map.as_bytes());
        put_bytes(&mut bytes, namespaces.gid_map.as_bytes());
        let (shifted, map) = namespaces.shifted.clone().unwrap_or_default();
        put_path(&mut bytes, &shifted);
        put_bytes(&mut bytes, map.as_bytes());
        let base = namespaces.base.clone().unwrap_or_default();
        put_path(&mut bytes, &base.tree);
        put_bytes(&mut bytes, base.map.as_bytes());
        put_path(&mut bytes, &base.folder);
        put_u32(&mut bytes, base.rehearse.into());
        Self {
            bytes,
            names: Vec::new(),
            fence: None,
            next_slot: Slot::FIRST_FREE,
            old_kernel: false,
            mapped_outside: namespaces.mapped_outside.clone(),
            #[cfg(feature = "mutations")]
            left_out: crate::left_out::LeftOut::default(),
        }
    }

    /// Sets mount attributes as kernels before 5.12 need it.
    pub(crate) fn as_on_old_kernels(&mut self) {
        self.old_kernel = true;
    }

    /// Steps added from now on lack what a test leaves out.
    #[cfg(feature = "mutations")]
    pub(crate) fn leave_out(&mut self, left_out: &crate::left_out::LeftOut) {
        self.left_out = left_out.clone();
    }

    /// Steps added from now on fail for want of this fence.
    pub(crate) fn relies_on(&mut self, fence: Option<Fence>) {
        self.fence = fence;
    }

    /// A slot that no other step uses.
    pub(crate) fn slot(&mut self) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        slot
    }

    /// Adds a step; `name` completes the sentence "cannot …".
    pub(crate) fn push(&mut self, name: impl Into<Cow<'static, str>>, step: &Step<'_>) {
        #[cfg(feature = "mutations")]
        let Some(step) = self.left_out.change(*step) else { return };
        #[cfg(feature = "mutations")]
        let step = &step;
        self.names.push((name.into(), self.fence));
        let mut payload = Vec::with_capacity(128);
        let code = encode(step, self.old_kernel, &mut payload);
        put_u32(&mut self.bytes, code);
        put_bytes(&mut self.bytes, &payload);
    }

    /// What goes to the launcher.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The maps that somebody else than the launcher has to write.
    pub(crate) fn mapped_outside(&self) -> Option<&Maps> {
        self.mapped_outside.as_ref()
    }

    /// What a step is called, and the fence that it relies on.
    pub(crate) fn name(&self, step: u32) -> (Cow<'static, str>, Option<Fence>) {
        let user = Some(Fence::User);
        match step {
            0xffff_0001 => ("hand the plan to the launcher".into(), None),
            0xffff_0002 => ("have the launcher read the plan".into(), None),
            0xffff_0003 => ("make namespaces".into(), user),
            0xffff_0004 => ("forbid changing groups in the user namespace".into(), user),
            0xffff_0005 => ("map user ids".into(), user),
            0xffff_0006 => ("map group ids".into(), user),
            SHIFT => (SHIFT_OWNERS.into(), None),
            0xffff_0008 => ("enter a control group".into(), None),
            0xffff_0009 => (MAP_IDS.into(), None),
            OVERLAY => (LAY_OVER.into(), None),
            REHEARSE => ("change names and files of a tree that is lain over".into(), None),
            _ => match self.names.get(step as usize) {
                Some((name, fence)) => (name.clone(), *fence),
                None => ("end the plan".into(), None),
            },
        }
    }
}

fn encode(step: &Step<'_>, old_kernel: bool, to: &mut Vec<u8>) -> u32 {
    match step {
        Step::MakePrivate(path) => put(to, 1, |to| put_path(to, path)),
        Step::Open { slot, flags, optional, path } => put(to, 2, |to| {
            put_numbers(to, &[slot.0, *flags, (*optional).into()]);
            put_path(to, path);
        }),
        Step::Mount { source, target, kind, flags, options } => put(to, 3, |to| {
            put_text(to, source.as_bytes());
            put_path(to, target);
            put_text(to, kind.as_bytes());
            put_u32(to, *flags);
            put_text(to, options.as_bytes());
        }),
        Step::Bind { slot, attributes, target } => put(to, 4, |to| {
            put_numbers(to, &[slot.0, *attributes, old_kernel.into()]);
            put_path(to, target);
        }),
        Step::Attach { slot, attributes, target } => put(to, 40, |to| {
            put_numbers(to, &[slot.0, *attributes, old_kernel.into()]);
            put_path(to, target);
        }),
        Step::Mask { path, cover, reachable } => put(to, 5, |to| {
            put_path(to, path);
            put_path(to, cover);
            put_u32(to, (*reachable).into());
        }),
        Step::Setting { path, content } => put(to, 41, |to| {
            put_path(to, path);
            put_bytes(to, content);
        }),
        Step::MakeDir { path, mode } => put(to, 6, |to| {
            put_path(to, path);
            put_u32(to, *mode);
        }),
        Step::File { path, mode, content } => put(to, 7, |to| {
            put_path(to, path);
            put_u32(to, *mode);
            put_bytes(to, content);
        }),
        Step::Symlink { target, path } => put(to, 8, |to| {
            put_text(to, target.as_bytes());
            put_path(to, path);
        }),
        Step::ReadOnly { path, bind } => put(to, 9, |to| {
            put_path(to, path);
            put_u32(to, (*bind).into());
        }),
        Step::ChangeDir(path) => put(to, 10, |to| put_path(to, path)),
        Step::PivotRoot => 11,
        Step::HostName(name) => put(to, 12, |to| put_bytes(to, name.as_bytes())),
        Step::Loopback => 13,
        Step::NewSession => 14,
        Step::Limit { resource, soft, hard } => put(to, 15, |to| {
            put_u32(to, *resource);
            to.extend_from_slice(&soft.to_le_bytes());
            to.extend_from_slice(&hard.to_le_bytes());
        }),
        Step::BecomeUser { uid, gid, leave_groups, from_root } => put(to, 16, |to| {
            put_numbers(to, &[*uid, *gid, (*leave_groups).into(), (*from_root).into()]);
        }),
        Step::Own { slot, uid, gid } => put(to, 29, |to| put_numbers(to, &[slot.0, *uid, *gid])),
        Step::KeepCapabilities { keep, through_exec } => put(to, 17, |to| {
            to.extend_from_slice(&keep.to_le_bytes());
            put_u32(to, (*through_exec).into());
        }),
        Step::NoNewPrivileges => 18,
        Step::Landlock { required, files, scoped, rules } => put(to, 19, |to| {
            put_u32(to, (*required).into());
            to.extend_from_slice(&files.to_le_bytes());
            to.extend_from_slice(&scoped.to_le_bytes());
            put_u32(to, rules.len() as u32);
            for (access, path) in *rules {
                to.extend_from_slice(&access.to_le_bytes());
                put_path(to, path);
            }
        }),
        Step::Filter(instructions) => put(to, 20, |to| put_bytes(to, instructions)),
        Step::PassDescriptor { slot, number } => {
            put(to, 21, |to| put_numbers(to, &[slot.0, *number as u32]))
        }
        Step::Execute { slot, keep, arguments, variables } => put(to, 22, |to| {
            put_numbers(to, &[slot.0, *keep]);
            for texts in [arguments, variables] {
                put_u32(to, texts.len() as u32);
                texts.iter().for_each(|text| put_text(to, text.as_bytes()));
            }
        }),
        Step::Exit => 23,
        Step::LeaveKeyring => 24,
        Step::LoopbackAddress { address, prefix } => {
            put(to, 26, |to| put_numbers(to, &[address.to_bits(), *prefix]))
        }
        Step::InternetSocket { slot, stream, address, port } => put(to, 27, |to| {
            put_numbers(to, &[slot.0, (*stream).into(), address.to_bits(), (*port).into()]);
        }),
        Step::UnixSocket { slot, path } => put(to, 28, |to| {
            put_u32(to, slot.0);
            put_path(to, path);
        }),
    }
}

fn put(to: &mut Vec<u8>, code: u32, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
    write(to);
    code
}

fn put_u32(to: &mut Vec<u8>, number: u32) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put_numbers(to: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| put_u32(to, *number));
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(to, bytes.len() as u32);
    to.extend_from_slice(bytes);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn put_path(to: &mut Vec<u8>, path: &Path) {
    put_text(to, path.as_os_str().as_bytes());
}

/// The launcher refuses a text with a zero byte in it, so nothing is cut short silently.
fn put_text(to: &mut Vec<u8>, text: &[u8]) {
    put_u32(to, text.len() as u32 + 1);
    to.extend_from_slice(text);
    to.push(0);
    to.resize(to.len().next_multiple_of(4), 0);
}
