//! What the kernel answers to whom: the list, as data.
//!
//! A call that is in no group answers `ENOSYS`, as on a kernel that does not have it; so do numbers
//! that kernels yet to come will give out, and programs fall back as they do on old kernels
//! (`clone3` is left out for that reason: its flags lie in memory, where no filter can look; C
//! libraries then use `clone`). A call that is refused answers `EPERM`, but for [`UNSUPPORTED`].

use libc::c_long;

/// Calls that are allowed whatever their arguments, and why.
pub(crate) struct Group {
    pub(crate) reason: &'static str,
    pub(crate) calls: &'static [c_long],
}

/// How an argument is compared. Only the lower 32 bits of arguments that are an `int` to the kernel
/// are looked at, as the kernel itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Is(u32),
    IsNot(u32),
    /// These bits are all set.
    Has(u32),
    /// Under this mask, it is not that.
    UnderMaskIs(u32, u32),
}

/// Calls that are refused, and why.
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) calls: &'static [c_long],
    /// Refused when all tests of any row hold; without rows always.
    pub(crate) when: &'static [&'static [(u8, Test)]],
}

/// The same number on every architecture.
const FCHMODAT2: c_long = 452;

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

pub(crate) const ALLOWED: &[Group] = &[
    Group {
        reason: "read, write and wait: what every program does",
        calls: calls!(SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv
            SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_close SYS_close_range SYS_lseek SYS_dup
            SYS_dup3 SYS_fcntl SYS_ioctl SYS_pipe2 SYS_ppoll SYS_pselect6 SYS_epoll_create1
            SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_signalfd4
            SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_sendfile SYS_splice
            SYS_tee SYS_vmsplice SYS_copy_file_range),
    },
    Group {
        reason: "files: mounts, modes and Landlock say which",
        calls: calls!(SYS_openat SYS_openat2 SYS_faccessat SYS_faccessat2 SYS_fstat SYS_newfstatat
            SYS_statx SYS_statfs SYS_fstatfs SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir
            SYS_mkdirat SYS_unlinkat SYS_renameat SYS_renameat2 SYS_linkat SYS_symlinkat
            SYS_readlinkat SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_umask
            SYS_truncate SYS_ftruncate SYS_fallocate SYS_fadvise64 SYS_readahead SYS_utimensat
            SYS_fsync SYS_fdatasync SYS_sync SYS_syncfs SYS_sync_file_range SYS_flock SYS_mknodat
            SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_setxattr SYS_lsetxattr SYS_fsetxattr
            SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
            SYS_fremovexattr SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
            SYS_name_to_handle_at),
    },
    Group {
        reason: "newer forms of the calls above, which not every C library names",
        calls: &[FCHMODAT2],
    },
    Group {
        reason: "memory of one's own",
        calls: calls!(SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync
            SYS_mincore SYS_mlock SYS_mlock2 SYS_munlock SYS_mlockall SYS_munlockall
            SYS_memfd_create SYS_remap_file_pages SYS_pkey_mprotect SYS_pkey_alloc SYS_pkey_free
            SYS_membarrier SYS_mseal SYS_get_mempolicy SYS_set_mempolicy SYS_mbind
            SYS_process_madvise SYS_process_mrelease),
    },
    Group {
        reason: "processes and threads; new namespaces are refused below",
        calls: calls!(SYS_clone SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4
            SYS_waitid SYS_kill SYS_tkill SYS_tgkill SYS_getpid SYS_gettid SYS_getppid
            SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_set_tid_address SYS_futex
            SYS_futex_waitv SYS_set_robust_list
            SYS_get_robust_list SYS_rseq SYS_sched_yield SYS_sched_getaffinity
            SYS_sched_setaffinity SYS_sched_getparam SYS_sched_setparam SYS_sched_getscheduler
            SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr
            SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval
            SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_ioprio_set SYS_getcpu SYS_prctl
            SYS_pidfd_open SYS_pidfd_send_signal SYS_pidfd_getfd),
    },
    Group {
        reason: "debuggers and tracers: only processes of the same pid namespace and user can be \
                 reached, and the guest, which is not dumpable, cannot",
        calls: calls!(SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp),
    },
    Group {
        reason: "signals and timers",
        calls: calls!(SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending
            SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo
            SYS_sigaltstack SYS_restart_syscall SYS_nanosleep SYS_clock_nanosleep
            SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_times SYS_getitimer
            SYS_setitimer SYS_timer_create SYS_timer_settime SYS_timer_gettime
            SYS_timer_getoverrun SYS_timer_delete),
    },
    Group {
        reason: "users, groups and limits: without a capability nothing can be gained",
        calls: calls!(SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid
            SYS_getgroups SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid
            SYS_setresgid SYS_setgroups SYS_setfsuid SYS_setfsgid SYS_capget SYS_capset
            SYS_getrlimit SYS_setrlimit SYS_prlimit64 SYS_getrusage SYS_personality),
    },
    Group {
        reason: "sockets; which families is said below, and the network namespace has only \
                 loopback",
        calls: calls!(SYS_socket SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4
            SYS_connect SYS_getsockname SYS_getpeername SYS_sendto SYS_recvfrom SYS_sendmsg
            SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_setsockopt SYS_getsockopt SYS_shutdown),
    },
    Group {
        reason: "System V and POSIX message passing, in the sandbox's own ipc namespace",
        calls: calls!(SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop
            SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink
            SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr),
    },
    Group { reason: "what the system is", calls: calls!(SYS_uname SYS_sysinfo SYS_getrandom) },
    Group {
        reason: "programs may confine themselves further",
        calls: calls!(SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule
            SYS_landlock_restrict_self),
    },
    #[cfg(target_arch = "x86_64")]
    Group {
        reason: "older forms of the calls above, and what the processor needs",
        calls: calls!(SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_mkdir SYS_rmdir
            SYS_unlink SYS_rename SYS_link SYS_symlink SYS_readlink SYS_chmod SYS_chown SYS_lchown
            SYS_mknod SYS_utime SYS_utimes SYS_futimesat SYS_getdents SYS_dup2 SYS_pipe SYS_poll
            SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd SYS_inotify_init
            SYS_fork SYS_vfork SYS_getpgrp SYS_pause SYS_alarm SYS_time SYS_arch_prctl
            SYS_set_thread_area SYS_get_thread_area),
    },
];

const NEW_NAMESPACES: &[&[(u8, Test)]] = &[
    &[(0, Test::Has(libc::CLONE_NEWNS as u32))],
    &[(0, Test::Has(libc::CLONE_NEWCGROUP as u32))],
    &[(0, Test::Has(libc::CLONE_NEWUTS as u32))],
    &[(0, Test::Has(libc::CLONE_NEWIPC as u32))],
    &[(0, Test::Has(libc::CLONE_NEWUSER as u32))],
    &[(0, Test::Has(libc::CLONE_NEWPID as u32))],
    &[(0, Test::Has(libc::CLONE_NEWNET as u32))],
];

/// Bits of a socket's type that are not flags.
const TYPE: u32 = 0xf;

const INET: u32 = libc::AF_INET as u32;
const INET6: u32 = libc::AF_INET6 as u32;

/// Kinds of sockets that the C libraries do not all name; with an internet family the kernel makes
/// a packet socket of the second.
const SOCK_DCCP: u32 = 6;
const SOCK_PACKET: u32 = 10;

/// A protocol other than the family's own, TCP, UDP and ping.
const OTHER: [(u8, Test); 5] = [
    (2, Test::IsNot(0)),
    (2, Test::IsNot(libc::IPPROTO_ICMP as u32)),
    (2, Test::IsNot(libc::IPPROTO_TCP as u32)),
    (2, Test::IsNot(libc::IPPROTO_UDP as u32)),
    (2, Test::IsNot(libc::IPPROTO_ICMPV6 as u32)),
];

pub(crate) const REFUSED: &[Refusal] = &[
    Refusal {
        reason: "a new user namespace would give capabilities over new kernel surface",
        calls: calls!(SYS_clone),
        when: NEW_NAMESPACES,
    },
    Refusal {
        reason: "namespaces, roots and mounts are made once, by the launcher",
        calls: calls!(SYS_unshare SYS_setns SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot
            SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
            SYS_mount_setattr SYS_open_by_handle_at SYS_fanotify_init SYS_fanotify_mark),
        when: &[],
    },
    Refusal {
        reason: "keyrings do not know of sandboxes",
        calls: calls!(SYS_keyctl SYS_add_key SYS_request_key),
        when: &[],
    },
    Refusal {
        reason: "programs inside the kernel, and long histories of flaws",
        calls: calls!(SYS_bpf SYS_perf_event_open SYS_io_uring_setup SYS_io_uring_enter
            SYS_io_uring_register SYS_userfaultfd SYS_lookup_dcookie),
        when: &[],
    },
    Refusal {
        reason: "requests that wait in the kernel: all of the machine share one small number of them",
        calls: calls!(SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents),
        when: &[],
    },
    Refusal {
        reason: "the machine is not the sandbox's",
        calls: calls!(SYS_kexec_load SYS_kexec_file_load SYS_init_module SYS_finit_module
            SYS_delete_module SYS_reboot SYS_swapon SYS_swapoff SYS_quotactl SYS_quotactl_fd
            SYS_acct SYS_syslog SYS_vhangup SYS_nfsservctl SYS_settimeofday SYS_clock_settime
            SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname SYS_move_pages
            SYS_migrate_pages SYS_memfd_secret),
        when: &[],
    },
    #[cfg(target_arch = "x86_64")]
    Refusal {
        reason: "the processor is not the sandbox's",
        calls: calls!(SYS_iopl SYS_ioperm SYS_modify_ldt SYS__sysctl SYS_sysfs SYS_uselib
            SYS_ustat),
        when: &[],
    },
    Refusal {
        reason: "limits of another process: the guest's are not a command's to set",
        calls: calls!(SYS_prlimit64),
        when: &[&[(0, Test::IsNot(0))]],
    },
    Refusal {
        reason: "only local, internet and routing sockets: no packet, vsock, alg, bluetooth, …",
        calls: calls!(SYS_socket SYS_socketpair),
        when: &[&[
            (0, Test::IsNot(libc::AF_UNIX as u32)),
            (0, Test::IsNot(INET)),
            (0, Test::IsNot(INET6)),
            (0, Test::IsNot(libc::AF_NETLINK as u32)),
        ]],
    },
    Refusal {
        reason: "of internet sockets only streams and datagrams: nothing raw, no packets by their \
                 old name, and no sequenced ones, which only protocols use that nobody asks for",
        calls: calls!(SYS_socket),
        when: &[
            &[(0, Test::Is(INET)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_RAW as u32))],
            &[(0, Test::Is(INET)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_RDM as u32))],
            &[(0, Test::Is(INET)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_SEQPACKET as u32))],
            &[(0, Test::Is(INET)), (1, Test::UnderMaskIs(TYPE, SOCK_DCCP))],
            &[(0, Test::Is(INET)), (1, Test::UnderMaskIs(TYPE, SOCK_PACKET))],
            &[(0, Test::Is(INET6)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_RAW as u32))],
            &[(0, Test::Is(INET6)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_RDM as u32))],
            &[(0, Test::Is(INET6)), (1, Test::UnderMaskIs(TYPE, libc::SOCK_SEQPACKET as u32))],
            &[(0, Test::Is(INET6)), (1, Test::UnderMaskIs(TYPE, SOCK_DCCP))],
        ],
    },
    Refusal {
        reason: "of internet protocols only TCP, UDP and ping: the others are modules that are \
                 loaded for whoever asks (SCTP, DCCP, L2TP, SMC, MPTCP), with long histories",
        calls: calls!(SYS_socket),
        when: &[
            &[(0, Test::Is(INET)), OTHER[0], OTHER[1], OTHER[2], OTHER[3], OTHER[4]],
            &[(0, Test::Is(INET6)), OTHER[0], OTHER[1], OTHER[2], OTHER[3], OTHER[4]],
        ],
    },
    Refusal {
        reason: "protocols inside of TCP (kernel TLS and its like): libraries do without",
        calls: calls!(SYS_setsockopt),
        when: &[&[(1, Test::Is(libc::IPPROTO_TCP as u32)), (2, Test::Is(libc::TCP_ULP as u32))]],
    },
    Refusal {
        reason: "typing into a terminal on behalf of whoever reads it",
        calls: calls!(SYS_ioctl),
        when: &[&[(1, Test::Is(0x5412))], &[(1, Test::Is(0x541c))]],
    },
    Refusal {
        reason: "other protocols on a terminal (SLIP, PPP, GSM multiplexing): modules that are \
                 loaded for whoever asks, with long histories",
        calls: calls!(SYS_ioctl),
        when: &[&[(1, Test::Is(0x5423))]],
    },
    Refusal {
        reason: "foreign personalities; the usual one, 32-bit reports, a fixed layout for \
                 debuggers and asking for the current one are fine",
        calls: calls!(SYS_personality),
        when: &[&[
            (0, Test::IsNot(0)),
            (0, Test::IsNot(0x0008)),
            (0, Test::IsNot(0x2_0000)),
            (0, Test::IsNot(0x2_0008)),
            (0, Test::IsNot(0x4_0000)),
            (0, Test::IsNot(0xffff_ffff)),
        ]],
    },
];

/// What is refused with `EPROTONOSUPPORT`, as by a kernel that was built without it: programs that
/// do without go on then, and end at any other error (`groupadd`, `su`: the kernel's audit).
pub(crate) const UNSUPPORTED: &[Refusal] = &[Refusal {
    reason: "of netlink only routing, which listing one's addresses needs",
    calls: calls!(SYS_socket),
    when: &[&[
        (0, Test::Is(libc::AF_NETLINK as u32)),
        (2, Test::IsNot(libc::NETLINK_ROUTE as u32)),
    ]],
}];
