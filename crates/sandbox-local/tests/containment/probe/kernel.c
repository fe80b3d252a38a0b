/* System calls that a command does not need. Arguments are wrong where the call would do
 * something: the kernel asks for rights before it looks at them. */
#include "probe.h"
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/swap.h>
#include <sys/timex.h>

static enum verdict mounted(void) {
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    enum verdict verdict = refused(mount("none", folder, "tmpfs", 0, ""));
    umount2(folder, MNT_DETACH);
    rmdir(folder);
    return verdict;
}
static enum verdict bound(void) {
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    enum verdict verdict = refused(mount("/proc", folder, NULL, MS_BIND | MS_REC, NULL));
    umount2(folder, MNT_DETACH);
    rmdir(folder);
    return verdict;
}
/* A folder that is no mount: EINVAL tells that it would have been allowed. */
static enum verdict unmounted(void) {
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    enum verdict verdict = refused_at_once(umount2(folder, 0));
    rmdir(folder);
    return verdict;
}
static enum verdict remounted(void) {
    const char *folder = scratch();
    if (!folder) return say(UNKNOWN, "no folder to work in");
    enum verdict verdict = refused_at_once(mount(NULL, folder, NULL, MS_REMOUNT | MS_BIND, NULL));
    rmdir(folder);
    return verdict;
}
static enum verdict pivoted(void) { return refused_at_once(syscall(SYS_pivot_root, "/", "/")); }
static enum verdict tree_cloned(void) { return refused(syscall(428, AT_FDCWD, "/", 1)); }
static enum verdict filesystem_opened(void) { return refused(syscall(430, "tmpfs", 0)); }
static enum verdict chrooted(void) { return refused(chroot(".")); }

static enum verdict new_user(void) { return refused(unshare(CLONE_NEWUSER)); }
static enum verdict new_mount(void) { return refused(unshare(CLONE_NEWNS)); }
static enum verdict new_net(void) { return refused(unshare(CLONE_NEWNET)); }
static enum verdict new_pid(void) { return refused(unshare(CLONE_NEWPID)); }
static enum verdict new_time(void) { return refused(unshare(0x80)); }
static enum verdict new_others(void) {
    return refused(unshare(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
}
static enum verdict cloned(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return refused(pid);
}
static enum verdict cloned3(void) {
    unsigned long long how[11] = {CLONE_NEWUSER, [4] = SIGCHLD};
    long pid = syscall(SYS_clone3, how, sizeof how);
    if (pid == 0) _exit(0);
    /* Who cannot look at its arguments says that there is no such call. */
    if (pid == -1 && errno == ENOSYS) return say(CONTAINED, "ENOSYS");
    return refused(pid);
}
static enum verdict joined(void) { return refused(setns(open("/proc/self/ns/uts", O_RDONLY), 0)); }

static enum verdict keyring(void) { return refused(syscall(SYS_keyctl, 0, -3, 1)); }
static enum verdict key_added(void) {
    return refused(syscall(SYS_add_key, "user", "moat-probe", "x", 1, -2));
}
static enum verdict key_of_host(void) {
    long found = syscall(SYS_keyctl, 10, -4, "user", made("key") ?: "none", 0);
    return refused(found);
}
static enum verdict bpf_map(void) {
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return refused(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
}
static enum verdict perf(void) {
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event,
        .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1, .exclude_hv = 1};
    return refused(syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
}
static enum verdict ring(void) {
    struct io_uring_params parameters = {0};
    return refused(syscall(SYS_io_uring_setup, 1, &parameters));
}
static enum verdict faults(void) { return refused(syscall(SYS_userfaultfd, 1)); }
static enum verdict secret_memory(void) {
    long answer = syscall(447, 0);
    if (answer == -1 && errno == ENOSYS) return say(CONTAINED, "ENOSYS");
    return refused(answer);
}
static enum verdict watched(void) { return refused(syscall(SYS_fanotify_init, 0x200, 0)); }

static enum verdict module(void) { return refused_at_once(syscall(SYS_init_module, NULL, 0, "")); }
static enum verdict other_kernel(void) {
    return refused_at_once(syscall(SYS_kexec_load, 0, 0, NULL, ~0UL));
}
static enum verdict rebooted(void) { return refused_at_once(syscall(SYS_reboot, 0, 0, 0, 0)); }
static enum verdict swapped(void) { return refused_at_once(swapon("/moat-no-such-file", 0)); }
static enum verdict accounted(void) { return refused_at_once(syscall(SYS_acct, "/moat-no-such-file")); }
static enum verdict log_read(void) {
    char text[16];
    return refused(klogctl(3, text, sizeof text));
}
static enum verdict time_set(void) { return refused(syscall(SYS_settimeofday, NULL, NULL)); }
static enum verdict clock_tuned(void) {
    struct timex how = {.modes = ADJ_TICK, .tick = 1};
    return refused_at_once(syscall(SYS_clock_adjtime, 0, &how));
}
static enum verdict quota(void) {
    return refused_at_once(syscall(SYS_quotactl, 0x80000200, "/moat-no-such-file", 0, NULL));
}
static enum verdict named(void) { return refused_at_once(syscall(SYS_sethostname, "x", -1)); }
static enum verdict foreign(void) { return refused(personality(PER_SVR4)); }
static enum verdict pages_moved(void) { return refused(syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0)); }
#ifdef __x86_64__
static enum verdict ports(void) { return refused(syscall(SYS_iopl, 3)); }
static enum verdict port(void) { return refused(syscall(SYS_ioperm, 0x80, 1, 1)); }
static enum verdict segments(void) { char text[16]; return refused(syscall(SYS_modify_ldt, 0, text, 16)); }
#else
static enum verdict ports(void) { return say(CONTAINED, "not on this processor"); }
static enum verdict port(void) { return ports(); }
static enum verdict segments(void) { return ports(); }
#endif

/* On a terminal of its own: what is refused here is refused on the host's. */
static enum verdict own_terminal(unsigned long request) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || unlockpt(master)) return say(UNKNOWN, "no terminal");
    setsid();
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR);
    if (slave < 0) return say(UNKNOWN, "no terminal");
    ioctl(slave, TIOCSCTTY, 0);
    int plain = 27;
    if (request == TIOCSETD) return refused(ioctl(slave, request, &plain));
    char argument[2] = {request == TIOCLINUX ? 6 : 'x', 0};
    return request == TIOCLINUX ? refused_at_once(ioctl(slave, request, argument))
                                : refused(ioctl(slave, request, argument));
}
static enum verdict typed(void) { return own_terminal(TIOCSTI); }
static enum verdict console(void) { return own_terminal(TIOCLINUX); }
/* The one that does nothing; those that do are modules. */
static enum verdict discipline(void) { return own_terminal(TIOCSETD); }

const struct property kernel[] = {
    {"mount", mounted}, {"bind", bound}, {"umount", unmounted}, {"remount", remounted},
    {"pivot-root", pivoted}, {"open-tree", tree_cloned}, {"fsopen", filesystem_opened},
    {"chroot", chrooted}, {"unshare-user", new_user}, {"unshare-mount", new_mount},
    {"unshare-net", new_net}, {"unshare-pid", new_pid}, {"unshare-time", new_time},
    {"unshare-others", new_others}, {"clone-user", cloned}, {"clone3-user", cloned3},
    {"setns", joined}, {"keyring", keyring}, {"add-key", key_added}, {"key-of-host", key_of_host},
    {"bpf", bpf_map}, {"perf", perf}, {"io-uring", ring}, {"userfaultfd", faults},
    {"memfd-secret", secret_memory}, {"fanotify", watched}, {"init-module", module},
    {"kexec", other_kernel}, {"reboot", rebooted}, {"swapon", swapped}, {"acct", accounted},
    {"kernel-log", log_read}, {"settimeofday", time_set}, {"adjtime", clock_tuned},
    {"quotactl", quota}, {"sethostname", named}, {"personality", foreign},
    {"move-pages", pages_moved}, {"iopl", ports}, {"ioperm", port}, {"modify-ldt", segments},
    {"tiocsti", typed}, {"tioclinux", console}, {"tiocsetd", discipline}, {NULL, NULL}};
